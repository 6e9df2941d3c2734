"""Evaluation: conditions, the order of rules, schedules, and that answers and explanations are one."""

import asyncio
import contextvars
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.flags import Flag, Reason, Rule, Variant
from statekit.flags.compiled import compiled
from statekit.kit import StateKit


def decided(flag, actor=None, others=None, now=0, **attributes):
    others = others or {}
    made = {}
    for name, one in {**others, "it": flag}.items():
        made[name] = compiled(name, one, made.get, lambda: now)
    return made["it"](actor, attributes)


HOLDS = [
    ({"plan": "pro"}, {"plan": "pro"}, True),
    ({"plan": "pro"}, {"plan": "free"}, False),
    ({"plan": "pro"}, {}, False),
    ({"n": 1}, {"n": True}, False),
    ({"n": 1}, {"n": 1.0}, True),
    ({"n": True}, {"n": True}, True),
    ({"plan": {"ne": "pro"}}, {"plan": "free"}, True),
    ({"plan": {"ne": "pro"}}, {}, True),
    ({"plan": ["pro", "team"]}, {"plan": "team"}, True),
    ({"plan": ["pro", "team"]}, {"plan": ["pro"]}, False),
    ({"n": [1, 2]}, {"n": True}, False),
    ({"plan": {"not_in": ["pro"]}}, {"plan": "free"}, True),
    ({"plan": {"not_in": ["pro"]}}, {}, True),
    ({"plan": {"not_in": ["pro"]}}, {"plan": "pro"}, False),
    ({"seats": {"ge": 10}}, {"seats": 10}, True),
    ({"seats": {"gt": 10}}, {"seats": 10}, False),
    ({"seats": {"ge": 10, "lt": 20}}, {"seats": 25}, False),
    ({"seats": {"le": 10}}, {"seats": "3"}, False),
    ({"seats": {"le": 10}}, {"seats": None}, False),
    ({"seats": {"le": 10}}, {"seats": True}, False),
    ({"since": {"lt": "2026-01-01"}}, {"since": "2025-12-31"}, True),
    ({"tags": {"contains": "beta"}}, {"tags": ["beta", "x"]}, True),
    ({"tags": {"contains": "beta"}}, {"tags": "alphabeta"}, True),
    ({"tags": {"contains": "beta"}}, {"tags": 3}, False),
    ({"tags": {"contains": 3}}, {"tags": "3"}, False),
    ({"tags": {"contains": -3}}, {"tags": b"3"}, False),
    ({"mail": {"ends_with": "@x.de"}}, {"mail": "a@x.de"}, True),
    ({"mail": {"starts_with": "a@"}}, {"mail": 3}, False),
    ({"mail": {"exists": True}}, {"mail": None}, True),
    ({"mail": {"exists": False}}, {}, True),
    ({"plan": "pro", "seats": {"ge": 5}}, {"plan": "pro", "seats": 4}, False),
    ({"plan": "pro", "seats": {"ge": 5}}, {"plan": "pro", "seats": 5}, True),
]


@pytest.mark.parametrize(("when", "attributes", "holds"), HOLDS)
def test_conditions(when, attributes, holds):
    flag = Flag(rollout=0, rules=[Rule(when)])
    assert decided(flag, **attributes).on is holds


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers())
    | st.binary()
)


@settings(max_examples=150, deadline=None)
@given(anything, st.sampled_from(HOLDS))
def test_no_attribute_can_make_a_condition_raise(value, case):
    when, _, _ = case
    assert decided(Flag(rules=[Rule(when)]), **dict.fromkeys(when, value)).on in (True, False)


def test_the_first_rule_that_matches_decides():
    flag = Flag(
        variants={"a": 1, "b": 2, "c": 3},
        default="c",
        rules=[
            Rule({"plan": "pro"}, "a"),
            Rule({"plan": ["pro", "team"]}, "b"),
            Rule({"banned": True}, serve=False),
        ],
    )
    assert decided(flag, plan="pro").value == 1
    assert decided(flag, plan="team").value == 2
    assert decided(flag).value == 3
    off = decided(flag, banned=True)
    assert (off.on, off.reason, off.rule) == (False, Reason.RULE, 2)


def test_rules_can_name_actors():
    flag = Flag(rollout=0, rules=[Rule({"actor": ["user:1", "user:2"]})])
    assert decided(flag, "user:1").on
    assert not decided(flag, "user:3").on
    assert not decided(flag).on


def test_a_rule_has_a_rollout_of_its_own():
    flag = Flag(rollout=0, rules=[Rule({"plan": "pro"}, rollout=50)])
    on = sum(decided(flag, n, plan="pro").on for n in range(2000))
    assert 900 < on < 1100
    assert decided(flag, plan="pro").reason is Reason.NO_ACTOR
    assert not any(decided(flag, n).on for n in range(100))


def test_a_rule_can_serve_a_value_of_a_flag_without_variants():
    flag = Flag(default=20, rules=[Rule({"plan": "pro"}, 50)])
    assert decided(flag).value == 20
    assert decided(flag, plan="pro").value == 50


def test_a_false_variant_is_on_but_not_enabled():
    flag = Flag(variants={"yes": True, "no": False}, default="no")
    outcome = decided(flag)
    assert (outcome.on, outcome.enabled, outcome.value) == (True, False, False)


def test_a_schedule_is_half_open():
    flag = Flag(starts=100, ends=200)
    assert decided(flag, now=99_999_999).reason is Reason.NOT_STARTED
    assert decided(flag, now=100_000_000).on
    assert decided(flag, now=199_999_999).on
    assert decided(flag, now=200_000_000).reason is Reason.ENDED


def test_prerequisites_may_ask_for_off_or_a_variant():
    others = {"off": Flag(enabled=False), "style": Flag(variants={"a": "A", "b": "B"}, default="b")}
    assert decided(Flag(prerequisites={"off": False}), others=others).on
    assert decided(Flag(prerequisites={"style": "b"}), others=others).on
    assert decided(Flag(prerequisites={"style": "a"}), others=others).reason is Reason.PREREQUISITE
    assert decided(Flag(prerequisites=["none"]), others=others).reason is Reason.PREREQUISITE


def test_a_circle_that_slipped_in_is_off_and_ends():
    made = {}
    for name, other in (("a", "b"), ("b", "a")):
        made[name] = compiled(name, Flag(prerequisites=[other]), made.get, int)
    assert made["a"]("x", {}).reason is Reason.PREREQUISITE


def test_a_variant_without_weight_is_never_chosen():
    flag = Flag(variants={"a": Variant(1, 0), "b": 2})
    assert {decided(flag, n).value for n in range(100)} == {2}
    assert decided(flag).value == 2


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 100),
    st.sampled_from([None, "u1", "u2", 7]),
    st.sampled_from([None, "pro", "team"]),
    st.booleans(),
)
def test_the_explanation_is_the_answer(rollout, actor, plan, on):
    kit = StateKit.in_memory()
    flag = Flag(on, rollout, variants={"a": 1, "b": 2}, rules=[Rule({"plan": "pro"}, "b", 50)])
    kit.flags.set("it", flag)
    attributes = {} if plan is None else {"plan": plan}
    why = kit.flags.explain("it", actor=actor, default=9, **attributes)
    assert why.value == kit.flags.value("it", default=9, actor=actor, **attributes)
    assert why.enabled == kit.flags.enabled("it", actor=actor, **attributes)
    kit.close()


def test_overrides_of_threads_and_tasks_do_not_meet():
    with StateKit.in_memory() as kit:
        flags = kit.flags
        flags.set("it", Flag(enabled=False))
        seen = {}

        def thread(value):
            with flags.override({"it": value}):
                meet.wait(10)
                seen[value] = flags.enabled("it")
                meet.wait(10)

        meet = threading.Barrier(3)
        threads = [threading.Thread(target=thread, args=(value,)) for value in (True, False)]
        for one in threads:
            one.start()
        meet.wait(10)
        assert not flags.enabled("it")
        meet.wait(10)
        for one in threads:
            one.join()
        assert seen == {True: True, False: False}

        async def task(value):
            with flags.override({"it": value}):
                await asyncio.sleep(0)
                return flags.enabled("it") is value

        async def tasks():
            return await asyncio.gather(*(task(n % 2 == 0) for n in range(10)))

        assert all(asyncio.run(tasks()))
        with flags.override({"it": True}):
            assert contextvars.copy_context().run(flags.enabled, "it")


def test_overrides_of_one_kit_are_not_those_of_another():
    with StateKit.in_memory() as one, StateKit.in_memory() as other, one.flags.override({"it": True}):
        assert one.flags.enabled("it")
        assert not other.flags.enabled("it")


def test_a_failing_listener_stops_nobody():
    with StateKit.in_memory() as kit:
        seen = []
        kit.flags.on_change(lambda _change: 1 / 0)
        kit.flags.on_change(seen.append)
        kit.flags.set("it", Flag())
        assert [sorted(one.names) for one in seen] == [["it"]]
