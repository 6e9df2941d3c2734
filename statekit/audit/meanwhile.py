"""Work whose answer is needed later, done on another processor meanwhile: by a fork, where a fork is safe."""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

__all__ = ["meanwhile"]


@contextmanager
def meanwhile(
    *works: Callable[[], Any], then: Callable[[], object] = int, wanted: bool = True
) -> Iterator[Callable[[], Any]]:
    """Begin some works now, one after the other; call what is yielded for the next answer: what `marshal` can carry.

    `then` is done after them, once the last answer is given; nobody hears whether it went well. A work is done by the
    caller after all, when its answer is asked for, where it is not `wanted` elsewhere, where a fork is not safe because
    this process has other threads, or where the fork did not come to its end.
    """
    if not (wanted and sys.platform == "linux" and threading.active_count() == 1):
        yield (work() for work in works).__next__
        then()
        return
    answers, out = os.pipe()
    child = os.fork()
    if not child:
        os.close(answers)  # else nobody would tell this fork that its parent does not listen any more
        _work(works, then, out)
    os.close(out)
    with suppress(ChildProcessError), os.fdopen(answers, "rb") as file:
        given = (_answer(file, work) for work in works)
        try:
            yield given.__next__
        finally:
            file.close()  # a child that still writes ends with it
            os.waitpid(child, 0)


def _work(works: Iterable[Callable[[], Any]], then: Callable[[], object], out: int) -> None:
    """What the fork does; nothing of its parent's, such as unwritten output, is its business."""
    code = 1
    try:
        with os.fdopen(out, "wb") as file:
            for work in works:
                answer = marshal.dumps(work())
                file.write(len(answer).to_bytes(8, "little") + answer)
                file.flush()
        then()
        code = 0
    finally:
        os._exit(code)


def _answer(file: BinaryIO, work: Callable[[], Any]) -> Any:
    data = file.read(int.from_bytes(file.read(8), "little"))
    try:
        return marshal.loads(data)  # noqa: S302 - written by a fork of this very process
    except (EOFError, ValueError, TypeError):
        return work()
