"""One chunk of files after another, until none is left: what every process that reads does.

Started as an interpreter of its own that sees nothing but the standard library and this package, so that no module
of an audited project can be taken for one of ours.
"""

from __future__ import annotations

import gc
import marshal
import os
from collections.abc import Iterable
from typing import Any, BinaryIO

from statekit.audit.facts import FileFacts, frozen
from statekit.audit.files import Found, Source, looked_at
from statekit.audit.reading import read

__all__ = ["Chunk", "Packed", "Row", "packed", "read_file", "serve", "take"]

Row = tuple[int, str, str, bool]
"""A file: which one, its path below the root, where it really is, whether it was given by name."""
Chunk = list[Row]
Packed = tuple[int, tuple[Any, ...] | None, bytes]
"""Which file, its `Source` without names, its facts as `marshal` writes them."""


def read_file(path: str, real: str, named: bool) -> tuple[Source | None, FileFacts]:
    """A file and its facts, which have an `error` where it cannot be parsed; None where it is generated."""
    source, data = looked_at(Found(path, real), named=named)
    if source is None or source.error:
        return source, _unread(path, source.error if source else "")
    try:
        return source, read(path, data)
    except Exception as error:  # noqa: BLE001 - one odd file must not end the audit of all others
        return source, _unread(path, f"{type(error).__name__}: {error}")


def _unread(path: str, error: str) -> FileFacts:
    return FileFacts(path, {}, (), (), (), (), (), {}, error)


def packed(facts: FileFacts) -> bytes:
    """Facts as they travel and are kept."""
    return marshal.dumps(frozen(facts))


def take(tokens: int) -> int | None:
    """The number of the next chunk nobody has taken, None when there is none: a byte is only ever read once."""
    token = os.read(tokens, 1)
    return token[0] if token else None


def _answer(chunk: Chunk) -> Iterable[Packed]:
    for index, path, real, named in chunk:
        source, facts = read_file(path, real, named)
        yield index, source and (tuple(source.found), *source[1:]), packed(facts)


def serve(tokens: int, work: BinaryIO, out: BinaryIO) -> None:
    """Take chunks until there are none; each answer goes out behind its length."""
    gc.disable()  # nothing here is circular but the syntax of one file, and this process ends soon
    chunks: list[Chunk] = marshal.load(work)  # noqa: S302 - written by the process that started this one
    while (number := take(tokens)) is not None:
        answer = marshal.dumps(list(_answer(chunks[number])))
        out.write(len(answer).to_bytes(8, "little") + answer)
        out.flush()
