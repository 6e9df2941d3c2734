"""Reading many files at once: this process and a few others take chunks of files until none is left.

The others are interpreters of their own, never forks: a fork of a program with threads may stand still for ever, and
a new interpreter is ready in the time it takes to read a few dozen files. What one of them does not deliver, for
whatever reason, is read here.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

import statekit
from statekit.audit.facts import FileFacts, thawed
from statekit.audit.files import Source
from statekit.audit.worker import Chunk, read_file, take

__all__ = ["Read", "read_files"]

Read = tuple[bytes, FileFacts, bytes]
"""The hash of a file's content, its facts, and the same as they are kept: b"" where nobody has packed them yet."""

ALONE = 1_000_000
"""Bytes of source that are read sooner than another interpreter is ready."""
MOST = 8
"""Processes, this one included."""
CHUNKS = 40
"""For each process: so many that all end at nearly the same time."""


def read_files(sources: Sequence[Source], processes: int | None = None) -> Iterator[Read]:
    """Read files, in no order; `processes` at a time, as many as there are processors by default."""
    wanted = processes or _processors()
    if wanted < 2 or (processes is None and sum(one.size for one in sources) < ALONE):
        for one in sources:
            yield (*read_file(*one.found), b"")
        return
    with _Crew(_chunks(sources, wanted * CHUNKS), wanted - 1) as crew:
        yield from crew.read()


def _processors() -> int:
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(MOST, len(allowed))


def _chunks(sources: Sequence[Source], wanted: int) -> list[Chunk]:
    """About as many chunks as wanted, at most 255; the largest files first, so that the last chunks are short work."""
    order = sorted(range(len(sources)), key=lambda index: -sources[index].size)
    share = sum(one.size for one in sources) / min(wanted, 200) + 1
    chunks: list[Chunk] = [[]]
    filled = 0
    for index in order:
        if filled >= share:
            chunks.append([])
            filled = 0
        chunks[-1].append((index, *sources[index].found))
        filled += sources[index].size
    return chunks


class _Crew:
    """This process and its mates, and the pipe from which each takes the number of its next chunk."""

    def __init__(self, chunks: list[Chunk], mates: int) -> None:
        self.chunks = chunks
        self.mates: list[_Mate] = []
        self.tokens, numbers = os.pipe()
        os.write(numbers, bytes(range(len(chunks))))
        os.close(numbers)
        with suppress(OSError):  # no other interpreter can be started here: then this one does it all
            self.mates.extend(_Mate(self.tokens, marshal.dumps(chunks)) for _ in range(mates))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.tokens)
        for mate in self.mates:
            mate.dismiss()

    def read(self) -> Iterator[Read]:
        """Everything, once: own chunks, what the mates have ready in between, and at last what nobody delivered."""
        missing = {index for chunk in self.chunks for index, _, _ in chunk}
        for index, read in self._in_turn():
            missing.discard(index)
            yield read
        for chunk in self.chunks if missing else ():
            for index, path, real in chunk:
                if index in missing:
                    yield (*read_file(path, real), b"")

    def _in_turn(self) -> Iterator[tuple[int, Read]]:
        while (number := take(self.tokens)) is not None:
            for index, path, real in self.chunks[number]:
                yield index, (*read_file(path, real), b"")
            for mate in self.mates:
                yield from mate.answers()
        for mate in self.mates:
            mate.process.wait()
            yield from mate.answers()


class _Mate:
    """Another interpreter. Its answers grow in a file without a name, and are read from there as they come."""

    def __init__(self, tokens: int, work: bytes) -> None:
        self._out: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by dismiss
        self._read = 0
        with tempfile.TemporaryFile() as given:
            given.write(work)
            given.seek(0)
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _START,
                    str(Path(statekit.__file__).parent.parent),
                    str(tokens),
                ],
                stdin=given,
                stdout=self._out,
                stderr=subprocess.DEVNULL,
                pass_fds=(tokens,),
            )

    def answers(self) -> Iterator[tuple[int, Read]]:
        """What is complete by now and was not given out yet."""
        while True:
            head = os.pread(self._out.fileno(), 8, self._read)
            size = int.from_bytes(head, "little")
            body = os.pread(self._out.fileno(), size, self._read + 8) if len(head) == 8 else b""
            if not size or len(body) < size:
                return
            self._read += 8 + size
            for index, digest, kept in marshal.loads(body):  # noqa: S302 - written by our own code a moment ago
                yield index, (digest, thawed(marshal.loads(kept)), kept)  # noqa: S302 - as above

    def dismiss(self) -> None:
        """End it, if it has not come to its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()


_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from statekit.audit.worker import serve; "
    "serve(int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer); import os; os._exit(0)"
)
"""It ends at once: to tidy up takes a new interpreter as long as to read a hundred files, and somebody waits."""
