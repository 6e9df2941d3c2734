"""Coalescing: many asyncio callers, few connections, few round trips.

Rounds asked for in the same tick of the loop leave as one pipeline; rounds asked for while every connection is
busy wait, and leave together when one comes free. So the number of connections is a small constant, whatever
the number of callers; first come is first sent; a caller that is cancelled loses only its own reply.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from statekit.errors import StoreError, StoreTimeout, StoreUnavailable
from statekit.store.drive import aread, async_subscriber, describe_pool, packed, sibling, translated

if TYPE_CHECKING:
    from statekit.store.op import Reply, Round

__all__ = ["AsyncRedisTransport"]

CONNECTIONS = 4
"""Connections a loop uses at most for rounds."""
LARGEST = 512
"""Calls in one pipeline at most, so that a burst is spread over the connections."""


class AsyncRedisTransport:
    """Rounds over an asyncio redis-py client; each event loop that uses it has its own connections."""

    def __init__(self, client: Any, *, owned: bool, fresh: Callable[[], Any] | None = None) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._owned = owned
        self._fresh = fresh or (lambda: sibling(self._pool))
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop) or self._open(loop)
        waiting = _Waiting(packed(calls), len(calls), loop.create_future(), loop.time() + budget)
        lane.add(waiting)
        deadline = loop.call_at(waiting.deadline, waiting.expire, budget)
        try:
            return await waiting.future
        finally:
            deadline.cancel()

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Lane:
        """Serve one more loop. The first uses the client's own pool: sockets cannot move between loops."""
        for old in [old for old in self._lanes if old.is_closed()]:
            self._lanes.pop(old).pool.reset()
        taken = any(lane.pool is self._pool for lane in self._lanes.values())
        lane = self._lanes[loop] = _Lane(loop, self._fresh() if taken else self._pool)
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


class _Lane:
    """The rounds and connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        self.pool = pool
        self._loop = loop
        self._waiting: deque[_Waiting] = deque()
        self._carriers: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._carriers) < CONNECTIONS:
            carrier = self._loop.create_task(self._carry(self._batch()))
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)

    def _batch(self) -> list[_Waiting]:
        """Take who waits, in order, up to `LARGEST` calls; who gave up meanwhile is passed over."""
        batch: list[_Waiting] = []
        room = LARGEST
        while self._waiting and room > 0:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                batch.append(waiting)
                room -= waiting.count
        return batch

    async def _carry(self, batch: list[_Waiting]) -> None:
        """Use one connection for a batch, then for the next, until nobody waits."""
        while batch:
            try:
                with translated():
                    # when the last of them has given up, so must the connection: the peer may be gone for good
                    async with asyncio.timeout_at(max(waiting.deadline for waiting in batch)):
                        await self._send(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for it
                for waiting in batch:
                    waiting.fail(error)
            batch = self._batch()

    async def _send(self, batch: list[_Waiting]) -> None:
        connection = await self.pool.get_connection()
        try:
            await connection.send_packed_command(b"".join([waiting.message for waiting in batch]))
            for waiting in batch:
                waiting.finish([await aread(connection) for _ in range(waiting.count)])
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self.pool.release(connection)

    async def finish(self) -> None:
        """Let what is under way arrive, up to a second."""
        if self._carriers:
            await asyncio.wait(self._carriers, timeout=1.0)


class _Waiting:
    """A caller's round on its way: the message, how many replies it gets, the future they will arrive in."""

    __slots__ = ("count", "deadline", "future", "message")

    def __init__(
        self, message: bytes, count: int, future: asyncio.Future[list[Reply]], deadline: float
    ) -> None:
        self.message = message
        self.count = count
        self.future = future
        self.deadline = deadline

    def finish(self, replies: Sequence[Reply]) -> None:
        if not self.future.done():
            self.future.set_result(list(replies))

    def fail(self, error: Exception) -> None:
        """Hand over an error of one's own: raised in many places, one object would collect all tracebacks."""
        if self.future.done():
            return
        own = type(error)(*error.args) if isinstance(error, StoreError) else StoreUnavailable(f"{error!r}")
        own.__cause__ = error.__cause__ or error
        self.future.set_exception(own)

    def expire(self, budget: float) -> None:
        self.fail(StoreTimeout(f"the store did not answer in time: nothing after {budget:g} s"))
