"""What a project says about its audit: ``[tool.statekit.audit]`` in its ``pyproject.toml``.

    [tool.statekit.audit]
    exclude = ["legacy/**"]
    ignore = ["lock", "SK301"]                # rules, groups as SK3xx, or categories
    per-file-ignores = { "jobs/**" = ["background_worker"] }
    intent = "single-process"                 # one process on purpose: severity is one step lower, nothing is hidden
    clients = ["acme.sdk.Client"]             # any list of the catalogue, made longer

The nearest ``pyproject.toml`` above what is audited counts that has this table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from statekit.audit.catalogue import Catalogue
from statekit.audit.model import Confidence, Severity
from statekit.errors import UsageError

__all__ = ["FAIL_ON", "Config", "ConfigInvalid", "choice", "meant", "nearest", "selected"]

FAIL_ON = ("any", "never", *Confidence, *Severity)
INTENTS = ("single-process",)


class ConfigInvalid(UsageError):
    """A key or a value of ``[tool.statekit.audit]`` that cannot mean anything; the message names the cure."""


@dataclass(frozen=True, slots=True)
class Config:
    """How to audit: from ``pyproject.toml``, the command line, or code."""

    include: tuple[str, ...] = ()
    """Patterns of files that are left out by default and shall be read: ``tests/**``."""
    exclude: tuple[str, ...] = ()
    """Patterns of files to leave out besides."""
    select: tuple[str, ...] = ()
    """Only these rules (``SK101``, ``rate-limiter-container``), groups (``SK1xx``) or categories; all by default."""
    ignore: tuple[str, ...] = ()
    """Not these rules or categories."""
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of files, and what to ignore there."""
    confidence: Confidence | None = None
    """The lowest that is shown; high in text and medium in other formats by default."""
    fail_on: str = "any"
    """What makes the exit code 1: any shown finding, or those of some confidence or severity and above."""
    intent: str = ""
    """``single-process``: the project runs as one process on purpose, so severity is one step lower."""
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the project adds to the catalogue: its own clients, backends, start-up functions."""
    score: Mapping[str, Any] = field(default_factory=dict)
    """``[tool.statekit.audit.score]`` as it stands; the score reads it itself."""
    source: str = ""
    """The file it was read from, '' for none."""

    @classmethod
    def of(cls, table: Mapping[str, Any], source: str = "") -> Config:
        """Read the table; raises `ConfigInvalid`."""
        values: dict[str, Any] = {"lists": {}}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name in _READ:
                values[name] = _READ[name](key, value)
            elif name in Catalogue.keys():  # noqa: SIM118 - not a mapping
                values["lists"][name] = _strings(key, value)
            else:
                known = [one.replace("_", "-") for one in _READ] + Catalogue.keys()
                raise ConfigInvalid(f"there is no key {key!r}{meant(key, known)}; known: {', '.join(known)}")
        return cls(**values, source=source)

    def catalogue(self) -> Catalogue:
        """The catalogue, widened by what the project adds."""
        return Catalogue(self.lists)


def nearest(path: str | Path) -> Config:
    """The configuration that counts for a path: of the nearest folder above it that has one, else the defaults.

    Raises:
        ConfigInvalid: The file cannot be read, or says something that cannot be meant.
    """
    start = Path(path).absolute()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            table = _table(file)
            if table is not None:
                return _of_file(file, table)
        if (folder / ".git").exists():  # what lies above a repository does not speak for it
            break
    return Config()


def _table(file: Path) -> Any:
    try:
        found: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{file}: {error}") from error
    for key in ("tool", "statekit", "audit"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _of_file(file: Path, table: Any) -> Config:
    if not isinstance(table, dict):
        raise ConfigInvalid(f"{file}: tool.statekit.audit is no table; write [tool.statekit.audit]")
    try:
        return Config.of(table, str(file))
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{file}: [tool.statekit.audit]: {error}") from None


# -- values ----------------------------------------------------------------------------------------------


def choice(key: str, value: Any, known: Iterable[str]) -> str:
    """One of some words; raises `ConfigInvalid` and says which was probably meant."""
    words = [str(one) for one in known if one]
    if isinstance(value, str) and value in words:
        return value
    raise ConfigInvalid(
        f"{key} = {value!r} is not known{meant(value, words)}; give one of: {', '.join(words)}"
    )


def _strings(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    cure = f'["{value}"]' if isinstance(value, str) else '["…"]'
    raise ConfigInvalid(f"{key} = {value!r} is no list of strings; write {key} = {cure}")


def selected(key: str, names: Iterable[str]) -> frozenset[str]:
    """The ids of the rules that some ids, groups (``SK1xx``), names of rules or categories stand for.

    Raises:
        ConfigInvalid: One of them stands for nothing.
    """
    from statekit.audit import rules  # noqa: PLC0415 - a table that most runs do not ask for

    try:
        return frozenset().union(*map(rules.selected, names))
    except ValueError as error:
        raise ConfigInvalid(f"{key}: {error}") from error


def _names(key: str, value: Any) -> tuple[str, ...]:
    names = _strings(key, value)
    selected(key, names)
    return names


def _per_file(key: str, value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ConfigInvalid(
            f'{key} = {value!r} is no table; write {key} = {{ "jobs/**" = ["background_worker"] }}'
        )
    return {glob: _names(f"{key}.{glob}", names) for glob, names in value.items()}


def _table_of(key: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise ConfigInvalid(f"{key} = {value!r} is no table; write [tool.statekit.audit.{key}]")
    return value


_READ: dict[str, Callable[[str, Any], Any]] = {
    "include": _strings,
    "exclude": _strings,
    "select": _names,
    "ignore": _names,
    "per_file_ignores": _per_file,
    "confidence": lambda key, value: Confidence(choice(key, value, Confidence)),
    "fail_on": lambda key, value: choice(key, value, FAIL_ON),
    "intent": lambda key, value: choice(key, value, INTENTS),
    "score": _table_of,
}


def meant(value: Any, known: Iterable[str]) -> str:
    """`` (did you mean …?)``, or nothing where nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    near = get_close_matches(str(value).lower().replace("_", "-"), dict.fromkeys(known), 1, 0.6)
    near = near or get_close_matches(str(value), list(known), 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
