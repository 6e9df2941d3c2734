"""Both transports over a cluster, over nodes that are played: what is shared, what is waited for, what is bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store import nodes
from statekit.store.cluster import AsyncClusterTransport, ClusterTransport
from statekit.store.op import Call, Round
from statekit.store.outage import FAILURES

A, B = ("a", 1), ("b", 2)
GET = Call(("GET", "k"), read_only=True)
PUT = Call(("SET", "k", "v"))
MAP = [[[0, 16383, [b"a", 1], [b"b", 2]]], b"cluster_current_epoch:1\r\n", [None]]


class Fake:
    """A node: `delay` seconds to an answer, or none at all."""

    def __init__(self) -> None:
        self.down = False
        self.delay = 0.0
        self.maps = 0
        self.budgets: list[float] = []
        self.retired = False

    def answer(self, calls: Round, budget: float) -> list[Any]:
        self.budgets.append(budget)
        if self.down:
            raise StoreUnavailable("down")
        if calls[0].args == ("CLUSTER", "SLOTS"):
            self.maps += 1
            return MAP
        return [b"ok"] * len(calls)

    def exchange(self, calls: Round, budget: float) -> Sequence[Any]:
        time.sleep(min(self.delay, budget))
        if self.delay > budget:
            raise StoreTimeout("silent")
        return self.answer(calls, budget)

    def retire(self) -> None:
        self.retired = True


class AsyncFake(Fake):
    async def exchange(self, calls: Round, budget: float) -> Sequence[Any]:  # type: ignore[override]
        if self.delay:
            await asyncio.sleep(min(self.delay, budget))
            if self.delay > budget:
                raise StoreTimeout("silent")
        return self.answer(calls, budget)

    async def close(self) -> None: ...


def cluster(kind: Callable[..., Any], fake: type[Fake]) -> tuple[Any, dict[Any, Any]]:
    made: dict[Any, Any] = {A: fake(), B: fake()}
    return kind(lambda node: made.setdefault(node, fake()), [A, B], "nowhere"), made


def test_threads_share_one_look_at_the_map() -> None:
    transport, made = cluster(ClusterTransport, Fake)
    made[A].delay = made[B].delay = 0.1
    replies: list[Any] = []
    threads = [
        threading.Thread(target=lambda: replies.append(transport.exchange((PUT,), 10))) for _ in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert replies == [[b"ok"]] * 8
    assert made[A].maps + made[B].maps == 1


async def test_tasks_share_one_look_at_the_map() -> None:
    transport, made = cluster(AsyncClusterTransport, AsyncFake)
    made[A].delay = made[B].delay = 0.05
    replies = await asyncio.gather(*(transport.exchange((PUT,), 10) for _ in range(8)))
    assert list(replies) == [[b"ok"]] * 8
    assert made[A].maps + made[B].maps == 1


def test_a_look_at_silent_nodes_costs_no_more_than_the_budget() -> None:
    transport, made = cluster(ClusterTransport, Fake)
    made[A].delay = made[B].delay = 60
    with pytest.raises(StoreUnavailable) as caught:
        transport.exchange((PUT,), 0.2)
    assert not caught.value.part
    assert sum(made[A].budgets + made[B].budgets) <= 0.2


async def test_a_look_at_silent_nodes_costs_a_task_no_more_than_its_budget() -> None:
    transport, made = cluster(AsyncClusterTransport, AsyncFake)
    made[A].delay = made[B].delay = 60
    looking = asyncio.create_task(transport.exchange((PUT,), 30))
    await asyncio.sleep(0)
    with pytest.raises(StoreTimeout):  # although another is ready to wait longer
        await asyncio.wait_for(transport.exchange((PUT,), 0.05), 10)
    looking.cancel()
    await transport.close()


async def test_callers_in_a_loop_let_others_run_while_their_node_is_not_asked() -> None:
    transport, made = cluster(AsyncClusterTransport, AsyncFake)
    assert await transport.exchange((GET,), 1) == [b"ok"]
    made[A].down = True
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    for _ in range(FAILURES + 50):
        with pytest.raises(StoreUnavailable):
            await transport.exchange((PUT,), 1)
    running.cancel()
    assert turns >= 50


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_nodes_that_have_left_are_retired(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PAUSE", 0.0)
    kind: Any = ClusterTransport if colour == "blocking" else AsyncClusterTransport
    transport, made = cluster(kind, Fake if colour == "blocking" else AsyncFake)

    def exchange() -> Any:
        went = transport.exchange((PUT,), 1)
        return went if colour == "blocking" else asyncio.run(went)

    assert exchange() == [b"ok"]
    left = transport.node(("c", 3))
    transport.doubt()
    assert exchange() == [b"ok"]
    assert left.retired
    assert not made[A].retired
    assert transport.node(("c", 3)) is not None
