"""Writes that wait for replicas: what is asked for, what is made of the answer, and that nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis
from flask import Flask, session

from statekit import AsyncStateKit, Flag, StateKit, TenantSettings
from statekit.errors import NotReplicated, StoreReadOnly, StoreRejected, StoreUnavailable, UsageError
from statekit.store.op import Call, Op, Script, command, together
from statekit.store.outage import Budget
from statekit.store.replicas import gathered, question, replicated
from statekit.testing import Blocking, recorded
from statekit_flask import StatekitFlask
from tests.conftest import PATIENT
from tests.servers import ANY, Server, binary, wait_until

ASKED = question(2, 0.5)
WRITE, READ = Call(("SET", "k", "v")), Call(("GET", "k"), read_only=True)
SOON = Budget(decision=1, operation=1, connect=1)
"""Of which six tenths are spent waiting for a replica that is silent."""

# -- the rules, without a store --------------------------------------------------------------------------


def trips(*rounds: Sequence[Call]) -> Op[str]:
    for calls in rounds:
        yield tuple(calls)
    return "done"


def driven(op: Op[Any], *answers: Any) -> tuple[list[tuple[Call, ...]], Any]:
    """Run an operation with these answers; what it sent, and how it ended."""
    sent = []
    waiting = iter(answers)
    try:
        calls = next(op)
        while True:
            sent.append(calls)
            answer = next(waiting)
            calls = op.throw(answer) if isinstance(answer, Exception) else op.send(answer)
    except StopIteration as stop:
        return sent, stop.value
    except NotReplicated as error:
        return sent, error


def test_the_question_leaves_time_for_the_answer() -> None:
    assert ASKED.args == ("WAIT", 2, 300)
    assert question(1, 0.001).args == ("WAIT", 1, 1)


def test_a_round_that_writes_is_asked_about_and_one_that_reads_is_not() -> None:
    sent, end = driven(replicated(trips([READ], [WRITE, READ], [READ]), ASKED), [1], [1, 1, 2], [1])
    assert sent == [(READ,), (WRITE, READ, ASKED), (READ,)]
    assert end == "done"


def test_what_is_not_confirmed_goes_on_to_its_end_and_is_not_asked_about_again() -> None:
    sent, end = driven(replicated(trips([WRITE], [WRITE]), ASKED), [b"OK", 1], [b"OK"])
    assert sent == [(WRITE, ASKED), (WRITE,)]
    assert isinstance(end, NotReplicated)
    assert (end.confirmed, end.wanted, end.result, end.http_status) == (1, 2, "done", 503)


def test_a_question_that_is_refused_confirms_nothing() -> None:
    _, end = driven(replicated(trips([WRITE]), ASKED), [b"OK", StoreRejected("UNBLOCKED: master -> replica")])
    assert isinstance(end, NotReplicated)
    assert end.confirmed == 0
    assert "UNBLOCKED" in str(end)
    assert isinstance(end.__cause__, StoreRejected)


def test_an_outage_is_for_the_operation_to_answer() -> None:
    def enduring() -> Op[str]:
        try:
            yield (WRITE,)
        except StoreUnavailable:
            return "degraded"
        return "done"

    assert driven(replicated(enduring(), ASKED), StoreUnavailable("gone"))[1] == "degraded"


def test_operations_that_share_a_round_share_the_question() -> None:
    ops = [replicated(trips([WRITE]), ASKED), trips([READ]), replicated(trips([WRITE, WRITE]), ASKED)]
    sent, end = driven(gathered(together(*ops)), [b"1", b"2", b"3", b"4", 2])
    assert sent == [(WRITE, READ, WRITE, WRITE, ASKED)]
    assert end == ("done", "done", "done")


def test_each_of_them_learns_that_it_is_not_confirmed() -> None:
    ops = [replicated(trips([WRITE], [READ]), ASKED), trips([READ], [READ])]
    sent, end = driven(gathered(together(*ops)), [b"1", b"2", 0], [b"3", b"4"])
    assert sent == [(WRITE, READ, ASKED), (READ, READ)]
    assert isinstance(end, NotReplicated)


@pytest.mark.parametrize("given", [-1, True, 1.5, "1", None])
def test_a_number_of_replicas_is_a_number(given: Any) -> None:
    with pytest.raises(UsageError, match="replicas"):
        StateKit.connect("redis://localhost", replicas=given)
    with pytest.raises(UsageError, match="replicas"):
        AsyncStateKit(redis.asyncio.Redis(), replicas=given)


# -- a primary and its replica ---------------------------------------------------------------------------


def test_a_sign_in_that_is_not_confirmed_is_never_passed_over_by_a_route(
    valkey_url: str, namespace: str
) -> None:
    """However forgiving the route was declared to be: the session is there, and its visitor would not know."""
    budget = Budget(decision=1, operation=0.3, connect=1)
    with StateKit.connect(valkey_url, namespace, budget=budget, snapshot_dir=None, replicas=1) as kit:
        app = Flask(__name__)
        sk = StatekitFlask(app, kit, sessions=True)

        @app.get("/callback")
        @sk.session_outage("anonymous")
        def callback() -> str:
            session.sign_in("user:1")  # type: ignore[attr-defined]
            return "signed in"

        answer = app.test_client().get("/callback")
    assert answer.status_code == 503
    assert "Set-Cookie" not in answer.headers


class Pair:
    """A primary and its replica."""

    def __init__(self, name: str) -> None:
        program = binary(name)
        quick = ("--repl-diskless-sync-delay", "0")
        self.primary = Server(program, quick, ANY).start()
        follow = ("--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica = Server(program, (*quick, *follow), ANY).start()
        wait_until(self._confirms, 30, "the replica does not follow")

    def _confirms(self) -> bool:
        with redis.Redis(port=self.primary.port, single_connection_client=True) as client:
            client.set("first", "write")
            return bool(client.wait(1, 100))

    def stop(self) -> None:
        for server in (self.replica, self.primary):
            server.thaw()
            server.stop()


@pytest.fixture(scope="module", params=["valkey", "redis62"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    running = Pair(request.param)
    yield running
    running.stop()


@pytest.fixture(params=["blocking", "asyncio", "blocking client", "asyncio client"])
def kit(request: pytest.FixtureRequest, pair: Pair, namespace: str) -> Iterator[Any]:
    """A kit whose writes need one replica, in both colours, by URL and over a client brought along."""
    options: dict[str, Any] = {"namespace": namespace, "budget": SOON, "replicas": 1}
    make = {
        "blocking": lambda: StateKit.connect(pair.primary.url, snapshot_dir=None, **options),
        "asyncio": lambda: Blocking(AsyncStateKit.connect(pair.primary.url, snapshot_dir=None, **options)),
        "blocking client": lambda: StateKit(redis.Redis.from_url(pair.primary.url), **options),
        "asyncio client": lambda: Blocking(
            AsyncStateKit(redis.asyncio.Redis.from_url(pair.primary.url), **options)
        ),
    }
    made: Any = make[request.param]()
    yield made
    made.close()


class Settings(TenantSettings):
    plan: str = "free"


def test_what_would_do_harm_if_lost_is_confirmed_and_nothing_else(kit: Any, pair: Pair) -> None:
    sessions, limiter = kit.sessions(), kit.rate_limiter("api", "5/minute")
    with recorded(kit) as trips:
        session = sessions.open(None)
        session.sign_in(principal="user:1")
        sessions.save(session)
        session["cart"] = 1
        sessions.save(session)
        limiter.hit("k")
        assert sessions.revoke(session.handle)
        kit.flags.set("on", Flag())
        kit.tenants(Settings).update("acme", {"plan": "pro"})
    confirmed = [words[:-1] for words in (trip.commands for trip in trips) if words[-1] == "WAIT"]
    assert confirmed == [
        ("sessions.enroll",),
        ("sessions.create",),
        ("sessions.revoke",),
        ("sessions.withdraw",),
        ("replica.write",),
        ("replica.write",),
    ]
    assert pair.replica.ask("EXISTS", kit.store.keys.of("sessions", "user:1")) == 0
    assert pair.replica.ask("HGET", kit.store.keys.of("session", session.handle), "ended")


def test_without_the_replica_the_write_is_done_and_says_so(kit: Any, pair: Pair) -> None:
    sessions = kit.sessions()
    one, two = sessions.open(None), sessions.open(None)
    one.sign_in(principal="user:1")
    sessions.save(one)
    with pair.replica.frozen():
        with pytest.raises(NotReplicated, match="only 0 of 1") as caught:
            sessions.revoke_all("user:1")
        assert caught.value.result == 1
        two.sign_in(principal="user:2")
        with pytest.raises(NotReplicated):
            sessions.save(two)
        assert sessions.load(sessions.lazy(one.id)).is_new
        assert sessions.load(sessions.lazy(two.id)).principal == "user:2"
    assert sessions.revoke_all("user:1") == 0  # said again: confirmed


def test_a_script_that_was_forgotten_is_confirmed_all_the_same(kit: Any, pair: Pair) -> None:
    sessions = kit.sessions()
    session = sessions.open(None)
    session.sign_in(principal="user:1")
    pair.primary.ask("SCRIPT", "FLUSH")
    sessions.save(session)
    assert pair.replica.ask("EXISTS", kit.store.keys.of("session", session.handle))
    pair.primary.ask("SCRIPT", "FLUSH")
    with pair.replica.frozen(), pytest.raises(NotReplicated):
        sessions.revoke(session.handle)


def test_a_primary_that_wants_more_replicas_than_it_has_refuses_writes(pair: Pair, namespace: str) -> None:
    """What bounds a primary that is cut off, for all writes; Redis 6.2 does not apply it inside scripts."""
    pair.primary.ask("CONFIG", "SET", "min-replicas-to-write", 2)
    try:
        with StateKit.connect(pair.primary.url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
            if int(pair.primary.ask("INFO", "server")["redis_version"].split(".")[0]) < 7:
                kit.flags.set("on", Flag())
            else:
                with pytest.raises(StoreReadOnly, match="NOREPLICAS"):
                    kit.flags.set("on", Flag())
    finally:
        pair.primary.ask("CONFIG", "SET", "min-replicas-to-write", 0)


def test_a_user_who_may_not_ask_is_told(pair: Pair, namespace: str) -> None:
    pair.primary.ask("ACL", "SETUSER", "ann", "on", "nopass", "~*", "&*", "+@all", "-wait")
    url = pair.primary.url.replace("redis://", "redis://ann:x@")
    with StateKit.connect(url, namespace, budget=PATIENT, snapshot_dir=None, replicas=1) as kit:
        with pytest.raises(NotReplicated, match=r"(?i)wait") as caught:
            kit.flags.set("on", Flag())
        assert caught.value.confirmed == 0


@pytest.mark.parametrize("client", [False, True])
def test_on_asyncio_nobody_stands_behind_who_waits(pair: Pair, namespace: str, client: bool) -> None:
    """A hundred sign-ins wait for a replica that is silent: together, and beside the others."""

    async def scene() -> None:
        options: dict[str, Any] = {"namespace": namespace, "budget": SOON, "replicas": 1}
        kit = (
            AsyncStateKit(redis.asyncio.Redis.from_url(pair.primary.url), **options)
            if client
            else AsyncStateKit.connect(pair.primary.url, snapshot_dir=None, **options)
        )
        sessions, limiter = kit.sessions(), kit.rate_limiter("api", "5/minute")
        await limiter.hit("warm")

        async def sign_in(number: int) -> str:
            session = await sessions.open(None)
            session.sign_in(principal=f"user:{number}")
            try:
                await sessions.save(session)
            except NotReplicated as error:
                return str(error.result)
            return "confirmed"

        with pair.replica.frozen():
            waiting = [asyncio.ensure_future(sign_in(number)) for number in range(100)]
            await asyncio.sleep(0.1)
            decisions = [await limiter.hit("k") for _ in range(5)]
            assert not any(task.done() for task in waiting)
            assert [decision.remaining for decision in decisions] == [4, 3, 2, 1, 0]
            assert await asyncio.gather(*waiting) == ["created"] * 100
        assert await asyncio.gather(*(sign_in(number) for number in range(100))) == ["confirmed"] * 100
        assert int(pair.primary.ask("INFO", "clients")["connected_clients"]) < 12
        await kit.close()

    asyncio.run(scene())


def test_a_caller_who_gives_up_while_waiting_harms_nobody(pair: Pair, namespace: str) -> None:
    async def scene() -> None:
        kit = AsyncStateKit.connect(pair.primary.url, namespace, budget=SOON, replicas=1)
        key = kit.store.keys.of("n", "k")
        count = Script("test.count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")

        async def counted() -> Any:
            return await kit.store.run(kit.store.confirmed(count((key,), (1,))))

        await counted()
        with pair.replica.frozen():
            tasks = [asyncio.ensure_future(counted()) for _ in range(9)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert await counted() == 11
        assert await kit.store.run(command("GET", key)) == b"11"
        await kit.close()

    asyncio.run(scene())
