"""Pages with sessions while the store is stopped, then gone: each answers as its route declared, and in time."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from statekit import AsyncStateKit, Encryption, StateKit
from statekit.store.outage import Budget
from statekit_asgi import StatekitMiddleware, session_outage
from statekit_flask import StatekitFlask
from tests.servers import Server, binary, wait_until

BUDGET = Budget()
POLICIES = ("raise", "anonymous", "last-seen")
BRIEF = {("anonymous", "GET"), ("anonymous", "POST"), ("last-seen", "GET")}
"""Where something is shown instead of the session, a page waits for one decision; else as long as any operation may
take. Reading the session is its one round trip, and what was not read is not written."""
MACHINE = 0.1
"""Seconds a thread may have to wait for its turn on the processor, on top of its budget."""
USERS = 6
STOPPED = 2.0
SITE = "https://site.test"
Answers = dict[tuple[str, str], list[tuple[float, int, Any]]]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(binary("valkey")) as server:
        yield server


def page(session: Any, method: str) -> dict[str, Any]:
    """What a view does: reads, and on a POST counts."""
    if method == "POST":
        session["n"] = session.get("n", 0) + 1
    return {"n": session.get("n"), "degraded": session.degraded, "age": session.age}


def told(n: int | None) -> dict[str, Any]:
    """What a page says that was made with the store."""
    return {"n": n, "degraded": False, "age": None}


def judged(answers: Answers) -> None:
    """Each page came in time, with the status and the content that its route declares."""
    for (policy, method), pages in sorted(answers.items()):
        seconds = sorted(spent for spent, _, _ in pages)
        p99 = seconds[int(len(seconds) * 0.99)]
        print(
            f"{method:4} {policy:9} {len(pages):4} pages, p99 {p99 * 1000:3.0f} ms, longest {seconds[-1]:.3f} s"
        )
        assert len(pages) > 20
        longest = BUDGET.decision if (policy, method) in BRIEF else BUDGET.operation
        assert seconds[-1] <= longest + MACHINE
        shown = [document for _, status, document in pages if status == 200]
        if method == "POST" or policy == "raise":
            assert not shown
            assert {status for _, status, _ in pages} == {503}
        else:
            assert len(shown) == len(pages)
            assert all(document["degraded"] for document in shown)
            expected = 1 if policy == "last-seen" else None
            assert {document["n"] for document in shown} == {expected}
            assert policy == "anonymous" or all(0 <= document["age"] < 60 for document in shown)


def encrypted() -> dict[str, Any]:
    return {"encryption": Encryption([Encryption.new_key()])}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Each 503 is a line in the log, and there are thousands."""
    caplog.set_level(logging.ERROR)


def test_pages_of_flask(server: Server, namespace: str) -> None:  # noqa: C901 - an app, its users, an outage
    app = flask.Flask(__name__)
    kit = StateKit.connect(server.url, namespace, snapshot_dir=None)
    extension = StatekitFlask(app, kit, sessions=encrypted())
    for policy in POLICIES:

        @extension.session_outage(policy)
        def view() -> Any:
            return page(flask.session, flask.request.method)

        app.add_url_rule(f"/{policy}", policy, view, methods=["GET", "POST"])
    answers: Answers = defaultdict(list)

    def use(browser: Any, end: float) -> None:
        while time.monotonic() < end:
            for policy in POLICIES:
                for method in ("GET", "POST"):
                    begin = time.monotonic()
                    answer = browser.open(f"/{policy}", method=method)
                    answers[policy, method].append(
                        (time.monotonic() - begin, answer.status_code, answer.json)
                    )
            time.sleep(0.02)

    def all_at_once() -> None:
        end = time.monotonic() + STOPPED
        threads = [threading.Thread(target=use, args=(browser, end)) for browser in browsers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def known(browser: Any) -> bool:
        seen = browser.get("/last-seen")
        return bool(seen.status_code == 200 and seen.json == told(1))

    browsers = [app.test_client() for _ in range(USERS)]
    wait_until(lambda: browsers[0].get("/last-seen").status_code == 200)
    for browser in browsers:
        wait_until(lambda browser=browser: browser.post("/raise").status_code == 200)
        wait_until(lambda browser=browser: known(browser))
    with server.frozen():
        all_at_once()
    wait_until(lambda: all(known(browser) for browser in browsers))
    judged(answers)
    kit.close()


async def test_pages_of_asgi(server: Server, namespace: str) -> None:  # noqa: C901 - as above
    kit = AsyncStateKit.connect(server.url, namespace, snapshot_dir=None)

    def view(policy: str) -> Any:
        @session_outage(policy)
        async def endpoint(request: Request) -> JSONResponse:
            return JSONResponse(page(request.session, request.method))

        return Route(f"/{policy}", endpoint, methods=["GET", "POST"])

    app = StatekitMiddleware(
        Starlette(routes=[view(policy) for policy in POLICIES]), kit=kit, sessions=encrypted()
    )
    answers: Answers = defaultdict(list)

    async def use(browser: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            for policy in POLICIES:
                for method in ("GET", "POST"):
                    begin = time.monotonic()
                    answer = await browser.request(method, f"/{policy}")
                    spent = time.monotonic() - begin
                    answers[policy, method].append((spent, answer.status_code, answer.json()))
            await asyncio.sleep(0.02)

    async def until(browser: httpx.AsyncClient, method: str, path: str, document: Any) -> None:
        """Ask until this is the answer: a machine under load may miss a small budget, but not for ever."""
        for _ in range(1000):
            answer = await browser.request(method, path)
            if answer.status_code == 200 and answer.json() == document:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{path} never answered {document}")

    await kit.flags.load()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    browsers = [httpx.AsyncClient(transport=transport, base_url=SITE) for _ in range(USERS)]
    await until(httpx.AsyncClient(transport=transport, base_url=SITE), "GET", "/last-seen", told(None))
    for browser in browsers:
        await until(browser, "POST", "/raise", told(1))
        await until(browser, "GET", "/last-seen", told(1))
    server.freeze()
    try:
        end = time.monotonic() + STOPPED
        await asyncio.gather(*(use(browser, end) for browser in browsers))
    finally:
        server.thaw()
    for browser in browsers:
        await until(browser, "GET", "/last-seen", told(1))
    judged(answers)
    await kit.close()
