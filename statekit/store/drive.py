"""The two drivers of operations, and the transports that carry their rounds over redis-py.

Rule 1: `drive` and `adrive` are the only loops that step an operation; they differ in ``await`` alone.
Rule 2: everything redis-py can raise is translated here, once, into the errors of `statekit.errors`.
Rule 3: a connection whose replies were not all read is dropped, never given back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions as theirs
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from statekit.errors import (
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)
from statekit.store.subscribe import AsyncRedisSubscriber, RedisSubscriber

if TYPE_CHECKING:
    from statekit.store.op import Arg, Call, Op, Reply, Round
    from statekit.store.store import AsyncTransport, Transport

__all__ = ["AsyncRedisTransport", "RedisTransport", "adrive", "drive"]

T = TypeVar("T")


def drive(transport: Transport, op: Op[T], budget: float) -> T:
    """Step an operation to its result over a blocking transport."""
    try:
        calls = next(op)
        while True:
            try:
                replies = transport.exchange(calls, budget)
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def adrive(transport: AsyncTransport, op: Op[T], budget: float) -> T:
    """Same as `drive`, for asyncio."""
    try:
        calls = next(op)
        while True:
            try:
                replies = await transport.exchange(calls, budget)
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


# -- what both transports know ---------------------------------------------------------------------------


def wired(call: Call) -> tuple[Arg, ...]:
    """Write a call as the command that goes over the wire."""
    script = call.script
    if script is None:
        return call.args
    if call.whole:
        return ("EVAL", script.source, call.keys, *call.args)
    return ("EVALSHA", script.sha, call.keys, *call.args)


def rejected(error: theirs.ResponseError) -> StoreRejected:
    """Translate what a server answered; the prefix of the text tells, on every version, also inside scripts."""
    text = str(error)
    if isinstance(error, theirs.NoScriptError) or "NOSCRIPT" in text[:80]:
        return StoreRejected("NOSCRIPT: the server has forgotten the script")
    if isinstance(error, theirs.OutOfMemoryError) or "OOM command" in text:
        return StoreFull(
            f"the store is out of memory and refuses writes: {text}; raise maxmemory or free some"
        )
    if isinstance(error, theirs.ReadOnlyError) or "READONLY" in text or "MISCONF" in text:
        return StoreReadOnly(f"the store refuses writes: {text}; point statekit at a writable primary")
    return StoreRejected(text)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises for a whole round into statekit's errors."""
    try:
        yield
    except theirs.TimeoutError as error:
        raise StoreTimeout(f"the store did not answer in time: {error}") from error
    except theirs.ResponseError as error:
        raise rejected(error) from error
    except (theirs.RedisError, OSError) as error:
        raise StoreUnavailable(f"the store cannot be reached: {error}") from error


# -- blocking --------------------------------------------------------------------------------------------


class RedisTransport:
    """Rounds over a blocking redis-py client: one pooled connection a round, one write, one wait."""

    def __init__(self, client: Any, *, owned: bool) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._owned = owned

    def exchange(self, calls: Round, budget: float) -> list[Reply]:
        with translated():
            connection = self._pool.get_connection()
            try:
                connection.send_packed_command(connection.pack_commands([wired(call) for call in calls]))
                if not connection.can_read(budget):
                    raise theirs.TimeoutError(f"nothing after {budget:g} s")  # noqa: TRY301 - same clean-up
                return [self._read(connection) for _ in calls]
            except BaseException:
                connection.disconnect()
                raise
            finally:
                self._pool.release(connection)

    @staticmethod
    def _read(connection: Any) -> Reply:
        try:
            return connection.read_response(disable_decoding=True)
        except theirs.ConnectionError:  # a server still loading its data says so in a reply
            raise
        except theirs.ResponseError as error:
            return rejected(error)

    def subscriber(self) -> RedisSubscriber:
        return RedisSubscriber(lambda: dedicated(self._pool, Retry(NoBackoff(), 0)), translated)

    def close(self) -> None:
        if self._owned:
            self._client.close()
            self._pool.disconnect()

    def after_fork(self) -> None:
        """Forget the parent's sockets without closing them: they are still the parent's."""
        self._pool.reset()

    def describe(self) -> str:
        return describe_pool(self._pool)


def describe_pool(pool: Any) -> str:
    """Say where a pool connects to, without its credentials."""
    known = pool.connection_kwargs
    where = known.get("path") or f"{known.get('host', '?')}:{known.get('port', '?')}"
    return f"redis-py over {where}/{known.get('db', 0)}"


def dedicated(pool: Any, retry: Any) -> Any:
    """Make a connection like the pool's, outside the pool: RESP2, one attempt, no notices of maintenance."""
    options = {name: value for name, value in pool.connection_kwargs.items() if "maint_" not in name}
    return pool.connection_class(**options | {"protocol": 2, "retry": retry, "retry_on_timeout": False})


# -- asyncio ---------------------------------------------------------------------------------------------


class AsyncRedisTransport:
    """Rounds over an asyncio redis-py client, coalesced.

    Rounds asked for in the same tick of the loop leave as one pipeline; rounds asked for while every
    connection is busy wait, and leave together when one comes free. So the number of connections is a small
    constant, whatever the number of callers; first come is first sent; a caller that is cancelled loses only
    its own reply.
    """

    CONNECTIONS = 4
    LARGEST = 512
    """Calls in one pipeline at most, so that a burst is spread over the connections."""

    def __init__(self, client: Any, *, owned: bool) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._owned = owned
        self._waiting: deque[_Waiting] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._carriers: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        waiting = _Waiting(calls, loop.create_future())
        self._waiting.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._dispatch)
        deadline = loop.call_later(budget, waiting.expire, budget)
        try:
            return await waiting.future
        finally:
            deadline.cancel()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start over on another event loop (a test, a second ``asyncio.run``): sockets cannot move along."""
        self._loop, self._scheduled = loop, False
        self._waiting.clear()
        self._carriers.clear()
        self._pool.reset()

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._carriers) < self.CONNECTIONS:
            carrier = asyncio.ensure_future(self._carry(self._batch()))
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)

    def _batch(self) -> list[_Waiting]:
        """Take who waits, in order, up to `LARGEST` calls; who gave up meanwhile is passed over."""
        batch: list[_Waiting] = []
        room = self.LARGEST
        while self._waiting and room > 0:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                batch.append(waiting)
                room -= len(waiting.calls)
        return batch

    async def _carry(self, batch: list[_Waiting]) -> None:
        """Use one connection for a batch, then for the next, until nobody waits."""
        while batch:
            try:
                with translated():
                    await self._send(batch)
            except StoreError as error:
                for waiting in batch:
                    waiting.fail(error)
            batch = self._batch()

    async def _send(self, batch: list[_Waiting]) -> None:
        connection = await self._pool.get_connection()
        try:
            commands = [wired(call) for waiting in batch for call in waiting.calls]
            await connection.send_packed_command(connection.pack_commands(commands))
            for waiting in batch:
                waiting.finish([await self._read(connection) for _ in waiting.calls])
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    @staticmethod
    async def _read(connection: Any) -> Reply:
        try:
            return await connection.read_response(disable_decoding=True)
        except theirs.ConnectionError:
            raise
        except theirs.ResponseError as error:
            return rejected(error)

    def subscriber(self) -> AsyncRedisSubscriber:
        return AsyncRedisSubscriber(lambda: dedicated(self._pool, AsyncRetry(NoBackoff(), 0)), translated)

    async def close(self) -> None:
        if self._carriers:
            await asyncio.wait(self._carriers, timeout=1.0)
        if self._owned:
            await self._client.aclose()
            await self._pool.disconnect()

    def describe(self) -> str:
        return describe_pool(self._pool)


class _Waiting:
    """A caller's round on its way: the calls, and the future its replies will arrive in."""

    __slots__ = ("calls", "future")

    def __init__(self, calls: Round, future: asyncio.Future[list[Reply]]) -> None:
        self.calls = calls
        self.future = future

    def finish(self, replies: Sequence[Reply]) -> None:
        if not self.future.done():
            self.future.set_result(list(replies))

    def fail(self, error: StoreError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self, budget: float) -> None:
        self.fail(StoreTimeout(f"the store did not answer in time: nothing after {budget:g} s"))
