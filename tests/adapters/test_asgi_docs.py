"""The page for newcomers says what is true: its apps run."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse
from starlette.routing import Route

from statekit import TenantSettings
from statekit.testing import store_down
from statekit_asgi.fastapi import TenantDep

PAGE = Path(__file__).parents[2] / "docs" / "asgi.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
async def module(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the page's first app defines."""
    monkeypatch.setenv("STATEKIT_URL", valkey_url)
    found: dict[str, Any] = {"__name__": "page"}
    run(BLOCKS[0], found)
    yield found
    await found["kit"].close()


def run(source: str, module: dict[str, Any]) -> None:
    exec(compile(source, "app.py", "exec", dont_inherit=True), module)


def block_with(text: str) -> str:
    return next(block for block in BLOCKS if text in block)


def browser(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_the_first_app_of_the_page_runs(module: dict[str, Any]) -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 22
    visitor = browser(module["app"])
    assert (await visitor.post("/login/ann")).json() == {"hello": "ann"}
    assert (await visitor.post("/cart/apple")).json() == {"items": ["apple"], "new_checkout": False}
    assert (await visitor.get("/cart")).json()["items"] == ["apple"]
    answers = [await visitor.post("/login/ann") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    assert answers[-1].json()["violated-policies"] == ["page.login/by_ip"]


async def test_starlette_and_the_bare_app_run(module: dict[str, Any]) -> None:
    for block in BLOCKS[1:3]:
        run(block, module)
    visitor = browser(module["starlette"])
    answers = [await visitor.get("/search") for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"searches": 1}, {"searches": 2}]
    assert ";q=100" in answers[0].headers["RateLimit-Policy"]
    visitor = browser(module["bare"])
    assert [(await visitor.get("/")).text for _ in range(2)] == ["1", "2"]


async def test_limits_in_three_places_and_tenants_run(module: dict[str, Any]) -> None:
    module |= {"APIRouter": APIRouter, "TenantSettings": TenantSettings, "TenantDep": TenantDep}
    run(block_with("dependencies=[limit("), module)

    @module["reports"].get("/daily")
    async def daily() -> str:
        return "fine"

    module["app"].include_router(module["reports"])
    visitor = browser(module["app"])
    assert (await visitor.get("/reports/daily")).headers["RateLimit-Policy"].count(";q=") == 2
    answer = await visitor.get("/export", headers={"X-API-Key": "k"})
    assert answer.headers["RateLimit-Policy"].count(";q=") == 4
    assert answer.json() == {"left": 9}


async def test_the_tenants_block_runs(module: dict[str, Any]) -> None:
    module |= {"app": FastAPI(), "TenantSettings": TenantSettings, "TenantDep": TenantDep}
    run(block_with("tenants=Settings"), module)
    visitor = browser(module["app"])
    assert (await visitor.get("http://acme.shop.example/plan")).json() == "free"


async def test_what_endpoints_show_during_an_outage_runs(module: dict[str, Any]) -> None:
    module |= {"APIRouter": APIRouter, "JSONResponse": JSONResponse}
    run(block_with("session_outage"), module)
    app, catalogue = module["app"], module["catalogue"]
    catalogue.get("/see")(lambda: "seen")
    app.include_router(catalogue)
    app.router.routes.append(Route("/profile", module["profile"]))
    visitor = browser(app)
    await visitor.post("/cart/apple")
    assert (await visitor.get("/home")).json() == {"items": ["apple"], "as_of_seconds_ago": None}
    with store_down(module["kit"]):
        shown = (await visitor.get("/home")).json()
        assert (shown["items"], shown["as_of_seconds_ago"] < 60) == (["apple"], True)
        assert (await visitor.get("/profile")).json() == {"name": None}
        assert (await visitor.get("/catalogue/see")).json() == "seen"
        assert (await visitor.get("/cart")).status_code == 503
