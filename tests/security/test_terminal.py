"""The operator's terminal: what anybody may have named something neither moves its cursor nor colours its text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from statekit import Flag, StateKit, TenantSettings
from statekit.cli._tree import tree

EVIL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\r\n\u202e[/red][bold]:smile:\x7fz"


class Settings(TenantSettings):
    plan: str = "free"


COMMANDS = [
    ["flags", "list"],
    ["flags", "history", EVIL],
    ["flags", "history"],
    ["flags", "show", EVIL],
    ["flags", "workers"],
    ["flags", "explain", EVIL],
    ["flags", "set", EVIL, "--rollout", "200"],
    ["tenants", "list"],
    ["tenants", "show", EVIL],
    ["tenants", "history", EVIL],
    ["sessions", "list", EVIL],
    ["sessions", "revoke", EVIL],
    ["limits", "peek", EVIL, "5/minute", EVIL],
    ["limits", "peek", "l", EVIL, EVIL],
    ["pools", EVIL],
    ["top", "--once"],
    ["top", "--once", "--pool", EVIL],
]


@pytest.fixture(scope="module")
def where(servers: Any) -> list[str]:
    url = servers["valkey"].url
    with StateKit.connect(url, "terminal", snapshot_dir=None) as kit:
        kit.flags.set(EVIL, Flag(owner=EVIL, description=EVIL, variants={EVIL: EVIL}), by=EVIL, reason=EVIL)
        kit.tenants(Settings).update(EVIL, {"plan": EVIL}, by=EVIL, reason=EVIL)
        session = kit.sessions().open(None)
        session.sign_in(EVIL)
        kit.sessions().save(session)
    return ["--url", url, "--namespace", "terminal"]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words).replace(EVIL, "X"))
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_no_name_writes_to_the_terminal(words: list[str], more: list[str], where: list[str]) -> None:
    result = CliRunner().invoke(tree(), [*words, *more, *where])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    odd = {one for one in result.output if not one.isprintable()} - {"\n"}
    assert not odd
    if more and result.exit_code == 0 and result.stdout.startswith(("{", "[")):
        json.loads(result.stdout)


def test_json_says_the_names_as_they_are(where: list[str]) -> None:
    told = CliRunner().invoke(tree(), ["flags", "list", "--json", *where]).stdout
    assert EVIL in json.loads(told)
