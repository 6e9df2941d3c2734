"""What adapters share, without a framework and without a store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from statekit import StateKit, UsageError
from statekit.errors import CorruptValue, StoreUnavailable, VersionConflict
from statekit.store.op import Call, Op
from statekit.web import (
    Kind,
    RequestSession,
    Rule,
    TooManyRequests,
    admitting,
    announced,
    caller_name,
    deciding,
    default_rules,
    governing,
    kind_of,
    label,
    network,
    problem_of,
    refusal,
)

ASK, LOAD = (Call(("ASK",)),), (Call(("LOAD",)),)


class Said:
    """A decision, as far as `admitting` looks at it."""

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed


def local(said: Said) -> Op[Any]:
    return said
    yield ()


def asked() -> Op[Any]:
    try:
        (reply,) = yield ASK
    except StoreUnavailable:
        return "substitute"
    (more,) = yield ASK
    return Said(reply == b"yes" and more == b"yes")


def loading() -> Op[str]:
    try:
        (reply,) = yield LOAD
    except StoreUnavailable:
        return "nothing"
    return str(reply)


def ended(op: Op[Any], send: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        send(op)
    return stop.value.value


def test_a_refusal_from_here_loads_nothing() -> None:
    refused = Said(allowed=False)
    assert ended(admitting(local(refused), loading()), next) == (refused, None)


def test_what_is_allowed_from_here_loads_alone() -> None:
    allowed = Said(allowed=True)
    op = admitting(local(allowed), loading())
    assert next(op) == LOAD
    assert ended(op, lambda op: op.send([b"session"])) == (allowed, "b'session'")


def test_what_is_asked_loads_in_the_same_round() -> None:
    op = admitting(asked(), loading())
    assert next(op) == ASK + LOAD
    assert op.send([b"yes", b"session"]) == ASK
    decision, loaded = ended(op, lambda op: op.send([b"yes"]))
    assert decision.allowed
    assert loaded == "b'session'"


def test_an_outage_reaches_both() -> None:
    op = admitting(asked(), loading())
    next(op)
    assert ended(op, lambda op: op.throw(StoreUnavailable("away"))) == ("substitute", "nothing")


# -- decisions -----------------------------------------------------------------------------------------------


@pytest.fixture
def kit() -> StateKit:
    return StateKit.in_memory()


def test_one_charge_and_many_are_decided(kit: StateKit) -> None:
    one, other = kit.rate_limiter("one", "2/hour"), kit.rate_limiter("other", "5/hour")
    assert kit.run(deciding(kit, [(one, "a", 1)])).remaining == 1
    both = kit.run(deciding(kit, [(one, "a", 1), (other, "a", 2)]))
    assert [state.remaining for state in both.limits] == [0, 3]


def test_decisions_of_several_goes_are_announced_once_each(kit: StateKit) -> None:
    one, other = kit.rate_limiter("one", "1/hour"), kit.rate_limiter("other", "5/hour")
    first, second = one.hit("a"), other.hit("a")
    fields = dict(announced([first, second], "ietf"))
    assert fields["RateLimit-Policy"] == '"one";q=1;w=3600, "other";q=5;w=3600'
    assert governing([first, second]) is first
    refused = one.hit("a")
    assert governing([second, refused]) is refused
    fields = dict(announced([second, refused], "legacy"))
    assert fields["X-RateLimit-Limit"] == "1"
    assert 3500 < int(dict(announced([second, refused], "ietf"))["Retry-After"]) <= 3600
    assert list(announced([first], None)) == list(announced([], "ietf")) == []
    assert governing([]) is None


def test_refusals_and_errors_become_problems(kit: StateKit) -> None:
    limiter = kit.rate_limiter("one", "0/hour")
    error = refusal(limiter.hit("a"))
    assert isinstance(error, TooManyRequests)
    problem = problem_of(error)
    assert problem
    assert (problem.status, problem.retry_after) == (429, None)
    assert json.loads(problem.body)["violated-policies"] == ["one"]
    conflict = problem_of(VersionConflict("version 3 was expected"))
    assert conflict
    assert (conflict.status, conflict.detail, conflict.retry_after) == (409, "version 3 was expected", None)
    away = problem_of(StoreUnavailable("redis.internal:6379 refused"))
    assert away
    assert (away.status, away.retry_after) == (503, 1)
    assert b"redis.internal" not in away.body, "what a store says of itself is not for the peer"
    for mistake in (UsageError("x"), CorruptValue("x"), ZeroDivisionError()):
        assert problem_of(mistake) is None


# -- words ---------------------------------------------------------------------------------------------------


def test_callers_in_words() -> None:
    assert kind_of("ip") == (Kind.IP, "")
    assert kind_of("header:X-Key") == (Kind.HEADER, "X-Key")
    for wrong in ("header", "header:", "ip:x", "cookie:x", "", None, 7):
        with pytest.raises(UsageError, match="key="):
            kind_of(wrong)


def test_names_are_the_same_in_every_process() -> None:
    def by_plan() -> str:
        return ""

    rule = Rule(label(test_callers_in_words, by_plan), ("5/minute",), by_plan)
    assert rule.name == f"{__name__}.test_callers_in_words/by_plan"
    assert label(test_callers_in_words, by_plan, [rule]) == f"{rule.name}#2"
    assert caller_name(Said(allowed=True)) == "Said"


def test_rules_are_checked_where_they_are_written() -> None:
    for wrong in ((), ("5 minutes",), ("5/minute", "6/minute")):
        with pytest.raises(UsageError):
            Rule("x", wrong, str)
    with pytest.raises(UsageError, match="list"):
        default_rules("5/minute", str)
    assert default_rules([], str) == ()
    rule = Rule("x", ("5/minute",), str)
    assert rule.applies("GET")
    assert not rule.applies("OPTIONS")
    assert not Rule("x", ("5/minute",), str, methods=frozenset({"POST"})).applies("GET")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_are_grouped(address: str, group: str) -> None:
    assert network(address) == group


def test_a_session_of_a_request_knows_whether_it_was_used(kit: StateKit) -> None:
    store = kit.sessions()

    class Mine(RequestSession):
        def _fetched(self) -> Any:
            return store.open(None)

    session = Mine()
    assert not session.used
    assert not session.changed
    assert "not opened" in repr(session)
    session["x"] = 1
    assert session.used
    assert session.changed
    assert session.new
    assert (session.principal, session.degraded, dict(session)) == (None, False, {"x": 1})
    session.clear()
    assert "x" not in session
