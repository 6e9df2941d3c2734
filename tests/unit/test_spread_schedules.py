"""Calls over several slots in every order: rounds of many calls interleaved, refunds late, lost, or never sent.

What is promised is checked by pure bookkeeping of the calls that were allowed, and of those whose refund was lost.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit import Decision, StateKit
from statekit.errors import StoreTimeout
from statekit.testing import FrozenClock

COUNT, WINDOW = 6, 60
WINDOW_US = WINDOW * 1_000_000
MOVES = [0, 1, 1_000, 700_000, 9_999_999, 10_000_000, 60_000_000]
NAMES = ("a", "b", "c")

pairs = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), min_size=2)
acts = st.one_of(
    st.tuples(st.just("begin"), pairs),
    st.tuples(st.sampled_from(["go on", "go on", "go on", "lose", "vanish"]), st.integers(0, 9)),
)
schedules = st.lists(st.tuples(st.sampled_from(MOVES), acts), max_size=60)


@dataclass
class Call:
    """One call under way: the operation, the round it waits for, and the moment its hits were decided."""

    wish: dict[str, int]
    op: Any
    round: Any
    decided: int = 0
    parts: list[bytes] = field(default_factory=list)

    def charged(self) -> dict[str, int]:
        """What it was charged by the slots that allowed it."""
        told = zip(self.wish.items(), self.parts, strict=False)
        return {name: cost for (name, cost), part in told if part[:8] == (1).to_bytes(8)}


class Fleet:
    """Limiters on one store, calls under way, and the book of all that was allowed or is left over."""

    def __init__(self, algorithm: str) -> None:
        self.clock = FrozenClock()
        self.kit = StateKit.in_memory(clock=self.clock)
        self.kit.store.keys.slotted = True
        limit = f"{COUNT}/{WINDOW} seconds"
        self.limiters = {name: self.kit.rate_limiter(name, limit, algorithm=algorithm) for name in NAMES}
        self.calls: list[Call] = []
        self.book: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def begin(self, wish: dict[str, int]) -> None:
        op = self.kit.hitting_all([(self.limiters[name], "k", cost) for name, cost in wish.items()])
        self.calls.append(Call(wish, op, next(op)))

    def go_on(self, call: Call) -> None:
        """The round of a call reaches the store, and its replies come back."""
        replies = self._sent(call)
        try:
            call.round = call.op.send(replies)
        except StopIteration as stop:
            self._ended(call, stop.value, call.wish if stop.value.allowed else {})

    def lose(self, call: Call) -> None:
        """The round of a call is lost: an outage to it, and nothing has happened in the store."""
        try:
            call.round = call.op.throw(StoreTimeout("lost"))
        except StopIteration as stop:
            self._ended(call, stop.value, call.charged())

    def vanish(self, call: Call) -> None:
        """Its process dies when the round has reached the store."""
        refunds = bool(call.decided)
        self._sent(call)
        call.op.close()
        self._ended(call, None, {} if refunds else call.charged())

    def _sent(self, call: Call) -> Any:
        replies = self.kit.store.transport.exchange(tuple(map(self._at_this_moment, call.round)), 1)
        if not call.decided:
            call.decided, call.parts = self.clock.now_us, list(replies)
        return replies

    def _at_this_moment(self, sent: Any) -> Any:
        """Scripts run by the time at which they arrive, as by a server's own clock."""
        keys = sent.args[: sent.keys]
        return sent._replace(args=(*keys, self.clock.now_us, *sent.args[sent.keys + 1 :]))

    def _ended(self, call: Call, decision: Decision | None, left: dict[str, int]) -> None:
        self.calls.remove(call)
        if decision is not None and decision.degraded:
            left = {}  # nothing reached the store
        for name, cost in left.items():
            self.book[name].append((call.decided, cost))

    def settle(self) -> None:
        while self.calls:
            self.go_on(self.calls[0])


def inside(book: list[tuple[int, int]], now: int) -> int:
    return sum(cost for at, cost in book if now - WINDOW_US < at <= now)


def check_log(fleet: Fleet) -> None:
    """In no window more than the limit; and what is used is what the book says, to the unit."""
    for name, limiter in fleet.limiters.items():
        book = fleet.book[name]
        assert all(inside(book, at) <= COUNT for at, _ in book)
        assert limiter.peek("k").remaining == COUNT - inside(book, fleet.clock.now_us)


def check_fixed(fleet: Fleet) -> None:
    for name, limiter in fleet.limiters.items():
        used: dict[int, int] = defaultdict(int)
        for at, cost in fleet.book[name]:
            used[at // WINDOW_US] += cost
        assert all(one <= COUNT for one in used.values())
        assert limiter.peek("k").remaining == COUNT - used[fleet.clock.now_us // WINDOW_US]


def check_gcra(fleet: Fleet) -> None:
    """A bucket that only knows the book never runs over, and the real one holds no less than it, and little more."""
    emission = WINDOW_US // COUNT
    for name, limiter in fleet.limiters.items():
        owed = last = 0
        for at, cost in sorted(fleet.book[name]):
            owed = max(0, owed - (at - last)) + cost * emission
            last = at
            assert owed <= COUNT * emission
        owed = max(0, owed - (fleet.clock.now_us - last))
        assert limiter.peek("k").remaining <= COUNT - -(-owed // emission)


CHECKS = {"sliding-log": check_log, "fixed-window": check_fixed, "gcra": check_gcra}


@pytest.mark.parametrize("algorithm", CHECKS)
@settings(max_examples=150, deadline=None)
@given(schedule=schedules)
def test_no_order_of_calls_and_refunds_allows_too_many(algorithm: str, schedule: list[Any]) -> None:
    fleet = Fleet(algorithm)
    for move, (verb, what) in schedule:
        fleet.clock.now_us += move
        if verb == "begin":
            fleet.begin(what)
        elif fleet.calls:
            getattr(fleet, verb.replace(" ", "_"))(fleet.calls[what % len(fleet.calls)])
    fleet.settle()
    CHECKS[algorithm](fleet)


@pytest.mark.exhaustive
@pytest.mark.parametrize("algorithm", CHECKS)
@settings(max_examples=3_000, deadline=None)
@given(schedule=schedules)
def test_no_order_of_many_more(algorithm: str, schedule: list[Any]) -> None:
    test_no_order_of_calls_and_refunds_allows_too_many.hypothesis.inner_test(algorithm, schedule)  # type: ignore[attr-defined]
