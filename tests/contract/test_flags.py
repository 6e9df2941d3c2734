"""What feature flags promise, on every store and in both colours."""

import time

import pytest

from statekit.errors import UnknownFlag, UsageError, VersionConflict
from statekit.flags import Flag, FlagInvalid, FlagMismatch, FlagUnknown, Reason, Rule, Variant
from tests.servers import wait_until

PAGE = Flag(variants={"small": 20, "large": 50}, default="small", rules=[Rule({"plan": "pro"}, "large")])


@pytest.fixture
def flags(kit):
    return kit.flags


def test_an_unknown_flag_is_off_or_the_default_and_is_reported_once(kit, flags):
    events = []
    kit.hooks.subscribe(events.append)
    flags.set("checkout", Flag())
    assert not flags.enabled("chekout")
    assert flags.enabled("chekout", default=True)
    assert flags.value("chekout", default="x") == "x"
    assert [e for e in events if isinstance(e, FlagUnknown)] == [FlagUnknown("chekout", "checkout")]
    assert flags.explain("chekout").suggestion == "checkout"


def test_a_flag_that_was_set_is_answered_at_once(flags):
    flags.set("pay", Flag())
    assert flags.enabled("pay")
    flags.set("pay", Flag(enabled=False))
    assert not flags.enabled("pay")
    assert flags.explain("pay").reason is Reason.DISABLED


def test_versions_grow_by_one_a_write(flags):
    assert flags.set("a", Flag()).version == 1
    assert flags.set("b", Flag()).version == 2
    assert flags.delete("a").version == 3
    assert flags.version == 3
    assert flags.names() == ("b",)


def test_a_write_reaches_another_process_and_is_acknowledged(kit, another_kit):
    with another_kit:
        came = kit.flags.set("pay", Flag(), by="ann", wait=10)
        assert (came.workers, came.acknowledged, came.lagging) == (2, 2, ())
        assert came.complete
        assert another_kit.flags.enabled("pay")
        assert another_kit.flags.version == came.version


def test_a_reader_that_joins_later_gets_everything(kit, another_kit):
    for n in range(5):
        kit.flags.set(f"f{n}", Flag(rollout=n))
    with another_kit:
        assert another_kit.flags.names() == ("f0", "f1", "f2", "f3", "f4")
        assert another_kit.flags.get("f3") == Flag(rollout=3)
        assert not another_kit.flags.stale


def test_values_of_five_types(flags):
    flags.set("text", Flag(default="blue"))
    flags.set("page", PAGE)
    flags.set("ratio", Flag(variants={"low": 1, "high": 2.5}, default="low"))
    flags.set("menu", Flag(default={"items": ["a", "b"]}))
    flags.set("on", Flag())
    assert flags.value("text", default="red") == "blue"
    assert flags.value("page", default=10) == 20
    assert flags.value("page", default=10, plan="pro") == 50
    assert flags.value("page", default=1.5) == 20.0
    assert isinstance(flags.value("ratio", default=0.0), float)
    assert flags.value("menu", default={}) == {"items": ["a", "b"]}
    assert flags.value("on", default=False) is True
    assert flags.value("page") == 20


def test_whatever_the_default_is_an_unknown_flag_answers_it(flags):
    marker = object()
    assert flags.value("nothing", default=marker) is marker
    assert flags.explain("nothing", default=marker).value is marker


def test_an_object_value_is_the_callers_own(flags):
    flags.set("menu", Flag(default={"items": ["a"]}))
    flags.value("menu")["items"].append("leak")
    assert flags.value("menu") == {"items": ["a"]}


def test_a_flag_that_is_off_answers_the_callers_default_and_a_boolean_false(flags):
    flags.set("page", PAGE.replace(enabled=False))
    flags.set("pay", Flag(enabled=False))
    assert flags.value("page", default=7) == 7
    assert flags.value("pay", default=True) is False
    assert not flags.enabled("page")


def test_a_value_of_another_type_is_not_handed_out(kit, flags):
    events = []
    kit.hooks.subscribe(events.append)
    flags.set("text", Flag(default="blue"))
    assert flags.value("text", default=3) == 3
    assert flags.value("text", default=3) == 3
    assert [e for e in events if isinstance(e, FlagMismatch)] == [FlagMismatch("text", "blue", 3)]


def test_a_percentage_holds_for_the_same_actors_everywhere(kit, another_kit):
    kit.flags.set("canary", Flag(rollout=25))
    with another_kit:
        here = [kit.flags.enabled("canary", actor=f"user:{n}") for n in range(400)]
        there = [another_kit.flags.enabled("canary", actor=f"user:{n}") for n in range(400)]
    assert here == there
    assert 60 < sum(here) < 140
    kit.flags.set("canary", Flag(rollout=50))
    assert all(kit.flags.enabled("canary", actor=f"user:{n}") for n in range(400) if here[n])


def test_a_percentage_without_an_actor_is_off_and_says_why(flags):
    flags.set("canary", Flag(rollout=99))
    assert not flags.enabled("canary")
    assert flags.explain("canary").reason is Reason.NO_ACTOR


def test_explain_names_rule_bucket_and_version(flags):
    version = flags.set("page", PAGE).version
    why = flags.explain("page", actor="user:7", plan="pro", default=1)
    assert (why.value, why.variant, why.reason, why.rule) == (50, "large", Reason.RULE, 0)
    assert 0 <= why.bucket < 100_000
    assert (why.version, why.stale) == (version, False)


def test_prerequisites_are_decided_for_the_same_actor(flags):
    flags.set("base", Flag(rollout=50))
    flags.set("top", Flag(prerequisites=["base"]))
    for n in range(50):
        assert flags.enabled("top", actor=n) == flags.enabled("base", actor=n)
    flags.set("style", Flag(variants={"a": "A", "b": "B"}, default="b"))
    flags.set("only-b", Flag(prerequisites={"style": "b"}))
    assert flags.enabled("only-b")
    flags.delete("base")
    assert flags.explain("top", actor=1).reason is Reason.PREREQUISITE


def test_a_circle_of_prerequisites_is_refused(flags):
    flags.set("a", Flag())
    flags.set("b", Flag(prerequisites=["a"]))
    with pytest.raises(UsageError, match="prerequisite"):
        flags.set("a", Flag(prerequisites=["b"]))


def test_a_schedule_follows_the_clock(frozen_kit, clock):
    now = clock.now_us / 1e6
    frozen_kit.flags.set("sale", Flag(starts=now + 60, ends=now + 120))
    assert frozen_kit.flags.explain("sale").reason is Reason.NOT_STARTED
    clock.advance(60)
    assert frozen_kit.flags.enabled("sale")
    clock.advance(60)
    assert frozen_kit.flags.explain("sale").reason is Reason.ENDED


def test_history_tells_who_when_why_before_and_after(flags):
    flags.set("pay", Flag(), by="ann", reason="launch")
    flags.set("other", Flag())
    flags.set("pay", Flag(rollout=5), by="bob", reason='über "quotes" \\ and\nlines')
    latest, first = flags.history("pay")
    assert (latest.version, latest.by, latest.reason) == (3, "bob", 'über "quotes" \\ and\nlines')
    assert (latest.before, latest.after) == (Flag(), Flag(rollout=5))
    assert (first.before, first.after, first.by) == (None, Flag(), "ann")
    assert abs(first.at.timestamp() - time.time()) < 3600
    assert [one.name for one in flags.history(limit=2)] == ["pay", "other"]


def test_undo_puts_back_what_was_there_before(flags):
    flags.set("pay", Flag(rollout=10))
    changed = flags.set("pay", Flag(rollout=90)).version
    flags.set("other", Flag())
    undone = flags.undo(changed, by="ann")
    assert flags.get("pay") == Flag(rollout=10)
    assert undone.version == 4
    assert flags.history()[0].reason == "undo 2"
    with pytest.raises(VersionConflict):
        flags.undo(changed)
    with pytest.raises(UsageError, match="history"):
        flags.undo(99)


def test_undo_of_a_deletion_and_of_a_first_write(flags):
    flags.set("pay", Flag(rollout=10))
    gone = flags.delete("pay").version
    back = flags.undo(gone).version
    assert flags.get("pay") == Flag(rollout=10)
    flags.undo(back)
    assert flags.names() == ()


def test_deleting_a_flag_there_is_not_is_refused_and_leaves_no_trace(flags):
    with pytest.raises(UnknownFlag, match=r"no flag 'nope': flags.names\(\) .* nothing was written"):
        flags.delete("nope")
    flags.set("payment", Flag())
    with pytest.raises(UnknownFlag, match="no flag 'paymnt': did you mean 'payment'"):
        flags.delete("paymnt", by="ann")
    flags.delete("payment")
    with pytest.raises(UnknownFlag):
        flags.delete("payment")
    assert flags.version == len(flags.history()) == 2


def test_a_write_may_insist_on_the_version_it_read(flags):
    first = flags.set("pay", Flag(), if_version=0).version
    with pytest.raises(VersionConflict, match="version 1, not 0"):
        flags.set("pay", Flag(rollout=1), if_version=0)
    flags.set("other", Flag())
    flags.set("pay", Flag(rollout=2), if_version=first)
    assert flags.get("pay").rollout == 2


def test_changes_are_told_after_the_answers_have_changed(kit, another_kit):
    seen = []
    with another_kit:
        stop = another_kit.flags.on_change(
            lambda change: seen.append((sorted(change.names), change.version, another_kit.flags.version))
        )
        kit.flags.set("a", Flag(), wait=10)
        assert seen == [(["a"], 1, 1)]
        stop()
        kit.flags.set("a", Flag(enabled=False), wait=10)
        assert len(seen) == 1


def test_an_override_holds_in_its_context_only(flags):
    flags.set("pay", Flag(enabled=False))
    flags.set("top", Flag(prerequisites=["pay"]))
    with flags.override({"pay": True, "page": 7}):
        assert flags.enabled("pay")
        assert flags.enabled("top")
        assert flags.value("page", default=1) == 7
        assert flags.explain("pay").reason is Reason.OVERRIDE
        with flags.override({"pay": False}):
            assert not flags.enabled("pay")
        assert flags.enabled("pay")
    assert not flags.enabled("pay")
    assert flags.value("page", default=1) == 1


def test_a_document_that_is_no_flag_leaves_the_last_good_one_in_force(kit, another_kit):
    events = []
    kit.flags.set("pay", Flag())
    with another_kit:
        another_kit.hooks.subscribe(events.append)
        for n, broken in enumerate(('{"enabled":"maybe"}', "[1]", '{"rules":[{"when":{"a":{"near":1}}}]}')):
            kit.flags._replica.write("pay", broken, wait=10)
            assert another_kit.flags.enabled("pay")
            assert another_kit.flags.explain("pay").error
            assert len([e for e in events if isinstance(e, FlagInvalid)]) == n + 1
        kit.flags.set("pay", Flag(enabled=False), wait=10)
        assert not another_kit.flags.enabled("pay")
        assert another_kit.flags.explain("pay").error is None


def test_members_of_a_newer_release_survive_a_write_of_this_one(kit, another_kit):
    kit.flags._replica.write("pay", '{"enabled":true,"mood":{"x":1}}', wait=0)
    with another_kit:
        flag = another_kit.flags.get("pay")
        assert flag.extra == {"mood": {"x": 1}}
        another_kit.flags.set("pay", flag.replace(rollout=5))
        assert another_kit.flags.get("pay").extra == {"mood": {"x": 1}}


@pytest.mark.parametrize("name", ["{a}", "a:b", "ä €", "\x00", "x" * 2000, "\ud800", " ", "a\n"])
def test_any_text_may_name_a_flag(flags, another_kit, name):
    flags.set(name, Flag(), by=name, reason=name)
    with another_kit:
        assert another_kit.flags.enabled(name)
        assert another_kit.flags.names() == (name,)
    assert flags.history()[0].by == name


@pytest.mark.parametrize("bad", [True, {"enabled": True}, None, "on"])
def test_what_is_no_flag_is_refused_and_changes_nothing(flags, bad):
    with pytest.raises(UsageError, match="not a Flag"):
        flags.set("pay", bad)
    assert flags.version == 0


def test_an_empty_name_is_refused(flags):
    with pytest.raises(UsageError, match="not empty"):
        flags.set("", Flag())


def test_too_large_a_document_is_refused(flags):
    with pytest.raises(UsageError, match="bytes of JSON"):
        flags.set("big", Flag(default="x" * 300_000))


def test_what_is_not_json_never_reaches_the_store(flags):
    with pytest.raises(UsageError, match="not JSON"):
        flags._replica.write("pay", "{broken")
    assert flags.version == 0


def test_workers_lists_who_follows(kit, another_kit):
    kit.flags.set("a", Flag())
    with another_kit:
        wait_until(lambda: [one.version for one in kit.flags.workers()] == [1, 1])
    assert len(kit.flags.workers()) == 1


def test_weights_split_the_actors(flags):
    flags.set("ab", Flag(variants={"a": Variant("A", 30), "b": Variant("B", 70), "none": Variant("N", 0)}))
    served = [flags.value("ab", default="", actor=n) for n in range(1000)]
    assert set(served) == {"A", "B"}
    assert 230 < served.count("A") < 370
    assert flags.value("ab", default="off") == "off"
