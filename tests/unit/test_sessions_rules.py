"""Rules are checked when they are made; outages get the answer that was declared."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import SessionError, StoreFull, StoreUnavailable, UsageError
from statekit.sessions import Rules, SaveOutcome, Session
from statekit.store.hooks import Degraded
from statekit.testing import recorded, store_down


@pytest.mark.parametrize(
    "wrong",
    [
        {"idle": 0},
        {"idle": -1},
        {"idle": "2h"},
        {"absolute": float("nan")},
        {"idle": 100, "absolute": 99},
        {"touch_after": -0.1},
        {"touch_after": 1},
        {"grace": -1},
        {"max_bytes": 0},
        {"max_bytes": True},
        {"on_outage": "allow"},
    ],
)
def test_rules_that_cannot_hold_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=list(wrong)[-1]):
        StateKit.in_memory().sessions(**wrong)


def test_durations_may_be_timedeltas() -> None:
    rules = Rules(timedelta(hours=1), timedelta(days=1), grace=timedelta(0))
    assert (rules.idle_us, rules.touch_us, rules.absolute_us, rules.grace_us) == (
        3_600_000_000,
        900_000_000,
        86_400_000_000,
        0,
    )


@pytest.fixture
def kit() -> StateKit:
    return StateKit.in_memory()


def begun(sessions: Any) -> str:
    session = sessions.open(None)
    session["k"] = 1
    sessions.save(session)
    return session.id


def test_by_default_an_outage_is_raised(kit: StateKit) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions)
    changed = sessions.open(id_)
    changed["k"] = 2
    with store_down(kit):
        with pytest.raises(StoreUnavailable) as caught:
            sessions.open(id_)["k"]
        assert caught.value.http_status == 503
        for call in (
            lambda: sessions.save(changed),
            lambda: sessions.destroy(changed),
            lambda: sessions.revoke(changed.handle),
            lambda: sessions.revoke_all("user:7"),
            lambda: sessions.sessions_of("user:7"),
        ):
            with pytest.raises(StoreUnavailable):
                call()
        assert sessions.open(None).get("k") is None, "no cookie: nothing to ask"
    assert sessions.open(id_)["k"] == 1


def test_a_save_that_failed_can_be_tried_again(kit: StateKit) -> None:
    sessions = kit.sessions()
    session = sessions.open(begun(sessions))
    session["k"] = 2
    session.sign_in("user:7")
    with store_down(kit), pytest.raises(StoreUnavailable):
        sessions.save(session)
    assert sessions.save(session) is SaveOutcome.RENEWED
    assert sessions.open(session.id)["k"] == 2


def test_an_anonymous_session_of_an_outage_is_marked_and_never_written(kit: StateKit) -> None:
    sessions, seen = kit.sessions(on_outage="anonymous"), []
    id_ = begun(sessions)
    kit.hooks.subscribe(seen.append)
    with store_down(kit):
        session = sessions.open(id_)
        assert session.get("k") is None
        assert session.degraded
        assert session.read_only
        session["k"] = "overwritten"
    assert [event.primitive for event in seen if isinstance(event, Degraded)] == ["sessions"]
    assert sessions.save(session) is SaveOutcome.DEGRADED, (
        "the store is back, but this is not the real session"
    )
    for change in (lambda: session.sign_in("user:7"), session.sign_out, lambda: sessions.destroy(session)):
        with pytest.raises(StoreUnavailable):
            change()
    assert sessions.open(id_)["k"] == 1


def test_a_full_store_says_so_and_keeps_what_there_is(kit: StateKit) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions)
    session = sessions.open(id_)
    session["k"] = 2
    with store_down(kit, StoreFull("OOM")), pytest.raises(StoreFull):
        sessions.save(session)
    assert sessions.open(id_)["k"] == 1


def test_a_name_that_is_taken_is_never_shared(kit: StateKit) -> None:
    sessions = kit.sessions()
    first = begun(sessions)
    ids = iter([first, "B" * 43])
    session = Session(None, lambda: next(ids))
    session["mine"] = True
    assert sessions.save(session) is SaveOutcome.CREATED
    assert session.id == "B" * 43
    assert dict(sessions.open(first)) == {"k": 1}
    stuck = Session(None, lambda: first)
    stuck["mine"] = True
    with pytest.raises(SessionError, match="entropy"):
        sessions.save(stuck)


def test_round_trips(kit: StateKit) -> None:
    sessions = kit.sessions()
    with recorded(kit) as trips:
        id_ = begun(sessions)
        session = sessions.open(id_)
        session["k"] = 2
        sessions.save(session)
        session.sign_in("user:7")
        sessions.save(session)
        sessions.sessions_of("user:7")
        sessions.destroy(session)
    assert [trip.commands for trip in trips] == [
        ("sessions.create",),
        ("sessions.load",),
        ("sessions.save",),
        ("sessions.enroll", "sessions.retire"),
        ("sessions.create",),
        ("sessions.roster",),
        ("sessions.glance",),
        ("sessions.revoke",),
        ("sessions.revoke", "sessions.withdraw"),
    ]


def test_a_lazy_asyncio_session_asks_to_be_loaded() -> None:
    async def story() -> None:
        kit = AsyncStateKit.in_memory()
        sessions = kit.sessions()
        session = await sessions.open(None)
        session["user_id"] = 7
        await sessions.save(session)
        lazy = sessions.lazy(session.id)
        assert "not loaded" in repr(lazy)
        with pytest.raises(UsageError, match=r"await sessions\.load"):
            lazy["user_id"]
        await sessions.load(lazy)
        asked = []

        async def load_user(key: int) -> str:
            asked.append(key)
            return f"user {key}"

        assert (
            await lazy.ahydrate("user_id", load_user) == await lazy.ahydrate("user_id", load_user) == "user 7"
        )
        assert await lazy.ahydrate("nobody", load_user) is None
        assert asked == [7]
        await kit.close()

    asyncio.run(story())
