"""The store: what every round trip has in common, on real servers and in both colours."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import (
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
    UsageError,
)
from statekit.store.hooks import RoundTrip
from statekit.store.op import Call, Op, Script, command, together
from statekit.store.outage import FAILURES, LONGEST, PROBE, SHORTEST, Breaker, Budget
from statekit.testing import Blocking, OutageSimulator, recorded
from tests.servers import Server, binary

COUNT = Script("test.count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
FAIL = Script("test.fail", "return redis.error_reply('SOMETHING is wrong')")
COLOURS = ("blocking", "asyncio")


def connect(colour: str, url: str, namespace: str = "t", **options: Any) -> Any:
    if colour == "blocking":
        return StateKit.connect(url, namespace, **options)
    return Blocking(AsyncStateKit.connect(url, namespace, **options))


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_forgotten_script_is_taught_again(server_url: str, colour: str, namespace: str) -> None:
    kit = connect(colour, server_url, namespace)
    key = kit.store.keys.of("n", "x")
    for expected in (1, 2):
        kit.store.run(command("SCRIPT", "FLUSH"))
        with recorded(kit) as trips:
            assert kit.store.run(together(COUNT((key,), (1,)), command("EXISTS", key)))[0] == expected
        assert len(trips) == 1
    assert kit.store.run(COUNT((key,), (1,))) == 3  # applied once each time
    kit.close()


def test_errors_stay_with_their_operation(server_url: str, colour: str, namespace: str) -> None:
    kit = connect(colour, server_url, namespace)
    key = kit.store.keys.of("n", "x")

    def tolerant(op: Op[Any]) -> Op[Any]:
        try:
            return (yield from op)
        except StoreRejected as error:
            return str(error)

    replies = kit.store.run(
        together(
            command("SET", key, "text", "PX", 9999),
            tolerant(FAIL(())),
            tolerant(command("NOSUCH")),
            COUNT((key + "2",), (5,)),
        )
    )
    assert replies[0] == b"OK"
    assert "SOMETHING is wrong" in replies[1]
    assert "unknown command" in replies[2]
    assert replies[3] == 5
    assert not kit.store.breaker.open
    kit.close()


def test_what_cannot_be_sent_harms_nobody(valkey_url: str, colour: str) -> None:
    kit = connect(colour, valkey_url)
    for word in ("\ud800", 1.5, None, ["a"]):
        with pytest.raises(UsageError):
            kit.store.run(command("ECHO", word))
        assert kit.store.run(command("ECHO", "fine")) == b"fine"
    kit.close()


def test_bytes_and_numbers_arrive_as_they_are(server_url: str, colour: str) -> None:
    kit = connect(colour, server_url)
    every = bytes(range(256)) + b"\r\n$-1\r\n"
    assert kit.store.run(command("ECHO", every)) == every
    assert kit.store.run(command("ECHO", 2**53 + 1)) == b"9007199254740993"
    assert kit.store.run(command("ECHO", "é€😀")) == "é€😀".encode()
    assert kit.store.run(command("ECHO", "")) == b""
    assert len(kit.store.run(command("ECHO", b"x" * 3_000_000))) == 3_000_000
    kit.close()


@pytest.fixture
def frozen() -> Any:
    with Server(binary("valkey")) as server:
        yield server
        server.thaw()


@pytest.mark.parametrize("database", [0, 3])
def test_a_frozen_server_costs_the_budget_and_no_more(frozen: Server, colour: str, database: int) -> None:
    budget = Budget(decision=0.2, operation=6, connect=6)
    kit = connect(colour, f"{frozen.url}?db={database}", budget=budget)
    kit.ping()
    frozen.freeze()
    spent = []
    for _ in range(
        FAILURES
    ):  # the first on an open connection, the others on new ones, which greet the server
        start = time.monotonic()
        with pytest.raises(StoreTimeout):
            kit.store.run(command("PING"), budget=0.2)
        spent.append(time.monotonic() - start)
    assert min(spent) >= 0.19
    assert sorted(spent)[FAILURES // 2] < 3  # a loaded machine may be late, but the other budgets are 6 s
    assert kit.store.breaker.open
    with pytest.raises(StoreUnavailable, match="several times"):
        for _ in range(3):
            kit.ping()
    frozen.thaw()
    kit.store.breaker.succeeded()
    assert kit.ping() > 0
    kit.close()


def test_replies_of_an_abandoned_round_reach_nobody(frozen: Server, colour: str) -> None:
    kit = connect(colour, frozen.url)
    kit.ping()
    frozen.freeze()
    with pytest.raises(StoreTimeout):
        kit.store.run(command("ECHO", "late"), budget=0.1)
    frozen.thaw()
    for number in range(20):
        assert kit.store.run(command("ECHO", number)) == str(number).encode()
    kit.close()


def test_a_breaker_opens_probes_and_closes(valkey_url: str, colour: str) -> None:
    with OutageSimulator(valkey_url) as outage:
        kit = connect(colour, outage.url)
        seen: list[RoundTrip] = []
        kit.hooks.subscribe(seen.append)
        with outage.refused():
            for _ in range(FAILURES):
                with pytest.raises(StoreUnavailable):
                    kit.store.run(command("INCR", "x"))
            assert kit.store.breaker.open
        assert all(isinstance(trip.error, StoreUnavailable) for trip in seen)
        deadline = time.monotonic() + 20
        while True:
            try:
                kit.ping()
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert not kit.store.breaker.open
        kit.close()


def test_the_breaker_by_itself() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
        assert breaker.admits(0.0)
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed(0.0)
    assert not breaker.admits(SHORTEST * 0.9)
    assert breaker.admits(SHORTEST)  # the probe
    assert not breaker.admits(SHORTEST)  # nobody else
    now = SHORTEST
    for _ in range(10):
        breaker.failed(now)
        assert breaker.opened_until is not None
        assert breaker.opened_until - now <= LONGEST
        now = breaker.opened_until
        assert breaker.admits(now)
    breaker.succeeded()
    assert breaker.admits(now)
    assert not breaker.open


def test_a_probe_that_was_given_up_lets_another_one_go() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(0.0)
    assert breaker.admits(1.0)
    assert not breaker.admits(1.0 + LONGEST)  # the probe is still out
    breaker.abandoned(1.0 + LONGEST)
    assert breaker.admits(1.0 + LONGEST)
    assert not breaker.admits(2.0)
    assert breaker.admits(1.0 + LONGEST + PROBE)  # nobody heard of it again


async def test_a_cancelled_probe_does_not_keep_the_breaker_open(valkey_url: str) -> None:
    async with AsyncStateKit.connect(valkey_url) as kit:
        for _ in range(FAILURES):
            kit.store.breaker.failed(0.0)
        probe = asyncio.create_task(kit.ping())
        for _ in range(3):  # it is on its way
            await asyncio.sleep(0)
        assert not kit.store.breaker.admits(time.monotonic())
        probe.cancel()
        await asyncio.wait({probe})
        assert await kit.ping() >= 0
        assert not kit.store.breaker.open


def test_degraded_answers_are_counted(colour: str) -> None:
    kit = connect(colour, "unix:///nowhere/at/all")
    limiter = kit.rate_limiter("api", "5/minute")
    assert limiter.hit("a").degraded
    assert limiter.hit("b").degraded
    assert kit.hooks.degraded["ratelimit"] == 2
    kit.close()


def test_a_full_store_and_a_replica_say_what_they_are(colour: str) -> None:
    with Server(binary("valkey"), ("--maxmemory", "1mb")) as server:
        kit = connect(colour, server.url)
        with pytest.raises(StoreFull, match="maxmemory"):
            for number in range(100):
                kit.store.run(command("SET", f"k{number}", b"x" * 100_000))
        with pytest.raises(StoreFull):
            kit.store.run(COUNT(("n",), (1,)))
        kit.store.run(command("FLUSHALL"))
        kit.store.run(command("REPLICAOF", "127.0.0.1", 1))
        with pytest.raises(StoreReadOnly, match="primary"):
            kit.store.run(COUNT(("n",), (1,)))
        with pytest.raises(StoreReadOnly):
            kit.store.run(command("SET", "k", "v"))
        kit.close()


def test_a_wrong_password_is_an_outage_that_names_itself(colour: str) -> None:
    with Server(binary("valkey")) as server:
        kit = connect(colour, server.url)
        kit.store.run(command("CONFIG", "SET", "requirepass", "right"))
        wrong = connect(colour, server.url.replace("unix://", "unix://:wrong@"))
        with pytest.raises(StoreError, match=r"WRONGPASS|invalid|Authentication") as caught:
            wrong.ping()
        assert "wrong@" not in str(caught.value)
        right = connect(colour, server.url.replace("unix://", "unix://:right@") + "?db=2")
        assert right.ping() > 0
        for one in (kit, wrong, right):
            one.close()


def test_the_store_answers_again_after_a_restart(colour: str) -> None:
    server = Server(binary("valkey")).start()
    kit = connect(colour, server.url)
    key = kit.store.keys.of("n", "x")
    assert kit.store.run(COUNT((key,), (1,))) == 1
    server.stop(keep=True)
    with pytest.raises(StoreUnavailable):
        kit.ping()
    server.start()
    kit.ping()
    assert kit.store.run(COUNT((key,), (1,))) == 1  # empty, and the script is taught again
    kit.close()
    server.stop()


def test_a_hook_that_fails_is_not_the_callers_problem(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    kit = StateKit.connect(valkey_url)
    kit.hooks.subscribe(lambda _: 1 / 0)
    with recorded(kit) as trips:
        kit.ping()
    assert len(trips) == 1
    assert "hook" in caplog.text
    kit.close()


def test_an_operation_learns_of_every_kind_of_failure(valkey_url: str, colour: str) -> None:
    """Also of those that concern the whole round, such as a database that does not exist."""
    kit = connect(colour, f"{valkey_url}?db=9999")

    def tolerant() -> Op[str]:
        try:
            yield (Call(("PING",)),)
        except StoreError:
            return "degraded"
        return "fresh"

    assert kit.store.run(tolerant()) == "degraded"
    kit.close()
