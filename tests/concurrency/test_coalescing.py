"""Coalescing on real servers: thousands of callers of all primitives, a handful of connections, nobody mixed up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from statekit import AsyncStateKit
from statekit.errors import StoreUnavailable
from statekit.flags import Flag
from statekit.store.coalescing import CONNECTIONS, SLICE, WINDOW
from statekit.store.op import Call, Op, Reply, Script, command, together
from statekit.store.outage import Breaker
from statekit.testing import OutageSimulator
from tests.chaos.fleets import Cluster
from tests.conftest import PATIENT
from tests.servers import SERVERS, Server, binary
from tests.unit.test_connect import cluster

__all__ = ["cluster"]

CALLERS = 5000
APPEND = Script("test.append", "return redis.call('APPEND', KEYS[1], ARGV[1])")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server nobody else talks to: Valkey, or the one a test is parametrized with."""
    with Server(binary(getattr(request, "param", "valkey"))) as one:
        yield one


@pytest.fixture
async def kit(valkey_url: str, namespace: str) -> AsyncIterator[AsyncStateKit]:
    one = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    yield one
    await one.close()


def connected(watcher: Any) -> int:
    """How many connections there are, the watcher's own apart."""
    return len(watcher.client_list()) - 1


@pytest.mark.parametrize(
    ("server", "ours"),
    [
        ("valkey", True),
        *(pytest.param(name, True, marks=pytest.mark.exhaustive) for name in SERVERS[1:]),
        ("valkey", False),
    ],
    ids=[*SERVERS, "the caller's pool"],
    indirect=["server"],
)
async def test_5000_callers_of_all_primitives_share_a_handful_of_connections(
    server: Server, ours: bool
) -> None:
    if ours:
        kit = AsyncStateKit.connect(server.url, "many", budget=PATIENT, snapshot_dir=None)
    else:
        client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
        kit = AsyncStateKit(client, "many", budget=PATIENT)
    watcher = redis.Redis(unix_socket_path=str(server.socket), decode_responses=True)
    counts: list[int] = []

    async def watch() -> None:
        while True:
            counts.append(await asyncio.to_thread(connected, watcher))
            await asyncio.sleep(0.002)

    async with kit:
        watching = asyncio.create_task(watch())
        outcomes = await asyncio.gather(*everybody(kit))
        watching.cancel()
        assert all(outcomes)
        peeks = await asyncio.gather(*(kit.rate_limiter("all", "9999/hour").peek(f"k{n}") for n in range(10)))
        assert [decision.remaining for decision in peeks] == [9999 - CALLERS // 20] * 10
    assert max(counts) <= CONNECTIONS + 1  # one more receives messages
    watcher.close()
    if not ours:
        await client.aclose()


def everybody(kit: AsyncStateKit) -> list[Any]:
    """Half of the callers hit limits, the others open and save sessions, write flags, and tend pools."""
    limiter = kit.rate_limiter("all", "9999/hour")
    sessions = kit.sessions()
    pool = kit.pools.register("p", open=object, close=lambda _: None, per_process=4, fleet=100_000)

    async def hit(number: int) -> bool:
        decision = await limiter.hit(f"k{number % 10}")
        return decision.allowed and not decision.degraded

    async def visit(number: int) -> bool:
        session = await sessions.open(None)
        session["number"] = number
        await sessions.save(session)
        return bool((await sessions.open(session.id))["number"] == number)

    async def switch(number: int) -> bool:
        change = await kit.flags.set(f"f{number % 50}", Flag(rollout=number % 100))
        return change.version > 0

    async def tend(number: int) -> bool:
        if number % 2:
            await pool.tend()
        else:
            async with pool.checkout(timeout=30):
                await asyncio.sleep(0)
        return True

    rest = [visit] * 8 + [tend] * 1 + [switch] * 1
    return [hit(n // 2) if n % 2 else rest[n // 2 % 10](n // 2) for n in range(CALLERS)]


async def test_half_of_them_give_up_and_the_others_get_their_own(kit: AsyncStateKit) -> None:
    dice = random.Random(7)
    for round_number in range(4):
        names = [f"{round_number}-{number}" for number in range(2000)]
        tasks = [asyncio.create_task(three(kit, name)) for name in names]
        given_up = set(dice.sample(range(2000), 1000))
        for ticks, share in enumerate((250, 250, 250, 250)):
            for _ in range(ticks):
                await asyncio.sleep(0)
            for number in sorted(given_up)[ticks * share : (ticks + 1) * share]:
                tasks[number].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (name, reply) in enumerate(zip(names, done, strict=True)):
            if isinstance(reply, asyncio.CancelledError):
                assert number in given_up
            else:
                assert reply == [f"{name}/{part}".encode() for part in "abc"]
        assert sum(isinstance(reply, asyncio.CancelledError) for reply in done) > 0


async def three(kit: AsyncStateKit, name: str) -> list[Reply]:
    """Ask for three words in two rounds."""
    a, b = await kit.store.run(together(command("ECHO", f"{name}/a"), command("ECHO", f"{name}/b")))
    return [a, b, await kit.store.run(command("ECHO", f"{name}/c"))]


async def test_what_one_caller_does_is_done_in_order(kit: AsyncStateKit) -> None:
    """A hundred callers, each its own list, with large rounds, retries of others and cancellations around them."""

    async def caller(name: str) -> bool:
        key = kit.store.keys.of("n", name)
        for number in range(30):
            await kit.store.run(APPEND((key,), (f"{number},",)))
            if number % 10 == 3:
                await kit.store.run(many(["APPEND", key, "."], SLICE + 5))
        text = (await kit.store.run(command("GET", key))).decode().replace(".", "")
        return bool(text == "".join(f"{number}," for number in range(30)))

    async def noise() -> None:
        while True:
            task = asyncio.create_task(kit.store.run(command("ECHO", "x")))
            await asyncio.sleep(0)
            task.cancel()

    disturbing = [asyncio.create_task(noise()) for _ in range(5)]
    assert all(await asyncio.gather(*(caller(str(number)) for number in range(100))))
    for task in disturbing:
        task.cancel()


def many(words: list[str], times: int) -> Op[list[Reply]]:
    return (yield (Call(tuple(words)),) * times)  # type: ignore[return-value]


async def test_rounds_asked_for_one_after_the_other_arrive_in_that_order(kit: AsyncStateKit) -> None:
    """On connections of our own, across ticks too: one connection carries all, in the order they were asked for."""
    key = kit.store.keys.of("n", "order")
    tasks = []
    for number in range(3000):
        tasks.append(asyncio.create_task(kit.store.run(command("APPEND", key, f"{number},"))))
        if number % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    text = (await kit.store.run(command("GET", key))).decode()
    assert text == "".join(f"{number}," for number in range(3000))


async def test_large_rounds_do_not_starve_small_ones(server: Server) -> None:
    """How many calls of others the server runs between asking and answering is bounded, whatever they want."""
    big, size = 3, SLICE * 40
    probe = redis.Redis(unix_socket_path=str(server.socket))
    async with AsyncStateKit.connect(server.url, "fair", budget=PATIENT, snapshot_dir=None) as kit:
        greedy = [asyncio.create_task(kit.store.run(many(["INCR", "c"], size))) for _ in range(big)]
        waited = []
        while not any(task.done() for task in greedy):
            before = int(probe.get("c") or 0)
            after = int(await kit.store.run(command("GET", "c")) or 0)
            waited.append(after - before)
        await asyncio.gather(*greedy)
        assert int(await kit.store.run(command("GET", "c"))) == big * size
    assert len(waited) >= 3
    assert max(waited) <= WINDOW + big * SLICE
    probe.close()


async def test_over_a_cluster_each_node_has_a_line_of_its_own(cluster: Cluster, namespace: str) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    watchers = [redis.Redis(port=node.port, decode_responses=True) for node in cluster.nodes]
    kit = AsyncStateKit.connect(url, namespace, budget=PATIENT)
    key_of = kit.store.keys.of

    async def caller(number: int) -> bool:
        key = key_of("n", str(number))
        for step in range(3):
            length = await kit.store.run(APPEND((key,), (f"{step}",)))
            if length != step + 1:
                return False
        other = key_of("n", str((number + 1) % 1500))
        mine, _ = await kit.store.run(together(command("GET", key), command("EXISTS", other)))
        return bool(mine == b"012")

    before = [len(watcher.client_list()) for watcher in watchers]
    tasks = [asyncio.create_task(caller(number)) for number in range(1500)]
    doomed = [asyncio.create_task(caller(number)) for number in range(1500, 2000)]
    await asyncio.sleep(0.01)
    for task in doomed:
        task.cancel()
    assert all(await asyncio.gather(*tasks))
    for watcher, count in zip(watchers, before, strict=True):
        assert len(watcher.client_list()) <= count + CONNECTIONS + 1  # one more knows the map of slots
        watcher.close()
    await kit.close()


@pytest.mark.parametrize("ours", [True, False], ids=["our connections", "the caller's pool"])
async def test_whatever_happens_no_reply_reaches_another(
    valkey_url: str, namespace: str, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that give up, tiny budgets, connections cut in the middle: a reply is one's own, or an error."""
    monkeypatch.setattr(Breaker, "failed", lambda _self, _now: None)  # so that all of them go to the store
    dice = random.Random(11)
    with OutageSimulator(valkey_url) as outage:
        client = redis.asyncio.Redis.from_url(outage.url)
        one = AsyncStateKit.connect(outage.url, namespace) if ours else AsyncStateKit(client, namespace)
        right = 0

        async def caller(name: str) -> None:
            nonlocal right
            for number in range(30):
                words = [f"{name}.{number}.{part}" for part in range(dice.choice((1, 1, 1, 3, 300)))]
                asking = together(*(command("ECHO", word) for word in words))
                try:
                    async with asyncio.timeout(dice.choice((0.001, 0.01, 10, 10))):
                        replies = await one.store.run(asking, budget=dice.choice((0.002, 0.02, 10, 10)))
                except (StoreUnavailable, TimeoutError):
                    continue
                assert replies == tuple(word.encode() for word in words)
                right += 1

        async def trouble() -> None:
            while True:
                enough = right + 60
                while right < enough:  # noqa: ASYNC110 - as often as there is something to disturb
                    await asyncio.sleep(0.001)
                outage.cut()

        troubling = asyncio.create_task(trouble())
        await asyncio.gather(*(caller(str(number)) for number in range(60)))
        troubling.cancel()
        assert right > 100
        assert await one.store.run(command("ECHO", "fine"), budget=10) == b"fine"
        await one.close()
        await client.aclose()
