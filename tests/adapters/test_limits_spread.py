"""Several limits on one request where their keys lie in several slots, as on a cluster: a refusal leaves nothing."""

from __future__ import annotations

from typing import Any

from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from statekit import AsyncStateKit, StateKit
from statekit_asgi import StatekitMiddleware, limit
from statekit_flask import StatekitFlask
from tests.adapters.conftest import AsgiSite
from tests.conftest import PATIENT

EXPECTED = [200, 200, 429, 429]


def test_in_flask(server_kit: StateKit) -> None:
    server_kit.store.keys.slotted = True
    app = Flask(__name__)
    sk = StatekitFlask(app, server_kit)
    wide = server_kit.rate_limiter("wide", "100/hour")

    @app.get("/")
    @sk.limit(wide, key=lambda: "k")
    @sk.limit("2/hour", name="narrow")
    def view() -> str:
        return "in"

    browser = app.test_client()
    answers = [browser.get("/") for _ in EXPECTED]
    assert [answer.status_code for answer in answers] == EXPECTED
    assert answers[2].json["violated-policies"] == ["narrow"]
    assert '"wide";r=98' in answers[2].headers["RateLimit"]
    assert wide.peek("k").remaining == 98


async def test_in_an_asgi_app(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    kit.store.keys.slotted = True
    wide = kit.rate_limiter("wide", "100/hour")

    @limit(wide, key=lambda _: "k")
    @limit("2/hour", name="narrow")
    async def view(_request: Request) -> Any:
        return PlainTextResponse("in")

    site = AsgiSite(StatekitMiddleware(Starlette(routes=[Route("/", view)]), kit=kit), kit)
    answers = [await site.browser.get("/") for _ in EXPECTED]
    assert [answer.status_code for answer in answers] == EXPECTED
    assert answers[2].json()["violated-policies"] == ["narrow"]
    assert '"wide";r=98' in answers[2].headers["RateLimit"]
    assert (await wide.peek("k")).remaining == 98
    await kit.close()
