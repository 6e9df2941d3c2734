"""Work whose answer is needed later, done on another processor meanwhile: by a fork, where a fork is safe."""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["meanwhile"]


@contextmanager
def meanwhile(
    work: Callable[[], Any], then: Callable[[], object] = int, *, wanted: bool = True
) -> Iterator[Callable[[], Any]]:
    """Begin some work now, and call what is yielded for its answer: something `marshal` can carry.

    `then` is done after it, once the answer is given; nobody hears whether it went well. The work is done by the caller after all where it is not `wanted` elsewhere, where a fork is not safe because
    this process has other threads, or where the fork did not come to its end.
    """
    if not (wanted and sys.platform == "linux" and threading.active_count() == 1):
        yield work
        then()
        return
    answers, out = os.pipe()
    child = os.fork()
    if not child:
        os.close(answers)  # else nobody would tell this fork that its parent does not listen any more
        _work(work, then, out)
    os.close(out)
    try:
        yield lambda: _answer(answers, work)
    finally:
        os.close(answers)  # a child that still writes ends with it
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _work(work: Callable[[], Any], then: Callable[[], object], out: int) -> None:
    """What the fork does; nothing of its parent's, such as unwritten output, is its business."""
    code = 1
    try:
        with os.fdopen(out, "wb") as file:
            file.write(marshal.dumps(work()))
        then()
        code = 0
    finally:
        os._exit(code)


def _answer(answers: int, work: Callable[[], Any]) -> Any:
    with os.fdopen(os.dup(answers), "rb") as file:
        data = file.read()
    try:
        return marshal.loads(data)  # noqa: S302 - written by a fork of this very process
    except (EOFError, ValueError, TypeError):
        return work()
