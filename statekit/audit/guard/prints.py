"""Fingerprints of values: cheap, bounded, and taken without running a line of the app's code.

A value is read through the built-in types alone: `dict.items` of a dict, whatever its class makes of ``items``; the
``__dict__`` and the slots of an object as the interpreter keeps them. No property is asked, no ``__eq__``, no
``__hash__``, no ``__repr__`` of a class that is not built in. How deep, how wide and how much is read is bounded;
what was not read is said.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import functools
import itertools
import threading
import types
import uuid
from collections.abc import Callable, Iterable
from gc import get_referents
from itertools import islice
from typing import Any, NamedTuple

__all__ = ["ABSENT", "Difference", "Print", "Printer", "body_of", "dict_of", "difference", "fields_of"]

EDGE, MIDDLE = 16, 32
"""Of a large container: how many items are read at each end, and how many from somewhere between them."""
WHOLE = EDGE * 2 + MIDDLE
FARTHEST = 20_000
"""No item farther from the start than this is walked to."""
DEPTH, KEPT = 5, 2
LONG = 512
MOST_CLASSES = 4096
SHOWN = 12
"""Characters of a key that are shown: enough to know it again, too few to use it."""
MASK = (1 << 64) - 1


class Print(NamedTuple):
    """What is remembered of a value: a digest of its content, and of its parts where they may be named later."""

    kind: int
    digest: int
    size: int = -1
    parts: dict[int, tuple[Any, Print]] | None = None
    """By digest of the key: what to call the part, and its print."""
    whole: bool = True
    """False where something was left out."""
    value: Any = None
    """A number or truth value itself: it may be shown."""


class Difference(NamedTuple):
    """How a value changed: added · removed · replaced, and where in it."""

    kind: str
    where: str


ABSENT = Print(0, 0)
"""Of what is not there."""

_EXACT: dict[int, type] = {
    id(one): one
    for one in (
        type(None), bool, int, float, complex, str, bytes, dt.date, dt.timedelta, decimal.Decimal, uuid.UUID,
    )
}  # fmt: skip
_PLAIN = {id(type(None)), id(bool), id(int), id(float)}
_NUMBERS = {id(int), id(bool), id(float)}
_TEXTS = {id(str), id(bytes)}
_OPAQUE = (
    types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.CodeType, type,
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, threading.local,
)  # fmt: skip
_LRU = type(functools.lru_cache(lambda: None))
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_DICT_OF_CLASS: Any = type.__dict__["__dict__"]
_MRO_OF_CLASS: Any = type.__dict__["__mro__"]
_NAME_OF_CLASS = type.__dict__["__name__"]


class Printer:
    """Takes the prints of one look, of at most `nodes` values in all."""

    __slots__ = ("left", "turn")

    def __init__(self, nodes: int = 256, turn: int = 0) -> None:
        self.left = nodes
        self.turn = turn
        """Which stretch of a large container is read this time; another one next time."""

    def of(self, value: Any, depth: int = DEPTH, keep: int = KEPT) -> Print:
        """The print of a value."""
        kind = id(type(value))
        if kind in _EXACT:
            return _leaf(value, kind)
        self.left -= 1
        if self.left < 0 or depth <= 0:
            return Print(kind, id(value), whole=self.left >= 0)
        known = _READERS.get(kind)
        if known is None:
            if len(_READERS) > MOST_CLASSES:  # an app that goes on making classes
                _READERS.clear()
            known = _READERS[kind] = (type(value), _reader(type(value)))
        return known[1](self, value, depth, keep)

    def parts(
        self, cls: type, pairs: Iterable[tuple[int, Any, Any]], depth: int, keep: int, size: int, whole: bool
    ) -> Print:
        """The print of something made of parts: key's digest, what to call it, value. Their order does not matter.

        The parts of an object's fields are remembered too; those of what a container holds are not.
        """
        inner = keep - 1 if size < 0 else 0
        total = 0
        kept: dict[int, tuple[Any, Print]] | None = {} if keep > 0 else None
        for key, label, value in pairs:
            kind = id(type(value))
            if kind in _PLAIN and kept is None:  # most of what there is: not worth an object
                total += hash((key, kind, hash(value)))
                continue
            one = self.of(value, depth, inner)
            total += hash((key, one.kind, one.digest))
            whole = whole and one.whole
            if kept is not None:
                kept[key] = (label, one)
        return Print(id(cls), hash((total & MASK, size)), size, kept, whole and self.left >= 0)

    def key(self, value: Any) -> int:
        """The digest of a key."""
        kind = id(type(value))
        if kind in _PLAIN or (kind in _TEXTS and len(value) <= LONG):
            return hash(value)
        return self.of(value, 2, 0).digest


def _leaf(value: Any, kind: int) -> Print:
    if kind in _NUMBERS:
        return Print(kind, hash(value), value=value)
    if kind in _TEXTS and len(value) > LONG:
        return Print(kind, hash((len(value), value[:LONG], value[-LONG:])), whole=False)
    return Print(kind, hash(value))


# -- readers, one a family of types ----------------------------------------------------------------------------


Reader = Callable[[Printer, Any, int, int], Print]
_READERS: dict[int, tuple[type, Reader]] = {}
"""By the class's id; the class is kept, so that its id stays its own."""


def _reader(cls: type) -> Reader:
    for family, reader in _FAMILIES:
        if issubclass(cls, family):
            return reader
    return _object


def _mapping(printer: Printer, value: Any, depth: int, keep: int) -> Print:
    size, items = dict.__len__(value), dict.items(value)
    if size <= WHOLE:
        read = list(items)
    else:
        start = min(_start(printer.turn, size), FARTHEST)
        read = [*islice(items, EDGE), *islice(items, start, start + MIDDLE), *islice(reversed(items), EDGE)]
    pairs = ((printer.key(key), key, one) for key, one in read)
    return printer.parts(type(value), pairs, depth - 1, keep, size, size <= WHOLE)


def _sequence(printer: Printer, value: Any, depth: int, keep: int) -> Print:
    family = tuple if issubclass(type(value), tuple) else list
    size = family.__len__(value)
    if size <= WHOLE:
        read = list(enumerate(family.__iter__(value)))
    else:
        start = _start(printer.turn, size)
        spans = (slice(0, EDGE), slice(start, start + MIDDLE), slice(size - EDGE, size))
        read = [
            (span.start + n, one) for span in spans for n, one in enumerate(family.__getitem__(value, span))
        ]
    return printer.parts(type(value), ((n, n, one) for n, one in read), depth - 1, keep, size, size <= WHOLE)


def _deque(printer: Printer, value: Any, depth: int, keep: int) -> Print:
    size = collections.deque.__len__(value)
    read = list(islice(collections.deque.__iter__(value), EDGE * 2))
    if size > EDGE * 2:
        read += islice(collections.deque.__reversed__(value), EDGE)
    return printer.parts(
        type(value), ((n, n, one) for n, one in enumerate(read)), depth - 1, keep, size, size <= WHOLE
    )


def _set(printer: Printer, value: Any, depth: int, keep: int) -> Print:
    family = frozenset if issubclass(type(value), frozenset) else set
    size = family.__len__(value)
    read = list(islice(family.__iter__(value), WHOLE))
    return printer.parts(
        type(value), ((printer.key(one), one, True) for one in read), depth - 1, keep, size, size <= WHOLE
    )


def _start(turn: int, size: int) -> int:
    return EDGE + (turn * MIDDLE) % max(1, size - WHOLE)


def _bytes(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    size = bytearray.__len__(value)
    return Print(
        id(type(value)), hash(bytes(bytearray.__getitem__(value, slice(LONG)))), size, whole=size <= LONG
    )


def _opaque(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    return Print(id(type(value)), id(value))


def _lru(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    """What a cache holds is not told; that it was added to, or cleared, is. Hits change nothing."""
    told = _LRU.cache_info(value)
    return Print(id(_LRU), hash((told.misses, told.currsize)), told.currsize)


def _lock(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    return Print(id(_LOCK), int(_LOCK.locked(value)))


def _rlock(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    return Print(id(_RLOCK), int(not _RLOCK.__repr__(value).startswith("<unlocked")))


def _count(_printer: Printer, value: Any, _depth: int, _keep: int) -> Print:
    if any(id(type(one)) not in _NUMBERS for one in get_referents(value) if not issubclass(type(one), type)):
        return Print(id(type(value)), id(value))
    return Print(id(type(value)), hash(itertools.count.__repr__(value)))


def _object(printer: Printer, value: Any, depth: int, keep: int) -> Print:
    fields = fields_of(value)
    pairs = ((hash(name), f".{name}", one) for name, one in fields[:WHOLE])
    made = printer.parts(type(value), pairs, depth - 2, keep, -1, len(fields) <= WHOLE)
    return made._replace(digest=hash((made.digest, id(value))))


_FAMILIES: tuple[tuple[type | tuple[type, ...], Reader], ...] = (
    (dict, _mapping),
    ((list, tuple), _sequence),
    (collections.deque, _deque),
    ((set, frozenset), _set),
    (bytearray, _bytes),
    (_LRU, _lru),
    (_LOCK, _lock),
    (_RLOCK, _rlock),
    (itertools.count, _count),
    (_OPAQUE, _opaque),
)


def fields_of(value: Any) -> list[tuple[str, Any]]:
    """The fields of an object as the interpreter keeps them: its ``__dict__``, then its slots."""
    bodies = _bodies(value)
    names = _dict_in(bodies, value)
    own = (
        list(dict.items(names)) if names is not None else ()
    )  # in one go, so that no thread changes it meanwhile
    found = [(name, one) for name, one in own if type(name) is str]
    for body in bodies:
        slots = body.get("__slots__", ())
        for name in slots if type(slots) is tuple else ():
            member = body.get(name)
            if type(member) is types.MemberDescriptorType:
                found += _slot(member, value)
    return found


def dict_of(value: Any) -> dict[Any, Any] | None:
    """The ``__dict__`` of an object as the interpreter keeps it; None where it has none."""
    return _dict_in(_bodies(value), value)


def _dict_in(bodies: list[Any], value: Any) -> dict[Any, Any] | None:
    for body in bodies:
        own = body.get("__dict__")
        if type(own) is types.GetSetDescriptorType:
            kept = own.__get__(value)
            return kept if issubclass(type(kept), dict) else None  # a class has a view of one
    return None


def _bodies(value: Any) -> list[Any]:
    """What the class of an object consists of, and those it builds on."""
    return [_DICT_OF_CLASS.__get__(cls) for cls in _MRO_OF_CLASS.__get__(type(value))]


def body_of(cls: type) -> Any:
    """What a class consists of, whatever its metaclass makes of ``__dict__``."""
    return _DICT_OF_CLASS.__get__(cls)


def _slot(member: Any, value: Any) -> list[tuple[str, Any]]:
    try:
        return [(member.__name__, member.__get__(value))]
    except AttributeError:  # never set
        return []


# -- what is different -----------------------------------------------------------------------------------------


def difference(before: Print, after: Print) -> Difference | None:
    """How one print differs from another; None if it does not."""
    if before[:3] == after[:3]:
        return None
    if before is ABSENT or after is ABSENT:
        return Difference("added" if before is ABSENT else "removed", "")
    if before.kind != after.kind or before.parts is None or after.parts is None:
        return Difference(_by_size(before, after), _numbers(before, after))
    return _in_parts(before, after, before.parts, after.parts)


def _in_parts(
    before: Print, after: Print, old: dict[int, tuple[Any, Print]], new: dict[int, tuple[Any, Print]]
) -> Difference:
    added = [new[key][0] for key in new if key not in old]
    removed = [old[key][0] for key in old if key not in new]
    kind = _by_size(before, after)
    if kind == "added" or (added and kind == "replaced"):
        return Difference(kind if removed else "added", _label(added))
    if kind == "removed" or removed:
        return Difference("removed", _label(removed))
    for key, (label, one) in new.items():
        inner = difference(old[key][1], one)
        if inner:
            return Difference(inner.kind, _label([label]) + inner.where)
    return Difference("replaced", "")


def _by_size(before: Print, after: Print) -> str:
    if before.kind == after.kind and before.size != after.size:
        return "added" if after.size > before.size else "removed"
    return "replaced"


def _numbers(before: Print, after: Print) -> str:
    if before.value is None or after.value is None:
        return ""
    return f" {before.value!r:.24} -> {after.value!r:.24}"


def _label(labels: list[Any]) -> str:
    """What a part is called: never more of a text than a few characters, never a ``repr`` of the app's."""
    if not labels:
        return ""
    label = labels[0]
    if type(label) is str:
        if label.startswith(".") and label[1:].isidentifier():
            return label
        return f"[{label if len(label) <= SHOWN else label[: SHOWN - 4] + '…'!r}]"
    return f"[{label!r:.24}]" if id(type(label)) in _NUMBERS else f"[<{_NAME_OF_CLASS.__get__(type(label))}>]"
