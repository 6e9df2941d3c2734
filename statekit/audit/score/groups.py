"""Cutting a project into candidates: packages, and modules that stand alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from statekit.audit.project import FunctionIn, Module

__all__ = ["Group", "cut"]

MOST = 60
"""Beyond so many candidates nothing is cut any finer."""
LARGE = 150
"""Functions; a package of fewer stays whole."""
FEW = 3
"""With fewer candidates than these, the largest is cut however small it is."""

Key = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Group:
    """Modules that would move together."""

    name: str
    modules: list[Module]

    def functions(self) -> Iterator[FunctionIn]:
        """All functions and methods, the modules' own code apart."""
        for module in self.modules:
            yield from (one for one in module.functions.values() if one.facts.line and one.name[0] != "<")


def cut(modules: Iterable[Module], depth: int = 0) -> list[Group]:
    """The packages `depth` names below the common root, in the order of their names.

    With a depth of 0 as the project's shape asks for: a package that has more than a third of all functions is
    cut into its own packages and modules, again and again.
    """
    readable = [one for one in modules if not one.facts.error and one.dotted]
    root = _common([_folder(one) for one in readable])
    parts = _by_key(readable, len(root) + (depth or 1))
    if not depth:
        _refine(parts, _size(readable))
    groups = [Group(_name(key), found) for key, found in parts.items()]
    return sorted(groups, key=lambda one: one.name)


def _refine(parts: dict[Key, list[Module]], whole: int) -> None:
    while len(parts) < MOST:
        large = [(key, finer) for key in parts if (finer := _finer(key, parts, whole))]
        if not large:
            return
        key, finer = max(large, key=lambda one: (_size(parts[one[0]]), one[0]))
        del parts[key]
        parts.update(finer)


def _finer(key: Key, parts: dict[Key, list[Module]], whole: int) -> dict[Key, list[Module]]:
    """A package's own parts, where it is too large to be one candidate; else nothing."""
    size = _size(parts[key])
    if not (len(parts) < FEW or (size >= LARGE and size * 3 > whole)):
        return {}
    finer = _by_key(parts[key], len(key) + 1)
    return finer if len(finer) > 1 or next(iter(finer)) != key else {}


def _by_key(modules: Iterable[Module], length: int) -> dict[Key, list[Module]]:
    found: dict[Key, list[Module]] = defaultdict(list)
    for one in modules:
        found[one.dotted[:length]].append(one)
    return dict(found)


def _folder(module: Module) -> Key:
    return module.dotted if module.path.endswith("__init__.py") else module.dotted[:-1]


def _common(keys: list[Key]) -> Key:
    """What all keys begin with."""
    first, last = (min(keys), max(keys)) if keys else ((), ())
    size = 0
    while size < min(len(first), len(last)) and first[size] == last[size]:
        size += 1
    return first[:size]


def _size(modules: Iterable[Module]) -> int:
    return sum(len(one.facts.functions) for one in modules)


def _name(key: Key) -> str:
    return ".".join(key[1:] if len(key) > 1 and key[0] == "src" else key)
