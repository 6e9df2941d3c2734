"""Coalescing: a thousand asyncio callers, four connections, few pipelines; each gets its own reply or its own error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
import redis.asyncio

from statekit import AsyncStateKit
from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.coalescing import EAGER
from statekit.store.op import Script, command, together
from statekit.testing import OutageSimulator
from tests.conftest import PATIENT
from tests.servers import Server, binary

COUNT = Script("test.count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def kit(server_url: str, namespace: str) -> AsyncIterator[AsyncStateKit]:
    one = AsyncStateKit.connect(server_url, namespace, budget=PATIENT)  # not entered: no background work
    yield one
    await one.close()


def sent(kit: Any) -> list[int]:
    """Record the sizes of the pipelines a kit sends from now on, in calls."""
    (wire,) = next(iter(kit.store.transport._lanes.values()))._wires
    sizes: list[int] = []
    inner = wire.send

    def send(batch: Any) -> None:
        sizes.append(sum(asked.count for asked in batch))
        inner(batch)

    wire.send = send
    return sizes


async def test_a_thousand_callers_share_four_connections_and_few_pipelines(kit: AsyncStateKit) -> None:
    await kit.ping()
    name = f"c{id(kit)}"
    before = await kit.store.run(command("INFO", "stats"))
    pipelines = sent(kit)
    replies = await asyncio.gather(*(kit.store.run(command("ECHO", f"{name}-{n}")) for n in range(1000)))
    assert replies == [f"{name}-{n}".encode() for n in range(1000)]
    assert sum(pipelines) == 1000
    assert len(pipelines) <= 1000 / EAGER + 1
    opened = _received(await kit.store.run(command("INFO", "stats"))) - _received(before)
    assert opened == 0  # one connection carries them all


def _received(info: bytes) -> int:
    return int(info.partition(b"total_connections_received:")[2].split()[0])


async def test_waves_of_callers_stay_few_pipelines(kit: AsyncStateKit) -> None:
    key = kit.store.keys.of("n", "x")
    await kit.store.run(COUNT((key,), (0,)))  # the server knows the script from here on
    pipelines = sent(kit)

    async def user() -> None:
        for _ in range(10):
            await kit.store.run(together(COUNT((key,), (1,)), command("EXISTS", key)))

    await asyncio.gather(*(user() for _ in range(200)))
    assert await kit.store.run(command("GET", key)) == b"2000"
    assert sum(pipelines) == 4001
    assert len(pipelines) < 400  # not 2,000


async def test_a_caller_that_gives_up_loses_only_its_own_reply(kit: AsyncStateKit) -> None:
    async def ask(number: int) -> bytes:
        return bytes(await kit.store.run(command("ECHO", number)))

    for round_number in range(5):
        tasks = [asyncio.create_task(ask(number)) for number in range(300)]
        for _ in range(round_number):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for number, reply in enumerate(done):
            assert reply == b"%d" % number or (number % 3 == 0 and isinstance(reply, asyncio.CancelledError))
    assert await ask(7) == b"7"


async def test_first_come_is_first_sent(kit: AsyncStateKit) -> None:
    """One caller's rounds, asked for one after the other without waiting, arrive in that order on one connection."""
    key = kit.store.keys.of("n", "order")
    await asyncio.gather(*(kit.store.run(command("APPEND", key, f"{n},")) for n in range(200)))
    text = (await kit.store.run(command("GET", key))).decode()
    assert text == "".join(f"{n}," for n in range(200))


def test_two_loops_at_the_same_time(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    failures: list[BaseException] = []
    both = threading.Barrier(2)

    async def work(name: str) -> None:
        both.wait()
        for round_number in range(20):
            mine = [f"{name}-{round_number}-{n}" for n in range(50)]
            replies = await asyncio.gather(*(kit.store.run(command("ECHO", word)) for word in mine))
            assert replies == [word.encode() for word in mine]
        await kit.close()

    def run(name: str) -> None:
        try:
            asyncio.run(work(name))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert not kit.store.transport._lanes  # type: ignore[attr-defined]


async def test_a_broken_connection_fails_those_on_it_and_no_others(valkey_url: str, namespace: str) -> None:
    with OutageSimulator(valkey_url) as outage:
        async with AsyncStateKit.connect(outage.url, namespace, budget=PATIENT) as kit:
            key = kit.store.keys.of("n", "x")
            await kit.ping()
            outage.stall()
            tasks = [asyncio.create_task(kit.store.run(COUNT((key,), (1,)))) for _ in range(50)]
            await asyncio.sleep(0.05)
            outage.cut()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(error, StoreUnavailable) for error in done)
            assert len({id(error) for error in done}) == len(
                done
            )  # an error of one's own: tracebacks stay short
            outage.restore()
            kit.store.breaker.succeeded()
            assert await kit.ping() > 0


async def test_callers_keep_their_budgets_while_the_server_hangs(namespace: str) -> None:
    with Server(binary("valkey")) as server:
        async with AsyncStateKit.connect(server.url, namespace, budget=PATIENT) as kit:
            await kit.ping()
            server.freeze()
            quick = [asyncio.create_task(kit.store.run(command("ECHO", "q"), budget=0.1)) for _ in range(100)]
            slow = asyncio.create_task(kit.store.run(command("ECHO", "slow"), budget=30))
            done = await asyncio.gather(*quick, return_exceptions=True)
            assert all(isinstance(error, StoreTimeout) for error in done)
            assert not slow.done()
            server.thaw()
            assert await slow == b"slow"


async def test_a_fake_server_is_served_too() -> None:
    kit = AsyncStateKit(fakeredis.FakeAsyncRedis())
    replies = await asyncio.gather(*(kit.store.run(command("ECHO", n)) for n in range(100)))
    assert replies == [b"%d" % n for n in range(100)]
    await kit.close()


async def test_a_pool_brought_along_gets_back_what_it_lent(namespace: str) -> None:
    """Callers time out and give up while the server hangs; no connection is kept, none passes on a late reply."""
    with Server(binary("valkey")) as server:
        client = redis.asyncio.Redis(unix_socket_path=str(server.socket), max_connections=4)
        kit = AsyncStateKit(client, namespace, budget=PATIENT)
        assert await kit.store.run(command("ECHO", "warm")) == b"warm"
        server.freeze()
        quick = [asyncio.create_task(kit.store.run(command("ECHO", n), budget=0.1)) for n in range(1500)]
        given_up = [asyncio.create_task(kit.store.run(command("ECHO", n), budget=0.1)) for n in range(1500)]
        await asyncio.sleep(0.01)
        for task in given_up:
            task.cancel()
        done = await asyncio.gather(*quick, return_exceptions=True)
        assert all(isinstance(error, StoreUnavailable) for error in done)
        server.thaw()
        kit.store.breaker.succeeded()
        words = [f"after-{number}" for number in range(2000)]
        replies = await asyncio.gather(*(kit.store.run(command("ECHO", word)) for word in words))
        assert replies == [word.encode() for word in words]
        await kit.close()
        assert not client.connection_pool._in_use_connections
        await client.aclose()
