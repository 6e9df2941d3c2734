"""The two faces of connection pools: no logic, only who carries out the steps, a thread or a task."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable
from threading import get_ident
from types import CodeType, TracebackType
from typing import Any, Generic, TypeVar, Unpack

from statekit.pools.base import BasePool, BaseRegistry, Bounds, Broken
from statekit.pools.called import AsyncCalled, Called
from statekit.pools.core import FleetView, PoolConfig
from statekit.pools.loan import Entry
from statekit.pools.local import Ask, Close, Effect, Open, Park, Ping, Steps
from statekit.store.durations import Duration
from statekit.store.fork import on_fork
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncCheckout", "AsyncPool", "AsyncPools", "Checkout", "Pool", "Pools"]

C = TypeVar("C")
T = TypeVar("T")


# -- blocking --------------------------------------------------------------------------------------------


class Checkout(Generic[C]):
    """A client on loan: ``with pool.checkout() as client``. Not reusable, not to be shared by threads."""

    __slots__ = ("_code", "_dropped", "_entry", "_offset", "_pool", "_timeout")

    def __init__(self, pool: Pool[C], timeout: Duration | None, code: CodeType, offset: int) -> None:
        self._pool = pool
        self._timeout = None if timeout is None else pool._bounded(timeout)  # noqa: SLF001 - its own pool
        self._code = code
        self._offset = offset
        self._dropped = False

    def __enter__(self) -> C:
        pool = self._pool
        entry = pool._ledger.take()  # noqa: SLF001 - its own pool
        if entry is None:
            entry = pool._wait(self._timeout)  # noqa: SLF001
        entry.holder = get_ident()
        entry.code = self._code
        entry.offset = self._offset
        self._entry = entry
        return entry.client  # type: ignore[no-any-return]

    def discard(self) -> None:
        """Say that the client is broken: it is closed instead of going back into the pool."""
        self._dropped = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, entry = self._pool, self._entry
        if error is None and not self._dropped:
            surplus = pool._ledger.put(entry)  # noqa: SLF001
        else:
            surplus = pool._came_back(entry, error, dropped=self._dropped)  # noqa: SLF001
        if surplus:
            pool._perform(pool._local.retire(entry))  # noqa: SLF001


class Pool(BasePool[C, Store]):
    """One pool of a blocking kit; what `Pools.register` returns, typed by what ``open`` returns."""

    _signal = threading.Event

    def checkout(self, timeout: Duration | None = None) -> Checkout[C]:
        """Same as `Pools.checkout`, for this pool."""
        frame = sys._getframe(1)  # noqa: SLF001 - the only cheap way to the caller
        return Checkout(self, timeout, frame.f_code, frame.f_lasti)

    def fleet(self) -> FleetView:
        """Same as `Pools.fleet`, for this pool."""
        self.tend()
        return self._store.run(self.viewing())

    def tend(self) -> None:
        """Do now what the background does every half second: renew the share, close what is stale."""
        self._perform(self._local.tend())

    def close(self) -> None:
        """Close what is idle, refuse checkouts, leave the fleet; what is in use is closed as it returns."""
        self._perform(self._local.drain())

    def _wait(self, timeout: Duration | None) -> Entry:
        if not self._beating:
            self._begin_beating()
        return self._perform(self._local.checkout(self._seconds(timeout)))

    def _begin_beating(self) -> None:
        self._beating = True
        beat = self._store.pulse.every(self._beat_seconds, self.tend)
        if self.config.fleet is not None:
            self._called = Called(self._is_mine, lambda: self._store.pulse.soon(beat))
            self._store.push.subscribe(self._key, self._called)

    def _perform(self, steps: Steps[T]) -> T:
        try:
            effect = next(steps)
            while True:
                try:
                    outcome = self._do(effect)
                except BaseException as error:  # noqa: BLE001 - the procedure decides
                    effect = steps.throw(error)
                else:
                    effect = steps.send(outcome)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _do(self, effect: Effect) -> Any:
        match effect:
            case Park(signal, most):
                return signal.wait(min(most, threading.TIMEOUT_MAX))
            case Open():
                return self._open()
            case Ask(op):
                return self._store.run(op, self._patience)
            case Close(client):
                return self._close(client)
            case Ping(client):
                return self._ping(client) if self._ping is not None else True

    @staticmethod
    def _name_of(holder: Any) -> str:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return names.get(holder, f"thread {holder} (ended)" if holder else "a thread")


class Pools(BaseRegistry["Pool[Any]", Store]):
    """Clients of third parties, shared by the threads of a process and bounded for the whole fleet.

    >>> from statekit import StateKit
    >>> kit = StateKit.in_memory()
    >>> billing = kit.pools.register("billing", open=list, close=lambda c: c.clear(), per_process=2, fleet=12)
    >>> with kit.pools.checkout("billing", timeout=1.0) as client:
    ...     kit.pools.stats()["billing"].in_use
    1
    >>> kit.close()

    Checking out and returning touch no network; only opening and closing a client does.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        on_fork(self)

    def register(
        self,
        name: str,
        *,
        open: Callable[[], C],  # noqa: A002 - the promised name
        close: Callable[[C], object] | None = None,
        ping: Callable[[C], object] | None = None,
        broken: Broken | None = None,
        **bounds: Unpack[Bounds],
    ) -> Pool[C]:
        """Describe a pool; nothing is opened before the first checkout.

        Args:
            name: what it is called in the fleet; the same name in all processes is the same budget.
            open: makes a client. Give it a timeout of its own: a checkout's timeout cannot interrupt it.
            close: ends a client; by default its ``aclose`` or ``close``.
            ping: False or an exception means that the client is broken; asked after ``ping_after`` unused
                seconds, and after a block that raised.
            broken: tells whether an exception raised in the block means the client must not be used again;
                by default `ConnectionError`, `EOFError` and whatever cut the block off (Ctrl-C, a cancelled
                task). After any other exception the client is pinged before its next use; without a `ping`
                it is closed after any exception, since half an exchange may be left on its line.
            **bounds: see `PoolConfig`: ``per_process``, ``fleet``, ``timeout``, ``idle``, ``lifetime``,
                ``ping_after``, ``leak_after``, ``lease``, ``on_outage``.

        Raises `BudgetError` for caps that contradict each other, `UsageError` for a name that is taken or a
        bound that cannot be.
        """
        return self._add(name, Pool(self._store, PoolConfig(name, **bounds), open, close, ping, broken))  # type: ignore[arg-type]

    def checkout(self, name: str, timeout: Duration | None = None) -> Checkout[Any]:
        """Borrow a client for a ``with`` block.

        An idle one is handed out at once, a new one opened if the caps allow it; otherwise the call waits its
        turn, up to `timeout` seconds (default: the pool's), then raises `PoolExhausted`, which says who holds
        what and which cap it was. Raises `UnknownPool`, and whatever ``open`` raises. While the store is away
        the process works with the share it has (see ``on_outage``).
        """
        frame = sys._getframe(1)  # noqa: SLF001 - the only cheap way to the caller
        return Checkout(self[name], timeout, frame.f_code, frame.f_lasti)

    def fleet(self, name: str) -> FleetView:
        """Every live process's share, and what it has open, in use and waiting.

        Reports this process first, so its own line is fresh. Raises `StoreUnavailable` when the store is away.
        """
        view: FleetView = self[name].fleet()
        return view

    def tend(self) -> None:
        """Do now, for all pools, what the background does: renew shares, close what is stale, tell of leaks."""
        for name in self:
            self[name].tend()

    def close(self) -> None:
        """Close all pools; `StateKit.close` does it."""
        for name in self:
            self[name].close()

    def after_fork(self) -> None:
        for pool in self._pools.values():
            pool._leave_behind()  # noqa: SLF001 - its own pools


# -- asyncio ---------------------------------------------------------------------------------------------


class AsyncCheckout(Generic[C]):
    """Same as `Checkout`, for asyncio: ``async with pool.checkout() as client``."""

    __slots__ = ("_code", "_dropped", "_entry", "_offset", "_pool", "_timeout")

    def __init__(self, pool: AsyncPool[C], timeout: Duration | None, code: CodeType, offset: int) -> None:
        self._pool = pool
        self._timeout = None if timeout is None else pool._bounded(timeout)  # noqa: SLF001 - its own pool
        self._code = code
        self._offset = offset
        self._dropped = False

    async def __aenter__(self) -> C:
        pool = self._pool
        pool._on_this_loop()  # noqa: SLF001 - its own pool
        entry = pool._ledger.take()  # noqa: SLF001
        if entry is None:
            entry = await pool._wait(self._timeout)  # noqa: SLF001
        entry.holder = asyncio.current_task()
        entry.code = self._code
        entry.offset = self._offset
        self._entry = entry
        return entry.client  # type: ignore[no-any-return]

    def discard(self) -> None:
        """Same as `Checkout.discard`."""
        self._dropped = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, entry = self._pool, self._entry
        if error is None and not self._dropped:
            surplus = pool._ledger.put(entry)  # noqa: SLF001
        else:
            surplus = pool._came_back(entry, error, dropped=self._dropped)  # noqa: SLF001
        if surplus:
            await pool._perform(pool._local.retire(entry))  # noqa: SLF001


class AsyncPool(BasePool[C, AsyncStore]):
    """Same as `Pool`, for asyncio. Clients belong to the event loop they were opened on."""

    _signal = asyncio.Event
    _loop: asyncio.AbstractEventLoop | None = None
    _called: AsyncCalled | None = None

    def checkout(self, timeout: Duration | None = None) -> AsyncCheckout[C]:
        """Same as `Pools.checkout`, for this pool."""
        frame = sys._getframe(1)  # noqa: SLF001 - the only cheap way to the caller
        return AsyncCheckout(self, timeout, frame.f_code, frame.f_lasti)

    async def fleet(self) -> FleetView:
        """Same as `Pools.fleet`, for this pool."""
        await self.tend()
        return await self._store.run(self.viewing())

    async def tend(self) -> None:
        """Same as `Pool.tend`, for asyncio."""
        self._on_this_loop()
        await self._perform(self._local.tend())

    async def close(self) -> None:
        """Same as `Pool.close`, for asyncio."""
        self._on_this_loop()
        await self._perform(self._local.drain())

    def _on_this_loop(self) -> None:
        """Start over on another event loop (a test, a second ``asyncio.run``): sockets cannot move along."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                self._leave_behind()
            self._loop, self._beating = loop, False

    async def _wait(self, timeout: Duration | None) -> Entry:  # noqa: ASYNC109 - the line is ours, and fair
        if not self._beating:
            await self._begin_beating()
        return await self._perform(self._local.checkout(self._seconds(timeout)))

    async def _begin_beating(self) -> None:
        self._beating = True
        self._store.pulse.every(self._beat_seconds, self.tend)
        if self.config.fleet is not None:
            self._called = self._called or AsyncCalled(self._is_mine, self.tend)
            await self._store.push.subscribe(self._key, self._called)

    async def _perform(self, steps: Steps[T]) -> T:
        try:
            effect = next(steps)
            while True:
                try:
                    outcome = await self._do(effect)
                except BaseException as error:  # noqa: BLE001 - the procedure decides
                    effect = steps.throw(error)
                else:
                    effect = steps.send(outcome)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Park(signal, most):
                return await _slept(signal, most)
            case Ask(op):
                return await self._store.run(op, self._patience)
            case Open():
                return await _maybe(self._open())
            case Close(client):
                return await _maybe(self._close(client))
            case Ping(client):
                return await _maybe(self._ping(client) if self._ping is not None else True)

    @staticmethod
    def _name_of(holder: Any) -> str:
        return holder.get_name() if holder is not None else "a task"


async def _maybe(outcome: Any) -> Any:
    return await outcome if inspect.isawaitable(outcome) else outcome


async def _slept(signal: asyncio.Event, most: float) -> bool:
    try:
        async with asyncio.timeout(most):
            return await signal.wait()
    except TimeoutError:
        return False


class AsyncPools(BaseRegistry["AsyncPool[Any]", AsyncStore]):
    """Same as `Pools`, for asyncio; ``open``, ``close`` and ``ping`` may be coroutine functions."""

    def __init__(self, store: AsyncStore) -> None:
        super().__init__(store)
        on_fork(self)

    def register(
        self,
        name: str,
        *,
        open: Callable[[], C | Awaitable[C]],  # noqa: A002 - the promised name
        close: Callable[[C], object] | None = None,
        ping: Callable[[C], object] | None = None,
        broken: Broken | None = None,
        **bounds: Unpack[Bounds],
    ) -> AsyncPool[C]:
        """Same as `Pools.register`; the callables may be coroutine functions."""
        return self._add(name, AsyncPool(self._store, PoolConfig(name, **bounds), open, close, ping, broken))  # type: ignore[arg-type]

    def checkout(self, name: str, timeout: Duration | None = None) -> AsyncCheckout[Any]:
        """Same as `Pools.checkout`, for ``async with``."""
        frame = sys._getframe(1)  # noqa: SLF001 - the only cheap way to the caller
        return AsyncCheckout(self[name], timeout, frame.f_code, frame.f_lasti)

    async def fleet(self, name: str) -> FleetView:
        """Same as `Pools.fleet`, for asyncio."""
        view: FleetView = await self[name].fleet()
        return view

    async def tend(self) -> None:
        """Same as `Pools.tend`, for asyncio."""
        for name in self:
            await self[name].tend()

    async def close(self) -> None:
        """Same as `Pools.close`, for asyncio."""
        for name in self:
            await self[name].close()

    def after_fork(self) -> None:
        for pool in self._pools.values():
            pool._leave_behind()  # noqa: SLF001 - its own pools
