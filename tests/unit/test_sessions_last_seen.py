"""What a process shows of a session while the store is away: never what it has ended, never too old, never too much."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from statekit import AsyncStateKit, SaveOutcome, StateKit
from statekit.errors import StoreUnavailable, UsageError
from statekit.kit import twins
from statekit.sessions import seen
from statekit.sessions.model import handle_of
from statekit.sessions.record import Delta, Record
from statekit.sessions.seen import LastSeen
from statekit.store.hooks import Degraded
from statekit.store.memory import MemoryTransport
from statekit.store.store import Store
from statekit.testing import Blocking, FrozenClock, store_down

SECOND = 1_000_000
HOUR = 3600 * SECOND
LONGEST = 60 * SECOND


class Time:
    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def memory(time: Time) -> LastSeen:
    memory = LastSeen(time)
    memory.start(LONGEST)
    return memory


def record(name: str, left: int = HOUR, principal: str | None = None, **fields: bytes) -> Record:
    return Record(name, 1, 2, 3, principal, fields, left=left)


# -- what is kept ----------------------------------------------------------------------------------------


def test_nothing_is_kept_before_somebody_wants_it(time: Time) -> None:
    memory = LastSeen(time)
    asked = memory.asking()
    memory.note(record("a"), asked)
    memory.forget("b")
    assert memory.recall("a", LONGEST) is None
    memory.start(LONGEST)
    memory.note(record("a"), asked)
    assert memory.recall("a", LONGEST) is None, "asked for before: it may have been ended in between"
    memory.note(record("a"), memory.asking())
    assert memory.recall("a", LONGEST) is not None


def test_age_counts_from_the_question_and_ends_with_the_session(memory: LastSeen, time: Time) -> None:
    asked = memory.asking()
    time.now += 10 * SECOND  # the answer took its time
    memory.note(record("a"), asked)
    memory.note(record("short", left=20 * SECOND), asked)
    sighting = memory.recall("a", LONGEST)
    assert sighting is not None
    assert memory.age(sighting) == 10
    time.now = asked + 20 * SECOND - 1
    assert memory.recall("short", LONGEST) is not None
    time.now += 1
    assert memory.recall("short", LONGEST) is None, "it would have ended"
    time.now = asked + 60 * SECOND - 1
    assert memory.recall("a", LONGEST) is not None
    time.now += 1
    assert memory.recall("a", LONGEST) is None


def test_the_view_of_a_retired_id_is_not_kept(memory: LastSeen) -> None:
    memory.note(Record("a", 1, 2, 3, None, {}, retired=True, left=HOUR), memory.asking())
    assert memory.recall("a", LONGEST) is None


def test_an_older_answer_does_not_replace_a_newer_one_but_own_writes_count(
    memory: LastSeen, time: Time
) -> None:
    early = memory.asking()
    time.now += SECOND
    memory.note(record("a", x=b"2", y=b"2"), memory.asking())
    memory.note(record("a", x=b"1"), early)
    assert kept(memory) == {"x": b"2", "y": b"2"}
    memory.note(record("a", x=b"1", z=b"3"), early, Delta({"z": b"3"}, {"y"}))
    assert kept(memory) == {"x": b"2", "z": b"3"}
    found = memory.recall("a", LONGEST)
    assert found is not None
    assert found.asked == early + SECOND


def kept(memory: LastSeen) -> dict[str, bytes]:
    found = memory.recall("a", LONGEST)
    assert found is not None
    return dict(found.record.fields)


# -- what is never shown again ---------------------------------------------------------------------------


def test_an_answer_that_was_under_way_brings_nothing_back(memory: LastSeen, time: Time) -> None:
    asked = memory.asking()
    memory.forget("a")
    time.now += SECOND
    memory.note(record("a"), asked)
    memory.note(record("a"), memory.asking())
    assert memory.recall("a", LONGEST) is None


def test_names_of_ended_sessions_are_kept_as_long_as_an_answer_could_count(
    memory: LastSeen, time: Time
) -> None:
    asked = memory.asking()
    memory.forget("a")
    time.now += 61 * SECOND
    memory.forget("b")
    assert list(memory._ended) == ["b"]
    memory.note(record("a"), asked)
    assert memory.recall("a", LONGEST) is None


def test_a_flood_of_endings_costs_memory_of_sessions_and_never_truth(
    memory: LastSeen, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MOST", 10)
    asked = memory.asking()
    for index in range(50):
        time.now += 1
        memory.forget(f"s{index}")
    assert len(memory._ended) == 10
    for index in range(50):
        memory.note(record(f"s{index}"), asked)
        assert memory.recall(f"s{index}", LONGEST) is None
    memory.note(record("other"), memory.asking())
    assert memory.recall("other", LONGEST) is not None


def test_all_sessions_of_a_principal_go_but_one(memory: LastSeen) -> None:
    for name, principal in (("a", "user:7"), ("b", "user:7"), ("c", "user:8"), ("d", None)):
        memory.note(record(name, principal=principal), memory.asking())
    memory.forget_all("user:7", "b")
    assert [name for name in "abcd" if memory.recall(name, LONGEST)] == ["b", "c", "d"]


# -- how much --------------------------------------------------------------------------------------------


def test_sessions_and_bytes_are_bounded(
    memory: LastSeen, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MOST", 5)
    for index in range(9):
        time.now += 1
        memory.note(record(f"s{index}"), memory.asking())
    assert list(memory._kept) == ["s4", "s5", "s6", "s7", "s8"]
    monkeypatch.setattr(seen, "MOST_BYTES", 3 * seen.OVERHEAD + 4000)
    memory.note(record("large", k=b"x" * 3900), memory.asking())
    assert list(memory._kept) == ["s7", "s8", "large"]
    assert memory._bytes == sum(one.size for one in memory._kept.values()) <= seen.MOST_BYTES
    memory.note(record("huge", k=b"x" * 90_000), memory.asking())
    assert not memory._kept
    assert memory._bytes == 0


def test_a_forked_child_knows_what_its_parent_knew(memory: LastSeen) -> None:
    memory.note(record("a", k=b"x"), memory.asking())
    memory._changing.acquire()  # another thread of the parent was at it
    memory._bytes += 7
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        memory.note(record("b"), memory.asking())
        known = memory.recall("a", LONGEST) is not None and memory.recall("b", LONGEST) is not None
        exact = memory._bytes == sum(one.size for one in memory._kept.values())
        os.write(write, b"y" if known and exact else b"n")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"y"
    memory._changing.release()


class Schedule(RuleBasedStateMachine):
    """Questions that are answered late and in any order, endings in between, time that goes by."""

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.memory = LastSeen(self.time)
        self.asked: list[tuple[str, int, int]] = []
        self.ended: set[str] = set()
        self.confirmed: dict[str, int] = {}
        """When each session's store was last asked and then answered."""

    @rule()
    def start(self) -> None:
        self.memory.start(LONGEST)

    @rule(name=names)
    def ask(self, name: str) -> None:
        if name not in self.ended:  # the store would not show it
            self.asked.append((name, self.memory.asking(), self.time.now))

    @rule(at=st.integers(0, 20), left=st.sampled_from([5, 100]))
    def answer(self, at: int, left: int) -> None:
        if at < len(self.asked):
            name, asked, truly = self.asked.pop(at)
            self.memory.note(record(name, left=left * SECOND), asked)
            self.confirmed[name] = max(truly, self.confirmed.get(name, 0))

    @rule(name=names)
    def end(self, name: str) -> None:
        self.ended.add(name)
        self.memory.forget(name)

    @rule(seconds=st.sampled_from([0.000001, 1, 30, 59, 61]))
    def wait(self, seconds: float) -> None:
        self.time.now += int(seconds * SECOND)

    @invariant()
    def nothing_ended_and_nothing_old_is_shown(self) -> None:
        for name in "abc":
            found = self.memory.recall(name, LONGEST)
            if found is not None:
                assert name not in self.ended
                assert self.time.now - self.confirmed[name] < 60 * SECOND
                assert found.asked <= self.confirmed[name]


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


# -- sessions --------------------------------------------------------------------------------------------


@pytest.fixture(params=["blocking", "asyncio"])
def kit(request: pytest.FixtureRequest, clock: FrozenClock) -> Any:
    if request.param == "blocking":
        return StateKit.in_memory(clock=clock)
    return Blocking(AsyncStateKit.in_memory(clock=clock))


@pytest.fixture
def sessions(kit: Any) -> Any:
    return kit.sessions(on_outage="last-seen", last_seen_for=60)


def begun(sessions: Any, principal: str | None = None, **values: Any) -> str:
    session = sessions.open(None)
    session.update(values or {"k": 1})
    if principal:
        session.sign_in(principal)
    sessions.save(session)
    return str(session.id)


@pytest.fixture
def down(kit: Any) -> Callable[[], Any]:
    return lambda: store_down(getattr(kit, "_target", kit))


def test_the_last_seen_session_is_shown_read_only_with_its_age(
    kit: Any, sessions: Any, clock: FrozenClock, down: Any
) -> None:
    id_ = begun(sessions, "user:7", k=1, rows=[1])
    sessions.open(id_)["k"]  # read by a request, a while ago
    clock.advance(12.5)
    events: list[Any] = []
    kit.hooks.subscribe(events.append)
    with down():
        session = sessions.open(id_)
        assert dict(session) == {"k": 1, "rows": [1]}
        assert (session.principal, session.handle) == ("user:7", handle_of(id_))
        assert session.degraded
        assert session.read_only
        assert session.age == 12.5
        assert not session.is_new
        assert sessions.save(session) is SaveOutcome.UNTOUCHED
        session["rows"].append(2)
        assert sessions.save(session) is SaveOutcome.DEGRADED
        for forbidden in (lambda: session.sign_in("user:8"), session.sign_out, session.renew):
            with pytest.raises(StoreUnavailable):
                forbidden()
    assert [(event.primitive, event.subject) for event in events if isinstance(event, Degraded)] == [
        ("sessions", "open"),
        ("sessions", "save"),
    ]
    assert kit.hooks.degraded == {"sessions": 2}
    assert sessions.save(session) is SaveOutcome.DEGRADED, "not even when the store is back"
    fresh = sessions.open(id_)
    assert fresh["rows"] == [1]
    assert (fresh.degraded, fresh.age) == (False, None)


def test_the_bound_is_the_bound(sessions: Any, clock: FrozenClock, down: Any) -> None:
    id_ = begun(sessions)
    sessions.open(id_)["k"]
    with down():
        clock.advance(59.999999)
        assert sessions.open(id_)["k"] == 1
        assert sessions.open(id_)["k"] == 1, "being shown does not make it younger"
        clock.advance(0.000001)
        with pytest.raises(StoreUnavailable):
            sessions.open(id_)["k"]


def test_its_own_deadlines_hold(kit: Any, clock: FrozenClock, down: Any) -> None:
    sessions = kit.sessions(idle=30, absolute=40, on_outage="last-seen", last_seen_for=60)
    id_ = begun(sessions)
    clock.advance(25)
    sessions.open(id_)["k"]
    with down():
        clock.advance(4.9)
        assert sessions.open(id_)["k"] == 1
        clock.advance(0.1)
        with pytest.raises(StoreUnavailable):
            sessions.open(id_)["k"]


def test_who_was_never_seen_gets_no_session(sessions: Any, down: Any) -> None:
    sessions.open(begun(sessions))["k"]
    with down():
        with pytest.raises(StoreUnavailable):
            sessions.open("A" * 43)["k"]
        assert sessions.open(None).is_new
        assert sessions.open("malformed").is_new


def test_what_was_written_here_is_seen(sessions: Any, clock: FrozenClock, down: Any) -> None:
    sessions.open(begun(sessions))["k"]  # keeping begins with the first that wants it
    id_ = begun(sessions, k=1)
    clock.advance(1)
    session = sessions.open(id_)
    session["k"] = 2
    sessions.save(session)
    with down():
        shown = sessions.open(id_)
        assert shown["k"] == 2
        assert shown.age == 0


# -- attacks: what was ended does not come back ------------------------------------------------------------


ENDINGS: dict[str, Callable[[Any, str], object]] = {
    "signed out": lambda sessions, id_: ended_by(sessions, id_, lambda s: s.sign_out()),
    "destroyed": lambda sessions, id_: sessions.destroy(sessions.open(id_)),
    "revoked": lambda sessions, id_: sessions.revoke(handle_of(id_)),
    "all revoked": lambda sessions, _id: sessions.revoke_all("user:7"),
    "renewed": lambda sessions, id_: ended_by(sessions, id_, lambda s: s.renew()),
    "another signed in": lambda sessions, id_: ended_by(sessions, id_, lambda s: s.sign_in("user:8")),
}


def ended_by(sessions: Any, id_: str, change: Callable[[Any], None]) -> None:
    session = sessions.open(id_)
    session["k"]
    change(session)
    sessions.save(session)


@pytest.mark.parametrize("how", ENDINGS)
def test_what_this_process_has_ended_is_not_shown_again(sessions: Any, down: Any, how: str) -> None:
    id_ = begun(sessions, "user:7")
    slow = sessions.open(id_)  # a request that goes on while the visitor leaves
    assert slow["k"] == 1
    ENDINGS[how](sessions, id_)
    slow["k"] = 2
    assert sessions.save(slow) in (SaveOutcome.GONE, SaveOutcome.SUPERSEDED)
    with down(), pytest.raises(StoreUnavailable):
        sessions.open(id_)["k"]


@pytest.mark.parametrize("how", ["revoked", "all revoked", "destroyed"])
def test_an_ending_that_the_store_never_heard_of_is_kept_to_here(sessions: Any, down: Any, how: str) -> None:
    id_ = begun(sessions, "user:7")
    held = sessions.open(id_)
    assert held["k"] == 1
    with down():
        with pytest.raises(StoreUnavailable):
            sessions.destroy(held) if how == "destroyed" else ENDINGS[how](sessions, id_)
        with pytest.raises(StoreUnavailable):
            sessions.open(id_)["k"]
    assert sessions.open(id_)["k"] == 1, "it is as live as the store says"


def test_an_answer_overtaken_by_a_sign_out_brings_nothing_back(sessions: Any, down: Any) -> None:
    """The reply to a slow read arrives after the session was ended: it was true when it was sent."""
    id_ = begun(sessions, "user:7")
    sessions.open(id_)["k"]
    target = getattr(sessions, "_target", sessions)
    late = target.opening(id_)
    (call,) = next(late)
    reply = target._store.transport.exchange((call,), 1) if not hasattr(sessions, "_target") else None
    if reply is None:
        reply = target._store.transport._inner.exchange((call,), 1)
    sessions.revoke(handle_of(id_))
    with pytest.raises(StopIteration) as done:
        late.send(reply)
    assert done.value.value["k"] == 1
    with down(), pytest.raises(StoreUnavailable):
        sessions.open(id_)["k"]


def test_the_old_id_of_a_renewed_session_shows_nothing_and_the_new_one_does(sessions: Any, down: Any) -> None:
    id_ = begun(sessions, "user:7")
    session = sessions.open(id_)
    assert session["k"] == 1
    session.renew()
    sessions.save(session)
    assert sessions.open(id_).read_only, "while the store is there, its grace"
    with down():
        with pytest.raises(StoreUnavailable):
            sessions.open(id_)["k"]
        assert sessions.open(session.id).principal == "user:7"


def test_what_others_have_ended_is_forgotten_when_it_is_noticed(sessions: Any, kit: Any, down: Any) -> None:
    id_ = begun(sessions, "user:7")
    sessions.open(id_)["k"]
    another_process(kit).sessions().revoke(handle_of(id_))
    with down():
        assert sessions.open(id_)["k"] == 1, "unknown here, and no older than a minute: that is the bargain"
    assert sessions.open(id_).is_new
    with down(), pytest.raises(StoreUnavailable):
        sessions.open(id_)["k"]


@pytest.mark.parametrize("how", ["ended", "vanished", "renewed"])
@pytest.mark.parametrize("notice", ["reading", "saving"])
def test_what_is_gone_from_the_store_is_not_shown(
    kit: Any, sessions: Any, down: Any, how: str, notice: str
) -> None:
    id_ = begun(sessions, "user:7")
    session = sessions.open(id_)
    session["k"] = 2
    there = another_process(kit).sessions(grace=0)
    if how == "ended":
        there.revoke(handle_of(id_))
    elif how == "vanished":
        kit.store.transport.data.delete(*kit.store.transport.data.keys())
    else:
        ended_by(there, id_, lambda s: s.renew())
    if notice == "saving":
        assert sessions.save(session) in (SaveOutcome.GONE, SaveOutcome.SUPERSEDED)
    else:
        assert sessions.open(id_).is_new
    with down(), pytest.raises(StoreUnavailable):
        sessions.open(id_)["k"]


def another_process(kit: Any) -> StateKit:
    transport = MemoryTransport(twins(), kit.store.transport.data)
    return StateKit._over(Store(transport, kit.namespace, clock=kit.store.clock))


def test_sessions_of_one_kit_know_what_each_other_ended(kit: Any, sessions: Any, down: Any) -> None:
    id_ = begun(sessions, "user:7")
    sessions.open(id_)["k"]
    kit.sessions(idle=60).revoke_all("user:7")
    with down(), pytest.raises(StoreUnavailable):
        sessions.open(id_)["k"]


def test_each_has_its_own_bound(kit: Any, sessions: Any, clock: FrozenClock, down: Any) -> None:
    strict = kit.sessions(on_outage="last-seen", last_seen_for=5)
    id_ = begun(sessions)
    sessions.open(id_)["k"]
    clock.advance(5)
    with down():
        assert sessions.open(id_)["k"] == 1
        with pytest.raises(StoreUnavailable):
            strict.open(id_)["k"]


# -- each request's own word ---------------------------------------------------------------------------------


def test_each_opening_may_say_its_own(kit: Any, down: Any) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions)
    assert sessions.open(id_, "last-seen")["k"] == 1
    with down():
        with pytest.raises(StoreUnavailable):
            sessions.open(id_)["k"]
        with pytest.raises(StoreUnavailable):
            sessions.open(id_, on_outage="raise")["k"]
        assert dict(sessions.open(id_, on_outage="anonymous")) == {}
        assert sessions.open(id_, on_outage="last-seen")["k"] == 1
    with pytest.raises(UsageError, match="last-seen"):
        sessions.open(id_, on_outage="allow")


def test_reading_waits_briefly_only_if_something_can_be_shown_instead(kit: Any) -> None:
    budget = kit.store.budget
    sessions, dispensable = kit.sessions(), kit.sessions(on_outage="anonymous")
    assert sessions.patience() == dispensable.patience("raise") == budget.operation
    assert sessions.patience("last-seen") == sessions.patience("anonymous") == budget.decision
    assert dispensable.patience() == budget.decision


def test_many_threads_at_once_keep_the_books(memory: LastSeen) -> None:
    def work(number: int) -> None:
        for index in range(300):
            name = f"s{(index * number) % 40}"
            memory.note(record(name, k=b"x" * index), memory.asking())
            memory.recall(name, LONGEST)
            if index % 7 == 0:
                memory.forget(f"t{number}{index}")
                memory.drop(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory._bytes == sum(one.size for one in memory._kept.values())
