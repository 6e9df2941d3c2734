"""The pulse: work a process repeats in the background, on one thread or one task however many ask.

Leases are renewed here, local copies reconciled, idle connections closed. A beat that raises is logged and
comes again; it never ends the pulse. Nothing runs before the first beat is added, or after the last has ended.

A beat whose work is a method keeps its object no more alive than a `weakref` does: a kit that was dropped instead of
closed is collected, and its thread ends when the next beat finds nobody there.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import itertools
import logging
import random
import threading
import weakref
from collections.abc import Awaitable, Callable
from time import monotonic

from statekit.store.fork import on_fork

__all__ = ["AsyncPulse", "Beat", "Pulse"]

JITTER = 0.1
"""Each interval is stretched or shortened by up to this share, so that pods do not beat in step."""
log = logging.getLogger("statekit")
_dice = random.SystemRandom()
"""Not the global generator: an app that seeds it would make its pods beat in step, and see its own draws change."""


class Beat:
    """One repeated piece of work; `cancel` ends it, and so does the end of the object it is a method of."""

    __slots__ = ("_work", "cancelled", "due", "seconds")

    def __init__(self, seconds: float, work: Callable[[], object]) -> None:
        self.seconds = seconds
        self._work: Callable[[], Callable[[], object] | None]
        self._work = weakref.WeakMethod(work) if inspect.ismethod(work) else lambda: work
        self.cancelled = False
        self.due = 0.0
        self.delay()

    def delay(self) -> None:
        self.due = monotonic() + self.seconds * _dice.uniform(1 - JITTER, 1 + JITTER)

    def cancel(self) -> None:
        self.cancelled = True

    def strike(self) -> None:
        """Do the work once, or end if its object is gone."""
        work = self._work()
        if work is None:
            self.cancelled = True
        else:
            work()


class Pulse:
    """Beats of a blocking kit, on one daemon thread; a forked child gets its own thread and all the beats."""

    def __init__(self) -> None:
        self._beats: list[tuple[float, int, Beat]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._working: Beat | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        on_fork(self)

    def every(self, seconds: float, work: Callable[[], object]) -> Beat:
        """Call ``work()`` about every `seconds`, the first time after one interval."""
        beat = Beat(seconds, work)
        with self._changed:
            self._push(beat)
            self._start()
            self._changed.notify()
        return beat

    def soon(self, beat: Beat) -> None:
        """Bring a beat forward to now."""
        with self._changed:
            beat.due = 0.0
            self._push(beat)
            self._changed.notify()

    def close(self) -> None:
        """End all beats; one under way is waited for, up to a second."""
        with self._changed:
            self._closed = True
            self._beats.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._thread = None
        if self._working is not None and not self._closed:
            self._push(self._working)  # it was out of the heap, in the hands of the parent's thread

    def restart_after_fork(self) -> None:
        if self._beats:
            self._start()

    def _push(self, beat: Beat) -> None:
        heapq.heappush(self._beats, (beat.due, next(self._order), beat))

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="statekit-pulse", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (beat := self._next()) is not None:
            try:
                beat.strike()
            except Exception:
                log.exception("statekit: background work failed, it is tried again in %.1f s", beat.seconds)
            beat.delay()
            with self._changed:
                if not self._closed and not beat.cancelled:
                    self._push(beat)

    def _take(self) -> Beat:
        """Take the first beat out; it is noted before it leaves the heap, as a fork may come between."""
        self._working = self._beats[0][2]
        return heapq.heappop(self._beats)[2]

    def _next(self) -> Beat | None:
        changed = self._changed
        with changed:
            while not self._closed and self._thread is threading.current_thread():
                while self._beats and (
                    self._beats[0][2].cancelled or self._beats[0][0] != self._beats[0][2].due
                ):
                    heapq.heappop(self._beats)  # cancelled, or brought forward by a later entry
                if not self._beats:
                    self._thread = None  # the next beat to be added starts another
                    return None
                wait = self._beats[0][0] - monotonic()
                if wait <= 0:
                    return self._take()
                changed.wait(wait)
        return None


class AsyncPulse:
    """Same as `Pulse`, for asyncio: one task a beat."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> Beat:
        """Same as `Pulse.every`, for asyncio; needs a running loop."""
        beat = Beat(seconds, work)
        task = asyncio.get_running_loop().create_task(self._run(beat, work), name="statekit-pulse")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return beat

    async def close(self) -> None:
        """Same as `Pulse.close`, for asyncio."""
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                await task

    async def _run(self, beat: Beat, work: Callable[[], Awaitable[object]]) -> None:
        while not beat.cancelled:
            await asyncio.sleep(max(0.0, beat.due - monotonic()))
            try:
                await work()
            except Exception:
                log.exception("statekit: background work failed, it is tried again in %.1f s", beat.seconds)
            beat.delay()
