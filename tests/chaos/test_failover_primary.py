"""The primary under sentinels is killed, frozen, demoted, and comes back, under load."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from statekit.store.outage import Budget
from tests.chaos.diary import Diary, Outcome
from tests.chaos.load import load
from tests.chaos.sentinels import Sentinels
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.servers import Server, wait_until

FORGETTING = Terms(keeps=False)
"""A failover may lose the last moments: nothing else is excused."""


def judged(diary: Diary, failed_over: list[float]) -> None:
    """Nobody saw anything but right answers and declared ones, and nothing was counted more than once anew."""
    print(f"\n{diary}")

    def lives(key: str) -> int:
        return 1 + sum(int(key) <= moment < int(key) + 2 for moment in failed_over)

    assert not diary.complaints
    assert diary.count(Outcome.RIGHT) > 500
    assert not diary.miscounted(HITS, lives)
    assert diary.most_at_once("slots") <= 2 * SLOTS
    assert diary.most_at_once("clients") <= FLEET


def test_a_killed_primary_is_replaced_and_service_resumes(sentinels: Sentinels, namespace: str) -> None:
    with load(sentinels.url, namespace, terms=FORGETTING) as running:
        time.sleep(1.0)
        first = sentinels.primary()
        killed = time.monotonic()
        first.kill()
        second = sentinels.promoted(first)
        promoted = time.monotonic()
        time.sleep(2.0)
        first.start()  # it believes to be the primary still, until the sentinels tell it otherwise
        sentinels.demoted(first)
        time.sleep(1.0)
        ended = time.monotonic()
    print(
        f"\nfailover {promoted - killed:.2f} s, then {running.diary.back(promoted, ended):.2f} s to full service"
    )
    judged(running.diary, [killed, promoted])
    assert running.diary.back(promoted, ended) < 1.0
    assert sentinels.primary() is second
    wait_until(
        lambda: not strays(first, second), 10, f"written to the former primary: {strays(first, second)}"
    )


def test_a_frozen_primary_that_thaws_is_written_to_no_more(sentinels: Sentinels, namespace: str) -> None:
    with load(sentinels.url, namespace, terms=FORGETTING) as running:
        time.sleep(1.0)
        first = sentinels.primary()
        frozen = time.monotonic()
        first.freeze()
        sentinels.promoted(first)
        promoted = time.monotonic()
        time.sleep(2.0)
        thawed = time.monotonic()
        first.thaw()
        before = first.ask("INFO", "commandstats")
        time.sleep(1.0)
        after = first.ask("INFO", "commandstats")
    print(
        f"\nfailover {promoted - frozen:.2f} s, then {running.diary.back(promoted, thawed):.2f} s to full service"
    )
    judged(running.diary, [frozen, promoted, thawed])
    assert running.diary.back(promoted, thawed) < 1.0
    assert ran(after) == ran(before)


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_a_host_with_the_primary_and_the_first_sentinel_falls_silent(
    sentinels: Sentinels, connect: Callable[..., Any], colour: str
) -> None:
    """Nobody hangs up: a caller who asks the silent sentinel runs out of time, and the next one asks another."""
    kit = connect(colour, budget=Budget(decision=0.1, operation=0.5, connect=1))
    limiter = kit.rate_limiter("api", "100000/hour")
    assert not limiter.hit("k").degraded
    first = sentinels.primary()
    sentinels.watchers[0].freeze()
    first.freeze()
    waits: list[float] = []
    promoted = 0.0
    while True:
        begin = time.monotonic()
        decision = limiter.hit("k")
        waits.append(time.monotonic() - begin)
        if not promoted and sentinels.named_by(sentinels.watchers[1]) is not first:
            promoted = time.monotonic()
        if promoted and not decision.degraded:
            break
        assert time.monotonic() - (promoted or begin) < 30, "service does not resume"
        time.sleep(0.01)
    print(
        f"\n{time.monotonic() - promoted:.2f} s after the promotion; the longest wait {max(waits) * 1000:.0f} ms"
    )
    assert time.monotonic() - promoted < 1.0
    assert max(waits) < 0.2  # the budget, and as much again for a machine that is busy
    fresh = connect(colour, budget=Budget(decision=0.1, operation=0.5, connect=1))
    wait_until(lambda: not fresh.rate_limiter("api", "9/hour").hit("k").degraded, 1.0)


def ran(statistics: dict[str, dict[str, int]]) -> int:
    """How many scripts a server has run."""
    return sum(int(statistics.get(f"cmdstat_{word}", {}).get("calls", 0)) for word in ("eval", "evalsha"))


def strays(follower: Server, leader: Server) -> list[str]:
    """Keys a follower holds that its leader does not: what was written to it behind the leader's back."""
    theirs, ours = (set(server.ask("KEYS", "*")) for server in (leader, follower))
    return sorted(map(str, ours - theirs))
