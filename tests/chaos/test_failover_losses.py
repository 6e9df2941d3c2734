"""What a failover loses, primitive by primitive: what was acknowledged and had not reached the new primary.

Replication is cut on purpose, so that what is lost is known to the unit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from statekit import Flag
from statekit.errors import NotReplicated
from tests.chaos.sentinels import Sentinels, signed_in
from tests.servers import wait_until

ASYNCIO = pytest.mark.parametrize("connect", ["asyncio"], indirect=True)
LIMIT = 200


def test_a_limit_admits_again_what_was_acknowledged_and_not_replicated_and_no_more(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    kit = connect()
    limiter = kit.rate_limiter("api", f"{LIMIT}/hour", on_outage="deny")
    known = sum(limiter.hit("k").allowed for _ in range(120))
    sentinels.in_step()
    sentinels.unfollowed(sentinels.primary())
    lost = sum(limiter.hit("k").allowed for _ in range(50))
    assert (known, lost) == (120, 50)
    sentinels.fail_over(kit)
    again = sum(limiter.hit("k").allowed for _ in range(2 * LIMIT))
    assert known + lost + again == LIMIT + lost


@ASYNCIO
def test_over_admission_under_load_is_bounded_by_what_was_acknowledged_since_the_cut(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    kit = connect()
    limiter = kit.rate_limiter("api", f"{LIMIT}/hour", on_outage="deny", local_refusals=False)
    admitted: list[float] = []
    stop = threading.Event()

    def hit() -> None:
        while not stop.is_set():
            begin = time.monotonic()
            if limiter.hit("k").allowed:
                admitted.append(begin)
            stop.wait(0.01)

    threads = [threading.Thread(target=hit) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(admitted) > LIMIT // 4, 30)
    sentinels.unfollowed(sentinels.primary())
    cut = time.monotonic()
    wait_until(lambda: len(admitted) > LIMIT // 2, 30)
    sentinels.fail_over(kit)
    wait_until(lambda: limiter.peek("k").remaining == 0, 60)
    stop.set()
    for thread in threads:
        thread.join()
    over, unheard = len(admitted) - LIMIT, sum(begin >= cut - 1 for begin in admitted)
    print(f"\n{len(admitted)} admitted of {LIMIT}: {over} over")
    assert 0 < over <= min(unheard, LIMIT)


def test_without_replicas_a_revoked_session_can_come_back(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    kit = connect()
    sessions = kit.sessions()
    kept, late = signed_in(sessions, "user:1"), None
    sentinels.in_step()
    sentinels.unfollowed(sentinels.primary())
    assert sessions.revoke(kept.handle)
    late = signed_in(sessions, "user:2")
    sentinels.fail_over(kit)
    assert sessions.open(kept.id).principal == "user:1"
    assert sessions.open(late.id).is_new


@ASYNCIO
def test_with_replicas_what_was_confirmed_stays(sentinels: Sentinels, connect: Callable[..., Any]) -> None:
    kit = connect(replicas=1)
    sessions = kit.sessions()
    revoked, ended = signed_in(sessions, "user:1"), signed_in(sessions, "user:2")
    sentinels.unfollowed(sentinels.primary(), but=1)  # the one that still follows is the one that is promoted
    assert sessions.revoke(revoked.handle)
    assert sessions.revoke_all("user:2") == 1
    late = signed_in(sessions, "user:3")
    kit.flags.set("on", Flag())
    sentinels.fail_over(kit)
    assert sessions.open(revoked.id).is_new
    assert sessions.open(ended.id).is_new
    assert sessions.open(late.id).principal == "user:3"
    fresh = connect()
    with fresh:
        assert fresh.flags.enabled("on")


def test_with_replicas_what_is_not_confirmed_says_so(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    kit = connect(replicas=1)
    sessions = kit.sessions()
    session = signed_in(sessions, "user:1")
    sentinels.unfollowed(sentinels.primary())
    with pytest.raises(NotReplicated) as caught:
        sessions.revoke(session.handle)
    assert (caught.value.confirmed, caught.value.wanted, caught.value.result) == (0, 1, True)
    assert sessions.open(session.id).is_new  # it happened, on the primary
    sentinels.fail_over(kit)
    assert sessions.open(session.id).principal == "user:1"  # that is what was meant
    assert sessions.revoke(session.handle)
    assert sessions.open(session.id).is_new


def test_flags_that_were_lost_are_lost_everywhere(sentinels: Sentinels, connect: Callable[..., Any]) -> None:
    writer, reader = connect(), connect()
    with writer, reader:
        writer.flags.set("on", Flag(default=1), wait=10)
        sentinels.in_step()
        sentinels.unfollowed(sentinels.primary())
        writer.flags.set("on", Flag(default=2), wait=10)
        assert reader.flags.value("on", 0) == 2
        sentinels.fail_over(writer)
        wait_until(lambda: writer.flags.value("on", 0) == reader.flags.value("on", 0) == 1, 30)
        assert writer.flags.set("on", Flag(default=3), wait=10).complete
        assert reader.flags.value("on", 0) == 3


def test_a_slot_that_was_lost_is_granted_again_under_a_higher_fence(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    kit, others = connect(), connect()
    slots, theirs = (one.in_flight("reports", 1, lease=60) for one in (kit, others))
    theirs.acquire("k").release()
    sentinels.in_step()
    sentinels.unfollowed(sentinels.primary())
    held = slots.acquire("k")
    assert held
    sentinels.fail_over(others)
    again = theirs.acquire("k", timeout=30)
    assert again
    assert not again.degraded
    assert again.fence > held.fence
