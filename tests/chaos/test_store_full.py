"""The store runs out of memory, evicts, or becomes a replica, under load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from statekit import StateKit
from statekit.flags import Flag
from tests.chaos.diary import Diary, Outcome
from tests.chaos.load import load, prepare
from tests.chaos.visitor import FLEET, HITS, SLOTS, Settings, Terms
from tests.conftest import PATIENT
from tests.servers import Server, binary, wait_until

SECONDS = 1.5
FORGETTING = Terms(keeps=False)


@pytest.fixture(scope="module", params=["valkey", "redis62"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(binary(request.param)) as server:
        yield server


def outcomes(diary: Diary, verb: str) -> set[Outcome]:
    """What came of a call, more than by chance."""
    return {outcome for (asked, outcome), number in diary.counts.items() if asked == verb and number > 5}


def test_a_store_that_refuses_writes(namespace: str) -> None:
    with Server(binary("valkey")) as server:
        diary, back = refusing_under_load(server, namespace)
        print(f"\n{diary}\nfull service after {max(back) * 1000:.0f} ms")
        assert not diary.complaints
        assert outcomes(diary, "hit") == {Outcome.RIGHT, Outcome.DEGRADED}
        assert outcomes(diary, "open") == {Outcome.RIGHT}
        assert outcomes(diary, "save") == {Outcome.RIGHT, Outcome.REFUSED}
        assert outcomes(diary, "enabled") == outcomes(diary, "tenants.get") == {Outcome.RIGHT}
        assert not diary.miscounted(HITS)
        assert diary.most_at_once("slots") <= SLOTS
        assert diary.most_at_once("clients") <= FLEET
        assert max(back) < 1.0


def refusing_under_load(server: Server, namespace: str) -> tuple[Diary, list[float]]:
    """Out of memory, then a replica of nobody, then unable to save; how long after each of them full service was back."""
    moments: list[tuple[float, float]] = []
    with load(server.url, namespace) as running:
        for refusing in (server.filled, server.read_only, server.unsaved):
            with refusing():
                time.sleep(SECONDS)
            back = time.monotonic()
            time.sleep(1.3)
            moments.append((back, time.monotonic()))
    return running.diary, [running.diary.back(*moment) for moment in moments]


def test_a_store_that_evicts(namespace: str) -> None:
    """What is evicted is forgotten, key by key: callers count anew and are signed out, and nothing is turned off."""
    with Server(binary("valkey")) as server, load(server.url, namespace, terms=FORGETTING) as running:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            server.full("allkeys-lru")
        evicted = server.ask("INFO", "stats")["evicted_keys"]
        with StateKit.connect(server.url, namespace, budget=PATIENT, snapshot_dir=None) as late:
            wait_until(lambda: late.flags.enabled("on"))
    diary = running.diary
    print(f"\n{diary}\n{evicted} keys evicted")
    assert evicted > 1000
    assert not diary.complaints
    assert diary.count(Outcome.RIGHT) > 50 * diary.count(Outcome.DEGRADED, Outcome.REFUSED)
    assert diary.most_at_once("clients") <= FLEET


# -- one key ---------------------------------------------------------------------------------------------


class Scene:
    """A kit in the middle of its work, whose keys are about to be evicted one by one."""

    def __init__(self, server: Server, namespace: str) -> None:
        prepare(server.url, namespace)
        self.server, self.namespace = server, namespace
        self.kit = kit = StateKit.connect(server.url, namespace, budget=PATIENT, snapshot_dir=None)
        self.tenants = kit.tenants(Settings)
        kit.flags.load()
        self.tenants.load()
        self.limiter = kit.rate_limiter("api", "2/minute")
        self.limiter.hit("ann", 2)
        self.slots = kit.in_flight("reports", 1)
        self.hold = self.slots.acquire("acme")
        kit.pools.register("upstream", open=object, per_process=2, fleet=2, lease=30)
        with kit.pools.checkout("upstream", timeout=5):
            pass
        self.sessions = kit.sessions()
        self.session = self.sessions.open(None)
        self.session["cart"] = 1
        self.session.sign_in("user:7")
        self.sessions.save(self.session)

    def lose(self, kind: str) -> None:
        """Let the keys of a kind go, as an eviction takes them: whole."""
        keys = self.server.ask("KEYS", f"sk1:{self.namespace}:{kind}")
        assert keys
        self.server.ask("UNLINK", *keys)

    def seen(self) -> dict[str, Any]:
        """What callers see now."""
        again = self.sessions.open(self.session.id)
        with self.kit.pools.checkout("upstream", timeout=5):
            pass
        return {
            "limited": not self.limiter.peek("ann").allowed,
            "slots": self.slots.count("acme"),
            "signed in": again.principal,
            "listed": len(self.sessions.sessions_of("user:7")),
        } | configured(self.kit)


def configured(kit: Any) -> dict[str, Any]:
    return {"flag": kit.flags.enabled("on"), "plan": kit.tenants(Settings).get("acme").plan}


BEFORE = {"limited": True, "slots": 1, "signed in": "user:7", "listed": 1, "flag": True, "plan": "pro"}
LOST: dict[str, dict[str, Any]] = {
    "limit:*": {"limited": False},
    "flight:*": {"slots": 0},
    "session:*": {"signed in": None, "listed": 0},
    "sessions:*": {"listed": 0},
    "pool:*": {},
    "replica:*:meta": {},
    "replica:*:docs": {},
    "replica:*:log": {},
    "replica:*:workers": {},
    "replica:*:acks": {},
}
"""Of each kind of key what callers see differently when it is gone."""


@pytest.mark.parametrize("kind", LOST)
def test_any_key_may_go(server: Server, namespace: str, kind: str) -> None:
    scene = Scene(server, namespace)
    assert scene.seen() == BEFORE
    scene.lose(kind)
    assert scene.seen() == BEFORE | LOST[kind]
    scene.kit.flags.set("other", Flag(default=True))
    scene.tenants.update("other", {"plan": "pro"})
    scene.limiter.hit("ann")
    scene.hold.release()
    assert scene.slots.acquire("acme").allowed
    scene.sessions.open(None)
    with StateKit.connect(server.url, namespace, budget=PATIENT, snapshot_dir=None) as late:
        assert configured(late) == {"flag": True, "plan": "pro"}
    assert configured(scene.kit) == {"flag": True, "plan": "pro"}
    scene.kit.close()


def test_lost_documents_are_put_back_by_whoever_shows_them(server: Server, namespace: str) -> None:
    """A process that starts in the meantime shows defaults and says that it is stale; nobody takes them for the truth."""
    scene = Scene(server, namespace)
    scene.lose("replica:*:docs")
    with StateKit.connect(server.url, namespace, budget=PATIENT, snapshot_dir=None) as late:
        late.tenants(Settings).load()
        assert late.flags.stale or late.flags.enabled("on")
        wait_until(lambda: configured(late) == {"flag": True, "plan": "pro"}, 20)
    assert configured(scene.kit) == {"flag": True, "plan": "pro"}
    assert not scene.kit.flags.stale
    scene.kit.close()
