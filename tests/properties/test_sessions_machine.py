"""Sessions against a dict per id: many requests at once, on one store, whatever they do and however late."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from statekit.kit import StateKit
from statekit.sessions import Encryption
from statekit.sessions.model import handle_of, moment
from statekit.testing import FrozenClock
from tests.conftest import PATIENT
from tests.models import sessions as model

SECOND = 1_000_000
KEY = Encryption.new_key()
KEYS = ("a", "b", "ä d:")
_numbers = itertools.count()
any_one = st.integers(0, 99)
principals = st.sampled_from(["user:7", "user:8"])


class Visiting(RuleBasedStateMachine):
    """Requests that hold a session each, and the model of each; one may be kept as long as hypothesis likes."""

    url: str | None = None

    @initialize(
        grace=st.sampled_from([0, 10]), touch_after=st.sampled_from([0, 0.25]), encrypted=st.booleans()
    )
    def begin(self, grace, touch_after, encrypted):
        self.clock = FrozenClock()
        # a server takes away by its own clock what has a moment left by this one, and meanwhile time passes
        self.grain = 5 * SECOND if self.url else 1
        name = f"visits{next(_numbers)}"
        options = {"clock": self.clock}
        self.kits = [StateKit.in_memory(name, **options)]
        if self.url:
            self.kits = [StateKit.connect(self.url, name, budget=PATIENT, **options) for _ in range(2)]
        rules = {"idle": 100, "absolute": 300, "grace": grace, "touch_after": touch_after}
        rules |= {"encryption": Encryption([KEY])} if encrypted else {}
        self.sessions = [kit.sessions(**rules) for kit in self.kits]
        rules = self.sessions[0].rules
        self.model = model.Store(
            model.Rules(rules.idle_us, rules.absolute_us, rules.touch_us, rules.grace_us)
        )
        self.visits = []
        self.ids = ["x" * 43]
        self.sync()

    def teardown(self):
        if hasattr(self, "ids"):
            for id_ in self.ids:
                self.opened(id_)
            for kit in self.kits:
                kit.close()

    def sync(self):
        self.model.now = self.clock.now_us

    def store(self, number):
        return self.sessions[number % len(self.sessions)]

    # -- requests ------------------------------------------------------------------------------------------

    @rule(number=any_one, known=st.sampled_from([True, True, False]))
    def opens(self, number, known):
        visit = self.opened(self.id(number) if known else None, number)
        self.visits = [*self.visits, visit][-6:]

    def id(self, number):
        """Mostly the latest: hypothesis likes small numbers."""
        return self.ids[-1 - number % len(self.ids)]

    def opened(self, id_, number=0):
        session = self.store(number).load(self.store(number).open(id_))
        visit = self.model.open(id_)
        self.compare(session, visit)
        return session, visit

    def compare(self, session, visit):
        """Whatever a request can see."""
        assert dict(session) == visit.shown
        assert session.principal == visit.principal
        assert session.is_new is (visit.id is None)
        assert session.read_only is visit.view
        if visit.id is not None:
            assert (session.created, session.expires) == (moment(visit.created), moment(visit.absolute))

    def visit(self, number):
        return self.visits[-1 - number % len(self.visits)]

    @precondition(lambda self: self.visits)
    @rule(
        number=any_one,
        key=st.sampled_from(KEYS),
        value=st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    )
    def assigns(self, number, key, value):
        session, visit = self.visit(number)
        session[key] = value
        visit.assign(key, value)

    @precondition(lambda self: self.visits)
    @rule(number=any_one, key=st.sampled_from(KEYS))
    def appends(self, number, key):
        """A list that is changed in place."""
        session, visit = self.visit(number)
        if isinstance(visit.shown.get(key), list):
            session[key].append(7)
            visit.shown[key].append(7)

    @precondition(lambda self: self.visits)
    @rule(number=any_one, key=st.sampled_from(KEYS))
    def deletes(self, number, key):
        session, visit = self.visit(number)
        assert session.pop(key, None) == visit.delete(key)

    @precondition(lambda self: self.visits)
    @rule(number=any_one)
    def clears(self, number):
        session, visit = self.visit(number)
        session.clear()
        for key in list(visit.shown):
            visit.delete(key)

    @precondition(lambda self: self.visits)
    @rule(number=any_one, principal=principals)
    def signs_in(self, number, principal):
        for one in self.visit(number):
            one.sign_in(principal)

    @precondition(lambda self: self.visits)
    @rule(number=any_one, verb=st.sampled_from(["renew", "renew", "sign_out"]))
    def changes(self, number, verb):
        for one in self.visit(number):
            getattr(one, verb)()

    @precondition(lambda self: self.visits)
    @rule(number=any_one)
    def saves(self, number):
        session, visit = self.visit(number)
        outcome = str(self.store(number).save(session))
        assert outcome == self.model.save(visit, session.id)
        if outcome in ("created", "renewed"):
            self.ids.append(session.id)
        self.compare(session, visit)

    @precondition(lambda self: self.visits)
    @rule(number=any_one, key=st.sampled_from(KEYS), value=st.integers(0, 3))
    def writes(self, number, key, value):
        self.assigns(number, key, value)
        self.saves(number)

    @precondition(lambda self: self.visits)
    @rule(number=any_one)
    def destroys(self, number):
        session, visit = self.visit(number)
        assert self.store(number).destroy(session) is self.model.destroy(visit)
        self.compare(session, visit)

    # -- from elsewhere ------------------------------------------------------------------------------------

    @rule(number=any_one)
    def revokes(self, number):
        id_ = self.id(number)
        assert self.store(number).revoke(handle_of(id_)) is self.model.revoke(id_)

    @rule(principal=principals, number=any_one, spares=st.booleans())
    def revokes_all(self, principal, number, spares):
        keep = self.id(number) if spares else None
        given = self.store(number).revoke_all(principal, keep=keep and handle_of(keep))
        assert given == self.model.revoke_all(principal, keep)

    @rule(principal=principals, number=any_one)
    def lists(self, principal, number):
        listed = {
            info.handle: (info.created, info.last_seen, info.idle_deadline, info.absolute_deadline)
            for info in self.store(number).sessions_of(principal)
        }
        expected = self.model.sessions_of(principal)
        assert listed == {handle_of(id_): tuple(map(moment, moments)) for id_, moments in expected.items()}

    @rule(
        us=st.sampled_from([1000, SECOND, 10 * SECOND, 24 * SECOND, 25 * SECOND, 75 * SECOND, 100 * SECOND])
    )
    def time_passes(self, us):
        self.clock.now_us += max(self.grain, us - us % self.grain)
        self.sync()

    @rule(number=any_one, short=st.booleans())
    def a_deadline_comes(self, number, short):
        """The very moment of one, or the microsecond before (on a server, five seconds)."""
        record = self.model.records.get(self.id(number))
        if record is None:
            return
        moments = (record.touched + self.model.rules.idle, record.absolute, record.retired or 0)
        self.clock.now_us = max(self.clock.now_us, moments[number % 3] - short * self.grain)
        self.sync()


def run(examples, steps, url=None):
    machine = type("Visiting", (Visiting,), {"url": url})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_sessions_are_a_dict_per_id():
    run(150, 50)


def test_sessions_are_a_dict_per_id_on_a_server(valkey_url):
    run(40, 50, valkey_url)


@pytest.mark.exhaustive
def test_many_more_stories_in_memory():
    run(1500, 80)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shard", range(4))
def test_many_more_stories_on_a_server(valkey_url, shard):
    run(500, 80, valkey_url)
