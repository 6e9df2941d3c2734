"""Keys: distinct inputs, distinct keys, whatever they contain."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statekit.errors import UsageError
from statekit.store.keys import LONGEST_PLAIN, Keys, encoded

anything = st.text(st.characters(exclude_categories=()), max_size=400)
nasty = st.sampled_from(
    ["", "%", "~", "{", "}", "{}", ":", "a:b", "%25", "%7B", "\0", "\ud800", "\udfff", "é", "é", "x" * 10_000]
)
texts = st.one_of(anything, nasty, st.text("%~:{}0aF", max_size=6))


@given(texts, texts)
@settings(max_examples=400)
@example("%", "")
@example("%41", "A")
@example("\ud800", "\\ud800")
@example("x" * LONGEST_PLAIN, "x" * (LONGEST_PLAIN + 1))
def test_distinct_texts_never_meet(one: str, other: str) -> None:
    assert (encoded(one) == encoded(other)) == (one == other)


@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=3))
@settings(max_examples=200)
@example(["a", "b"], ["a:b"])
def test_distinct_tags_never_meet(one: list[str], other: list[str]) -> None:
    keys = Keys("n")
    spelt = [keys.of("k", *map(encoded, parts)) for parts in (one, other)]
    assert (spelt[0] == spelt[1]) == (one == other)


@given(texts)
def test_a_key_is_printable_short_and_has_one_hash_tag(text: str) -> None:
    key = Keys("n").of("k", encoded(text), suffix="s")
    assert key.isascii()
    assert key.isprintable()
    assert len(key) < 200
    assert key.count("{") == key.count("}") == 1
    assert key[key.index("{") + 1 : key.index("}")] == encoded(text) != ""


def test_a_digest_cannot_be_typed_in() -> None:
    assert encoded(encoded("x" * 500)) != encoded("x" * 500)


@pytest.mark.parametrize("value", [None, 7, b"bytes", 1.5, ["a"]])
def test_a_key_is_text(value: object) -> None:
    with pytest.raises(UsageError, match="not text"):
        encoded(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", ["", "a:b", "{a}", "a b", "-a", "a" * 65, "é", "a\n", None])
def test_a_namespace_is_a_plain_word(namespace: str) -> None:
    with pytest.raises(UsageError, match="namespace"):
        Keys(namespace)


def test_namespaces_are_apart() -> None:
    assert Keys("a").of("k", "x") != Keys("b").of("k", "x")
    assert Keys("a").of("k", "x") == "sk1:a:k:{x}"
    assert Keys("a").of("k", "x", suffix="y") == "sk1:a:k:{x}:y"
