"""RESP2, the protocol of Redis: rounds as bytes, and bytes as replies; no I/O.

`packed` writes a round as one message, and refuses what is no text, bytes or whole number before any of it is sent.

`Replies` is fed bytes as they arrive and gives back the replies that are whole. What is cut anywhere, in a line,
in a string, between two elements, is kept until the rest comes; nothing is read twice, so a reply of many
megabytes costs its length. After bytes that are not the protocol nothing can be matched to its question any
more: `Replies.broken` then says so, once and for all, and what came before them still counts.

Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from statekit.errors import StoreError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from statekit.store.op import Arg, Call, Round

__all__ = ["Replies", "packed"]

LONGEST_LINE: Final = 65_536
"""Bytes a line may have; an error never comes near."""
LONGEST_NUMBER: Final = 20
"""Bytes of a number of 64 bits and its sign."""
LONGEST_STRING: Final = 512 * 1024 * 1024
"""Bytes of a string that a server accepts, unless it was configured otherwise."""
DEEPEST: Final = 64
"""Arrays within arrays; scripts nest to a handful."""


# -- writing ---------------------------------------------------------------------------------------------


def packed(calls: Round) -> bytes:
    """Write the calls of a round as one message. Raises `UsageError` for an argument that cannot be sent.

    Plain text is put together as text and encoded once, in half the time; a length counts bytes, so that
    holds for ASCII alone.
    """
    parts: list[str] = []
    for call in calls:
        script, words = call.script, call.args
        if script is None:
            parts.append(f"*{len(words)}\r\n")
        elif call.whole:
            return _packed_word_by_word(calls)
        else:
            parts.append(_evalsha(script.sha, call.keys, len(words)))
        for word in words:
            if type(word) is int:
                word = str(word)  # noqa: PLW2901 - the same word, as it is written
            elif type(word) is not str:
                return _packed_word_by_word(calls)
            parts.append(f"${len(word)}\r\n{word}\r\n")
    text = "".join(parts)
    return text.encode() if text.isascii() else _packed_word_by_word(calls)


@lru_cache(4096)
def _evalsha(sha: str, keys: int, size: int) -> str:
    """Write the words every run of a script with so many keys and arguments begins with."""
    return f"*{size + 3}\r\n$7\r\nEVALSHA\r\n${len(sha)}\r\n{sha}\r\n${len(str(keys))}\r\n{keys}\r\n"


def _packed_word_by_word(calls: Round) -> bytes:
    parts: list[bytes] = []
    for call in calls:
        words = _words(call)
        parts.append(b"*%d\r\n" % len(words))
        for word in words:
            data = (
                word if isinstance(word, bytes) else _utf8(word) if isinstance(word, str) else _decimal(word)
            )
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _words(call: Call) -> tuple[Arg, ...]:
    """Write out a plain command, or a script by its digest or whole."""
    script = call.script
    if script is None:
        return call.args
    if call.whole:
        return ("EVAL", script.source, call.keys, *call.args)
    return ("EVALSHA", script.sha, call.keys, *call.args)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{text[:80]!r} holds half a surrogate pair, which is not text: {error.reason}"
        ) from None


def _decimal(number: int) -> bytes:
    if not isinstance(number, int):
        raise UsageError(f"{number!r} cannot be sent to a store: give text, bytes or a whole number")
    return b"%d" % number


# -- reading ---------------------------------------------------------------------------------------------


class Replies:
    """Reads the replies of one connection, in order. Text comes as bytes, null as None."""

    __slots__ = ("_chunks", "_have", "_need", "_open", "_refused", "broken")

    def __init__(self, refused: Callable[[str], StoreError]) -> None:
        """`refused` makes of an error reply what takes its place; a `StoreUnavailable` ends the connection."""
        self._refused = refused
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self._open: list[tuple[list[Any], int]] = []
        """Arrays begun: their elements so far, and how many there will be."""
        self.broken: StoreUnavailable | None = None
        """Why nothing more can be read."""

    @property
    def idle(self) -> bool:
        """Whether nothing is left of what arrived."""
        return not (self._have or self._open)

    def feed(self, data: bytes) -> list[Any]:
        """Take what arrived; return the replies it completed."""
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
        done: list[Any] = []
        if self.broken is None:
            try:
                data = data[self._read(data, done) :]
            except StoreUnavailable as error:
                self.broken = error
        self._chunks, self._have = [data] if data else [], len(data)
        return done

    def _read(self, data: bytes, done: list[Any]) -> int:
        """Read all that is whole into `done`; return where what is not begins."""
        at = 0
        self._need = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            kind, line = data[at], data[at + 1 : end]
            start = end + 2
            reply: Any
            if kind == 36 and line.isdigit():  # $, as most replies
                stop = start + _length(line)
                if stop + 2 > len(data):
                    self._need = stop + 2 - at
                    return at
                if data[stop : stop + 2] != b"\r\n":
                    raise _broken(data[start - len(line) - 3 : stop + 2])
                reply = data[start:stop]
                start = stop + 2
            elif kind == 42 and line.isdigit() and (size := _number(line)):  # *, with elements to come
                self._begin(size)
                at = start
                continue
            else:
                reply = self._plain(kind, line)
            at = start
            if self._open:
                self._place(reply, done)
            else:
                done.append(reply)
        if len(data) - at > LONGEST_LINE or (at < len(data) and data[at] not in b"$*:+-"):
            raise _broken(data[at:])
        return at

    def _begin(self, size: int) -> None:
        if len(self._open) >= DEEPEST:
            raise _broken(b"*" * DEEPEST)
        self._open.append(([], size))

    def _place(self, reply: Any, done: list[Any]) -> None:
        """Put a reply where it belongs, and close the arrays it completes."""
        while self._open:
            elements, size = self._open[-1]
            elements.append(reply)
            if len(elements) < size:
                return
            self._open.pop()
            reply = elements
        done.append(reply)

    def _plain(self, kind: int, line: bytes) -> Any:
        """Read a reply of one line."""
        if kind == 58 and line[line[:1] in (b"-", b"+") :].isdigit():  # :
            return _number(line)
        if kind == 43:  # +
            return line
        if kind == 45:  # -
            error = self._refused(line.decode(errors="replace"))
            if isinstance(error, StoreUnavailable):
                raise error
            return error
        if kind in b"$*" and line == b"-1":
            return None
        if kind == 42 and line.isdigit():  # *0
            return []
        raise _broken(bytes([kind]) + line)


def _number(line: bytes) -> int:
    if len(line) > LONGEST_NUMBER:
        raise _broken(line)
    return int(line)


def _length(line: bytes) -> int:
    length = _number(line)
    if length > LONGEST_STRING:
        raise _broken(line)
    return length


def _broken(data: bytes) -> StoreUnavailable:
    return StoreUnavailable(f"the store cannot be reached: what answers does not speak RESP2: {data[:80]!r}")
