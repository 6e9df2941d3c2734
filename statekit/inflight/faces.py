"""The two faces of in-flight limits: blocking and asyncio. Neither decides anything."""

from __future__ import annotations

import random
import threading
from time import monotonic
from types import TracebackType
from typing import Self

from statekit.inflight.base import BaseHold, BaseInFlight
from statekit.inflight.core import Holder
from statekit.inflight.keeper import AsyncKeeper, Keeper
from statekit.inflight.line import Bell, Place
from statekit.store.durations import Duration
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncHold", "AsyncInFlight", "Hold", "InFlight"]

_dice = random.SystemRandom()  # not the global generator: an app may have seeded it


# -- blocking --------------------------------------------------------------------------------------------


class Hold(BaseHold["InFlight"]):
    """One slot: what `InFlight.hold` and `InFlight.acquire` return. True if the slot was granted.

    As a context manager it takes a slot, unless it has one, raises `TooManyInFlight` if there is none, and
    gives it back at the end of the block. Not to be entered twice.
    """

    __slots__ = ()

    def release(self) -> bool:
        """Give the slot back, once; returns whether it was still held, by the store's account.

        With the store down it returns False and raises nothing: the slot is given back when the store is there
        again, or free when its lease ends.
        """
        flight = self._flight
        return flight._store.run(flight.releasing(self), flight._store.budget.decision)  # noqa: SLF001 - its own face

    def __enter__(self) -> Self:
        if self._enter():
            self._flight._take(self)  # noqa: SLF001
        if refused := self._checked():
            raise refused
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class InFlight(BaseInFlight[Store, Keeper, Hold]):
    """How many at once, for each key, over all processes. Made by ``kit.in_flight``.

    >>> from statekit import StateKit
    >>> reports = StateKit.in_memory().in_flight("reports", 1)
    >>> with reports.hold("acme"):
    ...     [reports.acquire("acme").allowed, reports.acquire("other").allowed]
    [False, True]
    """

    _hold = Hold

    def hold(self, key: str, timeout: Duration = 0) -> Hold:
        """Run a block while holding a slot of `key`: ``with reports.hold("acme") as hold:``.

        Waits up to `timeout` seconds for a slot, then raises `TooManyInFlight`, a `LimitExceeded`. Within a process waiters are
        served in the order they came. With the store down the answer is the one declared as ``on_outage``.
        """
        return Hold(self, key, timeout)

    def acquire(self, key: str, timeout: Duration = 0) -> Hold:
        """Take a slot without a block: the hold is true if there was one; ``release`` it in the end.

        Waits like `hold`, but raises nothing when there is no slot. Raises `UsageError` for a key that is not
        text.
        """
        hold = Hold(self, key, timeout)
        self._take(hold)
        return hold

    def count(self, key: str) -> int:
        """How many slots of a key are taken now. Raises `StoreUnavailable`."""
        return self._store.run(self.counting(key))

    def holders(self, key: str) -> tuple[Holder, ...]:
        """Who holds the slots of a key, since when and until when, the first taken first. Raises `StoreUnavailable`."""
        return self._store.run(self.viewing(key))

    def _take(self, hold: Hold) -> None:
        waits = hold._timeout > 0  # noqa: SLF001 - its own hold
        if not waits or hold._where not in self._keeper.lines:  # noqa: SLF001
            self._try(hold, announce=waits)
        if waits and not hold:
            self._wait(hold)

    def _try(self, hold: Hold, *, announce: bool) -> None:
        self._store.run(self._taking(hold, announce=announce), self._store.budget.decision)

    def _wait(self, hold: Hold) -> None:
        place = Place(hold._where, threading.Event(), monotonic() + hold._timeout)  # noqa: SLF001
        try:
            self._keeper.lines.join(place)
            while (pause := place.pause(hold._grant, monotonic(), _dice.random())) is not None:  # noqa: SLF001
                if hold._grant is not None:  # noqa: SLF001
                    self._keeper.listen(self._channel)
                place.signal.wait(min(pause, threading.TIMEOUT_MAX))
                place.signal.clear()
                self._try(hold, announce=True)
        finally:
            self._keeper.lines.leave(place)


# -- asyncio ---------------------------------------------------------------------------------------------


class AsyncHold(BaseHold["AsyncInFlight"]):
    """Same as `Hold`, for asyncio: ``async with``."""

    __slots__ = ()

    async def release(self) -> bool:
        """Same as `Hold.release`, for asyncio."""
        flight = self._flight
        return await flight._store.run(flight.releasing(self), flight._store.budget.decision)  # noqa: SLF001 - its own face

    async def __aenter__(self) -> Self:
        if self._enter():
            await self._flight._take(self)  # noqa: SLF001
        if refused := self._checked():
            raise refused
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()


class AsyncInFlight(BaseInFlight[AsyncStore, AsyncKeeper, AsyncHold]):
    """Same as `InFlight`, for asyncio."""

    _hold = AsyncHold

    def hold(self, key: str, timeout: Duration = 0) -> AsyncHold:
        """Same as `InFlight.hold`, for asyncio."""
        return AsyncHold(self, key, timeout)

    async def acquire(self, key: str, timeout: Duration = 0) -> AsyncHold:  # noqa: ASYNC109 - the line is ours
        """Same as `InFlight.acquire`, for asyncio."""
        hold = AsyncHold(self, key, timeout)
        await self._take(hold)
        return hold

    async def count(self, key: str) -> int:
        """Same as `InFlight.count`, for asyncio."""
        return await self._store.run(self.counting(key))

    async def holders(self, key: str) -> tuple[Holder, ...]:
        """Same as `InFlight.holders`, for asyncio."""
        return await self._store.run(self.viewing(key))

    async def _take(self, hold: AsyncHold) -> None:
        waits = hold._timeout > 0  # noqa: SLF001 - its own hold
        if not waits or hold._where not in self._keeper.lines:  # noqa: SLF001
            await self._try(hold, announce=waits)
        if waits and not hold:
            await self._wait(hold)

    async def _try(self, hold: AsyncHold, *, announce: bool) -> None:
        await self._store.run(self._taking(hold, announce=announce), self._store.budget.decision)

    async def _wait(self, hold: AsyncHold) -> None:
        place = Place(hold._where, Bell(), monotonic() + hold._timeout)  # noqa: SLF001
        try:
            self._keeper.lines.join(place)
            while (pause := place.pause(hold._grant, monotonic(), _dice.random())) is not None:  # noqa: SLF001
                if hold._grant is not None:  # noqa: SLF001
                    await self._keeper.listen(self._channel)
                await place.signal.wait(pause)
                place.signal.clear()
                await self._try(hold, announce=True)
        finally:
            self._keeper.lines.leave(place)
