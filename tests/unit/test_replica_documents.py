"""Documents that share what did not change behave as dictionaries that were copied."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.replica import documents
from statekit.replica.documents import Documents
from statekit.replica.protocol import Document, Message, Snapshot, heard

names = st.sampled_from("abcdefghij")
changes = st.dictionaries(names, st.none() | st.integers(), max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, st.integers()), st.lists(changes, max_size=12), st.sampled_from([0, 2, 64]))
def test_every_successor_is_what_a_copy_would_be(begin: Any, steps: Any, kept_apart: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "SMALLEST", kept_apart)
        told, made = [dict(begin)], [Documents(begin)]
        for step in steps:
            after = {name: one for name, one in {**told[-1], **step}.items() if one is not None}
            told.append(after)
            made.append(made[-1].succeeded(step))
    for expected, one in zip(told, made, strict=True):  # also those that have successors
        assert dict(one) == expected == dict(one.items())
        assert one == expected == one
        assert one == MappingProxyType(expected)
        assert len(one) == len(expected) == len([*one])
        assert set(one.keys()) == set(expected)
        assert bool(one) is bool(expected)
        for name in "abcdefghij":
            assert (name in one) is (name in expected)
            assert one.get(name) == expected.get(name)
            assert one.get(name, -1) == expected.get(name, -1)
            if name not in expected:
                with pytest.raises(KeyError):
                    one[name]


def test_a_write_among_many_copies_few() -> None:
    """Counted, not timed: how many entries all copies together hold."""
    one: Documents[int] = Documents({str(n): n for n in range(10_000)})
    copied = 0
    for n in range(1000):
        one = one.succeeded({f"new-{n}": n})
        copied += len(one._news) or len(one._base)
    assert len(one) == 11_000
    assert copied < 1000 * 200


def test_a_message_shares_what_it_did_not_change() -> None:
    snapshot = Snapshot("e", 1, {"a": Document(1, "1")})
    after = heard(snapshot, Message("e", 2, "b", "2")).snapshot
    last = heard(after, Message("e", 3, "a", None)).snapshot
    assert dict(snapshot.documents) == {"a": Document(1, "1")}
    assert dict(after.documents) == {"a": Document(1, "1"), "b": Document(2, "2")}
    assert dict(last.documents) == {"b": Document(2, "2")}
    assert after.documents["a"] is snapshot.documents["a"]
