"""docs/guarantees.md, held true: each call of its table meets each outage, and does what the cell says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from statekit import AsyncStateKit, StateKit, TenantSettings
from statekit.errors import PoolExhausted, StatekitError, StoreError, StoreTimeout, StoreUnavailable
from statekit.flags import Flag
from statekit.store.op import command
from statekit.store.outage import Budget
from statekit.testing import Blocking, OutageSimulator
from tests.conftest import PATIENT
from tests.servers import Server, binary

PAGE = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text(encoding="utf-8")


class Settings(TenantSettings):
    plan: str = "free"


class Scene:
    """A kit in the middle of its work, whose store is about to fail."""

    def __init__(self, url: str, namespace: str, lease: float) -> None:
        self.patience = 20 * lease if lease < 1 else 1.0
        """Enough for the settling after a loss, and to learn that the store cannot be asked."""
        self.kit = StateKit.connect(url, namespace, budget=PATIENT, snapshot_dir=None)
        self.limiter = self.kit.rate_limiter("api", "5/minute")
        self.limiter.hit("used", 5)
        self.reservation = self.limiter.reserve("reserved", 3)
        self.reports = self.kit.in_flight("reports", 1)
        self.holds = [self.reports.acquire(key) for key in ("taken", "ending")]
        self.sessions = self.kit.sessions()
        known = self._signed_in()
        self.id = known.id
        self.ending = self._signed_in().handle
        self.loaded = self.sessions.open(self.id)
        assert self.loaded["cart"] == 1
        self.read(on_outage="last-seen")
        self.kit.flags.set("new", Flag(), by="ann")
        self.tenants = self.kit.tenants(Settings)
        self.tenants.update("acme", {"plan": "pro"})
        for name in ("idle", "busy"):
            self.kit.pools.register(name, open=object, per_process=2, fleet=4, lease=lease)
            with self.kit.pools.checkout(name, timeout=5):
                pass

    def _signed_in(self) -> Any:
        session = self.sessions.open(None)
        session["cart"] = 1
        session.sign_in("user:7")
        self.sessions.save(session)
        return session

    def create(self) -> Any:
        session = self.sessions.open(None)
        session["cart"] = 1
        return self.sessions.save(session)

    def change(self) -> Any:
        self.loaded["cart"] = 2
        return self.sessions.save(self.loaded)

    def read(self, **options: Any) -> Any:
        session = self.kit.sessions(**options).open(self.id)
        session.get("cart")
        return session

    def flip(self) -> bool:
        """True: the flag that was set is on, and kept."""
        return bool(self.kit.flags.enabled("new"))

    def checkout(self, name: str, clients: int) -> None:
        first = self.kit.pools.checkout(name, timeout=5)
        with first:
            if clients == 2:
                with self.kit.pools.checkout(name, timeout=self.patience):
                    pass

    def calls(self) -> dict[str, Callable[[], Any]]:
        return {
            "`limiter.hit`, room left": lambda: self.limiter.hit("fresh"),
            "`limiter.hit`, over the limit": lambda: self.limiter.hit("used"),
            "`limiter.peek`": lambda: self.limiter.peek("used"),
            "`limiter.reset`": lambda: self.limiter.reset("used"),
            "`limiter.reserve`": lambda: self.limiter.reserve("fresh").decision,
            "`reservation.settle`": lambda: self.reservation.settle(1),
            "`in_flight.hold`, a slot is free": lambda: self.reports.acquire("fresh"),
            "`in_flight.hold`, none is free": lambda: self.reports.acquire("taken"),
            "`hold.release`": self.holds[1].release,
            "`in_flight.count`": lambda: self.reports.count("taken"),
            "reading a session": self.read,
            'the same, `on_outage="anonymous"`': lambda: self.read(on_outage="anonymous"),
            'the same, `on_outage="last-seen"`, seen before': lambda: self.read(on_outage="last-seen"),
            "`sessions.save`, a new session": self.create,
            "`sessions.save`, one read before": self.change,
            "`sessions.sessions_of`": lambda: self.sessions.sessions_of("user:7"),
            "`sessions.revoke`": lambda: self.sessions.revoke(self.ending),
            "`flags.enabled`": self.flip,
            "`flags.set`": lambda: self.kit.flags.set("other", Flag()),
            "`flags.history`": lambda: self.kit.flags.history("new"),
            "`tenants.get`": lambda: self.tenants.get("acme").plan,
            "`tenants.update`": lambda: self.tenants.update("acme", {"plan": "max"}),
            "`pools.checkout`, a client is idle": lambda: self.checkout("idle", 1),
            "`pools.checkout`, a new one is needed": lambda: self.checkout("busy", 2),
            "`pools.fleet`": lambda: self.kit.pools.fleet("idle"),
        }


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What came of a call, in the words of the table, and what it returned."""
    try:
        answer = call()
    except StoreUnavailable as error:
        return StoreUnavailable.__name__, error
    except StatekitError as error:
        return type(error).__name__, error
    if getattr(answer, "degraded", False):
        return "degraded", answer
    return ("GONE" if answer == "gone" else "works"), answer


def told(cell: str) -> str:
    """The word of a cell: its first name in code unless it works."""
    found = re.match(r"`(\w+)`", cell)
    return found[1] if found else cell.partition(":")[0].partition(",")[0]


def columns() -> dict[str, dict[str, str]]:
    table = PAGE[PAGE.index("| call |") :].partition("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {head[index]: {row[0]: told(row[index]) for row in rows} for index in range(1, len(head))}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(binary("valkey")) as server:
        yield server


@contextmanager
def commanded(server: Server, begin: str, end: str) -> Iterator[None]:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*begin.split())
        try:
            yield
        finally:
            client.execute_command(*end.split())


Fail = Callable[[OutageSimulator, Server], AbstractContextManager[None]]
OUTAGES: dict[str, tuple[str, Fail]] = {
    "slow": ("slow or gone", lambda outage, _: outage.stalled()),
    "gone": ("slow or gone", lambda outage, _: outage.refused()),
    "full": ("full", lambda _, server: commanded(server, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0")),
    "read-only": (
        "read-only",
        lambda _, server: commanded(server, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ),
    "unsaved": ("read-only", lambda _, server: server.unsaved()),
    "emptied": ("emptied", lambda _, server: commanded(server, "FLUSHALL", "PING")),
}


@pytest.mark.parametrize("kind", OUTAGES)
def test_each_call_does_what_the_page_says(server: Server, namespace: str, kind: str) -> None:
    column, fail = OUTAGES[kind]
    with OutageSimulator(server.url) as outage:
        scene = Scene(outage.url, namespace, lease=0.5 if kind == "emptied" else 30)
        seen: list[Any] = []
        deaf = scene.kit.hooks.subscribe(seen.append)
        if column == "slow or gone":
            scene.kit.store.budget = Budget(decision=0.2, operation=0.3)
        with fail(outage, server):
            found = {name: outcome(call) for name, call in scene.calls().items()}
        deaf()
        scene.kit.close()
    assert {name: word for name, (word, _) in found.items()} == columns()[column]
    answers = {name: answer for name, (_, answer) in found.items()}
    assert answers["`flags.enabled`"] is True
    assert answers["`tenants.get`"] == "pro"
    exhausted = answers["`pools.checkout`, a new one is needed"]
    assert not isinstance(exhausted, PoolExhausted) or exhausted.bound == "store"
    degraded = sum(word == "degraded" for word, _ in found.values())
    answering = ("inflight", "ratelimit", "sessions")
    told = [one for one in seen if type(one).__name__ == "Degraded" and one.primitive in answering]
    reported = [one for one in told if one.subject != "reports:ending"]  # of a release, which answers nothing
    assert len(reported) == degraded
    if column == "emptied":
        assert answers["reading a session"].is_new
        assert not answers["`limiter.hit`, over the limit"].degraded
        assert answers["`reservation.settle`"] is False
        assert scene.kit.flags.enabled("new")
    elif column != "slow or gone":
        assert not answers["`limiter.hit`, over the limit"].allowed
        assert answers["reading a session"]["cart"] == 1


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_a_write_is_never_repeated_and_a_read_is_once(valkey_url: str, namespace: str, colour: str) -> None:
    """The connection breaks when the server has done its part and before anybody heard of it."""
    kinds: dict[str, Any] = {"blocking": StateKit, "asyncio": AsyncStateKit}
    plain = kinds[colour].connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)
    kit = plain if colour == "blocking" else Blocking(plain)
    sent: list[str] = []
    failures: list[StoreError] = []

    def broken(calls: Any) -> None:
        sent.extend(str(call.args[0]) for call in calls)
        if failures:
            raise failures.pop()

    plain.store.transport = Breaking(plain.store.transport, broken, colour)
    key = f"{namespace}:counter"
    failures.append(StoreUnavailable("the connection broke"))
    with pytest.raises(StoreUnavailable):
        kit.run(command("INCR", key))
    failures.append(StoreUnavailable("the connection broke"))
    assert kit.run(command("GET", key, read_only=True)) == b"1"
    for error in (StoreTimeout("too late"), StoreUnavailable("the connection broke")):
        failures[:] = [error] * 2
        with pytest.raises(StoreUnavailable):
            kit.run(command("GET", key, read_only=True))
        failures.clear()
    assert sent == ["INCR", "GET", "GET", "GET", "GET", "GET"]
    kit.close()


class Breaking:
    """A transport whose replies get lost when `broken` says so."""

    def __init__(self, inner: Any, broken: Callable[[Any], None], colour: str) -> None:
        self._inner, self._broken = inner, broken
        self.exchange = self._exchange if colour == "blocking" else self._aexchange

    def _exchange(self, calls: Any, budget: float) -> Any:
        replies = self._inner.exchange(calls, budget)
        self._broken(calls)
        return replies

    async def _aexchange(self, calls: Any, budget: float) -> Any:
        replies = await self._inner.exchange(calls, budget)
        self._broken(calls)
        return replies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
