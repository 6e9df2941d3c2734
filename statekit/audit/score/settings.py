"""What a project says about its own score: ``[tool.statekit.audit.score]``.

[tool.statekit.audit.score]
depth = 2                       # packages: so many names below the common root; "auto" by default
include = ["shop.reports"]      # always candidates
exclude = ["shop.vendor*"]      # never
[tool.statekit.audit.score.override]
"shop.billing" = { clarity = 9, reason = "a bounded context since the split of 2023" }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["BadSetting", "Override", "Settings", "settings_from"]

WHERE = "tool.statekit.audit.score"
KEYS = ("depth", "include", "exclude", "override")
BOUNDS = {"clarity": (1.0, 10.0), "viability": (1.0, 10.0), "coupling": (1.0, 1000.0)}
"""Factors that can be overridden, and between what."""


class BadSetting(ValueError):
    """A setting that says nothing sensible; the message names the key, the value and the cure."""


@dataclass(frozen=True, slots=True)
class Override:
    """Factors set by hand for the packages a glob matches."""

    glob: str
    factors: tuple[tuple[str, float], ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How the project is cut into candidates, and what is set by hand."""

    depth: int = 0
    """Names below the common root; 0: as deep as the project's shape asks for."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()

    def includes(self, name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in self.include)

    def excludes(self, name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in self.exclude) and not self.includes(name)

    def overridden(self, name: str, factor: str) -> tuple[float, str] | None:
        """The value and the reason of the last override that matches."""
        for one in reversed(self.overrides):
            value = dict(one.factors).get(factor)
            if value is not None and fnmatchcase(name, one.glob):
                return value, one.reason
        return None

    def unused(self, names: Sequence[str]) -> list[str]:
        """Globs that match no package."""
        globs = (*self.include, *self.exclude, *(one.glob for one in self.overrides))
        return [glob for glob in dict.fromkeys(globs) if not any(fnmatchcase(name, glob) for name in names)]


def settings_from(table: Mapping[str, Any] | None) -> Settings:
    """Read the table of pyproject.toml; `BadSetting` where it cannot be understood."""
    table = table or {}
    for key in table:
        _known(key, KEYS, WHERE)
    return Settings(
        depth=_depth(table.get("depth", "auto")),
        include=_globs(table, "include"),
        exclude=_globs(table, "exclude"),
        overrides=_overrides(table.get("override", {})),
    )


def _known(key: str, keys: Sequence[str], where: str) -> None:
    if key not in keys:
        near = get_close_matches(key, keys, 1)
        cure = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(keys)}"
        raise BadSetting(f"{where}: unknown key {key!r}; {cure}")


def _depth(said: Any) -> int:
    if said == "auto":
        return 0
    if isinstance(said, bool) or not isinstance(said, int) or not 1 <= said <= 8:
        raise BadSetting(f'{WHERE}.depth: {said!r} is neither "auto" nor a number from 1 to 8')
    return said


def _globs(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    said = table.get(key, [])
    if not isinstance(said, list) or not all(isinstance(one, str) and one for one in said):
        raise BadSetting(f'{WHERE}.{key}: {said!r} is no list of globs; write {key} = ["shop.billing*"]')
    return tuple(said)


def _overrides(said: Any) -> tuple[Override, ...]:
    if not isinstance(said, Mapping):
        raise BadSetting(f"{WHERE}.override: {said!r} is no table of globs")
    return tuple(_override(glob, row) for glob, row in said.items())


def _override(glob: str, row: Any) -> Override:
    where = f'{WHERE}.override."{glob}"'
    if not isinstance(row, Mapping):
        raise BadSetting(f'{where}: {row!r} is no table; write {{ clarity = 8, reason = "why" }}')
    for key in row:
        _known(key, (*BOUNDS, "reason"), where)
    reason = row.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise BadSetting(f'{where}: a value set by hand is shown with its reason; add reason = "..."')
    factors = tuple((key, _factor(where, key, row[key])) for key in BOUNDS if key in row)
    if not factors:
        raise BadSetting(f"{where}: sets no factor; set one of {', '.join(BOUNDS)}")
    return Override(glob, factors, reason.strip())


def _factor(where: str, key: str, said: Any) -> float:
    low, high = BOUNDS[key]
    if isinstance(said, bool) or not isinstance(said, int | float) or not low <= said <= high:
        raise BadSetting(f"{where}.{key}: {said!r} is no number from {low:g} to {high:g}")
    return float(said)
