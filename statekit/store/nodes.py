"""Nodes: what is known about the members of a cluster, and the course of a round through them; no I/O.

A round's course is written once, as a generator: it says what to send to whom, when to look at the map and when to wait,
and the transports of both colours do so. Each node has a breaker of its own, so that one that is down is asked seldom
while the others go on.

The map is read again when it has proved wrong: by one caller at a time, every `PAUSE` at the most, from whichever node
answers. That is how a failover is found: about `PAUSE` after it is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from time import monotonic
from typing import Any, Final, TypeAlias

from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.op import Call, Reply, Round
from statekit.store.outage import Breaker
from statekit.store.slots import Answer, Node, Parcel, Route, SlotMap, key_of, slot_of

__all__ = ["Errands", "Nodes", "Step", "Want"]

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


Errands: TypeAlias = list[tuple[Node, Round]]
Step: TypeAlias = Errands | Want | float
"""What a route does next: send calls to nodes, look at the map, or wait a moment."""


class Nodes:
    """What both transports over a cluster know, and the course of a round through it."""

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
        self._nodes: dict[Node, Any] = {}
        self.node(self._seeds[0])  # an option of the URL that means nothing is told now
        self._gone: list[Any] = []
        """Transports of nodes that have left the map, to be closed once what they carry has arrived: a master that hands over
        is in no map for a moment, and has writes in hand."""
        self._breakers: dict[Node, Breaker] = {}
        self._failing: set[Node] = set()
        """Nodes that gave no answer when they were last asked."""
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
        return min(self._candidates(), key=lambda node: (node in self._failing, node not in primaries))

    def _owner(self, call: Call) -> Node | None:
        key = key_of(call)
        return self.some_node() if key is None else self.owner_of(key)

    def _breaker(self, node: Node) -> Breaker:
        known = self._breakers.get(node)
        if known is None:
            known = self._breakers.setdefault(node, Breaker(jitter=lambda: _dice.uniform(0.6, 1.0)))
        return known

    def _judge(self, node: Node, answer: Answer) -> None:
        if isinstance(answer, StoreUnavailable):
            self._failing.add(node)
            self._breaker(node).failed(monotonic())
        elif node in self._failing:
            self._failing.discard(node)
            self._breaker(node).succeeded()

    # -- the course of a round ---------------------------------------------------------------------------

    def routed(self, calls: Round, deadline: float) -> Generator[Step, Any, list[Reply]]:
        """Send every call where it belongs, until all are answered or the budget is spent."""
        if self._map is None:
            yield Want.MAP
        route = Route(self._told(calls) if self.sharded else calls, self._renamed)
        wait = FIRST_WAIT
        for _ in range(HOPS):
            while True:
                if self.is_due():
                    yield Want.MAP
                yield from self._sent(route, self._admitted(route))
                if not route.early or monotonic() + wait >= deadline:
                    break
                yield wait
                wait *= 2
            if route.arrived:
                return route.result()
        route.give_up(StoreTimeout("the store did not answer in time: the slot is being moved"))
        return route.result()

    def _told(self, calls: Round) -> Round:
        """Tell the scripts that publish to their shard that there are shards."""
        return tuple(
            call._replace(args=(*call.args, 1)) if call.script and call.script.sharded else call
            for call in calls
        )

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
                answers = yield [(parcel.node, parcel.round(route.calls)) for parcel in parcels]
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

    def doubt(self) -> None:
        """Somebody has seen that the map is wrong, or may be."""
        self._stale = True

    def is_due(self) -> bool:
        """Whether the map is to be read (again) now."""
        return self._map is None or (self._stale and monotonic() >= self._due)

    def _candidates(self) -> list[Node]:
        """Who may be asked for the map: all nodes there are, in a random order, those that answered last time first."""
        known = (*self._map.primaries, *self._map.replicas) if self._map else ()
        nodes = dict.fromkeys((*known, *self._seeds))
        return sorted(nodes, key=lambda node: (node in self._failing, _dice.random()))

    def learning(self) -> Generator[Node, Answer, None]:
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
        staying = {*told.primaries, *told.replicas, *self._seeds}
        for node in [node for node in tuple(self._nodes) if node not in staying]:
            self._breakers.pop(node, None)
            self._failing.discard(node)
            self._gone.append(self._nodes.pop(node))


def _answered(answer: Answer) -> Sequence[Reply]:
    if isinstance(answer, StoreUnavailable):
        raise answer
    return answer
