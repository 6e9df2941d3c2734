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
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final

from statekit.errors import StoreUnavailable
from statekit.store.answers import refused, translated
from statekit.store.drive import OPENING, async_subscriber, describe_pool, sibling
from statekit.store.lane import CONNECTIONS, LOOK, WINDOW, Lane
from statekit.store.loans import ConfirmedLane, LoanLane
from statekit.store.resp import packed
from statekit.store.wire import Asked, Wire

if TYPE_CHECKING:
    from statekit.store.op import Call, Reply, Round

__all__ = ["CONNECTIONS", "EAGER", "SLICE", "WINDOW", "AsyncRedisTransport"]

SLICE: Final = 256
"""Calls of one round that are sent at a time."""
EAGER: Final = 32
"""Calls that a wire is given without waiting for the end of the tick, so that the server works while we do."""


class AsyncRedisTransport:
    """Rounds over an asyncio redis-py client; each event loop that uses it has its own connections."""

    def __init__(self, client: Any, *, owned: bool, fresh: Callable[[], Any] | None = None) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._owned = owned
        self._fresh = fresh or (lambda: sibling(self._pool))
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        # a wire lives as long as its loop: one whose kit was dropped without `close` must be told
        weakref.finalize(self, _abandoned, self._lanes).atexit = False

    def exchange(self, calls: Round, budget: float) -> Awaitable[list[Reply]]:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop) or self._open(loop)
        if len(calls) > 1 and calls[-1].waits:
            return self._aside(loop, lane, calls[-1]).ask(packed(calls[:-1]), len(calls) - 1, budget)
        if 0 < len(calls) <= SLICE:
            return lane.ask(packed(calls), len(calls), budget)
        return _in_slices(lane, calls, budget)

    def _open(self, loop: asyncio.AbstractEventLoop) -> Lane:
        """Serve one more loop. The first uses the client's own pool: sockets cannot move between loops."""
        for old in [old for old in self._lanes if old.is_closed()]:
            self._lanes.pop(old).pool.reset()
        taken = any(lane.pool is self._pool for lane in self._lanes.values())
        pool = self._fresh() if taken else self._pool
        ours = self._owned and str(pool.connection_kwargs.get("protocol")) == "2"
        lane = self._lanes[loop] = (_WireLane if ours else LoanLane)(loop, pool)
        return lane

    @staticmethod
    def _aside(loop: asyncio.AbstractEventLoop, lane: Lane, question: Call) -> Lane:
        """The lane beside, for rounds that wait in the server: they must not hold up others."""
        if lane.aside is None:
            lane.aside = ConfirmedLane(loop, lane.pool, packed((question,)))
        return lane.aside

    def subscriber(self) -> Any:
        return async_subscriber(self._pool)

    def retire(self) -> None:
        """Close, on every loop, once what is under way there has arrived or its time is up."""
        for loop in tuple(self._lanes):
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its sockets with it
                loop.call_soon_threadsafe(self._retire_here)

    def _retire_here(self) -> None:
        task = asyncio.get_running_loop().create_task(self.close(inf))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self, patience: float = 1.0) -> None:
        """Close on this loop; what is under way has so many seconds to arrive."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is None:
            return
        await lane.finish(patience)
        if self._owned or lane.pool is not self._pool:
            await lane.pool.disconnect()

    def describe(self) -> str:
        return describe_pool(self._pool)


def _abandoned(lanes: dict[asyncio.AbstractEventLoop, Lane]) -> None:
    for loop, lane in lanes.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its sockets with it
            loop.call_soon_threadsafe(lane.abort)


async def _in_slices(lane: Lane, calls: Round, budget: float) -> list[Reply]:
    """Send a large round a slice at a time, each behind those who have come meanwhile."""
    messages = [packed(calls[start : start + SLICE]) for start in range(0, len(calls), SLICE)]
    replies: list[Reply] = []
    for message in messages:
        replies += await lane.ask(message, min(SLICE, len(calls) - len(replies)), budget)
    return replies


class _WireLane(Lane):
    """A line before wires: connections of our own, on which rounds follow each other."""

    _eager = EAGER

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        super().__init__(loop, pool)
        self._wires: list[Wire] = []
        self._opening: asyncio.Task[None] | None = None
        self._opening_until = 0.0
        """When it is given up if nobody waits for it."""

    def _send(self) -> None:
        self._gathered = 0
        for wire in self._wires:
            if not wire.silent:
                self._send_on(wire, renewed=True)
                return
        if self._line and self._opening is None and len(self._wires) < CONNECTIONS:
            self._opening_until = self._loop.time() + OPENING
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
        awaited = any(not asked.future.done() for asked in self._line)
        if self._opening is not None and now >= self._opening_until and not awaited:
            self._opening.cancel()
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
