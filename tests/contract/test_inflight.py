"""What in-flight limits promise, on every store and in both colours."""

from __future__ import annotations

import gc
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from statekit import together
from statekit.errors import (
    InFlightUnknown,
    LimitExceeded,
    StoreRejected,
    StoreTimeout,
    TooManyInFlight,
    UsageError,
)
from statekit.inflight import HoldLost
from statekit.store.hooks import Degraded
from statekit.store.op import command
from statekit.testing import Blocking, recorded, store_down
from statekit.testing.blocking import on_loop
from tests.servers import wait_until


def keeper(kit: Any) -> Any:
    return kit._made["in_flight"]


def tend(kit: Any) -> None:
    """What the background does at a third of a lease."""
    kit.run(keeper(kit).tending())


def test_so_many_at_once_and_not_one_more(kit: Any, another_kit: Any) -> None:
    here, there = (one.in_flight("reports", 3) for one in (kit, another_kit))
    with here.hold("acme") as first, there.hold("acme") as second, here.hold("acme") as third:
        assert [hold.in_flight for hold in (first, second, third)] == [1, 2, 3]
        assert all((first, second, third))
        refused = there.acquire("acme")
        assert not refused
        assert (refused.allowed, refused.in_flight, refused.fence, refused.lost) == (False, 3, 0, False)
        assert 25 < refused.retry_after <= 30
        assert here.count("acme") == there.count("acme") == 3
    assert here.count("acme") == 0
    assert not any(hold.lost for hold in (first, second, third))
    with there.hold("acme"):
        pass


def test_a_block_without_a_slot_is_not_entered(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    entered = []
    with reports.hold("acme"):
        with pytest.raises(LimitExceeded) as refused, reports.hold("acme"):
            entered.append(True)
        assert reports.count("acme") == 1
    assert not entered
    error = refused.value
    assert isinstance(error, TooManyInFlight)
    assert (error.http_status, error.limit, error.in_flight) == (429, 1, 1)
    assert 25 < (error.retry_after or 0) <= 30
    assert str(error).startswith("'reports' for 'acme': 1 of 1 are in flight; a slot is free as soon as")


def test_a_block_that_raises_gives_its_slot_back(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    with pytest.raises(ZeroDivisionError), reports.hold("acme"):
        raise ZeroDivisionError
    assert reports.count("acme") == 0


def test_keys_and_names_are_apart(kit: Any) -> None:
    reports, exports = kit.in_flight("reports", 1), kit.in_flight("exports", 1)
    with reports.hold("a"), reports.hold("b"), exports.hold("a"), kit.in_flight("reports:a", 1).hold(""):
        assert not reports.acquire("a")
        assert not kit.in_flight("reports", 1).acquire("b"), "the same name is the same limit"


def test_without_a_block(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    hold = reports.acquire("acme")
    assert hold
    assert reports.count("acme") == 1
    assert hold.release()
    assert not hold.release(), "once"
    assert reports.count("acme") == 0
    assert hold.allowed
    with reports.acquire("acme") as entered:
        assert reports.count("acme") == 1
        with pytest.raises(TooManyInFlight):
            reports.acquire("acme").__enter__()
    assert reports.count("acme") == 0
    assert not entered.release()
    refused = kit.in_flight("reports", 0).acquire("acme")
    assert not refused.release(), "there is nothing to give back"


def test_a_hold_is_for_one_block(kit: Any) -> None:
    hold = kit.in_flight("reports", 1).hold("acme")
    assert not hold
    assert (hold.allowed, hold.fence, hold.retry_after) == (False, 0, 0.0)
    with hold:
        assert hold
    with pytest.raises(UsageError, match="used before"):
        hold.__enter__()


def test_fences_grow(frozen_kit: Any, clock: Any) -> None:
    reports = frozen_kit.in_flight("reports", 2)
    fences = []
    for seconds in (0, 0, 0, 1.5, 0):
        clock.advance(seconds)
        with reports.hold("acme") as hold:
            fences.append(hold.fence)
    start = clock.now_us - 1_500_000
    assert fences == [start, start + 1, start + 2, clock.now_us, clock.now_us + 1]
    clock.now_us -= 3_600_000_000
    with reports.hold("acme") as hold:
        assert hold.fence == fences[-1] + 1, "also when the clock is set back"


def test_a_lease_ends_by_itself_and_its_holder_is_told(frozen_kit: Any, clock: Any) -> None:
    reports = frozen_kit.in_flight("reports", 1, lease=10)
    lost: list[Any] = []
    frozen_kit.hooks.subscribe(lost.append)
    old = reports.acquire("acme")
    clock.advance(9.999999)
    assert not reports.acquire("acme")
    assert reports.acquire("acme").retry_after == 0.000001
    clock.advance(0.000001)
    assert reports.count("acme") == 0, "half-open: a lease that ends now has ended"
    new = reports.acquire("acme")
    assert new
    assert new.fence > old.fence
    age(frozen_kit)
    tend(frozen_kit)
    assert (old.lost, new.lost) == (True, False)
    assert not old.release(), "it was not its own any more"
    assert reports.count("acme") == 1, "and the other's is not given back by it"
    assert [one for one in lost if isinstance(one, HoldLost)] == [HoldLost("reports:acme", old.fence)]
    assert new.release()
    assert not new.lost


def age(kit: Any) -> None:
    """Make all holds of a kit due for renewal."""
    for held in keeper(kit)._held.values():
        held.until -= held.slot.lease_us / 2e6


def test_releasing_a_lease_that_has_run_out(frozen_kit: Any, clock: Any) -> None:
    reports = frozen_kit.in_flight("reports", 1, lease=10)
    with reports.hold("acme") as hold:
        clock.advance(10)
        assert not hold.lost, "nobody knows yet"
    assert hold.lost


def test_a_renewal_prolongs_what_is_there_and_brings_nothing_back(frozen_kit: Any, clock: Any) -> None:
    reports = frozen_kit.in_flight("reports", 2, lease=10)
    one, two = reports.acquire("acme"), reports.acquire("acme")
    for _ in range(3):
        clock.advance(6)
        age(frozen_kit)
        tend(frozen_kit)
    assert not one.lost
    assert [holder.until - holder.since for holder in reports.holders("acme")] == [
        timedelta(seconds=28),
        timedelta(seconds=28) - timedelta(microseconds=1),
    ]
    clock.advance(10)
    age(frozen_kit)
    tend(frozen_kit)
    assert one.lost
    assert two.lost
    assert reports.count("acme") == 0


def test_all_holds_are_renewed_in_one_round_trip(kit: Any) -> None:
    holds = [kit.in_flight(f"n{n}", 9, lease=5).acquire(f"k{k}") for n in range(3) for k in (1, 2, 2)]
    with recorded(kit) as trips:
        tend(kit)
        age(kit)
        tend(kit)
        tend(kit)
    assert [trip.commands for trip in trips] == [("inflight.renew",) * 6], "only what is due, a call a key"
    assert all(hold.release() for hold in holds)


def test_the_background_keeps_a_slot(kit: Any, another_kit: Any) -> None:
    with kit.in_flight("reports", 1, lease=1.5).hold("acme") as hold:
        first = kit.in_flight("reports", 1).holders("acme")[0].until
        wait_until(lambda: kit.in_flight("reports", 1).holders("acme")[0].until > first, 30)
        assert not another_kit.in_flight("reports", 1).acquire("acme")
    assert not hold.lost


def test_what_may_have_run_out_counts_as_lost_without_asking(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    hold = reports.acquire("acme")
    keeper(kit)._held[hold._held.slot].until -= 30
    assert hold.lost
    tend(kit)
    assert hold.lost
    assert reports.count("acme") == 0, "and is given back"
    assert not hold.release()


def test_holders_are_named(frozen_kit: Any, clock: Any) -> None:
    reports = frozen_kit.in_flight("reports", 3, lease=10)
    first = reports.acquire("acme")
    clock.advance(2.5)
    second = reports.acquire("acme")
    one, two = reports.holders("acme")
    assert (one.fence, two.fence) == (first.fence, second.fence)
    assert one.worker == two.worker == frozen_kit.store.worker
    assert one.since == datetime(2030, 1, 1, tzinfo=UTC)
    assert two.since == datetime(2030, 1, 1, 0, 0, 2, 500_000, tzinfo=UTC)
    assert two.until == datetime(2030, 1, 1, 0, 0, 12, 500_000, tzinfo=UTC)
    assert reports.holders("other") == ()


def test_a_changed_limit_applies_to_the_next(frozen_kit: Any, clock: Any) -> None:
    three = frozen_kit.in_flight("reports", 3, lease=10)
    for _ in range(3):
        assert three.acquire("acme")
        clock.advance(1)
    one = frozen_kit.in_flight("reports", 1, lease=10)
    refused = one.acquire("acme")
    assert (refused.allowed, refused.in_flight, refused.retry_after) == (False, 3, 9.0), "all three must end"
    assert frozen_kit.in_flight("reports", 2, lease=10).acquire("acme").retry_after == 8.0
    assert frozen_kit.in_flight("reports", 4, lease=10).acquire("acme").allowed
    none = frozen_kit.in_flight("reports", 0)
    assert none.acquire("acme").retry_after is None
    assert none.acquire("fresh").retry_after is None
    with pytest.raises(TooManyInFlight, match="the limit is 0, which refuses all"):
        none.hold("acme", timeout=30).__enter__()


def test_waiting_until_a_block_ends(kit: Any, another_kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is half a minute long, and nobody asks again by himself: only the end of the block lets one in."""
    monkeypatch.setattr("statekit.inflight.line.FIRST_PAUSE", 60.0)
    monkeypatch.setattr("statekit.inflight.line.LONGEST_PAUSE", 60.0)
    monkeypatch.setattr("statekit.inflight.core.ANNOUNCED_US", 60_000_000)
    for holder in (kit, another_kit):
        first = holder.in_flight("reports", 1).acquire("acme")
        entered: list[int] = []

        def wait(entered: list[int] = entered) -> None:
            with kit.in_flight("reports", 1).hold("acme", timeout=25) as hold:
                entered.append(hold.in_flight)

        with recorded(kit) as trips:
            waiting = threading.Thread(target=wait)
            waiting.start()
            wait_until(lambda trips=trips: any("inflight.acquire" in trip.commands for trip in trips))
            assert not entered
            assert first.release()
            waiting.join(20)
        assert entered == [1]
    assert kit.in_flight("reports", 1).count("acme") == 0


def test_waiting_where_publishing_is_forbidden(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the same process are woken all the same."""
    monkeypatch.setattr("statekit.inflight.keeper.Keeper.listen", lambda *_: None)
    monkeypatch.setattr("statekit.inflight.keeper.AsyncKeeper.listen", deaf)
    monkeypatch.setattr("statekit.inflight.line.FIRST_PAUSE", 60.0)
    monkeypatch.setattr("statekit.inflight.line.LONGEST_PAUSE", 60.0)
    reports, entered = kit.in_flight("reports", 1), []
    first = reports.acquire("acme")
    with recorded(kit) as trips:
        waiting = threading.Thread(target=lambda: entered.append(reports.acquire("acme", timeout=25)))
        waiting.start()
        wait_until(lambda: any("inflight.acquire" in trip.commands for trip in trips))
        assert first.release()
        waiting.join(20)
    assert entered[0].release()


async def deaf(*_: object) -> None: ...


def test_waiting_until_a_lease_ends(kit: Any, another_kit: Any) -> None:
    reports = another_kit.in_flight("reports", 1, lease=0.5)
    dead = reports.acquire("acme")
    keeper(another_kit)._held.clear()  # as if the process were gone
    with kit.in_flight("reports", 1).hold("acme", timeout=25) as hold:
        assert hold.fence > dead.fence


def test_a_wait_ends(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    with reports.hold("acme"):
        refused = reports.acquire("acme", timeout=0.2)
        assert not refused
        assert refused.retry_after > 20
        with pytest.raises(TooManyInFlight):
            reports.hold("acme", timeout=0.05).__enter__()
    assert reports.acquire("acme", timeout=timedelta(seconds=5))


def test_a_slot_and_a_limit_in_one_round_trip(kit: Any) -> None:
    reports, login = kit.in_flight("reports", 1), kit.rate_limiter("login", "5/minute")
    login.hit("ip")
    with recorded(kit) as trips:
        hold, decision = kit.run(together(reports.holding("acme"), login.hitting("ip")))
    assert len(trips) == 1
    assert decision.allowed
    with hold, recorded(kit) as trips:
        counted, holders = kit.run(together(reports.counting("acme"), reports.viewing("acme")))
        assert (counted, len(holders)) == (1, 1)
        (again,) = kit.run(together(reports.holding("acme")))
        assert not again
        assert kit.run(reports.releasing(hold))
    assert reports.count("acme") == 0
    assert not hold.lost


@pytest.mark.parametrize("limit", [-1, 1.5, "10", True, None, 1_000_001])
def test_a_limit_that_cannot_be(kit: Any, limit: Any) -> None:
    with pytest.raises(UsageError, match=f"limit={limit!r}"):
        kit.in_flight("reports", limit)


def test_other_things_that_cannot_be(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    for lease in (0, -1, 0.4, float("nan"), "30"):
        with pytest.raises(UsageError, match="lease="):
            kit.in_flight("reports", 1, lease=lease)
    for key in (None, 7, b"acme"):
        for call in (reports.hold, reports.acquire, reports.count, reports.holding):
            with pytest.raises(UsageError, match="not text"):
                call(key)
    for timeout in (-1, "1", None):
        with pytest.raises(UsageError, match="timeout="):
            reports.hold("acme", timeout=timeout)
    with pytest.raises(UsageError, match="on_outage="):
        kit.in_flight("reports", 1, on_outage="raise")
    with pytest.raises(UsageError, match="in_flight name"):
        kit.in_flight(7, 1)


def test_with_the_store_down_the_declared_answer_is_given(kit: Any) -> None:
    seen: list[Any] = []
    kit.hooks.subscribe(seen.append)
    with store_down(kit):
        with kit.in_flight("reports", 1).hold("acme") as hold:
            assert (hold.allowed, hold.degraded, hold.fence, hold.lost) == (True, True, 0, False)
        refused = kit.in_flight("reports", 1, on_outage="deny").acquire("acme")
        assert (refused.allowed, refused.degraded, refused.retry_after) == (False, True, 1.0)
        with pytest.raises(InFlightUnknown, match="on_outage='deny'") as unknown:
            kit.in_flight("reports", 1, on_outage="deny").hold("acme", timeout=0.1).__enter__()
        assert (unknown.value.http_status, unknown.value.fault) == (503, "store")
    degraded = [one for one in seen if isinstance(one, Degraded)]
    assert {(one.primitive, one.subject) for one in degraded} == {("inflight", "reports:acme")}
    with kit.in_flight("reports", 1).hold("acme") as hold:
        assert not hold.degraded


def test_a_slot_released_while_the_store_is_down_is_given_back_later(kit: Any, another_kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    seen: list[Any] = []
    with reports.hold("acme") as hold:
        kit.hooks.subscribe(seen.append)
        simulated = store_down(kit)
        simulated.__enter__()
    assert [one.subject for one in seen if isinstance(one, Degraded)] == ["reports:acme"]
    tend(kit)
    simulated.__exit__(None, None, None)
    assert not hold.lost
    assert another_kit.in_flight("reports", 1).count("acme") == 1
    tend(kit)
    assert another_kit.in_flight("reports", 1).count("acme") == 0


def test_a_slot_nobody_heard_of_is_given_back(kit: Any) -> None:
    """The store did its part and the answer was lost: a slow store must not run out of slots."""
    reports = kit.in_flight("reports", 1, on_outage="deny")
    unanswered = reports.holding("acme")
    kit.run(asking(step(kit, unanswered.__next__)))
    with pytest.raises(StopIteration) as stopped:
        step(kit, unanswered.throw, StoreTimeout("too late"))
    assert not stopped.value.value
    assert reports.count("acme") == 1
    tend(kit)
    assert reports.count("acme") == 0
    cancelled = reports.holding("acme")
    kit.run(asking(step(kit, cancelled.__next__)))
    cancelled.close()
    assert reports.count("acme") == 1
    tend(kit)
    assert reports.count("acme") == 0


def asking(calls: Any) -> Any:
    return (yield calls)


def step(kit: Any, function: Any, *args: Any) -> Any:
    """Step an operation by hand, where a kit of this colour would."""
    return on_loop(function, *args) if isinstance(kit, Blocking) else function(*args)


def test_a_hold_that_is_dropped_is_given_back(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    hold = reports.acquire("acme")
    assert hold
    del hold
    wait_until(
        lambda: gc.collect() * 0 == len(keeper(kit)._held)
    )  # errors on the way may have kept its frame
    tend(kit)
    wait_until(lambda: reports.count("acme") == 0)  # the pulse may have been at it, and not be done


def test_closing_gives_everything_back(kit: Any, another_kit: Any) -> None:
    hold, other = kit.in_flight("reports", 2).acquire("acme"), kit.in_flight("exports", 1).acquire("acme")
    kit.close()
    assert another_kit.in_flight("reports", 2).count("acme") == 0
    assert another_kit.in_flight("exports", 2).count("acme") == 0
    assert hold.lost, "to a block that still runs"
    assert other.lost


def test_closing_gives_back_what_nobody_can_release(kit: Any, another_kit: Any) -> None:
    reports = kit.in_flight("reports", 2)
    reports.acquire("acme")
    hold = reports.acquire("acme")
    with store_down(kit):
        assert not hold.release()
    gc.collect()
    with recorded(kit) as trips:
        kit.close()
    assert [set(trip.commands) for trip in trips] == [{"inflight.release"}]
    assert another_kit.in_flight("reports", 2).count("acme") == 0


def test_closing_while_a_subscription_begins(kit: Any) -> None:
    reports = kit.in_flight("reports", 1)
    with reports.hold("acme"):
        reports.acquire("acme", timeout=0.001)
        kit.close()


def test_a_limit_of_zero_refuses_all_also_without_the_store(kit: Any) -> None:
    with store_down(kit):
        refused = kit.in_flight("reports", 0, on_outage="allow").acquire("acme")
    assert (refused.allowed, refused.degraded, refused.retry_after) == (False, True, None)


def test_a_misuse_is_raised_and_not_answered(kit: Any, namespace: str) -> None:
    if "memory" in kit.describe():
        pytest.skip("memory has no other programs")
    key = f"sk1:{namespace}:flight:{{reports:acme}}"
    kit.run(command("SET", key, "x"))
    for call in ("acquire", "count", "holders"):
        with pytest.raises(StoreRejected, match="WRONGTYPE"):
            getattr(kit.in_flight("reports", 1), call)("acme")
