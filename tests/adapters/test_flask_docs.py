"""The page for newcomers says what is true: its app runs, its table of round trips holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "flask.md"


def test_the_first_app_of_the_page_runs(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATEKIT_URL", valkey_url)
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
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
