"""Clusters: a round is cut by slot, its parts travel to their nodes at the same time, the replies come together.

`slots` and `nodes` hold the rules, without I/O; here they are followed, in both colours. Each node has a transport of its
own, so budgets, coalescing and errors are the same as everywhere. All that is done for a round, a look at the map
included, is done within its budget.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from time import monotonic
from typing import TYPE_CHECKING, Any

from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.answers import translated
from statekit.store.nodes import Errands, Nodes, Step
from statekit.store.op import Reply, Round
from statekit.store.resp import packed
from statekit.store.shards import AsyncShardSubscriber, ShardSubscriber
from statekit.store.slots import ASK_FOR_MAP, Answer, Node

if TYPE_CHECKING:
    from statekit.store.drive import RedisTransport

__all__ = ["AsyncClusterTransport", "ClusterTransport"]


class ClusterTransport(Nodes):
    """Rounds over a cluster, for blocking callers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._looking = threading.Lock()

    def exchange(self, calls: Round, budget: float) -> list[Reply]:
        deadline = monotonic() + budget
        steps = self.routed(calls, deadline)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._taken(step, deadline))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    def _taken(self, step: Step, deadline: float) -> list[Answer] | None:
        if isinstance(step, list):
            return self._deliver(step, deadline)
        if isinstance(step, float):
            time.sleep(step)
        else:
            self.learn(deadline)
        return None

    def look(self, budget: float) -> None:
        """Have a map, and one that is not known to be wrong if that can be had. Raises `StoreUnavailable` without."""
        if self.is_due():
            self.learn(monotonic() + budget)

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
            self._ask_around(deadline)
            while self._gone:
                self._gone.pop().retire()
        finally:
            self._looking.release()

    def _ask_around(self, deadline: float) -> None:
        """Ask for the map, each node with half of the time there is left."""
        asking = self.learning()
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

    def _deliver(self, errands: Errands, deadline: float) -> list[Answer]:
        """Send everything before waiting for anything."""
        if len(errands) == 1:  # as most are
            ((node, calls),) = errands
            return [self._asked(node, calls, max(0.001, deadline - monotonic()))]
        messages = [packed(calls) for _, calls in errands]
        flights: list[_Flight] = []
        try:
            for (node, calls), message in zip(errands, messages, strict=True):
                flights.append(_Flight(self.node(node), len(calls)))
                flights[-1].take_off(message, deadline)
            return [flight.land(deadline) for flight in flights]
        finally:
            for flight in flights:
                flight.drop()

    def subscriber(self) -> ShardSubscriber:
        return ShardSubscriber(self)

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


class AsyncClusterTransport(Nodes):
    """Same as `ClusterTransport`, for asyncio; each node's rounds are coalesced."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asking: asyncio.Task[StoreUnavailable | None] | None = None

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        deadline = monotonic() + budget
        steps = self.routed(calls, deadline)
        waited = False
        try:
            step = next(steps)
            while True:
                waited = True
                step = steps.send(await self._taken(step, max(budget / 4, deadline - monotonic())))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()
            if not waited:  # nobody was asked: let the loop turn, for the caller may ask again and again
                await asyncio.sleep(0)

    async def _taken(self, step: Step, left: float) -> list[Answer] | None:
        if isinstance(step, list):
            return await self._deliver(step, left)
        if isinstance(step, float):
            await asyncio.sleep(step)
        else:
            await self.learn(left if self._map is None else left / 2)
        return None

    async def look(self, budget: float) -> None:
        """Same as `ClusterTransport.look`, for asyncio."""
        if self.is_due():
            await self.learn(budget)

    async def learn(self, budget: float) -> None:
        """Same as `ClusterTransport.learn`, for asyncio; what is asked for goes on when the caller has given up."""
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._ask_around(budget))
        elif self._map is not None:
            return
        done, _ = await asyncio.wait({self._asking}, timeout=budget)
        if self._map is None:
            if done and (failure := self._asking.result()) is not None:
                raise StoreUnavailable(*failure.args) from failure
            raise StoreTimeout("the cluster did not answer in time")

    async def _ask_around(self, budget: float) -> StoreUnavailable | None:
        asking = self.learning()
        try:
            node = next(asking)
            while True:
                node = asking.send(await self._asked(self.node(node).exchange(ASK_FOR_MAP, budget)))
        except StoreUnavailable as error:
            return error
        except StopIteration:
            while self._gone:
                self._gone.pop().retire()
            return None

    async def _asked(self, exchange: Awaitable[list[Reply]]) -> Answer:
        try:
            return await exchange
        except StoreUnavailable as error:
            return error

    async def _deliver(self, errands: Errands, budget: float) -> list[Answer]:
        answers = [self.node(node).exchange(calls, budget) for node, calls in errands]
        if len(answers) == 1:  # a round that concerns one node, as most do, needs no gathering
            return [await self._asked(answers[0])]
        return await asyncio.gather(*map(self._asked, answers))

    def subscriber(self) -> AsyncShardSubscriber:
        return AsyncShardSubscriber(self)

    async def close(self) -> None:
        if self._asking is not None and self._asking.get_loop() is asyncio.get_running_loop():
            self._asking.cancel()
        for node in tuple(self._nodes.values()):
            await node.close()
