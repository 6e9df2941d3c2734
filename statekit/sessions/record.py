"""Records: a session as it lies in the store, what a request changes in it, and how both are written.

A record is a hash. The application's keys are its fields ``d:<key>``, each value encoded on its own; what the
record knows of itself are the fields ``created``, ``absolute``, ``touched`` (µs since the epoch), ``idle`` (µs), ``principal``,
``before`` and ``after`` (the records it replaced and was replaced by), ``retired`` (until when the old id shows
its view, µs) and, alone or with ``after``, ``ended``: the tombstone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from statekit.errors import CorruptValue
from statekit.store.op import Reply

__all__ = ["SEALED", "Delta", "Draft", "Ended", "Record", "field_name", "is_handle", "pairs"]

SEALED = b'{"~e":"'
"""How an encrypted value begins; what follows is the id of the key, a point, and base64."""


@dataclass(frozen=True, slots=True)
class Record:
    """A session as it lies in the store: what is known about it, and its encoded values by key."""

    handle: str
    created: int
    absolute: int
    touched: int
    principal: str | None
    fields: Mapping[str, bytes]
    retired: bool = False
    left: int = 0
    """Microseconds it had still to live when it was read, if nobody used it again."""

    @classmethod
    def read(cls, handle: str, flat: Sequence[bytes]) -> Record:
        """Sort a flat reply of fields and values into what they are."""
        try:
            known = dict(zip(flat[::2], flat[1::2], strict=True))
            created, absolute, touched = (int(known[name]) for name in (b"created", b"absolute", b"touched"))
            principal = _text(known[b"principal"]) if b"principal" in known else None
            fields = {_text(name[2:]): value for name, value in known.items() if name[:2] == b"d:"}
        except (KeyError, ValueError):
            raise _damaged(handle) from None
        return cls(handle, created, absolute, touched, principal, fields, b"retired" in known)

    @classmethod
    def parsed(cls, handle: str, head: bytes, text: bytes) -> Record:
        """Read the reply of the load script: numbers and lengths in its head, and the parts they measure."""
        try:
            numbers = iter([int(word) for word in head.split()[1:]])
            created, absolute, touched, retired, left, at = islice(numbers, 6)
            principal = _text(text[:at]) if at else None
            fields = {}
            for size, length in zip(numbers, numbers, strict=True):
                middle, end = at + size, at + size + length
                fields[_text(text[at + 2 : middle])] = text[middle:end]
                at = end
        except ValueError:
            raise _damaged(handle) from None
        return cls(handle, created, absolute, touched, principal, fields, retired == 1, left)

    def holding(self, fields: Mapping[str, bytes]) -> Record:
        """The same record with other content."""
        known = self.handle, self.created, self.absolute, self.touched, self.principal
        return Record(*known, fields, self.retired, self.left)


@dataclass(frozen=True, slots=True)
class Delta:
    """What a request changed: encoded values to set, keys to delete."""

    changed: dict[str, bytes]
    deleted: set[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.deleted)

    def applied(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """What `fields` become."""
        return {key: raw for key, raw in fields.items() if key not in self.deleted} | self.changed


@dataclass(frozen=True, slots=True)
class Draft:
    """A record about to be written under a new name."""

    content: dict[str, bytes]
    principal: str | None = None
    created: int | str = ""
    absolute: int | str = ""
    before: str = ""
    not_after: int | str = ""

    def succeeding(self, old: Record, content: dict[str, bytes]) -> Draft:
        """Replace a record whose principal begins anew: only the content comes along."""
        return replace(self, content=content, before=old.handle)

    def continuing(self, old: Record, content: dict[str, bytes]) -> Draft:
        """Replace a record under another id and nothing else: its first moment and its last stay."""
        return replace(self.succeeding(old, content), created=old.created, absolute=old.absolute)

    def head(self) -> tuple[int | str | bytes, ...]:
        """The arguments of the create script that are about the record itself."""
        principal = (self.principal or "").encode("utf-8", "surrogatepass")
        return (self.created, self.absolute, principal, self.before, self.not_after)


@dataclass(frozen=True, slots=True)
class Ended:
    """What the store knew of a session when it was ended."""

    handle: str
    live: bool
    principal: str
    kin: tuple[str, ...]
    """The records it replaced or was replaced by: they end with it."""

    @classmethod
    def read(cls, handle: str, reply: Reply) -> Ended:
        """Sort the reply of the revoke script. What is damaged is ended all the same, and names nobody else."""
        live, principal, *kin = reply
        try:
            known = _text(principal)
        except UnicodeDecodeError:
            known = ""
        return cls(handle, live == 1, known, tuple(name.decode() for name in kin if is_handle(name)))


def is_handle(name: bytes) -> bool:
    """Whether this names a record: 64 hexadecimal digits; what else lies in an index or a record, others put there."""
    return len(name) == 64 and not name.translate(None, b"0123456789abcdef")


def _damaged(handle: str) -> CorruptValue:
    return CorruptValue(f"the record of session {handle[:12]} is damaged: not written by statekit")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogatepass")


def field_name(key: str) -> bytes:
    """The field of a record that a session's key is written in."""
    return b"d:" + key.encode("utf-8", "surrogatepass")


def pairs(content: Mapping[str, bytes]) -> Iterator[bytes]:
    """Fields and values in turn, as scripts take them."""
    for key, raw in content.items():
        yield field_name(key)
        yield raw
