"""The testing tools test themselves: one colour, outages."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.op import command
from statekit.store.outage import Budget
from statekit.testing import Blocking, FrozenClock, OutageSimulator, recorded, store_down
from tests.servers import ANY, Server, binary

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")
SHORT = Budget(decision=0.2, operation=0.3, connect=0.3)


class AsyncFace:
    """Stands for an asyncio face of the library."""

    limit = 3

    async def double(self, number: int) -> int:
        colour.set("async")
        return number * 2

    def plain(self) -> str:
        colour.set("plain")
        return "plain"

    async def names(self) -> AsyncIterator[str]:
        for name in ("a", "b"):
            yield name

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[int]:
        yield 7

    async def fail(self) -> None:
        raise ValueError("no")


AsyncFace.__module__ = "statekit.fake"


def test_blocking_adapts_all_kinds_of_members() -> None:
    face = Blocking(AsyncFace())
    assert face.limit == 3
    assert face.double(4) == 8
    assert colour.get() == "async"
    assert face.plain() == "plain"
    assert colour.get() == "plain"
    assert list(face.names()) == ["a", "b"]
    with face.hold() as held:
        assert held == 7
    with pytest.raises(ValueError, match="no"):
        face.fail()


def test_the_clock_moves_only_when_told() -> None:
    clock = FrozenClock(5_000_000)
    clock.advance(0.5)
    assert clock() == clock.now_us == 5_500_000


@pytest.mark.parametrize("asyncio_kit", [False, True])
def test_store_down_and_back(asyncio_kit: bool) -> None:
    kit: Any = Blocking(AsyncStateKit.in_memory()) if asyncio_kit else StateKit.in_memory()
    with store_down(kit):
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                kit.ping()
    assert kit.ping() >= 0
    kit.close()


@pytest.mark.parametrize("asyncio_kit", [False, True])
def test_outages_through_the_proxy(valkey_url: str, asyncio_kit: bool) -> None:
    with OutageSimulator(valkey_url) as outage:
        connect: Any = AsyncStateKit.connect if asyncio_kit else StateKit.connect
        kit: Any = connect(outage.url, budget=SHORT)
        kit = Blocking(kit) if asyncio_kit else kit
        kit.ping()
        outage.cut()
        with recorded(kit) as trips:
            kit.ping()  # a read is repeated on a fresh connection
        assert len(trips) == 1
        with outage.stalled(), pytest.raises(StoreTimeout):
            kit.ping()
        kit.ping()
        with outage.refused(), pytest.raises(StoreUnavailable):
            kit.ping()
        kit.ping()
        outage.cut()
        kit.store.run(command("SET", "k", "v", "PX", 1000))  # an idle connection that died is replaced unseen
        kit.close()


def test_a_proxy_before_a_port_keeps_credentials_and_database(namespace: str) -> None:
    with (
        Server(binary("valkey"), ("--requirepass", "secret"), ANY) as server,
        OutageSimulator(f"redis://:secret@127.0.0.1:{server.port}/3") as outage,
    ):
        kit = StateKit.connect(outage.url, namespace)
        assert b" db=3 " in kit.store.run(command("CLIENT", "INFO"))
        kit.close()
