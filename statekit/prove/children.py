"""Processes of our own: started on a leash, and gone when we are, whatever happens.

Rule 1: every process a run needs is started here. Rule 2: it is ended by its own pid, never by a name.
Rule 3: leaving the ``with`` block ends them all: asked first, then told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ChildFailed", "Children", "interruptible"]

LEASH = Path(__file__).with_name("leash.py")
FULL = 128 * 1024
"""Bytes left on a disk that is as good as full."""
GRACE = 12.0
"""Seconds a child may take to end when asked; gunicorn lets requests under way finish in ten."""


class ChildFailed(RuntimeError):
    """A process of the run did not start or ended by itself; the message shows what it last said."""


class Children:
    """The processes of one run, and the folder with what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that Ctrl-C reaches it through us only."""
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own commands
                [*leash, *command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(child)
        return child

    def log(self, name: str) -> Path:
        """Where a process's words are kept."""
        return self.folder / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The end of what a process said, for an error message; a full disk silences it, so that comes first."""
        if shutil.disk_usage(self.folder).free < FULL:
            return f"the disk that holds {self.folder} is full: free some space, or set TMPDIR to another one"
        with contextlib.suppress(OSError):
            return self.log(name).read_text(errors="replace")[-1500:]
        return ""

    def stop(self, child: subprocess.Popen[bytes], grace: float = GRACE) -> None:
        """Ask a process to end, and end it if it will not."""
        self.ask(child)
        self.reap(child, grace)

    @staticmethod
    def ask(child: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()

    def reap(self, child: subprocess.Popen[bytes], grace: float) -> None:
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            _kill_session(child.pid)
            child.wait()
        if child in self._running:
            self._running.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with undisturbed():
            for child in self._running:
                self.ask(child)
            deadline = time.monotonic() + (GRACE if error is None else 3.0)
            for child in list(self._running):
                self.reap(child, max(0.1, deadline - time.monotonic()))


def _kill_session(pid: int) -> None:
    """Kill a process we started together with its own children: it leads the session they are in."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Finish what is under way: a second Ctrl-C must not leave half of the processes behind."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in kept.items():
            signal.signal(number, old)


def interruptible() -> None:
    """Make SIGTERM end this process as Ctrl-C does: through its ``finally`` blocks."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
