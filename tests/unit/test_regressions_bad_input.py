"""Arguments of the wrong type are refused by name, with a cure, and leave everything as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ResponseError

from statekit import AsyncStateKit, Budget, Flag, Limit, StateKit, TenantSettings, together
from statekit.errors import StatekitError, StoreReadOnly, UsageError
from statekit.flags import Variant
from statekit.replica.file import snapshot_directory
from statekit.store.answers import rejected


class Settings(TenantSettings):
    plan: str = "free"


BAD: dict[str, tuple[Callable[[StateKit], Any], str]] = {
    "hit_all of limiters": (
        lambda kit: kit.hit_all([kit.rate_limiter("a", "1/minute")]),
        "not .limiter, key",
    ),
    "hit_all of nothing": (lambda kit: kit.hit_all(None), "hit_all.None."),
    "shadow": (lambda kit: kit.rate_limiter("a", "1/minute", shadow="no"), "shadow='no'"),
    "touch_after": (lambda kit: kit.sessions(touch_after="x"), "touch_after='x'"),
    "cookie": (lambda kit: kit.sessions(cookie="x"), "cookie='x'"),
    "save": (lambda kit: kit.sessions().save(None), "not NoneType"),
    "destroy": (lambda kit: kit.sessions().destroy("x"), "not str"),
    "enabled": (lambda kit: kit.flags.enabled(5), "name=5"),
    "value": (lambda kit: kit.flags.value(None, default=1), "name=None"),
    "enabled of a list": (lambda kit: kit.flags.enabled([]), r"name=\[\]"),
    "value of a dict": (lambda kit: kit.flags.value({}), r"name={}"),
    "get of a list": (lambda kit: kit.flags.get([]), r"name=\[\]"),
    "explain of a list": (lambda kit: kit.flags.explain([]), r"name=\[\]"),
    "variant with a number for a key": (lambda _: Variant({1: 2}), "the key 1: .* use '1'"),
    "variant with a number further in": (lambda _: Variant([{"a": {None: 2}}]), "the key None"),
    "name of a registry": (lambda kit: kit.tenants(Settings, name=5), "name=5"),
    "empty name of a registry": (lambda kit: kit.tenants(Settings, name=""), "name=''"),
    "window": (lambda _: Limit(5, 1e-7), "window=1e-07 is too short"),
    "window of a timedelta": (lambda _: Limit(5, timedelta(0)), "out of range"),
    "hydrate without a function": (
        lambda kit: kit.sessions().open(None).hydrate("x", None),
        "give a function",
    ),
    "hydrate of a number": (lambda kit: kit.sessions().open(None).hydrate(5, str), r"hydrate\(5\)"),
    "ahydrate": (lambda kit: kit.sessions().open(None).ahydrate("x", None), "give a function"),
    "explain": (lambda kit: kit.flags.explain(b"x"), "name=b'x'"),
    "history of a number": (lambda kit: kit.flags.history(5), "name=5"),
    "history limit": (lambda kit: kit.flags.history(limit="x"), "limit='x'"),
    "undo": (lambda kit: kit.flags.undo("x"), "version='x'"),
    "if_version": (lambda kit: kit.flags.set("a", Flag(), if_version="1"), "if_version='1'"),
    "override": (lambda kit: kit.flags.override(None).__enter__(), r"override\(None\)"),
    "override of a number": (lambda kit: kit.flags.override({5: True}).__enter__(), "name=5"),
    "on_change": (lambda kit: kit.flags.on_change(None), r"on_change\(None\)"),
    "by": (lambda kit: kit.flags.set("a", Flag(), by=5), "by=5"),
    "reason": (lambda kit: kit.tenants(Settings).update("a", {"plan": "x"}, reason=5), "reason=5"),
    "default": (lambda _: Flag(variants={"a": [1]}, default=[1]), r"default=\[1\]"),
    "prerequisites": (lambda _: Flag(prerequisites=None), "prerequisites=None"),
    "settings": (lambda kit: kit.tenants(5), r"tenants\(5\)"),
    "settings of dict": (lambda kit: kit.tenants(dict), "TenantSettings"),
    "settings made": (lambda kit: kit.tenants(Settings()), "the class itself"),
    "defaults": (lambda kit: kit.tenants(Settings, defaults=5), "defaults=5"),
    "strict": (lambda kit: kit.tenants(Settings, strict="x"), "strict='x'"),
    "path": (lambda kit: kit.tenants(Settings).explain("a", None), "path=None"),
    "open": (lambda kit: kit.pools.register("a", open=5), "open=5"),
    "budget": (lambda _: Budget(decision=-1), "decision=-1"),
    "budget of text": (lambda _: Budget(operation="x"), "operation='x'"),
    "no budget": (lambda _: StateKit.connect("redis://h", budget=5), "budget=5"),
    "clock": (lambda _: StateKit.in_memory(clock=5), "clock=5"),
    "snapshot_dir": (lambda _: snapshot_directory(5), "snapshot_dir=5"),
    "run": (lambda kit: kit.run(5), "5 is no operation"),
    "run of a face": (lambda kit: kit.run(together(kit.rate_limiter("a", "1/minute"))), "no operation"),
    "ping": (lambda kit: kit.pools.register("a", open=object, ping=5), "ping=5"),
}


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -1, -0.1, "x", True, timedelta(-1), []])
def test_a_timeout_that_is_none_is_refused_even_where_nobody_has_to_wait(timeout: Any) -> None:
    kit = StateKit.in_memory()
    with kit.pools.register("a", open=list).checkout():
        pass  # an idle client is at hand from now on
    with pytest.raises(UsageError, match="timeout="):
        kit.pools.checkout("a", timeout=timeout)
    with pytest.raises(UsageError, match="timeout="):
        AsyncStateKit.in_memory().pools.register("a", open=list).checkout(timeout=timeout)
    for good in (0, 1, 0.5, timedelta(seconds=1), None):
        with kit.pools.checkout("a", timeout=good):
            pass
    kit.close()


def test_the_smallest_window_is_a_microsecond() -> None:
    assert Limit(5, 1e-6).window_us == Limit(5, timedelta(microseconds=1)).window_us == 1


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(name: str) -> None:
    kit = StateKit.in_memory()
    call, message = BAD[name]
    with pytest.raises(UsageError, match=message):
        call(kit)
    assert kit.flags.history() == ()


def test_a_message_about_a_session_does_not_show_the_credential_given_instead() -> None:
    sessions = StateKit.in_memory().sessions()
    credential = sessions.open(None).id
    with pytest.raises(StatekitError) as caught:
        sessions.save(credential)  # type: ignore[arg-type]
    assert credential not in str(caught.value)


def test_too_few_replicas_make_a_store_read_only() -> None:
    error = rejected(ResponseError("NOREPLICAS Not enough good replicas to write."))
    assert isinstance(error, StoreReadOnly)


def test_a_decision_prints_what_was_decided_and_not_how_it_travels() -> None:
    limiter = StateKit.in_memory().rate_limiter("login", "1/minute")
    limiter.hit("k")
    said = repr(limiter.hit("k"))
    assert said.startswith("<Decision 'login' 1/minute: allowed=False, remaining=0, retry_after=")
    assert "terms" not in said
    assert len(said) < 300


def test_an_operation_runs_once_and_says_so_instead_of_answering_none() -> None:
    kit = StateKit.in_memory()
    op = kit.rate_limiter("a", "1/minute").hitting("k")
    assert kit.run(op).allowed
    with pytest.raises(UsageError, match="run already"):
        kit.run(op)
    with pytest.raises(UsageError, match="run already"):
        kit.run(together(op))


def test_an_error_inside_a_script_reads_the_same_from_every_server() -> None:
    wrapped = "Error running script (call to f_1e71): @user_script:45: WRONGTYPE Operation against a key"
    assert str(rejected(ResponseError(wrapped))).startswith("WRONGTYPE")


def test_a_key_of_another_program_is_told_with_its_cure() -> None:
    error = rejected(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert str(error).endswith("another program writes under this namespace; choose another namespace")
