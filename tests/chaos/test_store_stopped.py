"""The store is stopped with SIGSTOP: it holds its connections and says nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from statekit import AsyncStateKit, StateKit
from statekit.store.outage import Budget
from statekit_asgi import StatekitMiddleware
from statekit_asgi import limit as asgi_limit
from statekit_flask import StatekitFlask
from tests.chaos.diary import Outcome
from tests.chaos.load import load, prepare
from tests.chaos.visitor import FLEET, HITS, SLOTS
from tests.servers import Server, binary, wait_until

BUDGET = Budget()
MACHINE = 0.1
"""Seconds that a thread may have to wait for its turn on the processor, on top of its budget."""
LONGEST = {
    "hit": BUDGET.decision,
    "acquire": BUDGET.decision,
    "open": BUDGET.operation,
    "save": 2 * BUDGET.operation,
    "set": 2 * BUDGET.operation,
    "release": BUDGET.decision,
    "checkout": BUDGET.operation,
    "enabled": 0,
    "value": 0,
    "tenants.get": 0,
}
"""Seconds a call may wait: the budget of a round trip times the trips it makes."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(binary("valkey")) as server:
        yield server


def test_ten_seconds_of_silence(server: Server, namespace: str) -> None:
    with load(server.url, namespace) as running:
        time.sleep(1)
        with server.frozen():
            begin = time.monotonic()
            time.sleep(10)
        back = time.monotonic()
        time.sleep(1.5)
        end = time.monotonic()
    diary = running.diary
    print(f"\n{diary}\nfull service {diary.back(back, end) * 1000:.0f} ms after its return")
    assert not diary.complaints
    assert sum(begin < moment < back for moment in diary.troubles) > 100
    assert not diary.counts["enabled", Outcome.DEGRADED] + diary.counts["tenants.get", Outcome.REFUSED]
    too_long = {verb: seconds for verb, seconds in diary.longest.items() if seconds > LONGEST[verb] + MACHINE}
    assert not too_long
    assert not diary.miscounted(HITS)
    assert diary.most_at_once("slots") <= SLOTS
    assert diary.most_at_once("clients") <= FLEET
    assert diary.back(back, end) < 1.0


# -- requests --------------------------------------------------------------------------------------------

PAGE = BUDGET.decision
"""Seconds for a page with a limit, a session and a flag: one round trip asks for all that is not at hand."""
USERS = 6


def judged(answers: list[tuple[float, dict[str, Any]]]) -> None:
    """Each page came in time, and said that it was made without the store."""
    seconds = sorted(seconds for seconds, _ in answers)
    p99 = seconds[int(len(seconds) * 0.99)]
    print(f"\n{len(seconds)} pages, p99 {p99 * 1000:.0f} ms, longest {seconds[-1] * 1000:.0f} ms")
    assert len(answers) > 100
    assert all(answer == {"on": True, "degraded": True, "cart": None} for _, answer in answers)
    assert p99 <= PAGE + 0.01
    assert seconds[-1] <= PAGE + MACHINE


def test_pages_of_flask_while_the_store_is_stopped(server: Server, namespace: str) -> None:
    prepare(server.url, namespace)
    app = flask.Flask(__name__)
    kit = StateKit.connect(server.url, namespace, snapshot_dir=None)
    extension = StatekitFlask(app, kit, sessions={"on_outage": "anonymous"})

    @app.get("/")
    @extension.limit("1000000/hour", key=lambda: "everyone")
    def page() -> dict[str, Any]:
        visit: Any = flask.session
        cart = visit.get("cart")
        visit["cart"] = 1
        return {"on": kit.flags.enabled("on"), "degraded": visit.degraded, "cart": cart}

    browsers = [app.test_client() for _ in range(USERS)]
    for browser in browsers:
        wait_until(lambda browser=browser: browser.get("/").json["cart"])
    answers: list[tuple[float, dict[str, Any]]] = []
    with server.frozen():
        end = time.monotonic() + 2

        def use(browser: Any) -> None:
            while (begin := time.monotonic()) < end:
                answer = browser.get("/").json
                answers.append((time.monotonic() - begin, answer))
                time.sleep(0.02)

        threads = [threading.Thread(target=use, args=(browser,)) for browser in browsers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    judged(answers)
    kit.close()


async def test_pages_of_asgi_while_the_store_is_stopped(server: Server, namespace: str) -> None:
    await asyncio.to_thread(prepare, server.url, namespace)
    kit = AsyncStateKit.connect(server.url, namespace, snapshot_dir=None)

    @asgi_limit("1000000/hour", key=lambda _scope: "everyone")
    async def page(request: Request) -> JSONResponse:
        visit: Any = request.session
        cart = visit.get("cart")
        visit["cart"] = 1
        return JSONResponse({"on": kit.flags.enabled("on"), "degraded": visit.degraded, "cart": cart})

    app = StatekitMiddleware(
        Starlette(routes=[Route("/", page)]), kit=kit, sessions={"on_outage": "anonymous"}
    )
    answers: list[tuple[float, dict[str, Any]]] = []

    async def use(browser: httpx.AsyncClient, end: float) -> None:
        while (begin := time.monotonic()) < end:
            answer = (await browser.get("/")).json()
            answers.append((time.monotonic() - begin, answer))
            await asyncio.sleep(0.02)

    async def known(browser: httpx.AsyncClient) -> None:
        """Come in until one has a session; a machine under load may miss a small budget."""
        for _ in range(100):
            if (await browser.get("/")).json()["cart"]:
                return
        raise AssertionError("there is no session")

    def browser() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://site.test")

    await kit.flags.load()
    browsers = [browser() for _ in range(USERS)]
    for one in browsers:
        await known(one)
    server.freeze()
    try:
        await asyncio.gather(*(use(one, time.monotonic() + 2) for one in browsers))
    finally:
        server.thaw()
    judged(answers)
    await kit.close()
