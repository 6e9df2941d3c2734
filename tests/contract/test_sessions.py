"""What sessions promise, on every store and in both colours."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from statekit.errors import CorruptValue, NonPrimitiveValue, SessionTooLarge, UsageError
from statekit.sessions import SaveOutcome, SessionEvent, SessionEventKind, SessionGrown


@pytest.fixture
def sessions(kit: Any) -> Any:
    return kit.sessions()


@pytest.fixture
def events(kit: Any) -> list[Any]:
    seen: list[Any] = []
    kit.hooks.subscribe(lambda event: seen.append(event) if isinstance(event, SessionEvent) else None)
    return seen


def begun(sessions: Any, **content: Any) -> str:
    """Save a new session with this content; returns its id."""
    session = sessions.open(None)
    session.update(content or {"k": 1})
    assert sessions.save(session) is SaveOutcome.CREATED
    return session.id


def signed_in(sessions: Any, principal: str, **content: Any) -> Any:
    session = sessions.open(None)
    session.update(content)
    session.sign_in(principal)
    assert sessions.save(session).sends_cookie
    return session


# -- opening and saving ----------------------------------------------------------------------------------


def test_what_was_saved_is_read_by_another_process(kit: Any, another_kit: Any) -> None:
    id_ = begun(kit.sessions(), cart_id=42)
    found = another_kit.sessions().open(id_)
    assert dict(found) == {"cart_id": 42}
    assert found.id == id_
    assert not found.is_new
    assert found.principal is None


def test_every_kind_of_value_comes_back_as_it_was(sessions: Any) -> None:
    content = {
        "text": "grüße \ud800 \x00",
        "": "an empty key",
        "number": 2**70,
        "share": 0.1,
        "yes": True,
        "nothing": None,
        "bytes": b"\x00\xff",
        "then": datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=2))),
        "plain": datetime(2026, 1, 2),  # noqa: DTZ001 - naive is data too
        "day": date(2026, 1, 2),
        "nested": {"list": [1, (2, [b"3"])], "~b": {"~t": 1}},
        "ключ": {"~b": "not bytes"},
    }
    found = sessions.open(begun(sessions, **content))
    assert dict(found) == content
    assert type(found["yes"]) is bool
    assert type(found["nested"]["list"][1]) is tuple


def test_an_unknown_id_never_comes_back(sessions: Any, events: list[Any]) -> None:
    planted = "A" * 43
    found = sessions.open(planted)
    assert found.is_new
    assert found.id != planted
    found["x"] = 1
    sessions.save(found)
    assert sessions.open(planted).is_new
    assert [event.kind for event in events[:1]] == [SessionEventKind.UNKNOWN_ID]
    assert planted not in repr(events)


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "x",
        "A" * 42,
        "A" * 44,
        "A" * 10_000,
        "A" * 42 + "é",
        "A" * 42 + "\n",
        "{" * 43,
        "A" * 42 + "\0",
        7,
    ],
)
def test_a_malformed_cookie_is_no_cookie(kit: Any, cookie: Any) -> None:
    trips: list[Any] = []
    kit.hooks.subscribe(trips.append)
    assert kit.sessions().open(cookie).is_new
    assert trips == []


def test_an_empty_session_is_never_written(kit: Any) -> None:
    sessions, trips = kit.sessions(), []
    kit.hooks.subscribe(trips.append)
    session = sessions.open(None)
    assert session.get("cart") is None
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    session["x"] = 1
    del session["x"]
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    session.renew()
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    assert trips == []


def test_an_untouched_session_asks_the_store_nothing(kit: Any) -> None:
    sessions = kit.sessions()
    id_, trips = begun(sessions), []
    kit.hooks.subscribe(trips.append)
    session = sessions.lazy(id_)
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    assert trips == []
    sessions.load(session)
    assert session["k"] == 1
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    assert len(trips) == 1


def test_a_value_assigned_again_is_not_a_change(sessions: Any) -> None:
    session = sessions.open(begun(sessions, k=[1, 2]))
    session["k"] = [1, 2]
    assert not session.modified
    assert sessions.save(session) is SaveOutcome.UNTOUCHED


def test_only_changed_keys_are_written(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    id_ = begun(here, a=1, b=1, c=1)
    one, other = here.open(id_), there.open(id_)
    assert len(one) == len(other) == 3
    one["a"] = 2
    del one["b"]
    other["c"] = 2
    other["d"] = 2
    assert here.save(one) is there.save(other) is SaveOutcome.SAVED
    assert dict(here.open(id_)) == {"a": 2, "c": 2, "d": 2}


def test_a_list_changed_in_place_is_saved(sessions: Any) -> None:
    id_ = begun(sessions, cart=["a"], profile={"tags": []})
    session = sessions.open(id_)
    session["cart"].append("b")
    session["profile"]["tags"].append("new")
    session.setdefault("fresh", []).append(1)
    assert sessions.save(session) is SaveOutcome.SAVED
    assert dict(sessions.open(id_)) == {"cart": ["a", "b"], "profile": {"tags": ["new"]}, "fresh": [1]}


def test_a_session_saved_twice_writes_once(sessions: Any) -> None:
    session = sessions.open(None)
    session["x"] = 1
    assert sessions.save(session) is SaveOutcome.CREATED
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    assert not session.is_new
    session["y"] = 2
    assert sessions.save(session) is SaveOutcome.SAVED
    assert dict(sessions.open(session.id)) == {"x": 1, "y": 2}


def test_clear_then_assign_keeps_the_session(sessions: Any) -> None:
    id_ = begun(sessions, a=1, b=2)
    session = sessions.open(id_)
    session.clear()
    assert not session
    session["b"] = 2
    assert sessions.save(session) is SaveOutcome.SAVED
    assert dict(sessions.open(id_)) == {"b": 2}


def test_many_keys_are_saved_and_deleted(sessions: Any) -> None:
    many = {f"key-{n}": n for n in range(1500)}
    id_ = begun(sessions, **many)
    session = sessions.open(id_)
    assert dict(session) == many
    for key in list(many)[:-1]:
        del session[key]
    sessions.save(session)
    assert dict(sessions.open(id_)) == {"key-1499": 1499}


# -- data only -------------------------------------------------------------------------------------------


class User:
    id = 7


def test_an_object_is_refused_where_it_is_assigned(sessions: Any) -> None:
    session = sessions.open(None)
    with pytest.raises(NonPrimitiveValue, match=r"session\['user'\].*User.*value\.id.*hydrate"):
        session["user"] = User()
    with pytest.raises(NonPrimitiveValue, match=r"session\['cart'\]\[1\]\['who'\]"):
        session["cart"] = [1, {"who": User()}]
    with pytest.raises(NonPrimitiveValue, match="keys are text"):
        session[7] = 1
    assert not session


def test_an_object_put_inside_a_list_is_refused_at_save_and_nothing_is_written(sessions: Any) -> None:
    id_ = begun(sessions, cart=["a"])
    session = sessions.open(id_)
    session["cart"].append(User())
    session["other"] = 1
    with pytest.raises(NonPrimitiveValue, match=r"session\['cart'\]\[1\]"):
        sessions.save(session)
    assert dict(sessions.open(id_)) == {"cart": ["a"]}


def test_a_session_has_a_size_budget(kit: Any) -> None:
    sessions, seen = kit.sessions(max_bytes=1000), []
    id_ = begun(sessions, small="s")
    kit.hooks.subscribe(seen.append)
    session = sessions.open(id_)
    session["half"] = "x" * 600
    sessions.save(session)
    assert [event.largest[0] for event in seen if isinstance(event, SessionGrown)] == ["half"]
    session["big"] = "x" * 500
    with pytest.raises(SessionTooLarge, match=r"max_bytes=1000.*'half' \(606 bytes\), 'big' \(505 bytes\)"):
        sessions.save(session)
    assert sorted(sessions.open(id_)) == ["half", "small"]


def test_hydrate_loads_once_a_request(sessions: Any) -> None:
    session, asked = sessions.open(begun(sessions, user_id=7)), []

    def load_user(key: int) -> str:
        asked.append(key)
        return f"user {key}"

    assert session.hydrate("user_id", load_user) == session.hydrate("user_id", load_user) == "user 7"
    session["user_id"] = 8
    assert session.hydrate("user_id", load_user) == "user 8"
    assert session.hydrate("nobody", load_user) is None
    assert asked == [7, 8]


# -- signing in, renewing, signing out -------------------------------------------------------------------


def test_signing_in_renews_the_id_and_carries_the_data(sessions: Any, events: list[Any]) -> None:
    old = begun(sessions, cart=["a"])
    session = sessions.open(old)
    session["user_id"] = 7
    session.sign_in("user:7")
    assert sessions.save(session) is SaveOutcome.RENEWED
    assert session.id != old
    found = sessions.open(session.id)
    assert (found.principal, dict(found)) == ("user:7", {"cart": ["a"], "user_id": 7})
    assert events[-1] == SessionEvent(SessionEventKind.RENEWED, session.handle, "user:7")


def test_the_old_id_shows_the_unprivileged_view_for_its_grace_only(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(grace=10)
    old = begun(sessions, cart=["a"])
    session = sessions.open(old)
    session["secret"] = "s"
    session.sign_in("user:7")
    sessions.save(session)
    view = sessions.open(old)
    assert (view.principal, dict(view), view.read_only) == (None, {"cart": ["a"]}, True)
    view["cart"] = ["planted"]
    assert sessions.save(view) is SaveOutcome.SUPERSEDED
    assert sessions.open(session.id)["cart"] == ["a"]
    clock.advance(9.9)
    assert sessions.open(old)["cart"] == ["a"]
    clock.advance(0.1)
    assert sessions.open(old).is_new
    assert sessions.open(session.id).principal == "user:7"


def test_without_grace_the_old_id_ends_at_once(kit: Any) -> None:
    sessions = kit.sessions(grace=0)
    old = begun(sessions)
    session = sessions.open(old)
    session.sign_in("user:7")
    sessions.save(session)
    assert sessions.open(old).is_new


def test_whoever_holds_the_old_id_cannot_end_the_session_behind_the_new_one(sessions: Any) -> None:
    old = begun(sessions)
    session = sessions.open(old)
    session.sign_in("user:7")
    sessions.save(session)
    sessions.destroy(sessions.open(old))
    assert sessions.open(old).is_new
    assert sessions.open(session.id).principal == "user:7"


def test_signing_in_as_somebody_else_leaves_no_view_of_the_first(sessions: Any) -> None:
    first = signed_in(sessions, "user:7", k=1)
    session = sessions.open(first.id)
    session.sign_in("user:8")
    sessions.save(session)
    assert sessions.open(first.id).is_new
    assert sessions.sessions_of("user:7") == []
    assert [info.handle for info in sessions.sessions_of("user:8")] == [session.handle]


def test_signing_in_keeps_what_other_requests_wrote_meanwhile(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    old = begun(here, a=1, b=1)
    session, other = here.open(old), there.open(old)
    assert session["a"] == other["a"] == 1
    session["b"] = 2
    session.sign_in("user:7")
    other["c"] = 3
    there.save(other)
    here.save(session)
    assert dict(there.open(session.id)) == {"a": 1, "b": 2, "c": 3}


def test_a_late_write_to_the_old_id_is_told_so(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    old = begun(here, a=1)
    session, late = here.open(old), there.open(old)
    late["a"] = 2
    session.sign_in("user:7")
    here.save(session)
    assert there.save(late) is SaveOutcome.SUPERSEDED
    assert dict(here.open(session.id)) == {"a": 1}


def test_two_sign_ins_at_once_both_hold(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    old = begun(here, a=1)
    one, other = here.open(old), there.open(old)
    one.sign_in("user:7")
    other.sign_in("user:7")
    assert here.save(one) is there.save(other) is SaveOutcome.RENEWED
    assert len(here.sessions_of("user:7")) == 2


def test_what_a_sign_in_assigns_is_kept_even_if_it_was_the_same_in_a_session_that_just_ended(
    kit: Any, another_kit: Any
) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions, theme="dark", cart=["sku-1"])
    session = sessions.open(id_)
    handle, cart = session.handle, session["cart"]
    session["theme"] = "dark"
    session.sign_in("user:7")
    another_kit.sessions().revoke(handle)
    sessions.save(session)
    assert dict(session) == {"theme": "dark"}
    cart.append("sku-2")
    session["seen"] = True
    sessions.save(session)
    assert dict(sessions.open(session.id)) == {"theme": "dark", "seen": True}


def test_a_renewed_session_shows_what_others_wrote_meanwhile_and_keeps_it(kit: Any, another_kit: Any) -> None:
    sessions = kit.sessions()
    id_ = begun(sessions, cart=["sku-1"])
    session = sessions.open(id_)
    assert session["cart"] == ["sku-1"]
    other = another_kit.sessions().open(id_)
    other["cart"].append("sku-2")
    another_kit.sessions().save(other)
    session.sign_in("user:7")
    sessions.save(session)
    assert session["cart"] == ["sku-1", "sku-2"]
    session["seen"] = True
    sessions.save(session)
    assert sessions.open(session.id)["cart"] == ["sku-1", "sku-2"]


def test_a_sign_in_whose_session_just_ended_begins_afresh(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    old = begun(here, cart=["a"])
    session = here.open(old)
    session["user_id"] = 7
    there.destroy(there.open(old))
    session.sign_in("user:7")
    assert here.save(session) is SaveOutcome.CREATED
    found = here.open(session.id)
    assert (found.principal, dict(found)) == ("user:7", {"user_id": 7})


def test_renewing_keeps_principal_data_and_absolute_deadline(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(idle=100, absolute=150, grace=10)
    first = signed_in(sessions, "user:7", role="clerk")
    clock.advance(90)
    session = sessions.open(first.id)
    deadline = session.expires
    session["role"] = "admin"
    session.renew()
    assert sessions.save(session) is SaveOutcome.RENEWED
    view, found = sessions.open(first.id), sessions.open(session.id)
    assert (view.principal, view["role"], view.read_only) == ("user:7", "clerk", True)
    assert (found.principal, found["role"], found.expires) == ("user:7", "admin", deadline)
    assert [info.handle for info in sessions.sessions_of("user:7")] == [session.handle]
    clock.advance(59)
    assert not sessions.open(session.id).is_new
    clock.advance(1)
    assert sessions.open(session.id).is_new


def test_ending_a_renewed_session_ends_its_old_view(sessions: Any) -> None:
    first = signed_in(sessions, "user:7")
    session = sessions.open(first.id)
    session.renew()
    sessions.save(session)
    assert sessions.revoke(session.handle)
    assert sessions.open(first.id).is_new
    assert sessions.open(session.id).is_new


def test_ending_the_old_view_of_a_renewed_session_ends_the_session(sessions: Any) -> None:
    first = signed_in(sessions, "user:7")
    session = sessions.open(first.id)
    session.renew()
    sessions.save(session)
    sessions.destroy(sessions.open(first.id))
    assert sessions.open(session.id).is_new
    assert sessions.sessions_of("user:7") == []


def test_a_revoked_session_cannot_be_renewed(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    first = signed_in(here, "user:7")
    session = here.open(first.id)
    session.renew()
    assert there.revoke_all("user:7") == 1
    assert here.save(session) is SaveOutcome.GONE
    assert here.open(session.id).is_new


def test_signing_out_ends_the_session(sessions: Any) -> None:
    first = signed_in(sessions, "user:7", secret="s")
    session = sessions.open(first.id)
    session.sign_out()
    assert not session
    outcome = sessions.save(session)
    assert outcome is SaveOutcome.ENDED
    assert outcome.drops_cookie
    assert sessions.open(first.id).is_new
    assert sessions.sessions_of("user:7") == []


def test_a_farewell_goes_into_a_new_session(sessions: Any) -> None:
    first = signed_in(sessions, "user:7", lang="de")
    session = sessions.open(first.id)
    session.sign_out()
    session["lang"] = "de"
    assert sessions.save(session) is SaveOutcome.CREATED
    found = sessions.open(session.id)
    assert session.id != first.id
    assert (found.principal, dict(found)) == (None, {"lang": "de"})
    assert sessions.open(first.id).is_new


def test_signing_out_and_in_again_carries_nothing_over(sessions: Any) -> None:
    first = signed_in(sessions, "user:7", secret="s")
    session = sessions.open(first.id)
    session.sign_out()
    session["user_id"] = 8
    session.sign_in("user:8")
    sessions.save(session)
    found = sessions.open(session.id)
    assert (found.principal, dict(found)) == ("user:8", {"user_id": 8})
    assert sessions.open(first.id).is_new


@pytest.mark.parametrize("principal", ["", None, 7, b"user:7"])
def test_a_principal_is_text(sessions: Any, principal: Any) -> None:
    with pytest.raises(UsageError, match="principal"):
        sessions.open(None).sign_in(principal)


@pytest.mark.parametrize("principal", ["user:7", "a" * 10_000, "{}", "\0", "\ud800", "ünï", "% ~"])
def test_any_text_is_a_principal(sessions: Any, principal: str) -> None:
    session = signed_in(sessions, principal)
    assert sessions.open(session.id).principal == principal
    assert len(sessions.sessions_of(principal)) == 1
    assert sessions.sessions_of(principal + "x") == []


# -- nothing comes back ----------------------------------------------------------------------------------


def test_a_slow_request_does_not_resurrect_a_destroyed_session(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    id_ = begun(here, a=1)
    slow = here.open(id_)
    slow["a"] = 2
    assert there.destroy(there.lazy(id_))
    assert here.save(slow) is SaveOutcome.GONE
    assert here.open(id_).is_new


def test_idle_and_absolute_deadlines(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(idle=100, absolute=250)
    left, used = begun(sessions), begun(sessions)
    for _ in range(2):
        clock.advance(99)
        assert not sessions.open(used).is_new
    assert sessions.open(left).is_new
    clock.advance(51)
    assert not sessions.open(used).is_new
    clock.advance(1)
    assert sessions.open(used).is_new


def test_an_expired_session_is_not_written(frozen_kit: Any, clock: Any, kit: Any) -> None:
    sessions, seen = frozen_kit.sessions(idle=100, absolute=250), []
    frozen_kit.hooks.subscribe(seen.append)
    id_ = begun(sessions)
    slow = sessions.open(id_)
    slow["k"] = 2
    clock.advance(100)
    assert sessions.save(slow) is SaveOutcome.GONE
    assert sessions.open(id_).is_new
    assert SessionEventKind.EXPIRED in [event.kind for event in seen if isinstance(event, SessionEvent)]


def test_a_touch_is_written_only_when_enough_of_the_idle_time_has_gone(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(idle=100, absolute=1000, touch_after=0.25)
    session = signed_in(sessions, "user:7")
    start = sessions.sessions_of("user:7")[0].last_seen
    for seconds, seen in ((24, 0), (1, 25), (24, 25), (1, 50)):
        clock.advance(seconds)
        assert not sessions.open(session.id).is_new
        (info,) = sessions.sessions_of("user:7")
        assert info.last_seen == start + timedelta(seconds=seen)
        assert info.idle_deadline == info.last_seen + timedelta(seconds=100)
        assert info.absolute_deadline == start + timedelta(seconds=1000)


def test_who_lists_and_revokes_needs_no_settings(frozen_kit: Any, clock: Any) -> None:
    session = signed_in(frozen_kit.sessions(idle=20_000), "user:7")
    admin = frozen_kit.sessions(idle=100, absolute=100)
    clock.advance(10_000)
    (info,) = admin.sessions_of("user:7")
    assert info.idle_deadline - info.last_seen == timedelta(seconds=20_000)
    assert admin.revoke(session.handle) is True


def test_listing_does_not_keep_a_session_alive(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(idle=100, absolute=1000)
    signed_in(sessions, "user:7")
    clock.advance(60)
    assert len(sessions.sessions_of("user:7")) == 1
    clock.advance(40)
    assert sessions.sessions_of("user:7") == []


# -- listing and revoking --------------------------------------------------------------------------------


def test_a_principal_has_a_list_of_sessions_newest_first(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions()
    made = []
    for _ in range(3):
        made.append(signed_in(sessions, "user:7"))
        clock.advance(1)
    signed_in(sessions, "user:8")
    found = sessions.sessions_of("user:7")
    assert [info.handle for info in found] == [session.handle for session in reversed(made)]
    assert not any(session.id in repr(found) for session in made)


def test_revoking_one_leaves_the_others(sessions: Any, events: list[Any]) -> None:
    one, other = signed_in(sessions, "user:7"), signed_in(sessions, "user:7")
    assert sessions.revoke(one.handle) is True
    assert sessions.revoke(one.handle) is False
    assert sessions.open(one.id).is_new
    assert sessions.open(other.id).principal == "user:7"
    assert [info.handle for info in sessions.sessions_of("user:7")] == [other.handle]
    revoked = [event for event in events if event.kind is SessionEventKind.REVOKED]
    assert revoked == [SessionEvent(SessionEventKind.REVOKED, one.handle, "user:7")]
    assert not any(event.kind is SessionEventKind.UNKNOWN_ID for event in events), "no false alarm"


def test_revoking_all_ends_every_session_of_a_principal(kit: Any, another_kit: Any) -> None:
    here, there = kit.sessions(), another_kit.sessions()
    mine = [signed_in(here, "user:7") for _ in range(5)]
    other = signed_in(here, "user:8")
    slow = here.open(mine[0].id)
    slow["late"] = True
    assert there.revoke_all("user:7") == 5
    assert there.revoke_all("user:7") == 0
    assert all(here.open(session.id).is_new for session in mine)
    assert here.save(slow) is SaveOutcome.GONE
    assert here.open(other.id).principal == "user:8"
    assert signed_in(here, "user:7").principal == "user:7", "a new sign-in is welcome"


def test_revoking_all_but_the_one_in_hand(sessions: Any) -> None:
    mine = [signed_in(sessions, "user:7") for _ in range(3)]
    assert sessions.revoke_all("user:7", keep=mine[1].handle) == 2
    assert [sessions.open(session.id).is_new for session in mine] == [True, False, True]


def test_a_destroyed_session_leaves_a_fresh_object(sessions: Any) -> None:
    session = signed_in(sessions, "user:7", a=1)
    old = session.id
    assert sessions.destroy(session) is True
    assert (dict(session), session.principal, session.is_new) == ({}, None, True)
    assert session.id != old
    assert sessions.save(session) is SaveOutcome.UNTOUCHED
    assert sessions.sessions_of("user:7") == []


@pytest.mark.parametrize("handle", ["", "x" * 64, "A" * 64, "0" * 63, None, 7])
def test_only_a_handle_is_a_handle(sessions: Any, handle: Any) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal"):
        sessions.revoke(handle)


def test_an_id_passed_for_a_handle_is_not_repeated(sessions: Any) -> None:
    id_ = begun(sessions)
    with pytest.raises(UsageError) as caught:
        sessions.revoke(id_)
    assert id_ not in str(caught.value)


# -- what others do with sessions ------------------------------------------------------------------------


def test_the_fields_of_a_real_flask_app_pass(sessions: Any) -> None:
    content = {
        "_flashes": [("message", "saved"), ("error", "no <b>")],
        "csrf_token": "0" * 40,
        "_user_id": "7",
        "_fresh": True,
        "_id": "f" * 128,
        "_remember": "set",
        "_remember_seconds": 3600,
        "_permanent": True,
        "next": "/cart?x=1",
    }
    found = sessions.open(begun(sessions, **content))
    assert dict(found) == content
    assert found.pop("_flashes")[0] == ("message", "saved")
    sessions.save(found)
    assert "_flashes" not in sessions.open(found.id)


def test_a_damaged_value_harms_only_its_key(sessions: Any) -> None:
    id_ = begun(sessions, good=1, bad=2)
    session = sessions.open(id_)
    session._ready()
    session.wire["bad"] = b"\x80 not json"
    assert session["good"] == 1
    with pytest.raises(CorruptValue, match=r"session\['bad'\].*del session\['bad'\]"):
        session["bad"]
    del session["bad"]
    sessions.save(session)
    assert dict(sessions.open(id_)) == {"good": 1}


def test_no_text_carries_the_id(sessions: Any) -> None:
    id_ = begun(sessions, k="v")
    session = sessions.open(id_)
    assert id_ not in repr(session)
    assert "v'" not in repr(session)
    _ = session["k"]
    assert id_ not in repr(session)
    assert id_ not in repr(sessions)
    assert session.handle[:12] in repr(session)
