"""What an ASGI app answers while the store is away, how it starts and ends, and how it says whether it is well."""

import asyncio
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from statekit import AsyncStateKit, Flag, TenantSettings
from statekit.errors import StoreUnavailable, UsageError, VersionConflict
from statekit.store.outage import Budget
from statekit.testing import OutageSimulator, store_down
from statekit_asgi import StatekitMiddleware, limit
from statekit_asgi.fastapi import SessionDep
from tests.adapters.conftest import AsgiSite


async def plain(_request: Request) -> Any:
    return PlainTextResponse("plain")


async def put(request: Request) -> Any:
    request.session["x"] = request.session.get("x", 0) + 1
    return PlainTextResponse("put")


@limit("5/minute")
async def limited(_request: Request) -> Any:
    return PlainTextResponse("limited")


@limit("5/minute", on_outage="deny")
async def denied(_request: Request) -> Any:
    return PlainTextResponse("denied")


async def stream(request: Request) -> Any:
    request.session["seen"] = True

    async def lines() -> Any:
        while True:
            yield "much to tell"
            await asyncio.sleep(0)

    return StreamingResponse(lines(), headers={"ETag": '"1"'})


def routes() -> list[Any]:
    return [
        Route("/plain", plain),
        Route("/put", put, methods=["POST"]),
        Route("/limited", limited),
        Route("/denied", denied),
        Route("/stream", stream),
    ]


@pytest.fixture
async def pages(around: Any) -> Any:
    site = around(Starlette(routes=routes()))
    await site.browser.post("/put")
    return site


def unavailable(answer: Any) -> bool:
    return (
        answer.status_code == answer.json()["status"] == 503
        and answer.headers["Content-Type"] == "application/problem+json"
        and int(answer.headers["Retry-After"]) >= 1
        and int(answer.headers["Content-Length"]) == len(answer.content)
        and "Set-Cookie" not in answer.headers
    )


async def test_who_needs_nothing_of_the_store_notices_nothing(pages: Any) -> None:
    with store_down(pages.kit):
        assert (await pages.browser.get("/plain")).text == "plain"
        assert (await pages.browser.get("/limited")).text == "limited"
        assert "RateLimit" not in (await pages.browser.get("/limited")).headers, (
            "nothing is known of what is left"
        )


async def test_who_reads_a_session_is_told_to_come_back(pages: Any) -> None:
    with store_down(pages.kit):
        answer = await pages.browser.post("/put")
        assert unavailable(answer)
        assert "simulated" not in answer.text, "what a store says of itself is for the log"
    assert (await pages.browser.post("/put")).text == "put"


async def test_a_session_that_could_not_be_saved_is_no_success(pages: Any) -> None:
    with store_down(pages.kit):
        assert unavailable(await pages.new_browser().post("/put"))


async def test_an_endless_stream_whose_session_could_not_be_saved_ends(pages: Any) -> None:
    async with asyncio.timeout(20):
        with store_down(pages.kit):
            answer = await pages.new_browser().get("/stream")
    assert unavailable(answer)
    assert "ETag" not in answer.headers


async def test_limits_answer_as_they_declare(pages: Any) -> None:
    with store_down(pages.kit):
        answer = await pages.browser.get("/denied")
    assert unavailable(answer)
    assert "reduced" in answer.json()["title"]


async def test_a_framework_that_makes_a_500_of_it_is_corrected(async_kit: Any) -> None:
    app = Starlette(routes=routes())
    site = AsgiSite(StatekitMiddleware(app, kit=async_kit), async_kit)
    await site.browser.post("/put")
    with store_down(async_kit):
        assert unavailable(await site.browser.post("/put"))


async def test_a_session_may_be_declared_dispensable(around: Any) -> None:
    async def show(request: Request) -> Any:
        return JSONResponse([request.session.get("x"), request.session.degraded])

    site = around(Starlette(routes=[*routes(), Route("/", show)]), sessions={"on_outage": "anonymous"})
    await site.browser.post("/put")
    with store_down(site.kit):
        assert (await site.browser.get("/")).json() == [None, True]
    assert (await site.browser.get("/")).json() == [1, False]


async def test_a_dependency_on_the_session_is_answered_too(around: Any) -> None:
    app = FastAPI()

    @app.post("/")
    async def index(session: SessionDep) -> None:
        session["x"] = 1

    site = around(app, lazy=True)
    assert (await site.browser.post("/")).status_code == 200
    with store_down(site.kit):
        assert unavailable(await site.browser.post("/"))


async def test_a_store_that_hangs_holds_up_nobody_for_long(valkey_url: str, namespace: str) -> None:
    with OutageSimulator(valkey_url) as outage:
        kit = AsyncStateKit.connect(
            outage.url, namespace, budget=Budget(decision=0.2, operation=0.4, connect=5)
        )
        site = AsgiSite(StatekitMiddleware(Starlette(routes=routes()), kit=kit), kit)

        async def put_works() -> None:
            """Wait for it: a machine under load may miss a small budget; it does not miss it for ever."""
            deadline = time.monotonic() + 30
            while (await site.browser.post("/put")).status_code != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

        await put_works()
        with outage.stalled():
            assert (await site.browser.get("/limited")).text == "limited"
            assert (await site.browser.get("/plain")).text == "plain"
            assert unavailable(await site.browser.post("/put"))
        await put_works()
        await kit.close()


async def test_errors_of_statekit_become_problems_and_mistakes_stay_mistakes(around: Any) -> None:
    app = FastAPI()

    @app.get("/conflict")
    async def conflict() -> None:
        raise VersionConflict("version 3 was expected, version 4 is there")

    @app.get("/mistake")
    async def mistake() -> None:
        raise UsageError("limit='x'")

    @app.exception_handler(StoreUnavailable)
    async def own(_request: Any, _error: Any) -> Any:
        return PlainTextResponse("come back later", 503)

    @app.get("/own")
    async def gone() -> None:
        raise StoreUnavailable("away")

    site = around(app)
    answer = await site.browser.get("/conflict")
    assert (answer.status_code, answer.headers["Content-Type"]) == (409, "application/problem+json")
    assert answer.json()["detail"] == "version 3 was expected, version 4 is there"
    assert (await site.browser.get("/mistake")).status_code == 500
    assert (await site.browser.get("/own")).text == "come back later", "the app's own handlers come first"


async def test_a_tenant_nobody_knows_is_not_found(around: Any, async_kit: Any) -> None:
    class Settings(TenantSettings):
        plan: str = "free"

    tenants = async_kit.tenants(Settings, strict=True)
    site = around(Starlette(routes=routes()), tenants=tenants, tenant="header:X-Tenant")
    assert (await site.browser.get("/plain", headers={"X-Tenant": "nobody"})).status_code == 404
    assert (await site.browser.get("/plain")).status_code == 200


# -- health --------------------------------------------------------------------------------------------------


async def test_liveness_does_not_ask_the_store_and_readiness_does(pages: Any) -> None:
    assert (await pages.trips("GET", "/healthz"))[1] == []
    answer, trips = await pages.trips("GET", "/readyz")
    assert answer.json()["status"] == "ok"
    assert trips == [("PING",)]
    with store_down(pages.kit):
        assert (await pages.browser.get("/healthz")).status_code == 200
        assert unavailable(await pages.browser.get("/readyz"))
    assert (await pages.browser.get("/readyz")).headers["Cache-Control"] == "no-store"
    assert (await pages.browser.head("/healthz")).content == b""
    assert (await pages.browser.post("/healthz")).status_code == 404, "not a probe: it is the app's"


async def test_a_process_being_drained_says_so(around: Any) -> None:
    draining = False
    site = around(Starlette(routes=routes()), draining=lambda: draining, health="/alive", ready=None)
    assert (await site.browser.get("/readyz")).status_code == 404
    assert (await site.browser.get("/alive")).status_code == 200
    site = AsgiSite(StatekitMiddleware(plain, kit=site.kit, draining=lambda: draining), site.kit)  # type: ignore[arg-type]
    assert (await site.browser.get("/readyz")).status_code == 200
    draining = True
    answer = await site.browser.get("/readyz")
    assert answer.status_code == 503
    assert "drained" in answer.json()["title"]


async def test_probes_are_found_under_a_root_path(async_kit: Any) -> None:
    middleware = StatekitMiddleware(Starlette(routes=routes()), kit=async_kit)
    statuses = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    for path, root in (("/api/healthz", "/api"), ("/healthz", ""), ("/healthz", "/api")):
        scope = {"type": "http", "method": "GET", "path": path, "root_path": root, "headers": []}
        await middleware(scope, None, send)  # type: ignore[arg-type]
    assert statuses[::2] == [200] * 3


# -- lifespan ------------------------------------------------------------------------------------------------


class Server:
    """What a server does about a lifespan."""

    def __init__(self, app: Any) -> None:
        self.sent: list[str] = []
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._app = app

    async def _send(self, message: Any) -> None:
        self.sent.append(message["type"])

    async def run(self) -> list[str]:
        self._inbox.put_nowait({"type": "lifespan.startup"})
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        async with asyncio.timeout(10):
            await self._app({"type": "lifespan", "state": {}}, self._inbox.get, self._send)
        return self.sent


WHOLE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_the_kit_is_loaded_when_the_app_starts(async_kit: AsyncStateKit) -> None:
    seen: list[bool] = []

    @asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        seen.append(async_kit.flags.enabled("new"))
        yield

    await async_kit.flags.set("new", Flag(), by="test")
    app = Starlette(lifespan=lifespan)
    app.add_middleware(StatekitMiddleware, kit=async_kit)
    assert await Server(app).run() == WHOLE
    assert seen == [True]
    assert await async_kit.ping() >= 0, "a kit that was handed in stays open"


async def test_a_kit_of_its_own_is_closed_at_the_end(valkey_url: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("STATEKIT_URL", valkey_url)
    closed = []
    close = AsyncStateKit.close
    monkeypatch.setattr(AsyncStateKit, "close", lambda kit: (closed.append(kit), close(kit))[1])
    middleware = StatekitMiddleware(Starlette())
    assert await Server(middleware).run() == WHOLE
    assert closed == [middleware.kit]


@pytest.mark.parametrize("asks_first", [True, False])
async def test_an_app_without_a_lifespan_gets_one(async_kit: Any, asks_first: bool) -> None:
    async def refuses(scope: Any, receive: Any, _send: Any) -> None:
        if asks_first:
            await receive()
        assert scope["type"] == "http"

    async def ignores(_scope: Any, _receive: Any, _send: Any) -> None: ...

    for app in (refuses, ignores):
        assert await Server(StatekitMiddleware(app, kit=async_kit)).run() == WHOLE


async def test_an_app_that_fails_to_start_is_not_spoken_for(async_kit: Any) -> None:
    @asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        raise ZeroDivisionError
        yield

    server = Server(StatekitMiddleware(Starlette(lifespan=lifespan), kit=async_kit))
    with pytest.raises(ZeroDivisionError):
        await server.run()
    assert server.sent == ["lifespan.startup.failed"]
    assert await async_kit.ping() >= 0


async def test_a_store_that_is_down_keeps_no_app_from_starting(async_kit: Any) -> None:
    with store_down(async_kit):
        assert await Server(StatekitMiddleware(Starlette(), kit=async_kit)).run() == WHOLE
