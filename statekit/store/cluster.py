"""Clusters: a round is cut by slot, its parts travel to their nodes at the same time, the replies come together.

`slots` holds the rules, without I/O; here they are followed, in both colours. Each node has a transport of its own, so
budgets, coalescing and errors are the same as everywhere, and a breaker of its own, so that one that is down is asked
seldom while the others go on. Everything that is done for a round, a look at the map included, is done within its budget.

The map is read again when it has proved wrong: by one caller at a time, every `PAUSE` at the most, from whichever node
answers. That is how a failover is found: about `PAUSE` after it is over.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.drive import translated
from statekit.store.op import Call, Reply, Round
from statekit.store.outage import Breaker
from statekit.store.resp import packed
from statekit.store.slots import ASK_FOR_MAP, Answer, Node, Parcel, Route, SlotMap, key_of, slot_of

if TYPE_CHECKING:
    from statekit.store.drive import RedisTransport
    from statekit.store.subscribe import RedisSubscriber

__all__ = ["AsyncClusterTransport", "ClusterTransport"]

HOPS: Final = 8
"""Times a call is sent after a slot before the round is given up."""
PAUSE: Final = 0.1
"""Seconds between two looks at the map, at the least."""
FIRST_WAIT: Final = 0.002
"""Seconds before a call whose keys are moving is sent again; twice as long each time."""
_dice = random.SystemRandom()  # not the global generator: an app may have seeded it


class Want(Enum):
    """What a route waits for beside replies."""

    MAP = "map"


Step: TypeAlias = "list[Parcel] | Want | float"
"""What a route does next: send parcels, look at the map, or wait a moment."""


class _Cluster:
    """What both transports know about the nodes, and the course of a round."""

    slotted = True

    def __init__(
        self,
        make: Callable[[Node], Any],
        seeds: Sequence[Node],
        where: str,
        *,
        renamed: Callable[[Node], Node] = lambda node: node,
    ) -> None:
        """`make` makes the transport of a node; `seeds` are asked for the map when nobody else answers."""
        self._make = make
        self._seeds = tuple(seeds)
        self._where = where
        self._renamed = renamed
        self._nodes: dict[Node, Any] = {
            seeds[0]: make(seeds[0])
        }  # an option it does not know is told at once
        self._breakers: dict[Node, Breaker] = {}
        self._map: SlotMap | None = None
        self._stale = True
        self._due = 0.0

    @property
    def sharded(self) -> bool:
        """Whether the cluster knows sharded publishing; False until it has been asked."""
        return self._map is not None and self._map.sharded

    def describe(self) -> str:
        return f"redis-py over cluster {self._where}"

    # -- nodes -------------------------------------------------------------------------------------------

    def node(self, node: Node) -> Any:
        """The transport of a node."""
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes.setdefault(node, self._make(node))
        return known

    def owner_of(self, key: str) -> Node | None:
        """Who owns the slot of a key, as far as is known."""
        return None if self._map is None else self._map.owners[slot_of(key)]

    def some_node(self) -> Node:
        """Any node that is probably well, a primary if there is one."""
        primaries = self._map.primaries if self._map else ()
        return next((node for node in primaries if self._well(node)), self._candidates()[0])

    def _owner(self, call: Call) -> Node | None:
        key = key_of(call)
        return self.some_node() if key is None else self.owner_of(key)

    def _breaker(self, node: Node) -> Breaker:
        known = self._breakers.get(node)
        if known is None:
            known = self._breakers.setdefault(node, Breaker(jitter=lambda: _dice.uniform(0.6, 1.0)))
        return known

    def _well(self, node: Node) -> bool:
        return node not in self._breakers or not self._breakers[node].open

    def _judge(self, node: Node, answer: Answer) -> None:
        if isinstance(answer, StoreUnavailable):
            self._breaker(node).failed(monotonic())
        elif node in self._breakers:
            self._breakers[node].succeeded()

    # -- the course of a round ---------------------------------------------------------------------------

    def _routed(self, calls: Round, deadline: float) -> Generator[Step, Any, list[Reply]]:
        """Send every call where it belongs, until all are answered or the budget is spent."""
        route = Route(calls, self._renamed)
        wait = FIRST_WAIT
        for _ in range(HOPS):
            while True:
                if self._map is None or (self._stale and monotonic() >= self._due):
                    yield Want.MAP
                parcels = self._admitted(route)
                yield from self._sent(route, parcels)
                if not route.early or monotonic() + wait >= deadline:
                    break
                yield wait
                wait *= 2
            if route.arrived:
                return route.result()
        route.give_up(StoreTimeout("the store did not answer in time: the slot is being moved"))
        return route.result()

    def _admitted(self, route: Route) -> list[Parcel]:
        """The parcels that go out now; a node that failed several times in a row is not asked for a moment."""
        admitted = []
        for parcel in route.parcels(self._owner):
            breaker = self._breakers.get(parcel.node)
            if breaker is None or breaker.admits(monotonic()):
                admitted.append(parcel)
            else:
                refusal = StoreUnavailable(
                    "this part of the store failed several times in a row; it is asked again soon"
                )
                route.take(parcel, refusal, sent=False)
        return admitted

    def _sent(self, route: Route, parcels: list[Parcel]) -> Generator[Step, Any, None]:
        """Send parcels, and learn from what comes back."""
        if parcels:
            try:
                answers = yield parcels
            except GeneratorExit:
                for parcel in parcels:
                    self._breaker(parcel.node).abandoned(monotonic())
                raise
            for parcel, answer in zip(parcels, answers, strict=True):
                self._judge(parcel.node, answer)
                route.take(parcel, answer)
        self._stale |= route.stale
        route.stale = False
        while route.moved and self._map is not None:
            slot, there = route.moved.pop()
            self._map.owners[slot] = there

    # -- the map -----------------------------------------------------------------------------------------

    def _candidates(self) -> list[Node]:
        """Who may be asked for the map: all nodes there are, in a random order, those that are well first."""
        known = (*self._map.primaries, *self._map.replicas) if self._map else ()
        nodes = dict.fromkeys((*known, *self._seeds))
        return sorted(nodes, key=lambda node: (not self._well(node), _dice.random()))

    def _learning(self) -> Generator[Node, Answer, None]:
        """Ask one node after another for the map: yields whom, is sent the answer."""
        self._due = monotonic() + PAUSE * _dice.uniform(1.0, 1.5)
        known, older, failure = self._map, None, StoreUnavailable("the cluster did not answer in time")
        for node in self._candidates():
            answer = yield node
            self._judge(node, answer)
            try:
                told = SlotMap.read(_answered(answer), node, self._renamed)
            except StoreUnavailable as error:
                failure = error
                continue
            if known is None or told.epoch >= known.epoch:
                return self._take(told)
            older = told if older is None or told.epoch > older.epoch else older
        if older is not None:
            return self._take(older)
        if self._map is None:
            raise failure
        return None

    def _take(self, told: SlotMap) -> None:
        self._map, self._stale = told, False


def _answered(answer: Answer) -> Sequence[Reply]:
    if isinstance(answer, StoreUnavailable):
        raise answer
    return answer


class ClusterTransport(_Cluster):
    """Rounds over a cluster, for blocking callers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._looking = threading.Lock()

    def exchange(self, calls: Round, budget: float) -> list[Reply]:
        deadline = monotonic() + budget
        steps = self._routed(calls, deadline)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._taken(calls, step, deadline))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    def _taken(self, calls: Round, step: Step, deadline: float) -> list[Answer] | None:
        if isinstance(step, list):
            return self._deliver(calls, step, deadline)
        if isinstance(step, float):
            time.sleep(step)
        else:
            self.learn(deadline)
        return None

    def learn(self, deadline: float) -> None:
        """Read the map anew. Who comes while another is at it waits only if there is none at all."""
        missing = self._map is None
        if not self._looking.acquire(timeout=max(0.0, deadline - monotonic()) if missing else 0):
            if self._map is None:
                raise StoreTimeout("the cluster did not answer in time")
            return
        try:
            if missing and self._map is not None:
                return  # whoever was waited for has it
            self._look(deadline)
        finally:
            self._looking.release()

    def _look(self, deadline: float) -> None:
        """Ask for the map, each node with half of the time there is left."""
        asking = self._learning()
        try:
            node = next(asking)
            while (left := deadline - monotonic()) > 0 or self._map is None:
                node = asking.send(self._asked(node, ASK_FOR_MAP, max(0.001, left / 2)))
        except StopIteration:
            return

    def _asked(self, node: Node, calls: Round, budget: float) -> Answer:
        try:
            return self.node(node).exchange(calls, budget)  # type: ignore[no-any-return]
        except StoreUnavailable as error:
            return error

    def _deliver(self, calls: Round, parcels: list[Parcel], deadline: float) -> list[Answer]:
        """Send every parcel before waiting for any."""
        if len(parcels) == 1:
            (parcel,) = parcels
            return [self._asked(parcel.node, parcel.round(calls), max(0.001, deadline - monotonic()))]
        rounds = [parcel.round(calls) for parcel in parcels]
        messages = [packed(one) for one in rounds]
        flights: list[_Flight] = []
        try:
            for parcel, one, message in zip(parcels, rounds, messages, strict=True):
                flights.append(_Flight(self.node(parcel.node), len(one)))
                flights[-1].take_off(message, deadline)
            return [flight.land(deadline) for flight in flights]
        finally:
            for flight in flights:
                flight.drop()

    def subscriber(self) -> RedisSubscriber:
        return self.node(self.some_node()).subscriber()  # type: ignore[no-any-return]

    def close(self) -> None:
        for node in tuple(self._nodes.values()):
            node.close()

    def after_fork(self) -> None:
        self._looking = threading.Lock()
        for node in tuple(self._nodes.values()):
            node.after_fork()


class _Flight:
    """A message on its way to a node and back, while others are."""

    def __init__(self, node: RedisTransport, count: int) -> None:
        self._node = node
        self._count = count
        self._connection: Any = None
        self._failure: StoreUnavailable | None = None

    def take_off(self, message: bytes, deadline: float) -> None:
        try:
            with translated():
                self._connection = self._node.send(message, max(0.001, deadline - monotonic()))
        except StoreUnavailable as error:
            self._failure = error

    def land(self, deadline: float) -> Answer:
        if self._failure is not None:
            return self._failure
        connection, self._connection = self._connection, None
        try:
            with translated():
                return self._node.receive(connection, self._count, deadline)
        except StoreUnavailable as error:
            return error

    def drop(self) -> None:
        """Give up what has not landed: somebody was interrupted."""
        if self._connection is not None:
            self._node.drop(self._connection)


class AsyncClusterTransport(_Cluster):
    """Same as `ClusterTransport`, for asyncio; each node's rounds are coalesced."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asking: asyncio.Task[None] | None = None

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        steps = self._routed(calls, monotonic() + budget)
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._taken(calls, step, budget))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    async def _taken(self, calls: Round, step: Step, budget: float) -> list[Answer] | None:
        if isinstance(step, list):
            return await self._deliver(calls, step, budget)
        if isinstance(step, float):
            await asyncio.sleep(step)
        else:
            await self.learn(budget)
        return None

    async def learn(self, budget: float) -> None:
        """Read the map anew. All who want it share one answer, and wait for it as long as their budgets let them."""
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._look(budget))
        done, _ = await asyncio.wait({self._asking}, timeout=budget)
        if self._map is None:
            if done:
                self._asking.result()
            raise StoreTimeout("the cluster did not answer in time")

    async def _look(self, budget: float) -> None:
        asking = self._learning()
        try:
            node = next(asking)
            while True:
                node = asking.send(await self._asked(self.node(node).exchange(ASK_FOR_MAP, budget)))
        except StopIteration:
            return

    async def _asked(self, exchange: Awaitable[list[Reply]]) -> Answer:
        try:
            return await exchange
        except StoreUnavailable as error:
            return error

    async def _deliver(self, calls: Round, parcels: list[Parcel], budget: float) -> list[Answer]:
        answers = [self.node(parcel.node).exchange(parcel.round(calls), budget) for parcel in parcels]
        if len(answers) == 1:  # a round that concerns one node, as most do, needs no gathering
            return [await self._asked(answers[0])]
        return await asyncio.gather(*map(self._asked, answers))

    def subscriber(self) -> Any:
        return self.node(self.some_node()).subscriber()

    async def close(self) -> None:
        for node in tuple(self._nodes.values()):
            await node.close()
