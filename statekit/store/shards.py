"""Shards: subscriptions on a cluster, where each message stays in the shard it was published in.

Rule 1: one connection, to any node, subscribes to every channel in the classic way. It hears what comes from many slots
        (limits, slots in flight), and whatever another release, or a server without sharded publishing, sends to all.
        Its end is the end of the subscription: the `Push` makes another.
Rule 2: beside it there is a connection for each shard that owns a sharded channel. If one ends, stays silent, or its
        node no longer owns the channel, only that channel is subscribed anew, wherever the map says it is by then, and the
        confirmation tells its listeners of the gap, as at every begin.
Rule 3: a shard that refuses (an ACL, an older server) is not asked again: there readers find what is new by asking.
"""

from __future__ import annotations

import asyncio
import selectors
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from statekit.errors import StoreError, StoreRejected
from statekit.store.keys import is_sharded
from statekit.store.push import IDLE, Signal, Watch

if TYPE_CHECKING:
    from statekit.store.cluster import AsyncClusterTransport, ClusterTransport
    from statekit.store.slots import Node

__all__ = ["AsyncShardSubscriber", "ShardSubscriber"]

RETRY: Final = 0.2
"""Seconds between two attempts to find the owner of a channel."""
PATIENCE: Final = 0.5
"""Seconds a look at the map may take."""
PASSING: Final = ("MOVED", "CLUSTERDOWN")
"""What a node may say to a subscription that is worth another attempt, once the map has been read."""
QUIET: Final = ("pong", "", b"")


class _Shards:
    """Which channel is heard on which connection; what both colours know."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._main = cluster.node(cluster.some_node()).subscriber()
        self._lines: dict[Node, Any] = {}
        self._watches: dict[Node, Watch] = {}
        self._at: dict[str, Node | None] = {}
        self._due = 0.0

    def _noted(self, channels: tuple[str, ...]) -> None:
        for channel in filter(is_sharded, channels):
            self._at.setdefault(channel, None)
        self._due = 0.0

    def _strayed(self) -> dict[Node, list[str]]:
        """Channels that are to be subscribed, by their owners. A connection nobody is on any more stays: it is one a node."""
        places: dict[Node, list[str]] = {}
        for channel, node in tuple(self._at.items()):
            owner = self._cluster.owner_of(channel)
            if owner is not None and owner != node:
                self._at[channel] = owner
                places.setdefault(owner, []).append(channel)
        return places

    def _lost(self, node: Node, error: StoreError) -> Any:
        """Give up a connection: who was on it has to find another, unless that is not allowed or not known there."""
        refused = isinstance(error, StoreRejected) and str(error).split(" ")[0] not in PASSING
        self._cluster.doubt()
        self._due = monotonic() + RETRY
        for channel in [channel for channel, at in tuple(self._at.items()) if at == node]:
            if refused:
                del self._at[channel]
            else:
                self._at[channel] = None
        del self._watches[node]
        return self._lines.pop(node)

    def _opened(self, node: Node) -> Any:
        self._watches[node] = Watch()
        self._lines[node] = self._cluster.node(node).subscriber()
        return self._lines[node]

    def _heard(self, node: Node | None, signal: Signal) -> Signal:
        """Take note of what came on a shard's connection."""
        if node is not None:
            self._watches[node].heard()
            if signal[0] == "unsubscribe":  # the slot has gone elsewhere
                if self._at.get(signal[1]) == node:
                    self._at[signal[1]] = None
                    self._due = 0.0
                    self._cluster.doubt()
                return QUIET
        return signal

    def _is_due(self) -> bool:
        """Whether connections should be looked after; then not again for a while."""
        now = monotonic()
        if now < self._due or not self._cluster.sharded:
            return False
        self._due = now + (RETRY if None in self._at.values() else IDLE)
        return True


class ShardSubscriber(_Shards):
    """Same face as `RedisSubscriber`, over a cluster."""

    _cluster: ClusterTransport

    def connect(self) -> None:
        self._main.connect()
        self._cluster.look(PATIENCE)

    def subscribe(self, *channels: str) -> None:
        self._noted(channels)
        self._main.subscribe(
            *channels
        )  # its confirmation wakes whoever waits in `get`, who sees to the shards

    def ping(self) -> None:
        self._main.ping()

    def get(self, timeout: float) -> Signal | None:
        deadline = monotonic() + timeout
        while True:
            if self._is_due():
                self._tend()
            for node, line in *self._lines.items(), (None, self._main):
                signal = self._read(node, line)
                if signal is not None:
                    return signal
            now = monotonic()
            if now >= deadline:
                return None
            self._wait(max(0.0, min(deadline, self._due or deadline) - now))

    def _read(self, node: Node | None, line: Any) -> Signal | None:
        try:
            signal = line.get(0)
        except StoreError as error:
            if node is None:
                raise
            self._lost(node, error).close()
            return QUIET
        return None if signal is None else self._heard(node, signal)

    def _wait(self, seconds: float) -> None:
        """Wait until something comes on any connection."""
        with selectors.DefaultSelector() as selector:
            for line in (self._main, *self._lines.values()):
                selector.register(line.fileno(), selectors.EVENT_READ)
            selector.select(seconds)

    def _tend(self) -> None:
        """See that every connection lives, and that every channel is heard where it is published."""
        for node, line in tuple(self._lines.items()):
            try:
                if self._watches[node].silent(monotonic()):
                    line.ping()
            except StoreError as error:
                self._lost(node, error).close()
        self._cluster.look(PATIENCE)
        for node, channels in self._strayed().items():
            try:
                if node not in self._lines:
                    self._opened(node).connect()
                self._lines[node].subscribe(*channels, sharded=True)
            except StoreError as error:
                self._lost(node, error).close()

    def close(self) -> None:
        for line in (self._main, *self._lines.values()):
            line.close()


class AsyncShardSubscriber(_Shards):
    """Same as `ShardSubscriber`, for asyncio."""

    _cluster: AsyncClusterTransport

    async def connect(self) -> None:
        await self._main.connect()
        await self._cluster.look(PATIENCE)

    async def subscribe(self, *channels: str) -> None:
        self._noted(channels)
        await self._main.subscribe(*channels)

    async def ping(self) -> None:
        await self._main.ping()

    async def get(self, timeout: float) -> Signal | None:  # noqa: ASYNC109 - silence is no error here
        deadline = monotonic() + timeout
        while True:
            if self._is_due():
                await self._tend()
            lines = [*self._lines.items(), (None, self._main)]
            left = max(0.0, min(deadline, self._due or deadline) - monotonic())
            readings = [line.reading() for _, line in lines]
            await asyncio.wait(readings, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for (node, line), reading in zip(lines, readings, strict=True):
                if reading.done():
                    return await self._read(node, line)
            if monotonic() >= deadline:
                return None

    async def _read(self, node: Node | None, line: Any) -> Signal:
        try:
            signal: Signal = line.taken()
        except StoreError as error:
            if node is None:
                raise
            await self._lost(node, error).close()
            return QUIET
        return self._heard(node, signal)

    async def _tend(self) -> None:
        for node, line in tuple(self._lines.items()):
            try:
                if self._watches[node].silent(monotonic()):
                    await line.ping()
            except StoreError as error:
                await self._lost(node, error).close()
        await self._cluster.look(PATIENCE)
        for node, channels in self._strayed().items():
            try:
                if node not in self._lines:
                    await self._opened(node).connect()
                await self._lines[node].subscribe(*channels, sharded=True)
            except StoreError as error:
                await self._lost(node, error).close()

    async def close(self) -> None:
        for line in (self._main, *self._lines.values()):
            await line.close()
