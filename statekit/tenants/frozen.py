"""Deep freezing: values that every request of a process may share, because none can change them.

    list -> FrozenList (a tuple)    dict -> FrozenDict    set -> FrozenSet    a model -> the same, sealed

Rule 1: freezing copies, it never seals an object somebody else holds; freezing what is frozen returns it as it is.
Rule 2: `thawed` is the inverse: fresh plain lists, dicts, sets and models of the declared types, nothing shared.
Rule 3: an attempt to change anything raises `SettingsFrozen` at that line, naming the field and both cures.

A model that was declared without ``frozen=True`` is sealed by a subclass made for it, which only refuses
assignment: reading costs what it cost before.
"""

from __future__ import annotations

import dataclasses
from abc import ABCMeta
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from typing import Any, NoReturn, cast

from pydantic import BaseModel

from statekit.errors import UsageError
from statekit.tenants.containers import FrozenDict, FrozenList, FrozenSet, refused

__all__ = ["declared", "frozen", "plain_class", "rebuilt", "thawed"]

# -- models ----------------------------------------------------------------------------------------------


def _refuse_set(self: Any, name: str, _value: Any = None) -> NoReturn:
    raise refused(f"{type(self).__name__}.{name}")


def _equal(self: Any, other: object) -> Any:
    plain = plain_class(type(self))
    return plain.__eq__(declared(self), declared(other)) if isinstance(other, plain) else NotImplemented


def _hash(self: Any) -> int:
    names = type(self).model_fields if isinstance(self, BaseModel) else type(self).__dataclass_fields__
    return hash((plain_class(type(self)), *(getattr(self, name) for name in names)))


def _reduce(self: Any, _protocol: int = 4) -> tuple[Any, ...]:
    return frozen, (declared(self),)


def _dump(self: Any, **options: Any) -> Any:
    return declared(self).model_dump(**options)


def _dump_json(self: Any, **options: Any) -> Any:
    return declared(self).model_dump_json(**options)


def _set_known(self: Any, name: str, value: Any) -> None:
    if name not in type(self).model_fields and not name.startswith("_"):
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")
    self.__dict__[name] = value
    self.__pydantic_fields_set__.add(name)


def _delete_known(self: Any, name: str) -> None:
    if self.__dict__.pop(name, self) is self:
        raise AttributeError(name)


_SEALED = {
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_set,
    "__eq__": _equal,
    "__hash__": _hash,
    "__reduce_ex__": _reduce,
}
_DRAFT = {"__setattr__": _set_known, "__delattr__": _delete_known, "__eq__": _equal, "__hash__": None}


def plain_class(cls: Any) -> Any:
    """The class as its author declared it, for a sealed or draft class made here."""
    return cls.__dict__.get("__statekit_plain__", cls)


@cache
def sealed_class(cls: Any) -> type[Any]:
    """The subclass of a model or dataclass that refuses assignment."""
    if issubclass(cls, BaseModel):
        return _derived(cls, _SEALED | {"model_dump": _dump, "model_dump_json": _dump_json})
    return _derived(cls, _SEALED | {"__slots__": ()})


@cache
def draft_class(cls: Any) -> type[Any]:
    """The subclass of a frozen model that accepts assignment to its fields."""
    return _derived(cls, _DRAFT)


def _derived(cls: Any, body: dict[str, Any]) -> type[Any]:
    """Subclass past pydantic's metaclass: validators and serialisers are inherited, no schema is built again."""
    named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__statekit_plain__": cls}
    maker = cast("Any", ABCMeta if isinstance(cls, ABCMeta) else type)
    derived: type[Any] = maker.__new__(type(cls), cls.__name__, (cls,), named | body)
    return derived


def declared(value: Any) -> Any:
    """A deep copy in the declared class, with values of the declared types: what a serialiser expects."""
    rebuild = rebuilt if isinstance(value, BaseModel) else _dataclass
    return rebuild(value, plain_class(type(value)), thawed)


def rebuilt(model: BaseModel, cls: Any, change: Callable[[Any, str], Any]) -> Any:
    """Copy a model into class `cls`, each value passed through ``change(value, where)``; no validation."""
    name = cls.__name__
    copy = cls.__new__(cls)
    extra = model.__pydantic_extra__
    private = model.__pydantic_private__
    fields = type(model).model_fields
    parts = {
        # Fields only: what a cached property has left in there is computed again from the copy.
        "__dict__": {key: change(one, f"{name}.{key}") for key, one in vars(model).items() if key in fields},
        "__pydantic_fields_set__": set(model.__pydantic_fields_set__),
        "__pydantic_extra__": extra and change(extra, name),
        "__pydantic_private__": None if private is None else dict(private),
    }
    for part, value in parts.items():
        object.__setattr__(copy, part, value)
    return copy


def _dataclass(value: Any, cls: type[Any], change: Callable[[Any, str], Any]) -> Any:
    copy = object.__new__(cls)
    for spec in dataclasses.fields(value):
        object.__setattr__(copy, spec.name, change(getattr(value, spec.name), f"{cls.__name__}.{spec.name}"))
    return copy


# -- both directions -------------------------------------------------------------------------------------


def frozen(value: Any, where: str = "value") -> Any:
    """Return `value` frozen all the way down; `where` names it in the error of who tries to change it.

    Raises `UsageError` for an object that is neither a container, a model, a dataclass, nor hashable by value:
    nothing can promise that it does not change.
    """
    if isinstance(value, _DONE):
        return value
    if isinstance(value, BaseModel):
        return _frozen_model(value)
    if isinstance(value, _CONTAINERS):
        return _frozen_container(value, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _frozen_dataclass(value)
    if isinstance(value, type) or _hashed_by_value(type(value)):
        return value
    raise UsageError(
        f"{where} holds a {type(value).__name__}, which cannot be frozen: give it a __hash__ by value, "
        "or declare the field as a model, a dataclass or plain data"
    )


def _hashed_by_value(cls: Any) -> bool:
    return cls.__hash__ is not None and cls.__hash__ is not object.__hash__


_DONE = (str, int, float, bool, bytes, type(None), FrozenDict, FrozenList, FrozenSet)
_CONTAINERS = (Mapping, tuple, list, deque, AbstractSet, bytearray)


def _frozen_model(model: BaseModel) -> Any:
    sealed = sealed_class(plain_class(type(model)))
    return model if type(model) is sealed else rebuilt(model, sealed, frozen)


def _frozen_dataclass(value: Any) -> Any:
    sealed = sealed_class(plain_class(type(value)))
    return value if type(value) is sealed else _dataclass(value, sealed, frozen)


def _frozen_container(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return FrozenDict({key: frozen(one, f"{where}[{key!r}]") for key, one in value.items()}, where)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, AbstractSet):
        return FrozenSet((frozen(one, where) for one in value), where)
    items = [frozen(one, f"{where}[{index}]") for index, one in enumerate(value)]
    return _like(value, items) if isinstance(value, tuple) else FrozenList(items, where)


def _like(value: Any, items: Iterable[Any]) -> tuple[Any, ...]:
    """A tuple of `items`, or the named tuple that `value` is."""
    make: Callable[[Iterable[Any]], tuple[Any, ...]] = getattr(type(value), "_make", tuple)
    return make(items)


def thawed(value: Any, _where: str = "") -> Any:
    """Return a deep copy of a frozen value that may be changed freely and shares nothing that could change."""
    if isinstance(value, BaseModel):
        plain = plain_class(type(value))
        return rebuilt(value, draft_class(plain) if plain.model_config.get("frozen") else plain, thawed)
    if isinstance(value, dict):
        return {key: thawed(one) for key, one in value.items()}
    for kind, plain in _THAWED:
        if isinstance(value, kind):
            return plain(map(thawed, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return declared(value)
    return _like(value, map(thawed, value)) if isinstance(value, tuple) else value


_THAWED: tuple[tuple[type[Any], type[Any]], ...] = (
    (FrozenList, list),
    (list, list),
    (FrozenSet, set),
    (set, set),
)
