"""The page for newcomers says what is true: its app runs, its table of round trips holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, session

from statekit.testing import store_down

PAGE = Path(__file__).parents[2] / "docs" / "flask.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_app_of_the_page_runs(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATEKIT_URL", valkey_url)
    source = BLOCKS[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    module: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, "app.py", "exec"), module)
    browser = module["app"].test_client()
    assert browser.post("/login/ann").json == {"hello": "ann"}
    assert browser.post("/cart/apple").json == {"items": ["apple"], "new_checkout": False}
    assert browser.get("/cart").json["items"] == ["apple"]
    answers = [browser.post("/login/ann") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    assert answers[-1].json["violated-policies"] == ["app.login/by_ip"]
    module["kit"].close()


def test_what_routes_show_during_an_outage_runs(site: Any) -> None:
    (source,) = [block for block in BLOCKS if "session_outage" in block]
    site_, catalogue = site(), Blueprint("catalogue", "catalogue")
    catalogue.get("/catalogue")(lambda: {"items": session.get("items")})
    site_.app.post("/add")(lambda: session.setdefault("items", ["sku-1"]))
    exec(source, {"app": site_.app, "sk": site_.sk, "session": session, "catalogue": catalogue})
    site_.app.register_blueprint(catalogue)
    site_.browser.post("/add")
    assert site_.browser.get("/").json == {"items": ["sku-1"], "as_of_seconds_ago": None}
    with store_down(site_.kit):
        shown = site_.browser.get("/").json
        assert (shown["items"], shown["as_of_seconds_ago"] < 60) == (["sku-1"], True)
        assert site_.browser.get("/catalogue").json == {"items": None}
