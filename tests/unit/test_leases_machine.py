"""Leases under every interleaving: several processes, requests and answers in any order, losses, crashes, clocks.

Nothing is sent by the machine's processes themselves: an operation is stepped by hand, so the store's decision, the
answer's arrival and what is spent meanwhile fall where hypothesis puts them.
"""

from __future__ import annotations

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from statekit.errors import StoreTimeout
from statekit.ratelimit.core import Outage
from statekit.ratelimit.leases import Leases
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.memory import TWINS
from statekit.ratelimit.refusals import ASK_ALWAYS
from statekit.ratelimit.rule import Rule
from statekit.ratelimit.terms import Terms
from statekit.store.memory import Data, MemoryTransport
from statekit.store.store import Store

START = 1_893_456_000_000_000
PROCESSES = 3


class Under:
    """An operation under way: its request, and the answer once the store gave it."""

    def __init__(self, op, call, cost):
        self.op = op
        self.call = call
        self.cost = cost
        self.reply = None
        self.decided = 0


class Leasing(RuleBasedStateMachine):
    """A fleet on one caller's limits; what was admitted when is noted, and may never be too much."""

    @initialize(
        limits=st.sampled_from(
            [
                [Limit(150, 0.2)],
                [Limit(150, 0.2), Limit(400, 1)],
                [Limit(100, 0.1), Limit(60, 0.15)],
            ]
        ),
        algorithm=st.sampled_from(["sliding-log", "gcra", "fixed-window"]),
    )
    def begin(self, limits, algorithm):
        self.now = START
        self.data = Data()
        self.rule = Rule.of("bulk", limits, algorithm, "deny", shadow=False)
        self.processes = [self.process() for _ in range(PROCESSES)]
        self.under = []
        self.admitted = []

    def process(self):
        store = Store(MemoryTransport(TWINS, self.data), clock=lambda: self.now)
        outage = Outage(lambda call: None, lambda: 1, lambda name, error: None)
        return Leases(Terms(store, self.rule, outage, ASK_ALWAYS), watch=lambda seconds: None)

    # -- what happens --------------------------------------------------------------------------------------

    @rule(microseconds=st.sampled_from([1, 100, 1000, 5000, 20_000, 120_000]))
    def time_passes(self, microseconds):
        self.now += microseconds

    @rule(process=st.integers(0, PROCESSES - 1), cost=st.integers(1, 3), times=st.integers(1, 60))
    def hits(self, process, cost, times):
        """Hits at once, each answered before the next unless the request is kept on its way."""
        for _ in range(times):
            under = self.asked(process, cost)
            if under is not None:
                self.decides(under)
                self.answered(under)

    @rule(process=st.integers(0, PROCESSES - 1), cost=st.integers(1, 3))
    def hits_and_waits(self, process, cost):
        under = self.asked(process, cost)
        if under is not None:
            self.under.append(under)

    def asked(self, process, cost):
        op = self.processes[process].hitting("k", cost)
        try:
            (call,) = next(op)
        except StopIteration as stop:
            self.noted(stop.value, cost, self.now)
            return None
        return Under(op, call, cost)

    @precondition(lambda self: self.under)
    @rule(choice=st.integers(0, 99))
    def the_store_decides(self, choice):
        self.decides(self.under[choice % len(self.under)])

    def decides(self, under):
        """Run the script at the store's own time, which is later than the request's."""
        if under.reply is None:
            args, at = under.call.args, under.call.keys
            twin = TWINS[under.call.script.name]
            under.reply = twin(self.data, args[:at], [self.now, *args[at + 1 :]])
            under.decided = self.now

    @precondition(lambda self: any(under.reply is not None for under in self.under))
    @rule(choice=st.integers(0, 99))
    def an_answer_arrives(self, choice):
        ready = [under for under in self.under if under.reply is not None]
        under = ready[choice % len(ready)]
        self.under.remove(under)
        self.answered(under)

    def answered(self, under):
        try:
            under.op.send((under.reply,))
        except StopIteration as stop:
            self.noted(stop.value, under.cost, under.decided)

    @precondition(lambda self: self.under)
    @rule(choice=st.integers(0, 99))
    def an_answer_is_lost(self, choice):
        under = self.under.pop(choice % len(self.under))
        with pytest.raises(StopIteration) as ended:
            under.op.throw(StoreTimeout("lost"))
        assert ended.value.value.degraded

    @precondition(lambda self: self.under)
    @rule(choice=st.integers(0, 99))
    def a_caller_gives_up(self, choice):
        self.under.pop(choice % len(self.under)).op.close()

    @rule(process=st.integers(0, PROCESSES - 1))
    def a_process_dies(self, process):
        self.processes[process] = self.process()

    @rule(process=st.integers(0, PROCESSES - 1))
    def a_process_gives_back(self, process):
        op = self.processes[process].giving_back()
        try:
            calls = next(op)
            replies = [
                TWINS[call.script.name](self.data, call.args[:1], [self.now, *call.args[2:]])
                for call in calls
            ]
            op.send(replies)
        except StopIteration:
            pass

    def noted(self, decision, cost, at):
        if decision.allowed:
            self.admitted.append((at, cost))

    # -- what must hold ------------------------------------------------------------------------------------

    @invariant()
    def no_window_ever_held_more_than_the_limit(self):
        for limit in (getattr(self, "rule", None) and self.rule.limits) or ():
            for end in {at for at, _ in self.admitted}:
                begin = end - limit.window_us
                if self.rule.algorithm == "fixed-window":
                    begin = end - end % limit.window_us - 1
                used = sum(cost for at, cost in self.admitted if begin < at <= end)
                # A bucket passes a burst, and what drained meanwhile.
                assert used <= limit.count * (2 if self.rule.algorithm == "gcra" else 1)


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shard", range(4))
def test_no_window_of_many_stories_holds_too_much(shard):
    rules = settings(max_examples=250, stateful_step_count=80, deadline=None)
    run_state_machine_as_test(seed(shard)(Leasing), settings=rules)
