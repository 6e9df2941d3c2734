"""A baseline: findings that are known, so that only new ones count.

One finding a line, in the order of paths, and no line numbers: code that moves keeps its entry, and a change of the
file reads well in a review.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from statekit.audit.model import Finding
from statekit.errors import UsageError

__all__ = ["BaselineInvalid", "against", "fingerprint", "load", "save"]

VERSION = 1
KNOWABLE = ("open", "baseline")
"""Statuses that belong into a baseline; what a comment suppresses or accepts needs no entry."""


class BaselineInvalid(UsageError):
    """A baseline that is not there or cannot be read; the message says what to do."""


def fingerprint(finding: Finding) -> str:
    """What makes a finding the same one tomorrow: its rule, file, name and category, wherever in the file it is."""
    told = (finding.rule, finding.path, finding.qualified_name, str(finding.category))
    return sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()


def load(path: Path) -> dict[str, Mapping[str, str]]:
    """The entries of a baseline by fingerprint.

    Raises:
        BaselineInvalid: It does not exist, or is no baseline.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, entries = document["version"], document["findings"]
        known = {str(entry["fingerprint"]): entry for entry in entries}
    except FileNotFoundError as error:
        raise BaselineInvalid(
            f"the baseline {path} does not exist; write it with --update-baseline"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaselineInvalid(f"{path} is no baseline ({type(error).__name__}: {error}); {_CURE}") from error
    if version != VERSION:
        raise BaselineInvalid(f"{path} has version {version!r}, this statekit reads {VERSION}; {_CURE}")
    return known


_CURE = "restore it, or write it anew with --update-baseline"


def against(
    findings: Iterable[Finding], known: Mapping[str, Mapping[str, str]], judged: frozenset[str] | None = None
) -> tuple[list[Finding], list[str]]:
    """Findings, those known with status ``baseline``, and what is to be said of entries that nothing fits any more.

    `judged`: the rules that were looked for, all by default; entries of others are not called stale.
    """
    done: list[Finding] = []
    left = {mark: entry for mark, entry in known.items() if judged is None or entry.get("rule") in judged}
    for one in findings:
        mark = fingerprint(one)
        is_known = one.status == "open" and mark in known
        done.append(one.with_status("baseline") if is_known else one)
        if one.status in KNOWABLE:
            left.pop(mark, None)
    stale = [
        f"baseline: {_told(entry)} is not found any more; --update-baseline removes it"
        for entry in left.values()
    ]
    return done, stale


def _told(entry: Mapping[str, str]) -> str:
    return f"{entry.get('rule', '?')} {entry.get('name', '?')} in {entry.get('path', '?')}"


def save(path: Path, findings: Iterable[Finding], kept: Iterable[Mapping[str, str]] = ()) -> int:
    """Write a baseline of all findings nobody suppressed, and of entries to keep; returns how many there are.

    Raises:
        BaselineInvalid: The file cannot be written.
    """
    entries = {str(one["fingerprint"]): dict(one) for one in kept}
    entries |= {fingerprint(one): _entry(one) for one in findings if one.status in KNOWABLE}
    rows = sorted(
        entries.values(), key=lambda row: (row["path"], row["name"], row["rule"], row["fingerprint"])
    )
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    text = f'{{"version": {VERSION}, "findings": [\n{lines}\n]}}\n'
    _write(path, text.encode("utf-8", "backslashreplace"))
    return len(rows)


def _entry(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "name": finding.qualified_name,
        "rule": finding.rule,
        "category": str(finding.category),
        "fingerprint": fingerprint(finding),
    }


def _write(path: Path, data: bytes) -> None:
    """All or nothing: a run that is interrupted leaves the old baseline."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise BaselineInvalid(f"{path} cannot be written: {error.strerror}") from error
