"""Several limiters in one call over the slots of a real cluster: never too many, and a refusal leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.store.hooks import Degraded
from statekit.testing import Blocking, recorded
from tests.chaos.fleets import Cluster, slot_of
from tests.chaos.limits_process import KEYS, LIMITS, limiters
from tests.conftest import PATIENT
from tests.servers import wait_until

PROGRAM = Path(__file__).with_name("limits_process.py")
SECONDS = 3.0
ALGORITHMS = ["sliding-log", "sliding-counter", "gcra", "fixed-window"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(replicas=0, coverage=False) as one:
        yield one


@pytest.fixture(params=["blocking", "asyncio"])
def kit(request, cluster, namespace):
    options = {"budget": PATIENT, "snapshot_dir": None}
    if request.param == "asyncio":
        one = Blocking(AsyncStateKit.connect(cluster.url, namespace, **options))
    else:
        one = StateKit.connect(cluster.url, namespace, **options)
    yield one
    one.close()


def test_keys_of_several_slots_are_one_decision(kit):
    """Where servers answered CROSSSLOT: one round trip when allowed, two when refused, nothing left then."""
    few, many = kit.rate_limiter("few", "2/hour"), kit.rate_limiter("many", "9/hour")
    pairs = [(many, "k", 3), (few, "k")]
    assert slot_of("{many:k}") != slot_of("{few:k}")
    with recorded(kit) as trips:
        assert [kit.hit_all(pairs).allowed for _ in range(3)] == [True, True, False]
    assert len(trips) == 4
    assert (many.peek("k").remaining, few.peek("k").remaining) == (3, 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_used_is_what_was_allowed(cluster, namespace, algorithm):
    """Three processes, threads and tasks, a dozen callers: most calls are refused somewhere, and refunded elsewhere."""
    told = _run(cluster, namespace, algorithm)
    allowed = [call for one in told for call in one["allowed"]]
    used = Counter()
    for _, _, wish in allowed:
        used.update(wish)
    refused = sum(one["refused"] for one in told)
    print(f"{algorithm}: {len(allowed)} calls allowed, {refused} refused")
    assert not sum(one["degraded"] for one in told)
    assert refused > len(allowed) / 4
    with StateKit.connect(cluster.url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        for name, limiter in limiters(kit, algorithm).items():
            for key in KEYS:
                _check_used(limiter, algorithm, key, used[f"{name}:{key}"])
    if algorithm == "sliding-log":
        _check_windows(allowed)


def _run(cluster, namespace, algorithm):
    """Let three processes loose on the cluster; returns what each tells."""
    command = [sys.executable, str(PROGRAM), cluster.url, namespace, algorithm, str(SECONDS)]
    crew = [
        subprocess.Popen([*command, colour], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for colour in ("threads", "tasks", "threads")
    ]
    try:
        for one in crew:
            assert one.stdout.readline() == "ready\n"
        for one in crew:
            one.stdin.write("go\n")
            one.stdin.flush()
        return [json.loads(one.communicate(timeout=120)[0]) for one in crew]
    finally:
        for one in crew:
            one.kill()


def _check_used(limiter, algorithm, key, allowed):
    """Within a year nothing has been forgotten: what is used is what was allowed, to the unit."""
    if limiter.name == "narrow":
        return
    (limit,) = limiter.limits
    used = limit.count - limiter.peek(key).remaining
    assert allowed <= limit.count
    if (
        algorithm == "gcra"
    ):  # a debt drains, and a refund among others keeps what might have drained meanwhile
        assert allowed <= used <= allowed + 1
    else:
        assert used == allowed


def _check_windows(allowed):
    """In no second were there more than the limit: calls that lie within it from before they began to their end."""
    for key in KEYS:
        calls = sorted(
            (before, after, wish[f"narrow:{key}"])
            for before, after, wish in allowed
            if f"narrow:{key}" in wish
        )
        assert len(calls) > 10
        for first, _, _ in calls:
            inside = sum(cost for before, after, cost in calls if before >= first and after <= first + 10**9)
            assert inside <= int(LIMITS["narrow"].partition("/")[0])


@pytest.mark.parametrize(("policy", "allowed"), [("allow", True), ("deny", False), ("local", True)])
def test_a_shard_without_a_master_gets_the_declared_answer(cluster, kit, policy, allowed):
    """The others go on, and are refunded if that answer is a refusal. It comes back without a restart."""
    dead = cluster.masters[-1]
    here = next(n for n in map(str, count()) if cluster.master_of(f"{{here:{n}}}") is not dead)
    gone = next(n for n in map(str, count()) if cluster.master_of(f"{{gone:{n}}}") is dead)
    alive = kit.rate_limiter("here", "9/hour")
    lost = kit.rate_limiter("gone", "9/hour", on_outage=policy, workers=3)
    pairs = [(alive, here), (lost, gone)]
    assert kit.hit_all(pairs).allowed
    events = []
    kit.hooks.subscribe(events.append)
    cluster.kill(dead)
    try:
        decision = kit.hit_all(pairs)
        assert (decision.allowed, decision.degraded) == (allowed, True)
        assert {e.subject for e in events if isinstance(e, Degraded)} == {"gone"}
        after = alive.peek(here)
        assert (after.remaining, after.degraded) == (7 if allowed else 8, False)
        assert alive.hit(here).allowed
    finally:
        cluster.revive(dead)
        cluster.wait_ok()
    wait_until(lambda: not kit.hit_all([(alive, here, 0), (lost, gone, 0)]).degraded, 10)
    assert kit.hit_all(pairs).remaining == (5 if allowed else 6)
