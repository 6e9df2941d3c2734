"""Which state to watch: what an audit named, in whatever form it is given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statekit.audit.model import Finding, Report
from statekit.errors import UsageError

__all__ = ["Findings", "Named", "named"]

Findings = str | Path | Report | Sequence[str | Finding]
"""A report of the audit, the JSON file of one, a project to audit, or qualified names."""


@dataclass(frozen=True, slots=True)
class Named:
    """One piece of state, as the audit named it."""

    qualified_name: str
    path: str = ""
    name: str = ""
    rule: str = ""
    category: str = ""
    confidence: str = ""
    severity: str = ""
    status: str = "open"


def named(findings: Findings) -> tuple[Named, ...]:
    """The state to watch, each once. Raises `UsageError` for what is neither an audit's nor a name."""
    if isinstance(findings, str | Path):
        return _unique(_at(Path(findings)))
    rows = findings.findings if isinstance(findings, Report) else findings
    return _unique(Named(one) if isinstance(one, str) else _of(one) for one in rows)


def _unique(rows: Iterable[Named]) -> tuple[Named, ...]:
    found = {row.qualified_name: row for row in rows if row.qualified_name and _lives_in_memory(row)}
    return tuple(found.values())


def _lives_in_memory(row: Named) -> bool:
    """Not a setting, and not a line of a deployment file."""
    return row.category != "misconfig" and (not row.path or row.path.endswith(".py"))


def _at(path: Path) -> list[Named]:
    if (path.is_file() and path.suffix == ".py") or path.is_dir():
        from statekit.audit.run import audit  # noqa: PLC0415 - only who asks for an audit pays for one

        return [_of(one) for one in audit([path]).findings]
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["findings"]
        return [_row(one) for one in rows if not one.get("part_of")]  # who watches the object sees its parts
    except OSError as error:
        raise UsageError(
            f"findings={str(path)!r} cannot be read ({error.strerror}): write it with "
            f"`statekit audit . --format json -o {path}`, or give qualified names as a list"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"findings={str(path)!r} is not what `statekit audit --format json` writes"
        ) from error


def _row(row: dict[str, Any]) -> Named:
    return Named(**{key: str(row[key]) for key in Named.__slots__ if key in row})


def _of(finding: Finding) -> Named:
    return Named(**{key: str(getattr(finding, key)) for key in Named.__slots__})
