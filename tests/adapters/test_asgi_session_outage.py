"""What an ASGI endpoint shows of its session while the store is away, and what becomes of a change."""

import time
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from statekit import AsyncStateKit
from statekit.errors import UsageError
from statekit.store.outage import Budget
from statekit.testing import Proxy, store_down
from statekit_asgi import AsgiSession, StatekitMiddleware, limit, load_session, session_outage
from statekit_asgi.fastapi import SessionDep, session
from tests.adapters.conftest import AsgiSite


def told(session: Any) -> dict[str, Any]:
    who, stale = session.principal, session.age
    return {"x": session.get("x"), "who": who, "degraded": session.degraded, "age": stale}


FINE = {"x": 1, "who": None, "degraded": False, "age": None}
EMPTY = {"x": None, "who": None, "degraded": True, "age": None}


async def show(request: Request) -> Any:
    return JSONResponse(told(request.session))


def show_in_a_thread(request: Request) -> Any:
    return JSONResponse(told(request.session))


async def put(request: Request) -> Any:
    request.session["x"] = request.session.get("x", 0) + 1
    return PlainTextResponse("put")


async def sign(request: Request) -> Any:
    how = request.path_params["how"]
    if how == "in":
        request.session.sign_in("user:8")
    elif how == "out":
        request.session.sign_out()
    else:
        request.session.renew()
    return PlainTextResponse("signed")


class Page(HTTPEndpoint):
    async def get(self, request: Request) -> Any:
        return await show(request)

    @session_outage("anonymous")
    async def put(self, request: Request) -> Any:
        return await show(request)


session_outage("last-seen")(Page)


def routes() -> list[Any]:
    found: list[Any] = [
        Route("/raise", show),
        Route("/put", put, methods=["GET", "POST"]),
        Route("/class", Page),
        Route("/thread", session_outage("anonymous")(show_in_a_thread)),
        Route("/limited", limit("100/hour", name="limited")(session_outage("last-seen")(show))),
        Mount("/mounted", routes=[Route("/see", session_outage("anonymous")(show))]),
    ]
    for policy in ("anonymous", "last-seen"):
        outage = session_outage(policy)
        found += [
            Route(f"/{policy}", outage(show)),
            Route(f"/{policy}/put", outage(put), methods=["GET", "POST"]),
            Route(f"/{policy}/sign/{{how}}", outage(sign)),
        ]
    return found


@pytest.fixture
async def pages(around: Any) -> Any:
    site = around(Starlette(routes=routes()))
    await site.browser.get("/last-seen")
    await site.browser.post("/put")
    assert (await site.browser.get("/last-seen")).json()["x"] == 1
    return site


def unavailable(answer: Any) -> bool:
    problem = answer.headers["Content-Type"] == "application/problem+json"
    return problem and answer.status_code == 503 and "Set-Cookie" not in answer.headers


async def test_each_endpoint_answers_as_it_declared(pages: Any) -> None:
    get = pages.browser.get
    with store_down(pages.kit):
        assert unavailable(await get("/raise"))
        for path in ("/anonymous", "/thread", "/mounted/see"):
            assert (await get(path)).json() == EMPTY, path
        for path in ("/last-seen", "/limited", "/class"):
            seen = (await get(path)).json()
            assert (seen["x"], seen["degraded"]) == (1, True), path
            assert 0 <= seen["age"] < 60
        assert (await pages.browser.put("/class")).json() == EMPTY, "a method's word before its class's"
    for path in ("/raise", "/anonymous", "/last-seen", "/class"):
        assert (await get(path)).json() == FINE


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
async def test_a_change_that_cannot_be_saved_is_no_success(pages: Any, policy: str) -> None:
    with store_down(pages.kit):
        assert unavailable(await pages.browser.post(f"/{policy}/put"))
        assert unavailable(await pages.new_browser().post(f"/{policy}/put"))
    assert (await pages.browser.get("/raise")).json() == FINE


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
async def test_a_page_that_notes_something_in_passing_is_shown_and_the_loss_counted(
    pages: Any, policy: str
) -> None:
    with store_down(pages.kit):
        for browser in (pages.browser, pages.new_browser()):
            before = pages.kit.hooks.degraded.get("sessions", 0)
            answer = await browser.get(f"/{policy}/put")
            assert (answer.status_code, answer.text) == (200, "put")
            assert "Set-Cookie" not in answer.headers
            assert pages.kit.hooks.degraded["sessions"] > before
        assert unavailable(await pages.browser.get("/put")), "where nothing was declared"
    assert (await pages.browser.get("/raise")).json() == FINE


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
@pytest.mark.parametrize("how", ["in", "out", "renew"])
async def test_nobody_is_signed_in_or_out_in_appearance_only(pages: Any, policy: str, how: str) -> None:
    with store_down(pages.kit):
        assert unavailable(await pages.browser.get(f"/{policy}/sign/{how}"))
        if how == "in":
            assert unavailable(await pages.new_browser().get(f"/{policy}/sign/{how}"))
    assert (await pages.browser.get("/raise")).json() == FINE


@pytest.mark.parametrize("lazy", [False, True])
async def test_fastapi_declares_it_with_the_dependency(  # noqa: C901 - a small app
    around: Any, lazy: bool
) -> None:
    app = FastAPI()
    router = APIRouter(prefix="/router", dependencies=[session(on_outage="anonymous")])

    @app.get("/raise")
    async def plain(session: SessionDep) -> Any:
        return told(session)

    @app.post("/put")
    async def change(session: SessionDep) -> None:
        session["x"] = 1

    @app.get("/anonymous")
    async def anonymous(session: Annotated[AsgiSession, session(on_outage="anonymous")]) -> Any:
        return told(session)

    @app.get("/last-seen")
    def last_seen(session: Annotated[AsgiSession, session(on_outage="last-seen")]) -> Any:
        return told(session)

    @app.get("/marked")
    @session_outage("anonymous")
    async def marked(session: SessionDep) -> Any:
        return told(session)

    async def user(session: Annotated[AsgiSession, session(on_outage="anonymous")]) -> Any:
        return session.principal

    @app.get("/deep")
    async def deep(session: SessionDep, _user: Annotated[Any, Depends(user)]) -> Any:
        return told(session)

    @router.get("/see")
    async def see(session: SessionDep) -> Any:
        return told(session)

    @router.get("/own")
    async def own(session: Annotated[AsgiSession, session(on_outage="last-seen")]) -> Any:
        return told(session)

    app.include_router(router)
    site = around(app, lazy=lazy)
    await site.browser.post("/put")
    assert (await site.browser.get("/last-seen")).json() == FINE
    with store_down(site.kit):
        assert unavailable(await site.browser.get("/raise"))
        for path in ("/anonymous", "/marked", "/deep", "/router/see"):
            assert (await site.browser.get(path)).json() == EMPTY, path
        for path in ("/last-seen", "/router/own"):
            assert (await site.browser.get(path)).json()["x"] == 1, path


async def test_an_endpoint_that_cannot_be_seen_from_outside_declares_when_it_is_entered(around: Any) -> None:
    inner = {"/see": session_outage("last-seen")(bare), "/raise": bare, "/put": bare}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner[scope["path"]](scope, receive, send)

    site = around(app)
    await site.browser.get("/see")
    await site.browser.post("/put")
    assert (await site.browser.get("/see")).json() == FINE
    with store_down(site.kit):
        assert (await site.browser.get("/see")).json()["x"] == 1
        assert unavailable(await site.browser.get("/raise"))
        assert unavailable(await site.browser.post("/see"))


async def bare(scope: Any, receive: Any, send: Any) -> None:
    session = await load_session(scope)
    if scope["method"] == "POST":
        session["x"] = session.get("x", 0) + 1
    await JSONResponse(told(session))(scope, receive, send)


async def test_the_whole_app_may_declare_and_an_endpoint_take_it_back(around: Any) -> None:
    strict = Route("/strict", session_outage("raise")(show))
    site = around(Starlette(routes=[*routes(), strict]), sessions={"on_outage": "anonymous"})
    await site.browser.post("/put")
    with store_down(site.kit):
        assert (await site.browser.get("/raise")).json() == EMPTY
        assert unavailable(await site.browser.get("/strict"))


async def test_nothing_is_done_in_the_name_of_a_session_that_may_have_been_ended(around: Any) -> None:
    done: list[str] = []

    async def pay(request: Request) -> Any:
        done.append(request.session["x"])
        return PlainTextResponse("paid")

    async def talk(websocket: WebSocket) -> None:
        done.append(websocket.session["x"])
        await websocket.accept()

    verbs = ["GET", "POST", "DELETE"]
    paying, talking = Route("/pay", pay, methods=verbs), WebSocketRoute("/talk", talk)
    site = around(Starlette(routes=[*routes(), paying, talking]), sessions={"on_outage": "last-seen"})
    await site.browser.get("/pay")
    await site.browser.post("/put")
    with store_down(site.kit):
        assert (await site.browser.get("/pay")).text == "paid"
        assert unavailable(await site.browser.post("/pay"))
        assert unavailable(await site.browser.delete("/pay"))
        cookie = f"session={site.browser.cookies['session']}".encode()
        scope = {
            "type": "websocket",
            "path": "/talk",
            "headers": [(b"host", b"localhost"), (b"cookie", cookie)],
        }
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message["type"])

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        await site.app(
            scope | {"query_string": b"", "scheme": "ws", "client": ("127.0.0.1", 1)}, receive, send
        )
        assert said == ["websocket.close"]
    assert done == [1]


def test_words_are_checked_where_they_are_written() -> None:
    for declare in (session_outage, session):
        with pytest.raises(UsageError, match="last-seen"):
            declare("allow")


async def test_a_store_that_hangs_is_asked_once_and_costs_its_budget(valkey_url: str, namespace: str) -> None:
    budget = Budget(decision=0.3, operation=0.9, connect=1)
    app = FastAPI()

    @app.get("/see")
    async def see(session: Annotated[AsgiSession, session(on_outage="last-seen")]) -> Any:
        return told(session)

    @app.get("/raise")
    async def strict(session: SessionDep) -> Any:
        return told(session)

    @app.post("/put")
    async def change(session: SessionDep) -> None:
        session["x"] = 1

    with Proxy(valkey_url) as proxy:
        kit = AsyncStateKit.connect(proxy.url, namespace, budget=budget)
        site = AsgiSite(StatekitMiddleware(app, kit=kit), kit)
        deadline = time.monotonic() + 30
        while (await site.browser.post("/put")).status_code != 200 or (
            await site.browser.get("/see")
        ).json() != FINE:
            assert time.monotonic() < deadline
        spent = {}
        with proxy.stalled():
            for path, status in (("/see", 200), ("/raise", 503)):
                start = time.monotonic()
                assert (await site.browser.get(path)).status_code == status
                spent[path] = time.monotonic() - start
        print({path: f"{seconds * 1000:.0f} ms" for path, seconds in spent.items()})
        slack = 0.8  # of a loaded machine, and less than another question would take
        assert spent["/see"] < budget.decision + slack
        assert spent["/raise"] < budget.operation + slack
        await kit.close()


async def test_a_change_that_was_answered_503_is_not_saved_after_all(around: Any, async_kit: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = JSONResponse(told(scope["session"]))
        if scope["method"] == "POST":
            scope["session"]["x"] = scope["session"].get("x", 0) + 1
        if scope["path"] == "/fails":
            with store_down(async_kit):
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
        else:
            await answer(scope, receive, send)

    site = around(app)
    await site.browser.post("/put")
    assert unavailable(await site.browser.post("/fails"))
    assert (await site.browser.get("/see")).json() == FINE
