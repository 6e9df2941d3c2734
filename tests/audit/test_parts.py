"""What an object keeps in its attributes: told with the object, each attribute with a category of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from statekit.audit import Category, Config, Finding, Report, audit
from statekit.audit.baseline import against, load, save
from statekit.audit.guard.named import named
from statekit.audit.output import render

DESK = """
from flask import Flask, request

app = Flask(__name__)


class Desk:
    def __init__(self):
        self.sessions = {}
        self.websockets = {}
        self.name = "desk"

    def login(self, sid, user):
        self.sessions[sid] = user

    def logout(self, sid):
        self.sessions.pop(sid, None)

    def connect(self, user, ws):
        self.websockets[user] = ws

    def disconnect(self, user):
        del self.websockets[user]


desk = Desk()


@app.post("/login")
def login():
    desk.login(request.json["sid"], request.json["user"])
    desk.logout(request.json["old_sid"])
    desk.connect(request.json["user"], request.environ["wsgi.websocket"])
    desk.disconnect(request.json["old_user"])
    return ""
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(DESK)
    return tmp_path


def report(shop: Path, **settings: object) -> Report:
    return audit(shop, Config(**settings), cache=False)  # type: ignore[arg-type]


def the_desk(shop: Path, **settings: object) -> Finding:
    (found,) = report(shop, **settings).findings
    return found


def test_each_attribute_has_a_line_and_a_category_of_its_own(shop: Path) -> None:
    desk = the_desk(shop)
    assert (desk.name, desk.part_of) == ("desk", "")
    assert [(one.name, one.line, one.category, one.part_of) for one in desk.parts] == [
        ("sessions", 9, Category.SESSION_STORE, "app.desk"),
        ("websockets", 10, Category.CONNECTION_MANAGER, "app.desk"),
    ]


def test_json_tells_them_after_their_object_and_does_not_count_them(shop: Path) -> None:
    told = json.loads(render(report(shop), "json"))
    assert told["findings"][0]["name"] == "desk"
    assert {one["name"]: one["part_of"] for one in told["findings"]} == {
        "desk": "",
        "sessions": "app.desk",
        "websockets": "app.desk",
    }
    assert sum(row["count"] for row in told["inventory"]) == 1


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_reports_for_people_tell_them_with_their_object(shop: Path, form: str) -> None:
    said = render(report(shop), form)
    assert "keeps" in said.lower()
    assert "websockets" in said
    assert "app.py:10" in said


def test_the_audit_is_no_surer_of_a_part_than_of_its_object(shop: Path) -> None:
    desk = the_desk(shop)
    order = ["high", "medium", "low"]
    assert all(order.index(one.confidence) >= order.index(desk.confidence) for one in desk.parts)


def test_what_an_object_of_one_request_keeps_is_no_state(shop: Path) -> None:
    source = DESK.replace("desk = Desk()\n", "").replace(
        "def login():\n", "def login():\n    desk = Desk()\n"
    )
    (shop / "app.py").write_text(source)
    assert not report(shop).findings


def test_who_accepts_the_object_accepts_what_it_keeps(shop: Path) -> None:
    (shop / "app.py").write_text(DESK.replace("desk = Desk()", "desk = Desk()  # per-process-ok: one desk"))
    desk = the_desk(shop)
    assert {(one.status, one.reason) for one in (desk, *desk.parts)} == {("accepted", "one desk")}


def test_a_comment_may_speak_of_one_attribute(shop: Path) -> None:
    spoken = "self.websockets = {}  # per-process-ok: the socket itself"
    (shop / "app.py").write_text(DESK.replace("self.websockets = {}", spoken))
    found = report(shop)
    assert {one.name: one.status for one in found.findings[0].parts} == {
        "sessions": "open",
        "websockets": "accepted",
    }
    assert "websockets:" not in render(found, "text")
    assert not found.notes


def test_a_baseline_that_knows_the_object_knows_its_parts(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    assert save(file, report(shop).findings) == 1
    (desk,), stale = against(report(shop).findings, load(file))
    assert {one.status for one in (desk, *desk.parts)} == {"baseline"}
    assert not stale


def test_a_baseline_leaves_to_a_part_what_its_comment_says(shop: Path, tmp_path: Path) -> None:
    spoken = "self.websockets = {}  # per-process-ok: the socket itself"
    (shop / "app.py").write_text(DESK.replace("self.websockets = {}", spoken))
    save(tmp_path / "baseline.json", report(shop).findings)
    (desk,), _ = against(report(shop).findings, load(tmp_path / "baseline.json"))
    assert {one.name: (one.status, one.reason) for one in desk.parts} == {
        "sessions": ("baseline", ""),
        "websockets": ("accepted", "the socket itself"),
    }


def test_rules_that_are_left_out_are_left_out_of_parts(shop: Path) -> None:
    rule = next(one.rule for one in the_desk(shop).parts if one.name == "websockets")
    assert [one.name for one in the_desk(shop, ignore=(rule,)).parts] == ["sessions"]


def test_the_second_audit_of_the_same_content_tells_the_same(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert audit(shop, Config()).findings == audit(shop, Config()).findings == report(shop).findings


def test_the_guard_watches_the_object(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    file.write_text(render(report(shop), "json"))
    assert [one.qualified_name for one in named(file)] == ["app.desk"]
