"""The line and the ledger of slots in flight, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from statekit import StateKit
from statekit.errors import StoreUnavailable
from statekit.inflight.core import Grant, Rule, Slot, refusal
from statekit.inflight.ledger import DOUBTS, Held, Ledger
from statekit.inflight.line import FIRST_PAUSE, LONGEST_PAUSE, Lines, Place
from statekit.testing import recorded

FULL = Grant(allowed=False, in_flight=1, retry_after=30.0)
SLOT = Slot("key", "channel", "1 w 1", 30_000_000)


class Flag:
    """A signal that only remembers."""

    def __init__(self) -> None:
        self.rung = False

    def set(self) -> None:
        self.rung = True


def place(lines: Lines, key: str = "key", deadline: float = 100.0) -> Place[Flag]:
    one = Place(key, Flag(), deadline)
    lines.join(one)
    return one


def test_the_first_in_line_asks_and_the_others_wait_for_their_turn() -> None:
    lines = Lines()
    first, second, third = (place(lines) for _ in range(3))
    assert [one.signal.rung for one in (first, second, third)] == [True, False, False]
    assert second.pause(None, 40.0, 1.0) == 60.0, "all it has"
    assert second.pause(FULL, 40.0, 1.0) == 60.0, "also if it has asked before"
    pauses = [first.pause(FULL, 40.0, 1.0) for _ in range(9)]
    assert pauses == [0.04, 0.08, 0.16, 0.32, *[LONGEST_PAUSE] * 5]
    lines.leave(first)
    assert [one.signal.rung for one in (second, third)] == [True, False]
    assert second.pause(FULL, 40.0, 0.0) == FIRST_PAUSE
    lines.leave(third)
    lines.leave(third)
    lines.leave(second)
    assert "key" not in lines


def test_a_waiter_asks_when_the_slot_of_the_dead_is_free_and_gives_up_in_time() -> None:
    one = place(Lines(), deadline=10.0)
    assert one.pause(Grant(allowed=False, retry_after=0.01), 0.0, 1.0) == 0.01
    assert one.pause(Grant(allowed=False, retry_after=0.0), 0.0, 1.0) == 0.001, "never at once"
    assert one.pause(FULL, 9.99, 1.0) == pytest.approx(0.01)
    assert one.pause(FULL, 10.0, 1.0) is None
    assert one.pause(None, 11.0, 1.0) == 0.0, "who has not asked yet asks once"
    assert one.pause(Grant(allowed=False, retry_after=None), 0.0, 1.0) is None, "there is no use"
    assert one.pause(Grant(allowed=True), 0.0, 1.0) is None


def test_an_announcement_wakes_the_first_of_its_line() -> None:
    ledger = Ledger(StateKit.in_memory().store)
    places = {key: [place(ledger.lines, key) for _ in range(2)] for key in ("a", "b")}

    def woken() -> list[tuple[bool, bool]]:
        rung = [(first.signal.rung, second.signal.rung) for first, second in places.values()]
        for one in (*places["a"], *places["b"]):
            one.signal.rung = False
        return rung

    assert woken() == [(True, False), (True, False)]
    ledger.heard(b"b")
    ledger.heard(b"nobody waits for this one")
    assert woken() == [(False, False), (True, False)]
    ledger.heard(None)
    assert woken() == [(True, False), (True, False)], "messages may have been missed"


def test_one_caller_takes_a_slot_out() -> None:
    ledger = Ledger(StateKit.in_memory().store)
    held = Held(SLOT, "reports:acme", 1, 0.0)
    ledger.add(held)
    assert held.lapsed
    assert ledger.take_out(held)
    assert not ledger.take_out(held)
    assert held.lost, "what may have run out by then had"
    fresh = Held(SLOT, "reports:acme", 1, float("inf"))
    ledger.add(fresh)
    assert ledger.take_out(fresh)
    fresh.until = 0.0
    assert not fresh.lapsed, "time goes on, and it was given back in time"


def test_what_cannot_be_ours_any_more_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = StateKit.in_memory()
    ledger = Ledger(kit.store)
    now = 0.0
    monkeypatch.setattr("statekit.inflight.ledger.monotonic", lambda: now)
    ledger.doubt(SLOT)
    now = 20.0
    ledger.doubt(SLOT._replace(key="another"))
    now = 30.0
    with recorded(kit) as trips:
        for _ in range(4):
            kit.run(ledger.settling())
    assert [trip.commands for trip in trips] == [("inflight.release",)] * 2, "not there is asked twice"
    for _ in range(2 * DOUBTS):
        ledger.doubt(SLOT)
    assert len(ledger._doubts) == DOUBTS, "an outage does not fill the memory"


@pytest.mark.parametrize(
    ("grant", "limit", "said", "status"),
    [
        (FULL, 1, "1 of 1 are in flight; a slot is free as soon as a block ends, or in 30.0 s", 429),
        (Grant(allowed=False, in_flight=3, retry_after=None), 0, "the limit is 0, which refuses all", 429),
        (Grant(allowed=False, retry_after=1.0, error=StoreUnavailable("gone")), 1, "deny': gone", 503),
    ],
)
def test_a_refusal_says_why(grant: Grant, limit: int, said: str, status: int) -> None:
    error: Any = refusal(Rule("reports", limit), "acme", grant)
    assert str(error).startswith("'reports' for 'acme': ")
    assert said in str(error)
    assert (error.http_status, error.limit) == (status, limit)
    assert (error.in_flight, error.retry_after) == (grant.in_flight, grant.retry_after)
