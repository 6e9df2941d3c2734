"""Encrypted sessions, on every store and in both colours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from statekit import Encryption
from statekit.errors import CorruptValue
from statekit.sessions import SaveOutcome

OLD, NEW = Encryption.new_key(), Encryption.new_key()
VALUES = {
    "none": None,
    "text": "grüße \x00 \ud800 \U0001f642",
    "blob": bytes(range(256)),
    "deep": [{"a": (1, 2.5, None)}, True],
    "when": datetime(2030, 1, 1, tzinfo=UTC),
    "empty": "",
    "clé": 1 << 70,
}


def begun(sessions: Any, **values: Any) -> str:
    session = sessions.open(None)
    session.update(values)
    assert sessions.save(session) is SaveOutcome.CREATED
    return str(session.id)


def test_values_come_back_in_another_process(kit: Any, another_kit: Any) -> None:
    id_ = begun(kit.sessions(encryption=Encryption([NEW])), **VALUES)
    there = another_kit.sessions(encryption=Encryption([OLD, NEW]))
    session = there.open(id_)
    assert dict(session) == VALUES
    assert there.save(session) is SaveOutcome.UNTOUCHED, "what is equal is not encrypted anew"
    session["text"] = VALUES["text"]
    assert there.save(session) is SaveOutcome.UNTOUCHED
    session["deep"].append(3)
    del session["none"]
    assert there.save(session) is SaveOutcome.SAVED
    assert "none" not in there.open(id_)
    assert there.open(id_)["deep"] == [*VALUES["deep"], 3]


def test_what_one_object_saved_is_what_it_compares_with_next(kit: Any) -> None:
    sessions = kit.sessions(encryption=Encryption([NEW]))
    session = sessions.open(begun(sessions, a=1))
    for value in (session["a"] + 1, 1, 1):
        session["a"] = value
        changed = sessions.open(session.id)["a"] != value
        assert sessions.save(session) is (SaveOutcome.SAVED if changed else SaveOutcome.UNTOUCHED)
        assert sessions.open(session.id)["a"] == value


def test_two_writers_of_different_keys_both_win(kit: Any, another_kit: Any) -> None:
    encryption = Encryption([NEW])
    here, there = kit.sessions(encryption=encryption), another_kit.sessions(encryption=encryption)
    id_ = begun(here, a=1)
    one, two = here.open(id_), there.open(id_)
    assert (one["a"], two["a"]) == (1, 1)
    one["b"], two["c"] = 2, 3
    assert here.save(one) == there.save(two) == SaveOutcome.SAVED
    assert dict(here.open(id_)) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("change", ["sign_in", "renew", "both"])
def test_a_new_id_takes_the_values_along(kit: Any, another_kit: Any, change: str) -> None:
    """The key follows from the id, so what another request wrote under the old one is encrypted anew, too."""
    sessions = kit.sessions(encryption=Encryption([NEW]))
    old = begun(sessions, **VALUES)
    session, meanwhile = sessions.open(old), another_kit.sessions(encryption=Encryption([NEW])).open(old)
    session["mine"], meanwhile["theirs"] = 1, 2
    another_kit.sessions(encryption=Encryption([NEW])).save(meanwhile)
    if change != "renew":
        session.sign_in("user:7")
    else:
        session.renew()
    assert sessions.save(session) is SaveOutcome.RENEWED
    if change == "both":
        session.renew()
        assert sessions.save(session) is SaveOutcome.RENEWED
    assert dict(session) == dict(sessions.open(session.id)) == VALUES | {"mine": 1, "theirs": 2}
    assert session.id != old
    if change != "both":
        view = sessions.open(old)
        assert view.read_only
        assert dict(view) == VALUES | {"theirs": 2}, "the view of the old id opens with the old id"


def test_a_session_saved_signed_in_and_changed_by_one_object(kit: Any) -> None:
    sessions = kit.sessions(encryption=Encryption([NEW]))
    session = sessions.open(None)
    session["cart"] = [1]
    sessions.save(session)
    session.sign_in("user:7")
    sessions.save(session)
    session["cart"].append(2)
    assert sessions.save(session) is SaveOutcome.SAVED
    session.sign_out()
    session["farewell"] = True
    assert sessions.save(session) is SaveOutcome.CREATED
    assert dict(sessions.open(session.id)) == {"farewell": True}


def test_switching_on_and_turning_the_key_lose_nothing(kit: Any) -> None:
    """The documented order, each step beside the one before and the one after."""
    steps = [
        kit.sessions(),
        kit.sessions(encryption=Encryption([OLD], plaintext="write")),
        kit.sessions(encryption=Encryption([OLD])),
        kit.sessions(encryption=Encryption([OLD, NEW])),
        kit.sessions(encryption=Encryption([NEW, OLD])),
        kit.sessions(encryption=Encryption([NEW])),
        kit.sessions(encryption=Encryption([NEW], plaintext="refuse")),
    ]
    # Between "read" and "refuse", and before the old key is dropped, all sessions of before have ended.
    for before, after in ((0, 1), (1, 2), (2, 3), (3, 4)):
        for writer, reader in ((before, after), (after, before)):
            id_ = begun(steps[writer], k=writer)
            session = steps[reader].open(id_)
            assert session["k"] == writer
            session["k"] = reader
            assert steps[reader].save(session) is SaveOutcome.SAVED
            assert steps[writer].open(id_)["k"] == reader
    id_ = begun(steps[4], k=1)
    assert steps[5].open(id_)["k"] == steps[6].open(id_)["k"] == 1


def test_a_value_is_encrypted_with_the_first_key_when_it_is_written(kit: Any) -> None:
    id_ = begun(kit.sessions(), a=1, b=2)
    sessions = kit.sessions(encryption=Encryption([NEW]))
    session = sessions.open(id_)
    assert session["a"] + session["b"] == 3
    session["a"] = 10
    sessions.save(session)
    strict = kit.sessions(encryption=Encryption([NEW], plaintext="refuse")).open(id_)
    assert strict["a"] == 10
    with pytest.raises(CorruptValue, match="not encrypted"):
        strict["b"]


def test_what_cannot_be_opened_comes_along_and_harms_nothing(kit: Any) -> None:
    lost = kit.sessions(encryption=Encryption([OLD]))
    id_ = begun(lost, a=1)
    sessions = kit.sessions(encryption=Encryption([NEW]))
    session = sessions.open(id_)
    session["b"] = 2
    session.sign_in("user:7")
    assert sessions.save(session) is SaveOutcome.RENEWED
    again = sessions.open(session.id)
    assert again["b"] == 2
    with pytest.raises(CorruptValue, match=r"session\['a'\]"):
        again["a"]
    del again["a"]
    assert sessions.save(again) is SaveOutcome.SAVED
    assert dict(sessions.open(session.id)) == {"b": 2}


def test_listing_and_ending_need_no_key(kit: Any) -> None:
    sessions = kit.sessions(encryption=Encryption([NEW]))
    session = sessions.open(None)
    session.sign_in("user:7")
    session["a"] = 1
    sessions.save(session)
    without = kit.sessions()
    assert [info.handle for info in without.sessions_of("user:7")] == [session.handle]
    assert without.open(session.id).principal == "user:7"
    assert without.revoke_all("user:7") == 1
    assert sessions.open(session.id).is_new
