"""A real cluster under load: a master is killed, slots are moved, and callers hear of an outage or of nothing."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.chaos.diary import Diary, Outcome
from tests.chaos.fleets import Cluster
from tests.chaos.load import load
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.conftest import PATIENT

REPLICATED = Terms(keeps=False)
"""Replication is asynchronous: what a master acknowledged last may die with it."""
OUTAGE = {"StoreUnavailable", "StoreTimeout", "PoolExhausted"}
"""All that callers may hear: never where a slot lies, nor that it moves."""


def failover_under_load(cluster: Cluster, namespace: str) -> tuple[Diary, float, float]:
    """The diary, how long the cluster needed to be whole again, and how much longer full service."""
    with load(cluster.url, namespace, terms=REPLICATED) as running:
        time.sleep(1.0)
        killed = time.monotonic()
        cluster.kill(cluster.master_of(f"sk1:{namespace}:replica:{{flags}}:meta"))
        whole = cluster.wait_ok()
        time.sleep(1.5)
        end = time.monotonic()
    diary = running.diary
    back = diary.back(whole, end)
    print(
        f"\n{diary}\n{dict(diary.reasons)}\nwhole {whole - killed:.2f} s, full service {back * 1000:.0f} ms later"
    )
    return diary, whole - killed, back


@pytest.mark.parametrize(("name", "coverage"), [("valkey", True), ("redis7", False), ("redis62", False)])
def test_a_master_is_killed(name: str, coverage: bool, namespace: str) -> None:
    with Cluster(name, coverage=coverage) as cluster:
        diary, _, back = failover_under_load(cluster, namespace)
    assert not diary.complaints
    assert set(diary.reasons) <= OUTAGE
    assert not diary.miscounted(HITS, lambda _: 2)
    assert diary.most_at_once("slots") <= 2 * SLOTS
    assert diary.most_at_once("clients") <= FLEET
    assert back < 1.0


@pytest.mark.parametrize("name", ["valkey", "redis62"])
def test_slots_are_moved_back_and_forth(name: str, namespace: str) -> None:
    """Nobody notices: what lies on both sides for a moment is asked for again, where it has gone is followed."""
    prefix = f"sk1:{namespace}"
    keys = [
        f"{prefix}:replica:{{flags}}:meta",
        f"{prefix}:replica:{{tenants%3Atenants}}:meta",
        f"{prefix}:flight:{{reports:acme}}",
        f"{prefix}:pool:{{upstream}}",
    ]
    with Cluster(name, replicas=0) as cluster, load(cluster.url, namespace, budget=PATIENT) as running:
        end = time.monotonic() + 6
        moves = 0
        for key in itertools.cycle(keys):
            hits = f"{prefix}:limit:{{visits:{int(time.monotonic())}}}:log"
            for one in (key, hits):
                at = cluster.masters.index(cluster.master_of(one))
                cluster.move_slot(one, cluster.masters[(at + 1) % 3], lambda: time.sleep(0.02))
                moves += 1
            if time.monotonic() > end:
                break
    diary = running.diary
    print(f"\n{diary}\n{dict(diary.reasons)}\n{moves} moves")
    assert not diary.complaints
    assert not diary.count(Outcome.DEGRADED, Outcome.REFUSED), diary.reasons
    assert not diary.miscounted(HITS)
    assert diary.most_at_once("slots") <= SLOTS
    assert diary.most_at_once("clients") <= FLEET
