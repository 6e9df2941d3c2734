"""The keepers: they carry out what the ledger wants sent, in the background, on a thread or a task."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from statekit.inflight.ledger import Ledger
from statekit.store.fork import on_fork
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncKeeper", "Keeper"]

NEVER = float("inf")
SETTLE = 1.0
"""Seconds between two looks whether slots have to be given back of which nobody heard; free if there are none."""


class Keeper(Ledger):
    """Keeps the holds of a blocking kit alive; the listener of its channels."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store
        self._shortest = NEVER
        self._listening: frozenset[str] = frozenset()
        on_fork(self)

    def begin(self, lease_us: int) -> None:
        """Beat at a third of the shortest lease there was, and more often for slots nobody has heard of."""
        if lease_us < self._shortest:
            if self._shortest == NEVER:
                self._store.pulse.every(SETTLE, self.settle)
            self._shortest = lease_us
            self._store.pulse.every(lease_us / 3e6, self.tend)

    def tend(self) -> None:
        """Do now what the background does: renew what is due, give back what is left over."""
        self._store.run(self.tending(), min(self._store.budget.operation, self._shortest / 3e6))

    def settle(self) -> None:
        """Give back what is left over."""
        self._store.run(self.settling())

    def listen(self, channel: str) -> None:
        """Hear of free slots from now on."""
        if channel not in self._listening:
            self._listening |= {channel}
            self._store.push.subscribe(channel, self)

    def settled(self) -> None:
        """Who waits was woken as the message came."""

    def close(self) -> None:
        """Give everything back, in one round trip; `StateKit.close` does it. Raises nothing for the store."""
        self._store.run(self.closing())


class AsyncKeeper(Ledger):
    """Same as `Keeper`, for asyncio. Each event loop beats and listens by itself; what is held is held by all."""

    def __init__(self, store: AsyncStore) -> None:
        super().__init__(store)
        self._store = store
        self._beats: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
        self._listening: WeakKeyDictionary[asyncio.AbstractEventLoop, frozenset[str]] = WeakKeyDictionary()
        on_fork(self)

    def begin(self, lease_us: int) -> None:
        """Same as `Keeper.begin`, for asyncio; needs a running loop."""
        loop = asyncio.get_running_loop()
        if lease_us < self._beats.get(loop, NEVER):
            if loop not in self._beats:
                self._store.pulse.every(SETTLE, self.settle)
            self._beats[loop] = lease_us
            self._store.pulse.every(lease_us / 3e6, self.tend)

    async def tend(self) -> None:
        """Same as `Keeper.tend`, for asyncio."""
        shortest = min(self._beats.values(), default=NEVER)
        await self._store.run(self.tending(), min(self._store.budget.operation, shortest / 3e6))

    async def settle(self) -> None:
        """Same as `Keeper.settle`, for asyncio."""
        await self._store.run(self.settling())

    async def listen(self, channel: str) -> None:
        """Same as `Keeper.listen`, for asyncio."""
        loop = asyncio.get_running_loop()
        heard = self._listening.get(loop, frozenset())
        if channel not in heard:
            self._listening[loop] = heard | {channel}
            await self._store.push.subscribe(channel, self)

    async def settled(self) -> None:
        """Same as `Keeper.settled`."""

    async def close(self) -> None:
        """Same as `Keeper.close`, for asyncio."""
        await self._store.run(self.closing())
