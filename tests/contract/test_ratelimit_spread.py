"""Several limiters over several slots: the way of a cluster, taken on every store and in both colours."""

from __future__ import annotations

from typing import Any

import pytest

from statekit import Limit
from statekit.errors import StoreFull, StoreRejected, StoreTimeout
from statekit.ratelimit import Algorithm
from statekit.store.hooks import Degraded
from statekit.testing import recorded, store_down
from statekit.testing.blocking import bare
from tests.conftest import COLOURS
from tests.servers import SERVERS, wait_until

ALGORITHMS = [str(one) for one in Algorithm]
shared = pytest.mark.parametrize(
    "backend", [f"{store}-{colour}" for store in ("fakeredis", *SERVERS) for colour in COLOURS], indirect=True
)
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def new_kit(new_kit):
    """Make kits that take every store for a cluster: keys of several slots are never touched together."""

    def made(**options: Any) -> Any:
        kit = new_kit(**options)
        kit.store.keys.slotted = True
        return kit

    return made


def limiters(kit, *limits, **options):
    return [kit.rate_limiter(f"l{number}", limit, **options) for number, limit in enumerate(limits)]


def left(*pairs):
    return [limiter.peek(key).remaining for limiter, key in pairs]


@each_algorithm
def test_all_are_charged_in_one_round_trip(frozen_kit, algorithm):
    a, b, c = limiters(frozen_kit, "5/minute", "9/hour", "3/hour", algorithm=algorithm)
    pairs = [(a, "k"), (b, "k", 2), (c, "j")]
    with recorded(frozen_kit) as trips:
        decision = frozen_kit.hit_all(pairs)
    assert len(trips) == 1
    assert decision.allowed
    assert [state.remaining for state in decision.limits] == [4, 7, 2]
    assert [(state.limiter, state.key) for state in decision.limits] == [
        ("l0", "k"),
        ("l1", "k"),
        ("l2", "j"),
    ]
    assert left((a, "k"), (b, "k"), (c, "j")) == [4, 7, 2]


@each_algorithm
def test_what_is_refused_costs_nothing(frozen_kit, algorithm):
    """A refusal takes a second round trip, and says what a refusal of one script would say."""
    a, b, c = limiters(frozen_kit, "5/minute", "9/hour", "3/hour", algorithm=algorithm)
    b.hit("k", 4)
    c.hit("j", 2)
    with recorded(frozen_kit) as trips:
        refused = frozen_kit.hit_all([(a, "k"), (b, "k", 3), (c, "j", 2)])
    assert len(trips) == 2
    assert (refused.allowed, refused.degraded, refused.local) == (False, False, False)
    assert [state.remaining for state in refused.limits] == [5, 5, 1]
    assert refused.violated == (Limit.parse("3/hour"),)
    assert (refused.limiter, refused.key, refused.remaining) == ("l2", "j", 1)
    assert refused.retry_after == c.peek("j", 2).retry_after
    assert left((a, "k"), (b, "k"), (c, "j")) == [5, 5, 1]


@each_algorithm
def test_it_says_what_one_script_would_say(frozen_kit, clock, algorithm):
    """The same calls on both ways: every figure of every decision agrees."""
    limits = "5/minute", "9/hour", "7/30 s"
    ways = [limiters(frozen_kit, *limits, algorithm=algorithm, local_refusals=False)]
    ways += [
        [
            frozen_kit.rate_limiter(f"o{n}", one, algorithm=algorithm, local_refusals=False)
            for n, one in enumerate(limits)
        ]
    ]
    for step in range(40):
        clock.advance(0.7 * (step % 7))
        told = []
        for slotted, way in zip((True, False), ways, strict=True):
            frozen_kit.store.keys.slotted = slotted
            told.append(frozen_kit.hit_all([(one, "k", 1 + (step * n) % 3) for n, one in enumerate(way)]))
        assert told[0].figures == told[1].figures


def test_what_others_charged_meanwhile_stays(frozen_kit, another_kit, clock):
    """A refund takes back its own hit alone, also from between others."""
    a, b = limiters(frozen_kit, "9/minute", "1/hour", local_refusals=False)
    b.hit("k")
    op = frozen_kit.hitting_all([(a, "k", 4), (b, "k")])
    replies = frozen_kit.run(_forwarded(next(op)))
    clock.advance(1)
    assert a.hit("k", 3).remaining == 2
    clock.advance(1)
    refund = op.send(replies)
    replies = frozen_kit.run(_forwarded(refund))
    with pytest.raises(StopIteration) as stop:
        op.send(replies)
    assert not stop.value.value.allowed
    assert a.peek("k").remaining == 6
    clock.advance(58.5)
    assert a.peek("k").remaining == 6, "the hit of others is as old as it is"
    clock.advance(0.5)
    assert a.peek("k").remaining == 9


def _forwarded(calls):
    return (yield calls)


@shared
def test_who_was_refused_for_units_that_come_back_may_ask_again(kit, another_kit):
    a, b = limiters(kit, "4/hour", "1/hour", local_refusals=False)
    (other,) = limiters(another_kit, "4/hour")
    b.hit("k")
    wait_until(lambda: other.hit("k", 5).local)  # it hears by now
    op = kit.hitting_all([(a, "k", 4), (b, "k")])
    replies = kit.run(_forwarded(next(op)))
    assert not other.hit("k").allowed
    replies = kit.run(_forwarded(op.send(replies)))
    with pytest.raises(StopIteration):
        op.send(replies)
    wait_until(lambda: other.hit("k").allowed)  # a refusal it kept would last an hour


@shared
def test_a_refusal_is_remembered_and_then_costs_nothing(kit):
    a, b = limiters(kit, "9/hour", "1/hour")
    b.hit("k")
    pairs = [(a, "k"), (b, "k")]
    wait_until(lambda: kit.hit_all(pairs).local)
    assert kit.hit_all(pairs).retry_after > 3000
    assert a.peek("k").remaining == 9


def test_peeks_and_limiters_in_shadow_leave_nothing_to_refund(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    trial = frozen_kit.rate_limiter("trial", "1/hour", shadow=True)
    trial.hit("k")
    b.hit("k")
    with recorded(frozen_kit) as trips:
        refused = frozen_kit.hit_all([(a, "k", 0), (trial, "k"), (b, "k")])
    assert (len(trips), refused.allowed) == (1, False)
    assert refused.violated == (Limit.parse("1/hour"),) * 2
    passed = frozen_kit.hit_all([(a, "k"), (trial, "k")])
    assert (passed.allowed, passed.would_refuse) == (True, True)
    assert left((a, "k"), (trial, "k"), (b, "k")) == [4, 0, 0]


def test_one_key_named_twice_is_one_hit(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    assert frozen_kit.hit_all([(a, "k"), (b, "k"), (a, "k", 2)]).allowed
    assert not frozen_kit.hit_all([(a, "k"), (b, "k"), (a, "k")]).allowed
    assert left((a, "k"), (b, "k")) == [2, 0]


def test_a_cost_above_the_limit_never_passes(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    refused = frozen_kit.hit_all([(a, "k"), (b, "k", 2)])
    assert (refused.allowed, refused.retry_after) == (False, None)
    assert left((a, "k"), (b, "k")) == [5, 1]


# -- one slot without an answer --------------------------------------------------------------------------


class Partial:
    """A transport on which calls that name a word fail, alone, as those of a dead shard do."""

    def __init__(self, kit, word, error):
        self._store, self._word, self._error = bare(kit.store), word, error

    def __enter__(self):
        self._inner = self._store.transport
        self._store.transport = self
        return self

    def __exit__(self, *_):
        self._store.transport = self._inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def exchange(self, calls, budget):
        failing = [any(self._word in str(arg) for arg in call.args[: call.keys]) for call in calls]
        sent = tuple(call for call, fails in zip(calls, failing, strict=True) if not fails)
        answer = self._inner.exchange(sent, budget)
        if hasattr(answer, "__await__"):
            return self._later(failing, answer)
        return self._spread(failing, answer)

    async def _later(self, failing, answer):
        return self._spread(failing, await answer)

    def _spread(self, failing, replies):
        replies = iter(replies)
        return [self._error if fails else next(replies) for fails in failing]


@pytest.mark.parametrize("error", [StoreTimeout("t"), StoreFull("OOM command")])
@pytest.mark.parametrize(("policy", "allowed"), [("allow", True), ("deny", False), ("local", True)])
def test_a_slot_without_an_answer_gets_the_declared_one(frozen_kit, policy, allowed, error):
    """What the others charged is taken back if that is a refusal."""
    (a,) = limiters(frozen_kit, "5/minute")
    lost = frozen_kit.rate_limiter("lost", "9/hour", on_outage=policy, workers=3)
    events = []
    frozen_kit.hooks.subscribe(events.append)
    with Partial(frozen_kit, "lost", error):
        decision = frozen_kit.hit_all([(lost, "k"), (a, "k")])
    assert (decision.allowed, decision.degraded) == (allowed, True)
    assert [(e.primitive, e.subject) for e in events if isinstance(e, Degraded)] == [("ratelimit", "lost")]
    assert left((a, "k"), (lost, "k")) == [4 if allowed else 5, 9]
    if policy == "local":
        assert decision.limits[0].remaining == 2, "its share is three"
    assert decision.limits[1].remaining == (4 if allowed else 5)


def test_a_real_refusal_stays_one_when_another_slot_is_down(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    lost = frozen_kit.rate_limiter("lost", "9/hour")
    b.hit("k")
    with Partial(frozen_kit, "lost", StoreTimeout("t")):
        decision = frozen_kit.hit_all([(a, "k"), (lost, "k"), (b, "k")])
    assert (decision.allowed, decision.degraded, decision.limiter) == (False, False, "l1")
    assert [state.limiter for state in decision.limits] == ["l0", "l1"], "of the third nothing is known"
    assert left((a, "k"), (lost, "k")) == [5, 9]


def test_a_misuse_in_one_slot_is_raised_and_leaves_nothing(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    with Partial(frozen_kit, "{l1", StoreRejected("WRONGTYPE other")), pytest.raises(StoreRejected):
        frozen_kit.hit_all([(a, "k"), (b, "k")])
    assert left((a, "k"), (b, "k")) == [5, 1]


def test_with_all_slots_down_the_declared_answer_is_given(frozen_kit):
    a, b = limiters(frozen_kit, "5/minute", "1/hour")
    deny = frozen_kit.rate_limiter("deny", "9/hour", on_outage="deny")
    with store_down(frozen_kit):
        assert frozen_kit.hit_all([(a, "k"), (b, "k", 9)]).allowed
        refused = frozen_kit.hit_all([(a, "k"), (b, "k"), (deny, "k")])
    assert (refused.allowed, refused.degraded, refused.retry_after) == (False, True, 1.0)
    assert left((a, "k"), (b, "k"), (deny, "k")) == [5, 1, 9]


def test_a_lost_refund_is_reported_and_makes_the_limit_stricter_only(frozen_kit, clock):
    a, b = limiters(frozen_kit, "5/minute", "1/hour", local_refusals=False)
    b.hit("k")
    events = []
    frozen_kit.hooks.subscribe(events.append)
    op = frozen_kit.hitting_all([(a, "k"), (b, "k")])
    op.send(frozen_kit.run(_forwarded(next(op))))
    with pytest.raises(StopIteration) as stop:
        op.throw(StoreTimeout("lost"))
    assert (stop.value.value.allowed, stop.value.value.degraded) == (False, False)
    assert [e.subject for e in events if isinstance(e, Degraded)] == ["l0"]
    assert a.peek("k").remaining == 4
    clock.advance(60)
    assert a.peek("k").remaining == 5
