"""`request.session` in the store: loaded in time, saved before the answer, on websockets too."""

import asyncio
import logging
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from statekit import AsyncStateKit, CookiePolicy, Decision, NonPrimitiveValue
from statekit.testing import recorded, store_down
from statekit_asgi import AsgiSession, StatekitMiddleware, limit, load_session
from statekit_asgi.fastapi import SessionDep
from statekit_asgi.fastapi import limit as depends_on
from statekit_asgi.session import CookieJar
from tests.adapters.conftest import AsgiSite


async def put(request: Request) -> Any:
    request.session.update(request.query_params)
    return PlainTextResponse("put")


async def show(request: Request) -> Any:
    return JSONResponse(dict(request.session))


async def login(request: Request) -> Any:
    request.session.sign_in(request.path_params["user"])
    return PlainTextResponse("in")


async def logout(request: Request) -> Any:
    request.session.clear()
    return PlainTextResponse("out")


async def plain(_request: Request) -> Any:
    return PlainTextResponse("plain")


ROUTES = [
    Route("/put", put, methods=["POST"]),
    Route("/show", show),
    Route("/login/{user}", login, methods=["POST"]),
    Route("/logout", logout, methods=["POST"]),
    Route("/plain", plain),
]


@pytest.fixture
def site(around: Any) -> Any:
    return around(Starlette(routes=list(ROUTES)))


async def test_a_session_holds_between_requests(site: Any) -> None:
    answer, trips = await site.trips("POST", "/put?x=1")
    assert trips == [("sessions.create",)]
    assert answer.headers["Set-Cookie"].startswith("session=")
    assert "HttpOnly; SameSite=Lax" in answer.headers["Set-Cookie"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"] == "Cookie"
    answer, trips = await site.trips("GET", "/show")
    assert answer.json() == {"x": "1"}
    assert trips == [("sessions.load",)]
    assert "Set-Cookie" not in answer.headers
    answer, trips = await site.trips("POST", "/put?y=2")
    assert trips == [("sessions.load",), ("sessions.save",)]
    assert (await site.browser.get("/show")).json() == {"x": "1", "y": "2"}
    assert (await site.new_browser().get("/show")).json() == {}


async def test_whoever_has_no_cookie_asks_the_store_for_nothing(site: Any) -> None:
    for path in ("/plain", "/show"):
        answer, trips = await site.trips("GET", path)
        assert trips == []
        assert "Set-Cookie" not in answer.headers


async def test_a_planted_id_never_comes_back(site: Any) -> None:
    planted = "A" * 43
    browser = site.new_browser(cookies={"session": planted})
    answer = await browser.post("/put?x=1")
    assert planted not in answer.headers["Set-Cookie"]
    for nonsense in ("", "short", "ü", "A" * 5000, '"; DROP'):
        answer = await site.browser.get("/show", headers=[(b"Cookie", b"session=" + nonsense.encode())])
        assert answer.json() == {}


async def test_signing_in_renews_the_id_and_signing_out_ends_it(site: Any) -> None:
    await site.browser.post("/put?x=1")
    before = site.browser.cookies["session"]
    await site.browser.post("/login/ann")
    assert site.browser.cookies["session"] != before
    sessions = site.kit.sessions()
    assert len(await sessions.sessions_of("ann")) == 1
    assert (await site.browser.get("/show")).json() == {"x": "1"}
    answer = await site.browser.post("/logout")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert await sessions.sessions_of("ann") == []


async def test_a_key_may_stand_for_signing_in(around: Any) -> None:
    async def sign(request: Request) -> Any:
        if "user" in request.query_params:
            request.session["user_id"] = request.query_params["user"]
        else:
            request.session.pop("user_id", None)
        return PlainTextResponse("")

    site = around(Starlette(routes=[*ROUTES, Route("/sign", sign)]), sign_in_key="user_id")
    await site.browser.post("/put?x=1")
    before = site.browser.cookies["session"]
    await site.browser.get("/sign?user=ann")
    assert site.browser.cookies["session"] != before
    assert len(await site.kit.sessions().sessions_of("ann")) == 1
    await site.browser.get("/sign")
    assert await site.kit.sessions().sessions_of("ann") == []
    assert (await site.browser.get("/show")).json() == {"x": "1"}


async def test_two_requests_at_once_that_write_different_keys_both_win(site: Any) -> None:
    await site.browser.post("/put?x=1")
    await asyncio.gather(*(site.browser.post(f"/put?k{n}={n}") for n in range(20)))
    assert len((await site.browser.get("/show")).json()) == 21


async def test_what_was_revoked_meanwhile_is_not_written_back(around: Any, async_kit: AsyncStateKit) -> None:
    async def slow(request: Request) -> Any:
        request.session["late"] = True
        await async_kit.sessions().revoke_all("ann")
        return PlainTextResponse("late")

    site = around(Starlette(routes=[*ROUTES, Route("/slow", slow)]))
    await site.browser.post("/login/ann")
    answer = await site.browser.get("/slow")
    assert answer.text == "late"
    assert "Set-Cookie" not in answer.headers
    assert (await site.browser.get("/show")).json() == {}


async def test_only_data_goes_in_and_changes_in_place_are_saved(around: Any) -> None:
    async def wrong(request: Request) -> Any:
        with pytest.raises(NonPrimitiveValue, match="user"):
            request.session["user"] = object()
        request.session.setdefault("items", []).append("apple")
        return PlainTextResponse("")

    site = around(Starlette(routes=[*ROUTES, Route("/wrong", wrong)]))
    await site.browser.get("/wrong")
    await site.browser.get("/wrong")
    assert (await site.browser.get("/show")).json() == {"items": ["apple", "apple"]}


async def test_objects_behind_ids_are_loaded_once(around: Any) -> None:
    loads = []

    async def load(number: int) -> str:
        loads.append(number)
        return f"user {number}"

    async def view(request: Request) -> Any:
        session = await load_session(request)
        session["user_id"] = 7
        return JSONResponse([await session.ahydrate("user_id", load) for _ in range(3)])

    site = around(Starlette(routes=[Route("/", view)]))
    assert (await site.browser.get("/")).json() == ["user 7"] * 3
    assert loads == [7]


async def test_streams_pass_as_they_come_and_their_session_is_saved_first(around: Any) -> None:
    going = asyncio.Event()

    async def stream(request: Request) -> Any:
        request.session["streamed"] = True

        async def lines() -> Any:
            yield b"one "
            await going.wait()
            yield b"two"

        return StreamingResponse(lines())

    site = around(Starlette(routes=[*ROUTES, Route("/stream", stream)]))
    sent: list[Any] = []
    begun = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 2:
            begun.set()

    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b""}
    serving = asyncio.create_task(site.app(scope, asyncio.Event().wait, send))
    async with asyncio.timeout(10):
        await begun.wait()
        names = [name for name, _ in sent[0]["headers"]]
        assert b"set-cookie" in names
        assert sent[1]["body"] == b"one "
        going.set()
        await serving
    assert [message.get("body") for message in sent[1:]] == [b"one ", b"two", b""]


async def test_what_changes_after_the_answer_began_is_saved_where_that_is_possible(
    around: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(request: Request) -> Any:
        async def work() -> None:
            request.session["background"] = True

        return PlainTextResponse("", background=BackgroundTask(work))

    site = around(Starlette(routes=[*ROUTES, Route("/later", later)]))
    with caplog.at_level(logging.WARNING, "statekit"):
        await site.browser.get("/later")
    assert "not saved" in caplog.text
    await site.browser.post("/put?x=1")
    await site.browser.get("/later")
    assert (await site.browser.get("/show")).json() == {"x": "1", "background": True}


async def test_a_bare_app_has_a_session_too(around: Any) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        session: AsgiSession = scope["session"]
        session["n"] = session.get("n", 0) + 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(session["n"]).encode()})

    site = around(app)
    assert [(await site.browser.get("/")).text for _ in range(3)] == ["1", "2", "3"]


async def test_sessions_may_be_left_out(around: Any) -> None:
    async def view(request: Request) -> Any:
        return PlainTextResponse(str("session" in request.scope))

    site = around(Starlette(routes=[Route("/", view)]), sessions=False)
    assert (await site.browser.get("/")).text == "False"


async def test_over_tls_the_cookie_is_bound_to_its_host(site: Any) -> None:
    browser = site.new_browser(base_url="https://shop.example")
    answer = await browser.post("/put?x=1")
    assert answer.headers["Set-Cookie"].startswith("__Host-session=")
    assert "Secure" in answer.headers["Set-Cookie"]
    assert (await browser.get("/show")).json() == {"x": "1"}


def test_the_cookie_is_found_among_others() -> None:
    jar = CookieJar(CookiePolicy())

    def picked(*cookies: bytes, host: bytes = b"localhost") -> str | None:
        headers = [(b"host", host), *((b"cookie", one) for one in cookies)]
        return jar.pick({"type": "http", "scheme": "http", "headers": headers})

    assert picked(b"a=1; session=x; b=2") == "x"
    assert picked(b"mysession=y; session=x") == "x"
    assert picked(b"session=first; session=second") == "first", "browsers send the most specific first"
    assert picked(b"a=1", b' session = "quoted"') == "quoted"
    assert picked(b"session=") is None
    assert picked(b"session=planted", host=b"shop.example") is None, (
        "an unprefixed one counts on localhost only"
    )
    assert picked(b"__Host-session=x", host=b"shop.example") == "x"
    assert jar.pick({"type": "http", "headers": []}) is None


async def test_vary_is_completed(around: Any) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        dict(scope["session"])
        headers = [(b"Vary", scope["path"].strip("/").encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    site = around(app)
    for said, expected in {"Accept": "Accept, Cookie", "*": "*", "cookie": "cookie"}.items():
        assert (await site.browser.get(f"/{said}")).headers["Vary"] == expected


# -- websockets ----------------------------------------------------------------------------------------------


class Socket:
    """One websocket, driven by hand."""

    def __init__(self, app: Any, path: str, cookie: str = "", **extra: Any) -> None:
        headers = [(b"host", b"localhost"), (b"cookie", f"session={cookie}".encode())]
        self.scope = {"type": "websocket", "path": path, "headers": headers, "scheme": "ws"}
        self.scope |= {"query_string": b"", "client": ("127.0.0.1", 1), "subprotocols": [], **extra}
        self.sent: list[Any] = []
        self._news = asyncio.Event()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._running = asyncio.create_task(app(self.scope, self._inbox.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        self._news.set()

    def say(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                self._news.clear()
                await self._news.wait()
        return self.sent

    async def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(10):
            await asyncio.gather(self._running, return_exceptions=True)


async def chat(websocket: Any) -> None:
    websocket.session["visits"] = websocket.session.get("visits", 0) + 1
    await websocket.accept()
    while True:
        websocket.session["said"] = await websocket.receive_text()
        await websocket.session.save()
        await websocket.send_text(websocket.session["said"])
        websocket.session["unsaved"] = True


@pytest.fixture
def sockets(around: Any) -> Any:
    return around(Starlette(routes=[*ROUTES, WebSocketRoute("/chat", limit("3/hour")(chat))]))


async def test_a_websocket_has_the_session_of_its_visitor(sockets: Any) -> None:
    await sockets.browser.post("/put?x=1")
    socket = Socket(sockets.app, "/chat", sockets.browser.cookies["session"])
    accepted = (await socket.until(1))[0]
    assert accepted["type"] == "websocket.accept"
    assert (await sockets.browser.get("/show")).json() == {"x": "1", "visits": 1}
    socket.say("hello")
    assert (await socket.until(2))[1]["text"] == "hello"
    assert (await sockets.browser.get("/show")).json()["said"] == "hello"
    await socket.leave()
    assert (await sockets.browser.get("/show")).json()["unsaved"] is True, "saved when the socket ended"


async def test_a_new_visitor_gets_a_cookie_with_the_handshake(sockets: Any) -> None:
    socket = Socket(sockets.app, "/chat")
    accepted = (await socket.until(1))[0]
    fields = dict(accepted["headers"])
    assert fields[b"set-cookie"].startswith(b"session=")
    assert b"ratelimit" in fields
    await socket.leave()


async def test_a_limit_refuses_a_websocket_before_it_opens(sockets: Any) -> None:
    for _ in range(3):
        await Socket(sockets.app, "/chat").leave()
    refused = Socket(sockets.app, "/chat")
    assert (await refused.until(1))[0] == {
        "type": "websocket.close",
        "code": 1013,
        "reason": "Request quota exceeded",
    }
    denied = Socket(sockets.app, "/chat", extensions={"websocket.http.response": {}})
    start, body = await denied.until(2)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    fields = dict(start["headers"])
    assert fields[b"content-type"] == b"application/problem+json"
    assert b"retry-after" in fields
    assert b"ratelimit" in fields
    assert b"violated-policies" in body["body"]


async def test_a_websocket_whose_session_cannot_be_loaded_is_refused(sockets: Any) -> None:
    await sockets.browser.post("/put?x=1")
    cookie = sockets.browser.cookies["session"]
    with store_down(sockets.kit):
        socket = Socket(sockets.app, "/chat", cookie)
        assert (await socket.until(1))[0]["type"] == "websocket.close"
        denied = Socket(sockets.app, "/chat", cookie, extensions={"websocket.http.response": {}})
        assert (await denied.until(2))[0]["status"] == 503


async def test_a_websocket_whose_session_cannot_be_saved_is_told_to_come_back(sockets: Any) -> None:
    await sockets.browser.post("/put?x=1")
    socket = Socket(sockets.app, "/chat", sockets.browser.cookies["session"])
    await socket.until(1)
    with store_down(sockets.kit):
        socket.say("hello")
        assert (await socket.until(2))[1] == {
            "type": "websocket.close",
            "code": 1013,
            "reason": "Service Unavailable",
        }


async def test_fastapis_websockets_have_dependencies_too(around: Any) -> None:
    app = FastAPI()

    @app.websocket("/chat/{room}")
    async def chat(
        websocket: WebSocket, room: str, session: SessionDep, _: Annotated[Decision, depends_on("2/hour")]
    ) -> None:
        session["room"] = room
        await websocket.accept()
        await websocket.send_text(room)
        await websocket.close()

    site = around(app)
    with recorded(site.kit) as trips:
        sent = await Socket(site.app, "/chat/blue").until(3)
    assert [trip.commands for trip in trips] == [("ratelimit.hit",), ("sessions.create",)]
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    await Socket(site.app, "/chat/blue").until(3)
    assert (await Socket(site.app, "/chat/blue").until(1))[0]["type"] == "websocket.close"


async def test_one_event_loop_after_another_may_serve_with_one_kit(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace)
    app = Starlette(routes=list(ROUTES))
    site = AsgiSite(StatekitMiddleware(app, kit=kit), kit)

    async def visit() -> int:
        return (await site.new_browser().post("/put?x=1")).status_code

    assert await asyncio.to_thread(lambda: asyncio.run(visit())) == 200
    assert await visit() == 200
    await kit.close()
