"""The command line over a real server: what each command prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel, Field

from statekit import Flag, StateKit, TenantSettings
from statekit.cli import COMMANDS, top
from statekit.cli._tree import tree
from statekit.testing import store_down

Run = Callable[..., Result]


class Limits(BaseModel):
    rps: int = Field(10, ge=0)


class Settings(TenantSettings):
    plan: str = "free"
    limits: Limits = Limits()


@pytest.fixture
def kit(valkey_url: str, namespace: str) -> Iterator[StateKit]:
    """The app's own process."""
    with StateKit.connect(valkey_url, namespace, snapshot_dir=None) as one:
        yield one


@pytest.fixture
def run(valkey_url: str, namespace: str) -> Run:
    def command(*args: str) -> Result:
        where = ["--url", valkey_url, "--namespace", namespace]
        return CliRunner().invoke(tree(), [*args, *where])

    return command


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# -- flags -----------------------------------------------------------------------------------------------


def test_a_flag_is_set_seen_switched_and_taken_back(run: Run, kit: StateKit) -> None:
    done = told(
        run(
            "flags",
            "set",
            "pay",
            "--rollout",
            "25",
            "--owner",
            "ann",
            "--by",
            "ann",
            "--wait",
            "10",
            "--json",
        )
    )
    assert (done["workers"], done["acknowledged"]) == (2, 2)
    assert kit.flags.get("pay") == Flag(rollout=25, owner="ann")
    assert run("flags", "disable", "pay", "--reason", "incident", "--wait", "10").exit_code == 0
    assert kit.flags.get("pay") == Flag(enabled=False, rollout=25, owner="ann")
    assert run("flags", "enable", "pay", "--wait", "10").exit_code == 0
    newest, switched, first = told(run("flags", "history", "pay", "--json"))
    assert (first["by"], switched["reason"], newest["after"]["enabled"]) == ("ann", "incident", True)
    assert run("flags", "undo", str(newest["version"]), "--wait", "10").exit_code == 0
    assert not kit.flags.enabled("pay", actor="x")


def test_flags_are_listed_and_explained(run: Run, kit: StateKit) -> None:
    kit.flags.set("size", Flag(variants={"s": 1, "l": 2}, default="s"))
    listed = run("flags", "list")
    assert listed.output.splitlines()[0].split() == ["FLAG", "STATE", "ROLLOUT", "%", "TYPE", "OWNER"]
    assert listed.output.splitlines()[1].split() == ["size", "on", "100", "integer", "-"]
    assert told(run("flags", "list", "--json"))["size"]["default"] == "s"
    explained = told(run("flags", "explain", "size", "--actor", "u:1", "--json"))
    assert (explained["value"], explained["variant"], explained["reason"]) == (1, "s", "static")
    unknown = run("flags", "explain", "sise")
    assert unknown.exit_code == 1
    assert "size" in unknown.output


def test_a_flag_is_given_as_variants_or_as_a_document(run: Run, kit: StateKit) -> None:
    told(
        run(
            "flags",
            "set",
            "a",
            "--variant",
            "s=1",
            "--variant",
            "l=2",
            "--default",
            '"s"',
            "--wait",
            "10",
            "--json",
        )
    )
    assert kit.flags.value("a", 0) == 1
    told(run("flags", "set", "b", "--document", '{"enabled": false}', "--wait", "10", "--json"))
    assert kit.flags.get("b") == Flag(enabled=False)
    assert run("flags", "delete", "b", "--wait", "10").exit_code == 0
    assert kit.flags.get("b") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flags", "set", "x", "--rollout", "101"], "101"),
        (["flags", "set", "x", "--document", "[1]"], "not a JSON object"),
        (["flags", "set", "x", "--document", "{"], "not JSON"),
        (["flags", "set", "x", "--variant", "s"], "NAME=VALUE"),
        (["tenants", "set", "acme", "plan=x"], "--unchecked"),
        (["tenants", "set", "acme", "plan", "--unchecked"], "PATH=VALUE"),
        (["tenants", "get", "acme", "--settings", "json:loads"], "no TenantSettings class"),
        (["tenants", "get", "acme", "--settings", "no_such_module:X"], "no_such_module"),
        (["tenants", "get", ""], "id is a text"),
        (["limits", "peek", "login", "5/fortnight", "x"], "5/fortnight"),
        (["sessions", "revoke", "not-a-handle"], "hexadecimal"),
    ],
)
def test_bad_usage_is_named_and_exits_with_2(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_workers_are_listed_without_the_command_itself(run: Run, kit: StateKit) -> None:
    kit.flags.set("x", Flag(), wait=10)
    listed = told(run("flags", "workers", "--json"))
    assert [one["name"] for one in listed["workers"]] == [kit.store.worker]
    assert listed["workers"][0]["version"] == listed["version"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flags", "enable", "nope"], "there is no flag 'nope'"),
        (["flags", "delete", "nope"], "there is no flag 'nope'"),
        (["tenants", "delete", "nope"], "there is no tenant 'nope'"),
    ],
)
def test_what_is_not_there_is_named_and_exits_with_1(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert json.loads(run(arguments[0], "history", "nope", "--json").stdout) == []


# -- tenants ---------------------------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This file's settings class, importable as the command imports an app's."""
    import sys

    monkeypatch.setitem(sys.modules, "app_settings", sys.modules[Settings.__module__])
    return ["--settings", "app_settings:Settings"]


def test_a_tenant_is_changed_explained_and_taken_back(run: Run, kit: StateKit, model: list[str]) -> None:
    tenants = kit.tenants(Settings)
    tenants.load()
    done = told(
        run(
            "tenants",
            "set",
            "acme",
            "plan=pro",
            "limits.rps=5",
            *model,
            "--by",
            "ann",
            "--wait",
            "10",
            "--json",
        )
    )
    assert done["workers"] == done["acknowledged"] == 2
    assert (tenants.get("acme").plan, tenants.get("acme").limits.rps) == ("pro", 5)
    assert told(run("tenants", "get", "acme", *model)) == {"plan": "pro", "limits": {"rps": 5}}
    assert told(run("tenants", "get", "other", *model)) == {"plan": "free", "limits": {"rps": 10}}
    assert told(run("tenants", "get", "acme", "limits.rps")) == 5
    explained = told(run("tenants", "explain", "acme", "limits.rps", "--json"))
    assert (explained["layer"], explained["by"], explained["version"]) == ("tenant", "ann", 1)
    assert "ann" in run("tenants", "explain", "acme", "plan", *model).output
    assert told(run("tenants", "list", "--json")) == [{"tenant": "acme", "version": 1}]
    assert run("tenants", "set", "acme", '{"limits": null}', *model, "--wait", "10").exit_code == 0
    assert tenants.get("acme").limits.rps == 10
    assert run("tenants", "undo", "acme", *model, "--wait", "10").exit_code == 0
    assert tenants.get("acme").limits.rps == 5
    assert len(told(run("tenants", "history", "acme", "--json"))) == 3
    assert run("tenants", "delete", "acme", "--wait", "10").exit_code == 0
    assert tenants.known() == ()


def test_what_does_not_validate_or_comes_too_late_is_not_written(
    run: Run, kit: StateKit, model: list[str]
) -> None:
    tenants = kit.tenants(Settings)
    tenants.update("acme", {"plan": "pro"})
    invalid = run("tenants", "set", "acme", "limits.rps=-1", *model)
    assert (invalid.exit_code, "limits.rps=-1" in invalid.output) == (2, True)
    late = run("tenants", "set", "acme", "plan=max", *model, "--if-version", "0")
    assert (late.exit_code, "is at version 1, not 0" in late.output) == (1, True)
    assert tenants.get("acme").plan == "pro"


# -- sessions, limits, pools, top ------------------------------------------------------------------------


def test_sessions_are_listed_and_revoked(run: Run, kit: StateKit) -> None:
    store = kit.sessions()
    for _ in range(3):
        session = store.open(None)
        session.sign_in(principal="user:7")
        store.save(session)
    listed = told(run("sessions", "list", "user:7", "--json"))
    assert len(listed) == 3
    assert session.id not in run("sessions", "list", "user:7").output
    assert run("sessions", "revoke", listed[0]["handle"]).output == "revoked\n"
    assert run("sessions", "revoke", listed[0]["handle"]).exit_code == 1
    assert told(run("sessions", "revoke-all", "user:7", "--json")) == {"principal": "user:7", "revoked": 2}
    assert store.sessions_of("user:7") == []


def test_limits_are_looked_at_and_reset(run: Run, kit: StateKit) -> None:
    limiter = kit.rate_limiter("login", "2/minute", "100/hour")
    limiter.hit("ip")
    seen = told(run("limits", "peek", "login", "2/minute,100/hour", "ip", "--json"))
    assert [one["remaining"] for one in seen["limits"]] == [1, 99]
    limiter.hit("ip")
    assert run("limits", "peek", "login", "2/minute,100/hour", "ip").exit_code == 1
    assert run("limits", "reset", "login", "2/minute,100/hour", "ip").exit_code == 0
    assert run("limits", "reset", "login", "2/minute,100/hour", "ip").exit_code == 1
    assert limiter.peek("ip").remaining == 2


def test_pools_and_top_show_the_fleet(run: Run, kit: StateKit) -> None:
    kit.flags.set("x", Flag(), by="ann", wait=10)
    kit.pools.register("billing", open=object, close=lambda _client: None, per_process=2, fleet=6)
    with kit.pools.checkout("billing"):
        kit.pools.tend()
        (view,) = told(run("pools", "billing", "--json"))
        assert (view["budget"], view["open"], len(view["processes"])) == (6, 1, 1)
        assert "billing: 1 open of 6" in run("pools", "billing").output
        looked = told(run("top", "--json", "--pool", "billing"))
        assert looked["flags_version"] == 1
        assert [one["name"] for one in looked["workers"]] == [kit.store.worker]
        assert looked["pools"][0]["budget"] == 6
        page = run("top", "--once", "--pool", "billing").output
        assert "live processes: 1" in page
        assert "pool billing: 1 open of 6" in page
    assert run("pools", "nobody").exit_code == 1


def test_top_looks_again_and_again_and_survives_an_outage(kit: StateKit) -> None:
    pages: list[Any] = []

    def pause() -> None:
        if len(pages) == 3:
            raise KeyboardInterrupt

    with store_down(kit), pytest.raises(KeyboardInterrupt):
        top._watch(kit, [], pages.append, pause)
    assert all("the store does not answer" in str(page) for page in pages)
    pages.clear()
    with pytest.raises(KeyboardInterrupt):
        top._watch(kit, ["billing"], pages.append, pause)
    assert [table.title for table in pages[-1].renderables[1:]] == [
        "live processes: 1",
        "latest writes",
        "pool billing: 0 open of -",
    ]


def test_a_store_that_is_down_is_one_line_and_exit_code_1(namespace: str) -> None:
    for command in (["flags", "list"], ["tenants", "list"], ["sessions", "list", "x"], ["top", "--once"]):
        result = CliRunner().invoke(tree(), [*command, "--url", "unix:///nowhere/s.sock", "-n", namespace])
        assert result.exit_code == 1
        assert result.output.startswith("statekit: the store cannot be reached")


def test_every_command_explains_itself() -> None:
    for group, verbs in {
        "flags": ["list", "set", "enable", "disable", "delete", "explain", "history", "undo", "workers"],
        "tenants": ["list", "get", "set", "explain", "history", "undo", "delete"],
        "sessions": ["list", "revoke", "revoke-all"],
        "limits": ["peek", "reset"],
    }.items():
        for verb in verbs:
            result = CliRunner().invoke(tree(), [group, verb, "--help"])
            assert result.exit_code == 0
            assert "--url" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_all_commands_look_alike(command: str) -> None:
    shown = CliRunner().invoke(tree(), [command, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: ")
    assert "completion" not in shown.output
    assert "╭" not in shown.output
