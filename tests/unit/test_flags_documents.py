"""Flags as documents: what is accepted, what is refused and how, and that JSON loses nothing."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.errors import DocumentInvalid, UsageError
from statekit.flags import Flag, Kind, Rule, Variant

REFUSED = [
    (lambda: Flag(enabled="yes"), "enabled='yes'"),
    (lambda: Flag(enabled=25), "a percentage goes into rollout"),
    (lambda: Flag(rollout=101), "rollout=101.*0 to 100"),
    (lambda: Flag(rollout=-1), "rollout=-1"),
    (lambda: Flag(rollout=float("nan")), "rollout=nan"),
    (lambda: Flag(rollout=True), "rollout=True"),
    (lambda: Flag(rollout="25"), "rollout='25'"),
    (lambda: Flag(variants=["a"]), "variants="),
    (lambda: Flag(variants={1: "a"}), "a variant's name=1"),
    (lambda: Flag(variants={"a": 1, "b": "x"}), "different types: integer, string"),
    (lambda: Flag(variants={"a": object()}), "is object: give a bool"),
    (lambda: Flag(variants={"a": float("inf")}), "finite"),
    (lambda: Flag(variants={"a": {"x": {1, 2}}}), "not JSON"),
    (lambda: Flag(variants={"a": Variant(1, 0)}), "weights are 0"),
    (lambda: Variant(1, -1), "weight=-1"),
    (lambda: Flag(variants={"a": 1}, default="b"), "default='b' is no variant: name one of 'a'"),
    (lambda: Flag(variants={"a": 1}, rules=[Rule({"x": 1}, "b")]), r"rules\[0\].serve='b'"),
    (lambda: Flag(default="x", rules=[Rule({"x": 1}, 3)]), r"rules\[0\].serve=3 is not of the flag's type"),
    (lambda: Flag(rules=[{"plan": "pro"}]), "give Rule"),
    (lambda: Flag(rules=[{"when": {}}]), "at least one attribute"),
    (lambda: Flag(rules=[{"when": {"plan": "pro"}, "unless": {}}]), r"a rule holds \['unless'\]"),
    (lambda: Flag(rules={"plan": "pro"}), "give a list of Rule"),
    (lambda: Flag(rules=3), "give a list of Rule"),
    (lambda: Rule({}), "at least one attribute"),
    (lambda: Rule("plan"), "give a mapping"),
    (lambda: Rule({"plan": {"near": 1}}), "no such operator"),
    (lambda: Rule({"plan": {}}), "is empty"),
    (lambda: Rule({"": 1}), "not empty"),
    (lambda: Rule({"plan": {"in": "pro"}}), "give a list"),
    (lambda: Rule({"plan": {"lt": True}}), "number or text"),
    (lambda: Rule({"plan": {"starts_with": 3}}), "give text"),
    (lambda: Rule({"plan": {"exists": 1}}), "True or False"),
    (lambda: Rule({"plan": object()}), "give text, a number"),
    (lambda: Rule({"plan": "pro"}, rollout=200), "rollout=200"),
    (lambda: Flag(prerequisites="base"), r"give a list, \['base'\]"),
    (lambda: Flag(prerequisites={"base": 3}), "neither True, False nor a variant"),
    (lambda: Flag(starts=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001
    (lambda: Flag(starts="tomorrow"), "ISO 8601"),
    (lambda: Flag(starts=20, ends=10), "is not before"),
    (lambda: Flag(ends=True), "ends=True"),
    (lambda: Flag(owner=3), "owner=3"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_nonsense_is_refused_with_value_and_cure(make, says):
    with pytest.raises(UsageError, match=says):
        make()


def test_moments_are_one_moment_however_they_are_given():
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    given = (
        noon,
        noon.astimezone(timezone(timedelta(hours=5))),
        "2026-03-01T12:00:00Z",
        "2026-03-01T13:00:00+01:00",
        noon.timestamp(),
        int(noon.timestamp()),
    )
    assert len({Flag(starts=one).starts for one in given}) == 1


def test_rules_may_come_as_documents():
    assert Flag(rules=[{"when": {"plan": "pro"}}]) == Flag(rules=[Rule({"plan": "pro"})])


def test_kinds():
    assert Flag().kind is Kind.BOOLEAN
    assert Flag(default=3).kind is Kind.INTEGER
    assert Flag(variants={"a": 1, "b": 1.5}).kind is Kind.FLOAT
    assert Flag(variants={"a": [1], "b": {"x": 1}}).kind is Kind.OBJECT
    assert Flag(variants={"on": True, "off": False}).kind is Kind.BOOLEAN


def test_a_flag_cannot_be_changed_only_replaced():
    flag = Flag(variants={"a": 1})
    with pytest.raises(AttributeError):
        flag.enabled = False
    with pytest.raises(TypeError):
        flag.variants["b"] = 2
    assert flag.replace(enabled=False).enabled is False
    assert flag.enabled


def test_what_differs_from_the_defaults_is_written_and_nothing_else():
    assert Flag().document() == {"enabled": True}
    assert Flag(rollout=25, owner="ann").document() == {"enabled": True, "rollout": 25, "owner": "ann"}
    rule = Rule({"plan": "pro", "country": ["DE"]}, serve=False)
    assert rule.document() == {"when": {"plan": {"eq": "pro"}, "country": {"in": ["DE"]}}, "serve": False}


scalars = st.text(max_size=5) | st.integers(-9, 9) | st.booleans()
conditions = st.fixed_dictionaries(
    {},
    optional={
        "plan": scalars,
        "country": st.lists(st.text(max_size=3), max_size=3),
        "seats": st.fixed_dictionaries({"ge": st.integers(0, 9)}, optional={"lt": st.integers(0, 99)}),
        "mail": st.fixed_dictionaries({"ends_with": st.text(max_size=3)}),
    },
).filter(bool)
rules = st.builds(
    Rule,
    conditions,
    serve=st.sampled_from([None, "a", "b", False]),
    rollout=st.floats(0, 100),
    note=st.text(max_size=3),
)
flags = st.builds(
    Flag,
    enabled=st.booleans(),
    rollout=st.floats(0, 100),
    variants=st.fixed_dictionaries(
        {"a": st.integers(), "b": st.builds(Variant, st.integers(), st.floats(0.1, 9))}
    ),
    default=st.sampled_from([None, "a", "b"]),
    rules=st.lists(rules, max_size=3),
    prerequisites=st.dictionaries(st.text(max_size=3), st.booleans() | st.text(max_size=3), max_size=2),
    starts=st.none() | st.datetimes(timezones=st.just(UTC), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001
    owner=st.text(st.characters(exclude_categories=[]), max_size=4),
    extra=st.dictionaries(st.sampled_from(["later", "mood"]), st.integers() | st.text(max_size=3)),
)


@settings(max_examples=150, deadline=None)
@given(flags)
def test_json_loses_nothing(flag):
    assert Flag.of(json.loads(json.dumps(flag.document()))) == flag
    assert pickle.loads(pickle.dumps(flag)) == copy.deepcopy(flag) == flag


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
members = st.dictionaries(st.sampled_from([*Flag.__dataclass_fields__, "when", "x"]), json_values, max_size=4)


@settings(max_examples=300, deadline=None)
@given(json_values | members)
def test_any_json_is_a_flag_or_an_invalid_document(said):
    try:
        flag = Flag.of(said)
    except DocumentInvalid:
        return
    assert Flag.of(flag.document()) == flag
