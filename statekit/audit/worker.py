"""One chunk of files after another, until none is left: what every process that reads does.

Started as an interpreter of its own that sees nothing but the standard library and this package, so that no module
of an audited project can be taken for one of ours.
"""

from __future__ import annotations

import gc
import marshal
import os
from collections.abc import Iterable
from hashlib import blake2b
from typing import BinaryIO

from statekit.audit.facts import FileFacts, frozen
from statekit.audit.reading import read

__all__ = ["Chunk", "Packed", "packed", "read_file", "serve", "take"]

Chunk = list[tuple[int, str, str]]
"""Files: which one, its path below the root, where it really is."""
Packed = tuple[int, bytes, bytes]
"""Which file, the hash of what was read, its facts as `marshal` writes them."""


def read_file(path: str, real: str) -> tuple[bytes, FileFacts]:
    """The hash of a file's content and its facts; a file that cannot be read has an `error` in them."""
    try:
        with open(real, "rb") as file:  # noqa: PTH123 - thousands of files
            source = file.read()
    except OSError as error:
        return b"", _unread(path, error)
    digest = blake2b(source, digest_size=16).digest()
    try:
        return digest, read(path, source)
    except Exception as error:  # noqa: BLE001 - one odd file must not end the audit of all others
        return digest, _unread(path, error)


def _unread(path: str, error: Exception) -> FileFacts:
    return FileFacts(path, {}, (), (), (), (), (), {}, f"{type(error).__name__}: {error}")


def packed(facts: FileFacts) -> bytes:
    """Facts as they travel and are kept."""
    return marshal.dumps(frozen(facts))


def take(tokens: int) -> int | None:
    """The number of the next chunk nobody has taken, None when there is none: a byte is only ever read once."""
    token = os.read(tokens, 1)
    return token[0] if token else None


def _answer(chunk: Chunk) -> Iterable[Packed]:
    for index, path, real in chunk:
        digest, facts = read_file(path, real)
        yield index, digest, packed(facts)


def serve(tokens: int, work: BinaryIO, out: BinaryIO) -> None:
    """Take chunks until there are none; each answer goes out behind its length."""
    gc.disable()  # nothing here is circular but the syntax of one file, and this process ends soon
    chunks: list[Chunk] = marshal.load(work)  # noqa: S302 - written by the process that started this one
    while (number := take(tokens)) is not None:
        answer = marshal.dumps(list(_answer(chunks[number])))
        out.write(len(answer).to_bytes(8, "little") + answer)
        out.flush()
