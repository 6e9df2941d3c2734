"""A real cluster under load: a master is killed, slots are moved, and callers hear of an outage or of nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from tests.chaos.diary import Diary, Outcome
from tests.chaos.fleets import Cluster
from tests.chaos.load import load
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.conftest import PATIENT
from tests.servers import Server

REPLICATED = Terms(keeps=False)
"""Replication is asynchronous: what a master acknowledged last may die with it."""
OUTAGE = {"StoreUnavailable", "StoreTimeout", "PoolExhausted"}
"""All that callers may hear: never where a slot lies, nor that it moves."""


def failover_under_load(
    cluster: Cluster, namespace: str, lose: Callable[[Server], Server], find: Callable[[Server], None]
) -> tuple[Diary, float]:
    """The diary, and how long after the cluster was whole again full service was back.

    `lose` takes the master of the flags away, `find` brings it back when all is well without it.
    """
    with load(cluster.url, namespace, terms=REPLICATED) as running:
        time.sleep(1.0)
        lost = time.monotonic()
        master = lose(cluster.master_of(f"sk1:{namespace}:replica:{{flags}}:meta"))
        whole = cluster.wait_ok()
        time.sleep(1.5)
        end = time.monotonic()
        find(master)
        cluster.wait_ok()
        time.sleep(1.0)
    diary = running.diary
    back = diary.back(whole, end)
    print(f"\n{diary}\n{dict(diary.reasons)}")
    print(f"whole {whole - lost:.2f} s, full service {back * 1000:.0f} ms later")
    return diary, back


@pytest.mark.parametrize(("name", "coverage"), [("valkey", True), ("redis7", False), ("redis62", False)])
def test_a_master_is_killed(name: str, coverage: bool, namespace: str) -> None:
    with Cluster(name, coverage=coverage) as cluster:
        diary, back = failover_under_load(cluster, namespace, cluster.kill, cluster.revive)
    assert not diary.complaints
    assert set(diary.reasons) <= OUTAGE
    assert not diary.miscounted(HITS, lambda _: 2)
    assert diary.most_at_once("slots") <= 2 * SLOTS
    assert diary.most_at_once("clients") <= FLEET
    assert back < 1.0


def test_a_master_is_frozen_and_comes_back_believing_it_still_is_one(namespace: str) -> None:
    with Cluster(coverage=False) as cluster:
        diary, back = failover_under_load(cluster, namespace, cluster.freeze, cluster.thaw)
    assert not diary.complaints
    assert set(diary.reasons) <= OUTAGE
    assert diary.most_at_once("slots") <= 2 * SLOTS
    assert back < 1.0
    assert diary.longest["hit"] < 0.5  # 50 ms, and what a busy machine adds


def test_the_whole_cluster_is_gone_and_comes_back(namespace: str) -> None:
    with Cluster(replicas=0) as cluster, load(cluster.url, namespace, terms=REPLICATED) as running:
        time.sleep(0.5)
        for node in cluster.nodes:
            cluster.kill(node)
        time.sleep(1.0)
        for node in cluster.nodes:
            cluster.revive(node)
        whole = cluster.wait_ok()
        time.sleep(1.5)
        end = time.monotonic()
    diary = running.diary
    back = diary.back(whole, end)
    print(f"\n{diary}\n{dict(diary.reasons)}\nfull service {back * 1000:.0f} ms later")
    assert not diary.complaints
    assert set(diary.reasons) <= OUTAGE
    assert diary.most_at_once("clients") <= FLEET
    assert back < 1.0


def assert_nobody_noticed(diary: Diary) -> None:
    assert not diary.complaints
    assert not diary.count(Outcome.DEGRADED, Outcome.REFUSED), diary.reasons
    assert not diary.miscounted(HITS)
    assert diary.most_at_once("slots") <= SLOTS
    assert diary.most_at_once("clients") <= FLEET


def test_masters_hand_over_to_their_replicas(namespace: str) -> None:
    """As in an upgrade of the servers, one after another: nothing is lost, and nobody notices."""
    with Cluster() as cluster, load(cluster.url, namespace, budget=PATIENT) as running:
        for master in cluster.masters:
            time.sleep(0.5)
            cluster.hand_over(master)
            cluster.wait_ok()
        time.sleep(0.5)
    diary = running.diary
    print(f"\n{diary}\n{dict(diary.reasons)}")
    assert_nobody_noticed(diary)


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
    assert_nobody_noticed(diary)
