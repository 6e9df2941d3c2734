"""Arguments of the wrong type are refused by name, with a cure, and leave everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from statekit import Budget, Flag, StateKit, TenantSettings, together
from statekit.errors import StatekitError, StoreReadOnly, UsageError
from statekit.replica.file import snapshot_directory
from statekit.store.drive import rejected


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
