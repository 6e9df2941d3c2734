"""Rules made fast decide as the conditions, taken one by one, say."""

from enum import Enum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.flags import Flag, Reason, Rule, Variant
from statekit.flags.buckets import bucket, threshold, variant_bucket
from statekit.flags.compiled import compiled
from statekit.flags.conditions import test_of as conditions_of

NAMES = ["plan", "seats", "mail", "beta", "actor"]
TEXTS = ["", "pro", "free", "a@x.de", "x.de", "pr"]
NUMBERS = [0, 1, 10, -3, 2.5, 1.0, float("inf"), float("nan")]


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Plan(StrEnum):
    PRO = "pro"


class Grade(str, Enum):  # noqa: UP042 - as apps write it, too
    FREE = "free"


texts, numbers, truths = st.sampled_from(TEXTS), st.sampled_from(NUMBERS[:-2]), st.booleans()
plain = texts | numbers | truths
condition = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "contains"]), plain),
    st.tuples(st.sampled_from(["in", "not_in"]), st.lists(texts, max_size=3) | st.lists(plain, max_size=3)),
    st.tuples(st.sampled_from(["lt", "le", "gt", "ge"]), texts | numbers),
    st.tuples(st.sampled_from(["starts_with", "ends_with"]), texts),
    st.tuples(st.just("exists"), truths),
)
when = st.dictionaries(
    st.sampled_from(NAMES),
    st.lists(condition, min_size=1, max_size=3).map(dict),
    min_size=1,
    max_size=5,
)
given_value = (
    st.none()
    | plain
    | st.sampled_from(NUMBERS)
    | st.sampled_from([Plan.PRO, Grade.FREE, Text("pro"), Text("a@x.de"), Number(10), Number(2)])
    | st.lists(texts, max_size=2)
    | st.just({"pro": 1})
    | st.just(b"pro")
)
attributes = st.dictionaries(st.sampled_from(NAMES[:-1]), given_value, max_size=4)
actors = st.none() | st.sampled_from(["pro", "u:1", 7, ""]) | st.text(max_size=3)


def read(rules, actor, told):
    """The index of the rule that decides, found by looking at each condition."""
    said = dict(told) if actor is None else {**told, "actor": actor}
    return next((index for index, rule in enumerate(rules) if conditions_of(rule.when)(said)), None)


many = given(st.lists(when, min_size=1, max_size=20), actors, attributes)


@settings(max_examples=100, deadline=None)
@many
def test_the_first_rule_that_holds_decides_however_many_there_are(conditions, actor, told):
    _decides_as_read(conditions, actor, told)


@pytest.mark.exhaustive
@settings(max_examples=600, deadline=None)
@many
def test_the_first_rule_that_holds_decides_for_long(conditions, actor, told):
    _decides_as_read(conditions, actor, told)


def _decides_as_read(conditions, actor, told):
    rules = [Rule(one, serve=index) for index, one in enumerate(conditions)]
    decide = compiled("it", Flag(default=-1, rules=rules), {}.get, int)
    expected = read(rules, actor, told)
    outcome = decide(actor, dict(told))
    assert outcome.rule == expected
    assert outcome.value == (-1 if expected is None else expected)
    assert outcome.reason is (Reason.STATIC if expected is None else Reason.RULE)


@pytest.mark.parametrize("number", [1, 2, 7, 8, 9, 16, 17, 300, 3000])
def test_each_rule_is_reached_in_its_turn(number):
    rules = [Rule({"n": str(index)}, serve=index) for index in range(number)]
    decide = compiled("it", Flag(default=-1, rules=rules), {}.get, int)
    assert [decide(None, {"n": str(index)}).value for index in range(number)] == list(range(number))
    assert decide(None, {"n": "other"}).value == -1


def test_a_rule_may_have_more_conditions_than_calls_can_be_nested():
    many = {f"a{index}": index for index in range(3000)}
    decide = compiled("it", Flag(rollout=0, rules=[Rule(many)]), {}.get, int)
    assert decide(None, dict(many)).on
    assert not decide(None, {**many, "a2999": 0}).on


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from([0.001, 25, 50, 99.999]), st.booleans())
def test_the_hash_written_out_is_the_published_one(actor, rollout, lone):
    actor = actor + "\ud800" if lone else actor
    flag = Flag(rollout=rollout, variants={"a": Variant("A", 1), "b": Variant("B", 2), "c": Variant("C", 7)})
    outcome = compiled("it", flag, {}.get, int)(actor, {})
    assert outcome.on is (bucket("it", actor) < threshold(rollout))
    if outcome.on:
        at = variant_bucket("it", actor)
        assert outcome.value == ("A" if at < 10_000 else "B" if at < 30_000 else "C")
