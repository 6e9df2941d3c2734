"""What a session costs: the exact round trips of each thing a request may do, in both colours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from statekit.sessions import SaveOutcome
from statekit.testing import recorded


def begun(sessions: Any, **content: Any) -> str:
    session = sessions.lazy(None)
    session.update(content)
    assert sessions.save(session) is SaveOutcome.CREATED
    return session.id


def nothing(session: Any) -> None:
    pass


def reads(session: Any) -> None:
    assert session["n"] == 1
    assert "nothing" not in session
    assert session.get("cart") == ["a"]
    assert session.principal is None
    assert len(session) == 6


def assigns_the_same(session: Any) -> None:
    session["n"] = 1
    session["cart"] = ["a"]
    session["when"] = datetime(2026, 1, 1, tzinfo=UTC)


def takes_back(session: Any) -> None:
    session["n"] = 2
    session["n"] = 1
    session["cart"].append("b")
    session["cart"].pop()


def assigns(session: Any) -> None:
    session["n"] = 2


def assigns_another_type(session: Any) -> None:
    session["n"] = True  # equal to 1, and not the same


def changes_in_place(session: Any) -> None:
    session["cart"].append("b")


def changes_deep_inside(session: Any) -> None:
    session["tree"]["a"][0]["b"] = 2


def deletes(session: Any) -> None:
    del session["text"]


def renews(session: Any) -> None:
    session.renew()


UNREAD, LOAD, SAVE = (), ("sessions.load",), ("sessions.save",)
COSTS: list[tuple[Callable[[Any], None], list[tuple[str, ...]], SaveOutcome]] = [
    (reads, [LOAD], SaveOutcome.UNTOUCHED),
    (assigns_the_same, [LOAD], SaveOutcome.UNTOUCHED),
    (takes_back, [LOAD], SaveOutcome.UNTOUCHED),
    (assigns, [LOAD, SAVE], SaveOutcome.SAVED),
    (assigns_another_type, [LOAD, SAVE], SaveOutcome.SAVED),
    (changes_in_place, [LOAD, SAVE], SaveOutcome.SAVED),
    (changes_deep_inside, [LOAD, SAVE], SaveOutcome.SAVED),
    (deletes, [LOAD, SAVE], SaveOutcome.SAVED),
    (renews, [LOAD, ("sessions.retire",), ("sessions.create",)], SaveOutcome.RENEWED),
]
CONTENT: dict[str, Any] = {
    "n": 1,
    "text": "x",
    "none": None,
    "cart": ["a"],
    "tree": {"a": [{"b": 1}]},
    "when": datetime(2026, 1, 1, tzinfo=UTC),
}


@pytest.mark.parametrize(("use", "trips", "outcome"), COSTS, ids=[use.__name__ for use, _, _ in COSTS])
def test_what_a_request_asks_of_the_store(
    kit: Any, use: Callable[[Any], None], trips: list[tuple[str, ...]], outcome: SaveOutcome
) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions, **CONTENT)
    with recorded(kit) as seen:
        session = sessions.load(sessions.lazy(id_))
        use(session)
        assert sessions.save(session) is outcome
    assert [trip.commands for trip in seen] == trips
    expected = sessions.load(sessions.lazy(session.id))
    assert dict(session) == dict(expected)


def test_an_untouched_session_asks_nothing(kit: Any) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions, **CONTENT)
    with recorded(kit) as seen:
        for cookie in (id_, None, "not an id", "B" * 43):
            assert sessions.save(sessions.lazy(cookie)) is SaveOutcome.UNTOUCHED
        fresh = sessions.lazy(None)
        assert fresh.get("n") is None
        assert sessions.save(fresh) is SaveOutcome.UNTOUCHED
    assert seen == []


def test_saving_again_asks_nothing_until_something_changes(kit: Any) -> None:
    sessions = kit.sessions()
    session = sessions.load(sessions.lazy(begun(sessions, **CONTENT)))
    changes_in_place(session)
    assigns(session)
    deletes(session)
    assert sessions.save(session) is SaveOutcome.SAVED
    with recorded(kit) as seen:
        assert session["n"] == 2
        assert session["cart"] == ["a", "b"]
        assert sessions.save(session) is SaveOutcome.UNTOUCHED
        assert seen == []
        session["cart"].pop()
        session["n"] = 1
        session["text"] = "x"
        assert sessions.save(session) is SaveOutcome.SAVED
    assert [trip.commands for trip in seen] == [SAVE]
    assert dict(sessions.load(sessions.lazy(session.id))) == CONTENT


def test_a_touch_travels_with_the_read(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(idle=100, absolute=1000)
    id_ = begun(sessions, n=1)
    for _ in range(5):
        clock.advance(90)
        with recorded(frozen_kit) as seen:
            session = sessions.load(sessions.lazy(id_))
            assert session["n"] == 1
            assert sessions.save(session) is SaveOutcome.UNTOUCHED
        assert [trip.commands for trip in seen] == [LOAD]


@pytest.mark.parametrize("number", [0, 1, 96, 97, 100, 101, 3000])
def test_the_number_of_keys_costs_no_round_trip(kit: Any, number: int) -> None:
    sessions = kit.sessions()
    content = {f"k{index}": index for index in range(number)} | {"ü": "\ud800"}
    with recorded(kit) as seen:
        id_ = begun(sessions, **content)
        session = sessions.load(sessions.lazy(id_))
        assert dict(session) == content
        session.update(dict.fromkeys(content, -1))
        sessions.save(session)
        for key in [*session][1:]:
            del session[key]
        sessions.save(session)
    assert [trip.commands for trip in seen] == [("sessions.create",), LOAD, SAVE, *([SAVE] if number else [])]
    assert len(sessions.load(sessions.lazy(id_))) == 1
