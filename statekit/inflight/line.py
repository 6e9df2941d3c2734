"""The line: who waits in this process for a slot of one key. The first asks the store, the others wait for their turn.

So a process asks for all its waiters as often as for one, and they get their slots in the order they came. Who
finds no line asks without one: where slots are free, nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Generic, Protocol, TypeVar

from statekit.inflight.core import Grant

__all__ = ["Bell", "Lines", "Place", "Signal"]

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two questions of the first in line, if no free slot is announced: doubling from one to the other."""


class Signal(Protocol):
    """What a waiter sleeps on: ``threading.Event`` or `Bell`."""

    def set(self) -> None: ...


class Bell:
    """An event of asyncio that may be set from another event loop's thread: a kit may serve several."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits there any more
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, most: float) -> None:
        # Not wait_for: before Python 3.12 it can swallow a cancellation.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                await self._event.wait()


E = TypeVar("E", bound=Signal)


class Place(Generic[E]):
    """One waiter's place in line; times are monotonic seconds, passed in."""

    __slots__ = ("_line", "deadline", "key", "signal", "turn")

    def __init__(self, key: str, signal: E, deadline: float) -> None:
        self.key = key
        self.signal = signal
        """Set when it is this waiter's turn to ask."""
        self.deadline = deadline
        self.turn = 0
        self._line: list[Place[E]] = []

    def pause(self, grant: Grant | None, now: float, jitter: float) -> float | None:
        """How long to sleep before asking, unless woken; None if there is nothing left to wait for.

        The first in line sleeps until a slot is free should its holder be gone, and half a second at most; the
        others until it is their turn.
        """
        left = self.deadline - now
        if grant is not None and (grant.allowed or grant.retry_after is None or left <= 0):
            return None
        if grant is None or self._line[0] is not self:
            return max(0.0, left)
        self.turn += 1
        longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.turn, 5)) * (0.5 + jitter / 2)
        return max(0.0, min(left, longest, max(grant.retry_after or 0.0, 0.001)))


class Lines:
    """The lines of a process, by key."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Place[Any]]] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def join(self, place: Place[Any]) -> None:
        """Take the last place. The first in an empty line may ask at once, for a slot may have come free just now."""
        with self._lock:
            place._line = line = self._lines.setdefault(place.key, [])  # noqa: SLF001 - same room
            line.append(place)
            if line[0] is place:
                place.signal.set()

    def leave(self, place: Place[Any]) -> None:
        """Leave the line, served or not; if it was the first place, the next in line has its turn."""
        with self._lock:
            line = self._lines.get(place.key, [])
            if place in line:  # else an interrupt came before it had joined
                line.remove(place)
            if line:
                line[0].signal.set()
            else:
                self._lines.pop(place.key, None)

    def wake(self, key: str) -> None:
        """A slot may be free: it is the turn of the first in line."""
        with self._lock:
            if key in self._lines:
                self._lines[key][0].signal.set()

    def wake_all(self) -> None:
        """A slot of any key may be free."""
        with self._lock:
            for line in self._lines.values():
                line[0].signal.set()
