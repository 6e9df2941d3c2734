"""Clusters: a round is cut by slot, its parts travel to their nodes at the same time, the replies come together.

The cluster client only knows the map of slots; the connections are the transports of single nodes, so budgets,
coalescing and errors are the same as everywhere. A slot that moves (MOVED) or is moving (ASK) is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from statekit.errors import StoreRejected, StoreUnavailable
from statekit.store.coalescing import AsyncRedisTransport
from statekit.store.drive import RedisTransport, translated
from statekit.store.op import Call, Reply, Round
from statekit.store.resp import packed

if TYPE_CHECKING:
    from statekit.store.subscribe import RedisSubscriber

__all__ = ["AsyncClusterTransport", "ClusterTransport"]

HOPS = 5
"""Times a call follows a slot before the round is given up."""
KEYLESS = frozenset({"PING", "PUBLISH", "TIME", "INFO", "CONFIG", "SCRIPT", "COMMAND", "CLIENT", "CLUSTER"})
ASKING = Call(("ASKING",))


def key_of(call: Call) -> str | None:
    """The key that decides where a call goes; None if any node will do."""
    if call.script is not None:
        return str(call.args[0]) if call.keys else None
    if str(call.args[0]).upper() in KEYLESS or len(call.args) < 2:
        return None
    words = [word.upper() if isinstance(word, str) else word for word in call.args]
    at = words.index("STREAMS") + 1 if "STREAMS" in words else 1
    key = call.args[at]
    return key.decode() if isinstance(key, bytes) else str(key)


@dataclass(slots=True)
class Parcel:
    """What one node gets of a round."""

    node: str
    asking: bool
    indexes: list[int] = field(default_factory=list)

    def round(self, calls: Round) -> Round:
        mine = [calls[index] for index in self.indexes]
        return tuple(part for call in mine for part in (ASKING, call)) if self.asking else tuple(mine)


class Route:
    """A round on its way through a cluster: which replies are in, and where the other calls go next."""

    def __init__(self, calls: Round) -> None:
        self.calls = calls
        self.replies: list[Reply] = [None] * len(calls)
        self.stale = False
        """Whether the map of slots has proved wrong."""
        self._todo: dict[int, tuple[str, bool] | None] = dict.fromkeys(range(len(calls)))

    @property
    def arrived(self) -> bool:
        return not self._todo

    def parcels(self, owner: Callable[[Call], str]) -> Iterable[Parcel]:
        """Sort what is left by node."""
        parcels: dict[tuple[str, bool], Parcel] = {}
        for index, where in self._todo.items():
            node, asking = where or (owner(self.calls[index]), False)
            parcels.setdefault((node, asking), Parcel(node, asking)).indexes.append(index)
        return parcels.values()

    def take(self, parcel: Parcel, replies: Sequence[Reply]) -> None:
        """Keep the replies to a parcel; note who has to go elsewhere."""
        for index, reply in zip(parcel.indexes, replies[1::2] if parcel.asking else replies, strict=True):
            word, *rest = str(reply.args[0]).split(" ") if isinstance(reply, StoreRejected) else [""]
            if word in ("MOVED", "ASK"):
                self.stale |= word == "MOVED"
                self._todo[index] = (rest[1], word == "ASK")
            else:
                self.replies[index] = reply
                del self._todo[index]


class _Cluster:
    """What both transports know about the nodes."""

    def __init__(self, client: Callable[[], Any], where: str, *, owned: bool) -> None:
        self._make = client
        self._made: Any = None
        self._where = where
        self._owned = owned
        self._nodes: dict[str, Any] = {}

    @property
    def _client(self) -> Any:
        """The cluster client; made at the first use, since it asks the cluster for its map at once."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def _owner(self, call: Call) -> str:
        key = key_of(call)
        node = self._client.get_default_node() if key is None else self._client.get_node_from_key(key)
        return str(node.name)

    def describe(self) -> str:
        return f"redis-py over cluster {self._where}"


class ClusterTransport(_Cluster):
    """Rounds over a blocking cluster client."""

    def exchange(self, calls: Round, budget: float) -> list[Reply]:
        route, deadline = Route(calls), monotonic() + budget
        for _ in range(HOPS):
            with translated():
                parcels = route.parcels(self._owner)
            self._deliver(route, list(parcels), deadline)
            if route.stale:
                self._refresh()
            if route.arrived:
                return route.replies
        raise StoreUnavailable(f"the cluster is being rearranged: a slot moved {HOPS} times during one call")

    def _deliver(self, route: Route, parcels: list[Parcel], deadline: float) -> None:
        """Send every parcel before waiting for any."""
        flights: list[tuple[RedisTransport, Any]] = []
        try:
            with translated():
                for parcel in parcels:
                    node = self._node(parcel.node)
                    message = packed(parcel.round(route.calls))
                    flights.append((node, node.send(message, max(0.001, deadline - monotonic()))))
                for parcel in parcels:
                    node, connection = flights.pop(0)
                    route.take(parcel, node.receive(connection, len(parcel.round(route.calls)), deadline))
        except StoreUnavailable:
            self._refresh()
            raise
        finally:
            for node, connection in flights:
                node.drop(connection)

    def _node(self, name: str) -> RedisTransport:
        if name not in self._nodes:
            node = self._client.get_node(node_name=name)
            if node is None:
                self._client.nodes_manager.initialize()
                node = self._client.get_node(node_name=name)
            if node is None:
                raise StoreUnavailable(f"the cluster sends us to {name}, which its map does not know")
            self._nodes[name] = RedisTransport(self._client.get_redis_connection(node), owned=self._owned)
        return self._nodes[name]  # type: ignore[no-any-return]

    def _refresh(self) -> None:
        """Read the map of slots again; if nobody answers, the next round will say so."""
        try:
            with translated():
                self._client.nodes_manager.initialize()
        except StoreUnavailable:
            return
        self._nodes.clear()

    def subscriber(self) -> RedisSubscriber:
        with translated():
            return self._node(random.choice(self._client.get_primaries()).name).subscriber()  # noqa: S311

    def close(self) -> None:
        if self._owned and self._made is not None:
            self._made.close()
            self._made = None
            self._nodes.clear()

    def after_fork(self) -> None:
        for node in self._nodes.values():
            node.after_fork()


class AsyncClusterTransport(_Cluster):
    """Same as `ClusterTransport`, for asyncio; each node's rounds are coalesced."""

    def __init__(
        self, client: Callable[[], Any], where: str, *, owned: bool, over: Callable[[Any], Any]
    ) -> None:
        super().__init__(client, where, owned=owned)
        self._over = over
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: asyncio.Task[None] | None = None

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        await self._ready(budget)
        route = Route(calls)
        for _ in range(HOPS):
            with translated():
                parcels = list(route.parcels(self._owner))
            await self._deliver(route, parcels, budget)
            if route.stale:
                await self._refresh()
            if route.arrived:
                return route.replies
        raise StoreUnavailable(f"the cluster is being rearranged: a slot moved {HOPS} times during one call")

    async def _ready(self, budget: float) -> None:
        """Have the map of slots; on another event loop, begin anew."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with translated():
                await asyncio.wait_for(self._once(loop, self._learn), budget)

    def _once(
        self, loop: asyncio.AbstractEventLoop, ask: Callable[[], Coroutine[Any, Any, None]]
    ) -> Awaitable[None]:
        """Ask the cluster for its map; all who want it at the same time share one answer."""
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(ask())
        return asyncio.shield(self._asking)

    async def _learn(self) -> None:
        self._nodes = {}
        if self._owned:
            self._made = None
        await self._client.initialize()
        self._loop = asyncio.get_running_loop()

    async def _deliver(self, route: Route, parcels: list[Parcel], budget: float) -> None:
        try:
            nodes = [self._node(parcel.node) for parcel in parcels]
            answers = [
                node.exchange(parcel.round(route.calls), budget)
                for node, parcel in zip(nodes, parcels, strict=True)
            ]
            # a round that concerns one node, as most do, needs no gathering
            arrived = await asyncio.gather(*answers) if len(answers) > 1 else [await answers[0]]
            for parcel, replies in zip(parcels, arrived, strict=True):
                route.take(parcel, replies)
        except StoreUnavailable:
            await self._refresh()
            raise

    def _node(self, name: str) -> AsyncRedisTransport:
        if name not in self._nodes:
            node = self._client.get_node(node_name=name)
            if node is None:
                raise StoreUnavailable(f"the cluster sends us to {name}, which its map does not know yet")
            self._nodes[name] = AsyncRedisTransport(self._over(node), owned=True)
        return self._nodes[name]  # type: ignore[no-any-return]

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(StoreUnavailable), translated():
            await self._once(loop, self._client.nodes_manager.initialize)

    def subscriber(self) -> Any:
        with translated():
            return self._node(random.choice(self._client.get_primaries()).name).subscriber()  # noqa: S311

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.close()
        self._nodes = {}
        if self._owned and self._made is not None:
            await self._made.aclose()
            self._made = self._loop = None
