"""Whatever a request does with a session, the next one finds what a dictionary would hold."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.kit import StateKit
from statekit.sessions import SaveOutcome

keys = st.sampled_from(["a", "b", "c", "d"])
values = st.one_of(
    st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2), st.dictionaries(keys, st.text(max_size=2))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, values),
        st.tuples(st.just("delete"), keys, st.none()),
        st.tuples(st.just("pop"), keys, st.none()),
        st.tuples(st.just("append"), keys, st.integers(0, 3)),
        st.tuples(st.just("clear"), st.none(), st.none()),
        st.tuples(st.just("read"), keys, st.none()),
        st.tuples(st.sampled_from(["save", "open", "sign_in", "renew", "sign_out"]), st.none(), st.none()),
    ),
    max_size=25,
)


def change(mapping: Any, step: str, key: Any, value: Any) -> None:
    match step:
        case "set":
            mapping[key] = copy.deepcopy(value)
        case "delete" if key in mapping:
            del mapping[key]
        case "pop":
            mapping.pop(key, None)
        case "append":
            kept = mapping.setdefault(key, [])
            if isinstance(kept, list):
                kept.append(value)
        case "clear":
            mapping.clear()
        case "read":
            mapping.get(key)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_session_is_a_dictionary_that_lasts(story: list[tuple[str, Any, Any]]) -> None:
    sessions = StateKit.in_memory().sessions()
    session, here = sessions.open(None), dict[str, Any]()
    cookie, stored = None, dict[str, Any]()
    for step, key, value in story:
        match step:
            case "save":
                outcome = sessions.save(session)
                assert outcome not in (SaveOutcome.GONE, SaveOutcome.SUPERSEDED)
                cookie = session.id if outcome.sends_cookie else None if outcome.drops_cookie else cookie
                stored = copy.deepcopy(here)
                assert sessions.save(session) is SaveOutcome.UNTOUCHED
            case "open":
                session, here = sessions.open(cookie), copy.deepcopy(stored)
            case "sign_in":
                session.sign_in("user:7")
            case "renew":
                session.renew()
            case "sign_out":
                session.sign_out()
                here.clear()
        change(session, step, key, value)
        change(here, step, key, value)
        assert dict(session) == here
