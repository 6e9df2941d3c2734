"""Containers that refuse every change, with an error that names the field and the cure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Self

from statekit.errors import SettingsFrozen

__all__ = ["FrozenDict", "FrozenList", "FrozenSet", "refused"]


def refused(where: str) -> SettingsFrozen:
    """Build the error for an attempt to change `where`, such as ``Settings.limits``."""
    return SettingsFrozen(
        f"{where} is frozen, because every request of this process shares it: "
        "store a change for all with tenants.update(id, {...}), or change a copy of your own from tenants.draft(id)"
    )


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *_args: Any, **_named: Any) -> NoReturn:
        raise refused(f"{self.where} ({name.strip('_')})")

    refuse.__name__ = name
    return refuse


def _refuse_all(names: str) -> Callable[[type], type]:
    def seal(cls: type) -> type:
        for name in names.split():
            setattr(cls, name, _refusing(name))
        return cls

    return seal


@_refuse_all("__setitem__ __delitem__ __ior__ clear pop popitem setdefault update")
class FrozenDict(dict[Any, Any]):
    """A dict that refuses every change; hashable if its values are. JSON and pydantic take it for the dict it is."""

    __slots__ = ("where",)

    def __init__(
        self, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), where: str = "dict"
    ) -> None:
        super().__init__(items)
        self.where = where

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self), self.where)

    def copy(self) -> dict[Any, Any]:
        """Return a plain dict of the same items; what is nested stays frozen."""
        return dict(self)


@_refuse_all(
    "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort",
)
class FrozenList(tuple[Any, ...]):  # noqa: SLOT001 - a tuple cannot have slots of its own
    """A tuple where a list was declared: it compares equal to that list, and refuses what would change it."""

    where: str

    def __new__(cls, items: Iterable[Any] = (), where: str = "list") -> Self:
        self = super().__new__(cls, items)
        self.where = where
        return self

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__

    def __add__(self, other: Any) -> Any:
        return [*self, *other] if isinstance(other, list) else tuple.__add__(self, other)

    def __radd__(self, other: Any) -> Any:
        return [*other, *self]

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenList, (tuple(self), self.where)

    def copy(self) -> list[Any]:
        """Return a plain list of the same items; what is nested stays frozen."""
        return list(self)


@_refuse_all(
    "__iand__ __ior__ __isub__ __ixor__ add clear difference_update discard intersection_update pop remove "
    "symmetric_difference_update update"
)
class FrozenSet(frozenset[Any]):
    """A frozenset that names the field when something tries to change it."""

    where: str

    def __new__(cls, items: Iterable[Any] = (), where: str = "set") -> Self:
        self = super().__new__(cls, items)
        self.where = where
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenSet, (tuple(self), self.where)
