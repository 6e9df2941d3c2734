"""A node that leaves the map of a cluster may have writes in hand: they arrive, then its connections go.

A master that hands over to its replica is such a node. It holds writes back until its successor is chosen, and for up to
some tenths of a second no map names it. A kit that is closed while other threads use it is in the same place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
import redis

from statekit.store.connect import connected, connected_async
from statekit.store.op import Call, Round
from statekit.store.resp import packed
from tests.conftest import PATIENT
from tests.servers import Server, binary, wait_until

PATIENCE = 10.0
PING = Call(("PING",))
HELD: Round = (Call(("BLPOP", "gate", 0)),)
"""A write that the server holds back until the test lets it through, as it does while a master hands over."""
WELCOME = [[b"gate", b"open"]]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server nobody else talks to."""
    with Server(binary("valkey")) as one:
        yield one


@pytest.fixture
def watcher(server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as one:
        yield one


def held(watcher: Any) -> bool:
    return any(client["cmd"] == "blpop" for client in watcher.client_list())


def alone(watcher: Any) -> bool:
    return len(watcher.client_list()) == 1


@pytest.mark.parametrize("leave", ["retire", "close"])
def test_a_round_in_hand_arrives_and_its_connection_goes(leave: str, server: Server, watcher: Any) -> None:
    transport: Any = connected(server.url, PATIENT)
    replies: list[Any] = []
    caller = threading.Thread(target=lambda: replies.extend(transport.exchange(HELD, PATIENCE)))
    caller.start()
    wait_until(lambda: held(watcher), PATIENCE, "nothing was sent")
    transport.exchange((PING,), PATIENCE)
    getattr(transport, leave)()
    wait_until(lambda: len(watcher.client_list()) == 2, PATIENCE, "what was idle is still there")
    watcher.rpush("gate", "open")
    caller.join(PATIENCE)
    assert replies == WELCOME
    wait_until(lambda: alone(watcher), PATIENCE, "a connection was left behind")


def test_whoever_had_the_node_in_hand_is_served_and_leaves_nothing(server: Server, watcher: Any) -> None:
    transport: Any = connected(server.url, PATIENT)
    transport.retire()
    assert transport.exchange((Call(("SET", "k", "v")),), PATIENCE) == [b"OK"]
    flight = transport.send(packed((PING,)), PATIENCE)
    assert transport.receive(flight, 1, monotonic() + PATIENCE) == [b"PONG"]
    wait_until(lambda: alone(watcher), PATIENCE, "a connection was left behind")


@pytest.mark.parametrize("waits", [False, True], ids=["on a wire", "beside, for replicas"])
async def test_a_round_in_hand_arrives_on_a_loop(waits: bool, server: Server, watcher: Any) -> None:
    transport: Any = connected_async(server.url, PATIENT)
    question = (Call(("WAIT", 0, 1), waits=True),) if waits else ()
    asked = transport.exchange((*HELD, *question), PATIENCE)
    await until(lambda: held(watcher))
    transport.retire()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not asked.done()
    watcher.rpush("gate", "open")
    assert (await asked)[:1] == WELCOME
    await until(lambda: alone(watcher))


async def test_a_round_in_hand_has_its_own_budget_and_no_more(server: Server, watcher: Any) -> None:
    transport: Any = connected_async(server.url, PATIENT)
    asked = transport.exchange(HELD, 1.2)
    await until(lambda: held(watcher))
    transport.retire()
    done, _ = await asyncio.wait({asked}, timeout=1.0)
    assert not done
    await asyncio.wait({asked})
    assert isinstance(asked.exception(), Exception)
    await until(lambda: alone(watcher))


async def until(condition: Any) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came to that"
        await asyncio.sleep(0.005)
