"""Coalescing: many asyncio callers, few connections, few round trips.

Rounds asked for in the same tick of the loop leave as one pipeline, and a long tick sends what has gathered
before it ends. On connections that statekit opened itself, further rounds follow without waiting for replies,
all on one connection, so they reach the server in the order they were asked for; a connection that has kept
somebody waiting past his budget gets no new rounds, and the next of at most four takes its place. On a client
the caller brought, whose pool and protocol are not ours to bend, a pipeline has a connection to itself until
its replies are in; up to four are under way at a time.

Waiting    The budget of a round is how long the store may be silent: the clock starts anew when the round is sent,
           and `EXTRA` times more at most if it ran out in line while others were answered, or while other code
           held up the loop, for neither is the store's fault. A silent store costs one budget.
Fairness   First come, first sent. No more than `WINDOW` calls are on their way to the server, and a round above
           `SLICE` calls goes in slices that stand in line again, so a round waits for the calls on their way and
           one slice of every caller before it, however much those callers want.
Order      The calls of one caller, who awaits each round, never overtake each other. Rounds asked for at the same
           time (``gather``, several tasks) are several callers', to be sent in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from statekit.errors import StoreUnavailable
from statekit.store.drive import aread, async_subscriber, describe_pool, refused, sibling, translated
from statekit.store.resp import packed
from statekit.store.wire import Asked, Wire

if TYPE_CHECKING:
    from statekit.store.op import Reply, Round

__all__ = ["AsyncRedisTransport"]

CONNECTIONS: Final = 4
"""Connections a loop uses at most for rounds."""
WINDOW: Final = 512
"""Calls on their way on one connection at most; the server has answered them within milliseconds."""
SLICE: Final = 256
"""Calls of one round that are sent at a time."""
EAGER: Final = 32
"""Calls that a wire is given without waiting for the end of the tick, so that the server works while we do."""
LATE: Final = 0.02
"""Seconds by which a look at the deadlines may be late before the loop counts as having been held up."""
LOOK: Final = 0.005
"""Seconds between two looks at the least."""


class AsyncRedisTransport:
    """Rounds over an asyncio redis-py client; each event loop that uses it has its own connections."""

    def __init__(self, client: Any, *, owned: bool, fresh: Callable[[], Any] | None = None) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._owned = owned
        self._fresh = fresh or (lambda: sibling(self._pool))
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        # a wire lives as long as its loop: one whose kit was dropped without `close` must be told
        weakref.finalize(self, _abandoned, self._lanes).atexit = False

    def exchange(self, calls: Round, budget: float) -> Awaitable[list[Reply]]:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop) or self._open(loop)
        if 0 < len(calls) <= SLICE:
            return lane.ask(packed(calls), len(calls), budget)
        return _in_slices(lane, calls, budget)

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Lane:
        """Serve one more loop. The first uses the client's own pool: sockets cannot move between loops."""
        for old in [old for old in self._lanes if old.is_closed()]:
            self._lanes.pop(old).pool.reset()
        taken = any(lane.pool is self._pool for lane in self._lanes.values())
        pool = self._fresh() if taken else self._pool
        ours = self._owned and str(pool.connection_kwargs.get("protocol")) == "2"
        lane = self._lanes[loop] = (_WireLane if ours else _LoanLane)(loop, pool)
        return lane

    def subscriber(self) -> Any:
        return async_subscriber(self._pool)

    async def close(self) -> None:
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is None:
            return
        await lane.finish()
        if self._owned or lane.pool is not self._pool:
            await lane.pool.disconnect()

    def describe(self) -> str:
        return describe_pool(self._pool)


def _abandoned(lanes: dict[asyncio.AbstractEventLoop, _Lane]) -> None:
    for loop, lane in lanes.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its sockets with it
            loop.call_soon_threadsafe(lane.abort)


async def _in_slices(lane: _Lane, calls: Round, budget: float) -> list[Reply]:
    """Send a large round a slice at a time, each behind those who have come meanwhile."""
    messages = [packed(calls[start : start + SLICE]) for start in range(0, len(calls), SLICE)]
    replies: list[Reply] = []
    for message in messages:
        replies += await lane.ask(message, min(SLICE, len(calls) - len(replies)), budget)
    return replies


class _Lane:
    """The line of rounds of one event loop, and the deadlines of all that are not answered."""

    _eager = WINDOW
    """Calls that are sent without waiting for the end of the tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        self.pool = pool
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

    async def finish(self) -> None:
        """Let what is under way arrive, up to a second; then close."""
        last = self._loop.time() + 1.0
        while (self._line or self._sent()) and self._loop.time() < last:  # noqa: ASYNC110 - seldom, and short
            await asyncio.sleep(0.005)
        self.abort()
        while self._chores:
            await asyncio.wait(self._chores)

    def abort(self) -> None:
        """Close at once."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        line, self._line = self._line, deque()
        for asked in line:
            asked.fail(StoreUnavailable("the store is closed"))


class _WireLane(_Lane):
    """A line before wires: connections of our own, on which rounds follow each other."""

    _eager = EAGER

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        super().__init__(loop, pool)
        self._wires: list[Wire] = []
        self._opening: asyncio.Task[None] | None = None

    def _send(self) -> None:
        self._gathered = 0
        for wire in self._wires:
            if not wire.silent:
                self._send_on(wire, renewed=True)
                return
        if self._line and self._opening is None and len(self._wires) < CONNECTIONS:
            self._opening = self._chore(self._connect())
            self._opening.add_done_callback(self._opened)

    def _send_on(self, wire: Wire, *, renewed: bool) -> None:
        if self._line and wire.load < WINDOW and not wire.full:
            batch = self._batch(WINDOW - wire.load, renewed=renewed)
            if batch:
                wire.send(batch)

    async def _connect(self) -> None:
        """Open one more wire; if that fails, so do those who wait for it. Their clocks run on meanwhile."""
        connection = self.pool.make_connection()
        try:
            with translated():
                await connection.connect()
            wire = Wire(self._loop, connection, refused, self._moved)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            line, self._line = self._line, deque()
            for asked in line:
                asked.fail(error)
        else:
            self._wires.append(wire)
            self._send_on(wire, renewed=False)

    def _opened(self, _: asyncio.Task[None]) -> None:
        self._opening = None
        self._send()

    def _moved(self, wire: Wire) -> None:
        """There is room on a wire, or it has ended."""
        if wire.ended and wire in self._wires:
            self._wires.remove(wire)
            if not self._loop.is_closed():
                self._chore(wire.connection.disconnect(nowait=True))
        else:
            self._heard = self._loop.time()
        if self._line:
            self._send()

    def _sent(self) -> list[Asked]:
        return [asked for wire in self._wires for asked in wire.flying]

    def _overdue(self, now: float, *, late: bool) -> list[float]:
        deadlines: list[float] = []
        for wire in tuple(self._wires):
            deadlines += self._overdue_on(wire, now, late=late)
        if self._opening is not None and all(asked.future.done() for asked in self._line):
            self._opening.cancel()  # nobody waits for it any more
        return deadlines

    def _overdue_on(self, wire: Wire, now: float, *, late: bool) -> list[float]:
        if wire.delivering:  # it has heard from the server just now
            return [now + LOOK]
        deadlines = [asked.judged(now, excused=late) for asked in wire.flying]
        if deadlines and min(deadlines) <= now:
            wire.silent = True
            if all(asked.future.done() for asked in wire.flying):
                wire.end(StoreUnavailable("the store did not answer"))
        return deadlines

    def abort(self) -> None:
        super().abort()
        if self._opening is not None:
            self._opening.cancel()
        for wire in tuple(self._wires):
            wire.end(StoreUnavailable("the store is closed"))


class _Loan:
    """A connection borrowed: what it carries now, and the task that sees to it."""

    __slots__ = ("batch", "task")
    task: asyncio.Task[None]

    def __init__(self, batch: list[Asked]) -> None:
        self.batch = batch


class _LoanLane(_Lane):
    """A line before the connections of a pool that is not ours: each is borrowed for one pipeline after another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        super().__init__(loop, pool)
        self._loans: list[_Loan] = []

    def _send(self) -> None:
        self._gathered = 0
        while self._line and len(self._loans) < CONNECTIONS:
            loan = _Loan(self._batch(WINDOW, renewed=True))
            self._loans.append(loan)
            loan.task = self._chore(self._borrow(loan))
            loan.task.add_done_callback(partial(self._returned, loan))

    async def _borrow(self, loan: _Loan) -> None:
        """Use one connection for a batch, then for the next, until nobody waits."""
        while batch := loan.batch:
            try:
                with translated():
                    await self._carry(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for it
                for asked in batch:
                    asked.fail(error)
            loan.batch = self._batch(WINDOW, renewed=True)

    def _returned(self, loan: _Loan, _: asyncio.Task[None]) -> None:
        self._loans.remove(loan)
        self._send()

    async def _carry(self, batch: list[Asked]) -> None:
        connection = await self.pool.get_connection()
        try:
            await connection.send_packed_command(b"".join([asked.message for asked in batch]))
            for asked in batch:
                replies = [await aread(connection) for _ in range(asked.count)]
                self._heard = self._loop.time()
                if not asked.future.done():
                    asked.future.set_result(replies)
            batch.clear()  # nothing is overdue any more
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self.pool.release(connection)

    def _sent(self) -> list[Asked]:
        return [asked for loan in self._loans for asked in loan.batch if not asked.future.done()]

    def _overdue(self, now: float, *, late: bool) -> list[float]:
        deadlines: list[float] = []
        for loan in self._loans:
            theirs = [asked.judged(now, excused=late) for asked in loan.batch]
            if theirs and max(theirs) <= now:
                loan.task.cancel()  # the connection has to go with the last of them: the peer may be gone for good
            deadlines += theirs
        return deadlines

    def abort(self) -> None:
        super().abort()
        for loan in self._loans:
            for asked in loan.batch:
                asked.fail(StoreUnavailable("the store is closed"))
            loan.task.cancel()
