"""A lane: the line of rounds of one event loop, and the deadlines of all that are not answered.

What carries them is decided in `coalescing` (wires of our own) and `loans` (connections borrowed from a pool).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from statekit.errors import StoreUnavailable
from statekit.store.wire import Asked

if TYPE_CHECKING:
    from statekit.store.op import Reply

__all__ = ["CONNECTIONS", "LOOK", "WINDOW", "Lane"]

CONNECTIONS: Final = 4
"""Connections a lane uses at most for rounds."""
WINDOW: Final = 512
"""Calls on their way on one connection at most; the server has answered them within milliseconds."""
LATE: Final = 0.02
"""Seconds by which a look at the deadlines may be late before the loop counts as having been held up."""
LOOK: Final = 0.005
"""Seconds between two looks at the least."""


class Lane:
    """Rounds in line, first come, first sent."""

    _eager = WINDOW
    """Calls that are sent without waiting for the end of the tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        self.pool = pool
        self.aside: Lane | None = None
        """The lane of rounds that wait in the server, which nobody else may stand behind."""
        self._loop = loop
        self._line: deque[Asked] = deque()
        self._gathered = 0
        self._scheduled = False
        self._heard = 0.0
        """When the store last answered anything."""
        self._alarm: asyncio.TimerHandle | None = None
        self._chores: set[asyncio.Task[None]] = set()

    def ask(self, message: bytes, count: int, budget: float) -> asyncio.Future[list[Reply]]:
        """Put a round in line; the future will hold its replies. Whoever cancels it loses only those."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        deadline = self._loop.time() + budget
        self._line.append(Asked(message, count, future, budget, deadline))
        if self._alarm is None or deadline < self._alarm.when():
            self._wake_at(deadline)
        self._gathered += count
        if self._gathered >= self._eager:
            self._send()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._tick)
        return future

    def _tick(self) -> None:
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        """Send who is in line, as far as there is room."""
        raise NotImplementedError

    def _batch(self, room: int, *, renewed: bool) -> list[Asked]:
        """Take who is next, up to `room` calls; who gave up is passed over. `renewed`: the clock starts again."""
        batch: list[Asked] = []
        now = self._loop.time()
        while self._line and room > 0:
            asked = self._line.popleft()
            if not asked.future.done():
                batch.append(asked)
                room -= asked.count
                if renewed:
                    asked.deadline = now + asked.budget
        return batch

    # -- deadlines ---------------------------------------------------------------------------------------

    def _wake_at(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """Let those fail whose time is up, then sleep until the next one's is."""
        assert self._alarm is not None
        now = self._loop.time()
        late = now - self._alarm.when() > LATE
        self._alarm = None
        while self._line and self._line[0].future.done():
            self._line.popleft()
        deadlines = [
            asked.judged(now, excused=late or self._heard > asked.deadline - asked.budget)
            for asked in self._line
            if not asked.future.done()
        ]
        deadlines += self._overdue(now, late=late)
        to_come = [deadline for deadline in deadlines if deadline > now]
        if to_come:
            self._wake_at(max(min(to_come), now + LOOK))

    def _sent(self) -> list[Asked]:
        """Who waits for replies."""
        raise NotImplementedError

    def _overdue(self, now: float, *, late: bool) -> list[float]:
        """Let those fail whose replies are overdue; return the deadlines. `late`: we may not have looked."""
        raise NotImplementedError

    # -- the end -----------------------------------------------------------------------------------------

    def _chore(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    async def finish(self, patience: float) -> None:
        """Let what is under way arrive, up to so many seconds or to its own deadline; then close."""
        last = self._loop.time() + patience
        try:
            if self.aside is not None:
                await self.aside.finish(patience)
            while (self._line or self._sent()) and self._loop.time() < last:  # noqa: ASYNC110 - seldom, and short
                await asyncio.sleep(0.005)
        finally:  # a loop that ends cancels what waits here
            self.abort()
        while self._chores:
            await asyncio.wait(self._chores)

    def abort(self) -> None:
        """Close at once."""
        if self.aside is not None:
            self.aside.abort()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        line, self._line = self._line, deque()
        for asked in line:
            asked.fail(StoreUnavailable("the store is closed"))
