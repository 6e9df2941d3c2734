"""One round trip for a whole request, in FastAPI, Starlette and bare ASGI."""

import asyncio
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router

from statekit import AsyncStateKit, Decision, StateKit, TenantSettings
from statekit.errors import UsageError
from statekit_asgi import (
    StatekitMiddleware,
    by_header,
    current_decision,
    current_session,
    current_tenant,
    limit,
    load_session,
)
from statekit_asgi.fastapi import SessionDep, TenantDep
from statekit_asgi.fastapi import limit as depends_on
from tests.adapters.conftest import AsgiSite

ACME = {"X-Tenant": "acme"}
ONE = {"ratelimit.hit", "sessions.load"}


class Settings(TenantSettings):
    plan: str = "free"


@pytest.fixture
async def saas(around: Any, async_kit: AsyncStateKit) -> Any:
    """A FastAPI app that uses all of it: a session, limits from three places, a tenant."""
    app = FastAPI()
    per_tenant = Annotated[Decision, depends_on("100/minute", key=by_header("X-Tenant"))]
    router = APIRouter(prefix="/shop", dependencies=[depends_on("500/minute")])

    @app.post("/login")
    async def login(session: SessionDep) -> None:
        session["cart"] = ["apple"]
        session.sign_in("user:7")

    @router.get("/orders/{number}")
    async def order(number: int, session: SessionDep, tenant: TenantDep, decision: per_tenant) -> Any:
        return {"number": number, "cart": session["cart"], "plan": tenant.plan, "left": decision.remaining}

    @app.get("/free")
    async def free() -> str:
        return "free"

    app.include_router(router)
    site = around(app, tenants=Settings, tenant="header:X-Tenant", default_limits=["1000/hour"])
    await async_kit.tenants(Settings).update("acme", {"plan": "pro"}, by="test")
    assert (await site.browser.post("/login", headers=ACME)).status_code == 200
    return site


async def test_session_three_limits_and_a_tenant_are_one_round_trip(saas: Any) -> None:
    answer, trips = await saas.trips("GET", "/shop/orders/3", headers=ACME)
    assert answer.json() == {"number": 3, "cart": ["apple"], "plan": "pro", "left": 99}
    assert answer.headers["RateLimit-Policy"].count(";q=") == 3
    assert len(trips) == 1
    assert set(trips[0]) == ONE


async def test_an_untouched_session_travels_with_the_limits_and_is_not_written(saas: Any) -> None:
    answer, trips = await saas.trips("GET", "/free", headers=ACME)
    assert answer.json() == "free"
    assert len(trips) == 1
    assert "Vary" not in answer.headers
    assert "Set-Cookie" not in answer.headers


async def test_requests_at_the_same_time_share_round_trips(saas: Any) -> None:
    async def one(number: int) -> int:
        return (await saas.browser.get(f"/shop/orders/{number}", headers=ACME)).status_code

    assert await asyncio.gather(*(one(number) for number in range(50))) == [200] * 50
    answer = await saas.browser.get("/shop/orders/0", headers=ACME)
    assert answer.json()["left"] == 49, "each was counted"


async def test_a_server_that_cancels_one_request_harms_no_other(saas: Any) -> None:
    def visit(number: int) -> asyncio.Task[Any]:
        return asyncio.create_task(saas.browser.get(f"/shop/orders/{number}", headers=ACME))

    tasks = [visit(number) for number in range(40)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer.json()["cart"] for answer in answers[1::2]] == [["apple"]] * 20
    assert (await saas.browser.get("/shop/orders/0", headers=ACME)).status_code == 200


async def test_a_dependency_shared_by_router_and_endpoint_counts_once(around: Any) -> None:
    once = depends_on("10/hour", name="once")
    app = FastAPI(dependencies=[once])

    @app.get("/", dependencies=[once])
    async def view(decision: Annotated[Decision, once]) -> int:
        return decision.remaining

    site = around(app)
    assert [(await site.browser.get("/")).json() for _ in range(3)] == [9, 8, 7]


async def test_a_dependency_deep_in_the_tree_is_found(around: Any) -> None:
    async def user(_: Annotated[Decision, depends_on("1/hour")]) -> str:
        return "ann"

    async def account(name: Annotated[str, Depends(user)]) -> str:
        return name

    app = FastAPI()

    @app.get("/")
    async def view(name: Annotated[str, Depends(account)]) -> str:
        return name

    site = around(app, default_limits=["5/hour"])
    _, trips = await site.trips("GET", "/")
    assert len(trips) == 1
    assert (await site.browser.get("/")).status_code == 429


async def test_without_a_name_each_endpoint_counts_by_itself(around: Any) -> None:
    app = FastAPI()
    each = depends_on("1/hour")
    together = depends_on("1/hour", name="together")
    for path, dependency in (("/a", each), ("/b", each), ("/c", together), ("/d", together)):

        def view() -> None: ...

        view.__qualname__ = f"view{path}"
        app.get(path, dependencies=[dependency])(view)
    site = around(app)
    assert [(await site.browser.get(path)).status_code for path in "abcd"] == [200, 200, 200, 429]


async def test_starlette_endpoints_classes_and_mounts(around: Any) -> None:
    @limit("2/hour")
    async def view(request: Request) -> Any:
        decision = current_decision()
        assert decision
        return JSONResponse([request.path_params["id"], decision.remaining])

    class Page(HTTPEndpoint):
        @limit("1/hour")
        async def get(self, _request: Request) -> Any:
            return PlainTextResponse("got")

        async def post(self, _request: Request) -> Any:
            return PlainTextResponse("posted")

    inner = Router([Route("/items/{id:int}", view)])
    site = around(
        Starlette(
            routes=[
                Route("/page", Page),
                Host("api.example", Router([Mount("/v1", inner)])),
                Mount("/v0", inner),
            ]
        ),
        default_limits=["100/hour"],
    )
    answer, trips = await site.trips("GET", "/v0/items/7")
    assert answer.json() == [7, 1]
    assert trips == [("ratelimit.hit",)]
    answer, trips = await site.trips("GET", "http://api.example/v1/items/8")
    assert answer.json() == [8, 0]
    assert trips == [("ratelimit.hit",)]
    assert (await site.browser.get("/v0/items/9")).status_code == 429
    assert [(await site.browser.get("/page")).status_code for _ in range(2)] == [200, 429]
    assert [(await site.browser.post("/page")).status_code for _ in range(2)] == [200, 200]
    assert (await site.browser.get("http://elsewhere/v1/items/8")).status_code == 404


async def test_an_endpoint_in_a_partial_is_found(around: Any) -> None:
    @limit("1/hour")
    async def view(_request: Request, text: str) -> Any:
        return PlainTextResponse(text)

    site = around(Starlette(routes=[Route("/", partial(view, text="in"))]), default_limits=["10/hour"])
    answer, trips = await site.trips("GET", "/")
    assert (answer.text, trips) == ("in", [("ratelimit.hit",)])
    assert (await site.browser.get("/")).status_code == 429


class Handler:
    """What Litestar puts into the scope of a middleware: it has chosen the handler by then."""

    def __init__(self, fn: Any) -> None:
        self.fn = partial(fn)


async def test_a_framework_that_has_chosen_the_handler_is_believed(around: Any) -> None:
    @limit("1/hour", key=lambda scope: scope["path_params"]["name"])
    def view() -> str:
        return "in"

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": (await asyncio.to_thread(view)).encode()})

    handler = Handler(view)
    site = around(app)

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        path = {"route_handler": handler, "path_params": {"name": scope["path"]}}
        await site.app({**scope, **path}, receive, send)

    front = AsgiSite(routed, site.kit)
    assert [(await front.browser.get(path)).status_code for path in ("/a", "/b", "/a")] == [200, 200, 429]


async def test_an_address_that_is_remembered_is_still_told_apart_by_host(around: Any) -> None:
    @limit("1/hour", name="strict")
    async def strict(_request: Request) -> Any:
        return PlainTextResponse("strict")

    async def free(_request: Request) -> Any:
        return PlainTextResponse("free")

    app = Starlette(
        routes=[
            Host("a.example", Router([Route("/", strict)])),
            Host("b.example", Router([Route("/", free)])),
        ]
    )
    site = around(app)
    codes = [(await site.browser.get(f"http://{host}.example/")).status_code for host in "abab"]
    assert codes == [200, 200, 429, 200]


async def test_the_middleware_may_stand_around_a_mounted_app(async_kit: Any) -> None:
    def inner(name: str) -> list[Any]:
        @limit("1/hour", name=name)
        async def view(_request: Request) -> Any:
            return PlainTextResponse("in")

        return [Route("/{name}", view)]

    options: Any = {"kit": async_kit, "default_limits": ["100/hour"]}
    ours = Middleware(StatekitMiddleware, **options)
    app = Starlette(
        routes=[
            Mount("/a", routes=inner("a"), middleware=[ours]),
            Mount("/b", StatekitMiddleware(Starlette(routes=inner("b")), **options)),
            Mount("/c", Starlette(routes=inner("c"), middleware=[ours])),
            Route("/d", inner("d")[0].endpoint, middleware=[ours]),
        ]
    )
    site = AsgiSite(app, async_kit)
    for path in ("/a/x", "/b/x", "/c/x", "/d"):
        answer, trips = await site.trips("GET", path)
        assert (answer.text, trips) == ("in", [("ratelimit.hit",)]), path
        assert answer.headers["RateLimit-Policy"].count(";q=") == 2
        assert (await site.browser.get(path)).status_code == 429


async def test_a_route_added_later_is_found(around: Any) -> None:
    app = FastAPI()
    site = around(app, default_limits=["100/hour"])
    assert (await site.browser.get("/late")).status_code == 404

    @app.get("/late")
    async def late(_: Annotated[Decision, depends_on("1/hour")]) -> None: ...

    answer, trips = await site.trips("GET", "/late")
    assert answer.status_code == 200
    assert len(trips) == 1
    assert (await site.browser.get("/late")).status_code == 429


async def test_an_endpoint_hidden_from_the_middleware_is_decided_when_it_is_entered(around: Any) -> None:
    @limit("1/hour")
    async def view(_request: Request) -> Any:
        return PlainTextResponse("in")

    async def hidden(scope: Any, receive: Any, send: Any) -> None:
        await (await view(Request(scope)))(scope, receive, send)

    site = around(hidden, default_limits=["100/hour"])
    answer, trips = await site.trips("GET", "/")
    assert answer.text == "in"
    assert trips == [("ratelimit.hit",), ("ratelimit.hit",)]
    assert answer.headers["RateLimit-Policy"].count(";q=") == 2
    assert answer.headers["RateLimit"].count(";r=") == 2
    answer = await site.browser.get("/")
    assert answer.status_code == 429
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_refusal_inside_an_app_that_answers_its_own_errors_is_still_a_429(async_kit: Any) -> None:
    @limit("1/hour")
    async def view(_request: Request) -> Any:
        return PlainTextResponse("in")

    async def indirect(request: Request) -> Any:
        return await view(request)

    app = Starlette(routes=[Route("/", indirect)])
    site = AsgiSite(StatekitMiddleware(app, kit=async_kit), async_kit)
    assert (await site.browser.get("/")).text == "in"
    answer = await site.browser.get("/")
    assert answer.status_code == 429
    assert answer.json()["violated-policies"]


async def test_a_plain_function_whose_limit_is_hidden_says_so(around: Any) -> None:
    @limit("1/hour")
    def view(_request: Request) -> Any:
        return PlainTextResponse("in")

    def indirect(request: Request) -> Any:
        try:
            return view(request)
        except UsageError as error:
            return PlainTextResponse(str(error))

    site = around(Starlette(routes=[Route("/", indirect), Route("/right", view)]))
    assert "outermost" in (await site.browser.get("/")).text
    assert [(await site.browser.get("/right")).status_code for _ in range(2)] == [200, 429]


# -- tenants -----------------------------------------------------------------------------------------------


async def test_each_request_has_its_own_tenant_or_none(saas: Any) -> None:
    answers = await asyncio.gather(
        *(saas.browser.get("/shop/orders/1", headers={"X-Tenant": name}) for name in ["acme", "other"] * 10)
    )
    assert [answer.json()["plan"] for answer in answers] == ["pro", "free"] * 10
    assert (await saas.browser.get("/shop/orders/1")).status_code == 500, "no tenant, no settings"
    assert current_tenant() is None
    assert current_session() is None
    assert current_decision() is None


async def test_a_stream_keeps_its_tenant_and_the_scope_ends_with_it(around: Any, async_kit: Any) -> None:
    tenants = async_kit.tenants(Settings)

    async def stream(_request: Request) -> Any:
        async def lines() -> Any:
            for _ in range(3):
                yield tenants.current().plan
                await asyncio.sleep(0)

        return StreamingResponse(lines())

    site = around(Starlette(routes=[Route("/{tenant}", stream)]), tenants=tenants, tenant="path:tenant")
    assert (await site.browser.get("/acme")).text == "freefreefree"


@pytest.mark.parametrize(
    ("resolver", "url"),
    [
        ("path:tenant", "http://localhost/of/acme"),
        ("subdomain:shop.example", "http://acme.shop.example:80/of/x"),
        (lambda _scope: "acme", "http://localhost/of/x"),
    ],
)
async def test_where_a_tenant_is_found(around: Any, resolver: Any, url: str) -> None:
    async def view(_request: Request) -> Any:
        return PlainTextResponse(str(current_tenant()))

    site = around(Starlette(routes=[Route("/of/{tenant}", view)]), tenants=Settings, tenant=resolver)
    assert (await site.browser.get(url)).text == "acme"


async def test_a_tenants_limit_comes_from_its_settings(around: Any, async_kit: Any) -> None:
    tenants = async_kit.tenants(Settings)
    await tenants.update("acme", {"plan": "pro"}, by="test")

    async def rates(_scope: Any) -> str:
        return "3/hour" if tenants.current().plan == "pro" else "1/hour"

    @limit(rates, key=by_header("X-Tenant"))
    async def view(_request: Request) -> Any:
        return PlainTextResponse("in")

    site = around(Starlette(routes=[Route("/", view)]), tenants=tenants, tenant="header:X-Tenant")
    assert [(await site.browser.get("/", headers=ACME)).status_code for _ in range(4)] == [200, 200, 200, 429]
    codes = [(await site.browser.get("/", headers={"X-Tenant": "b"})).status_code for _ in range(2)]
    assert codes == [200, 429]


# -- by_user, which needs the session first ------------------------------------------------------------------


async def test_counting_users_costs_a_round_trip_of_its_own(around: Any) -> None:
    @limit("2/hour", key="user")
    async def view(request: Request) -> Any:
        return PlainTextResponse(str(request.session.get("cart")))

    async def login(request: Request) -> Any:
        request.session.sign_in("user:7")
        return PlainTextResponse("")

    routes = [Route("/", view), Route("/of/{page}", view), Route("/login", login, methods=["POST"])]
    site = around(Starlette(routes=routes))
    await site.browser.post("/login")
    _, trips = await site.trips("GET", "/of/7")
    assert trips == [("sessions.load",), ("ratelimit.hit",)]
    elsewhere = site.new_browser("203.0.113.9", cookies=site.browser.cookies)
    assert [(await elsewhere.get("/")).status_code for _ in range(2)] == [200, 429]
    assert (await site.new_browser().get("/")).status_code == 200, "a stranger is counted by address"


async def test_lazily_a_session_is_loaded_only_when_asked_for(around: Any) -> None:
    app = FastAPI()

    @app.get("/untouched")
    async def untouched() -> str:
        return "free"

    @app.get("/declared")
    async def declared(session: SessionDep) -> Any:
        return session.get("x")

    @app.get("/waits")
    async def waits(request: Request) -> Any:
        return (await load_session(request)).get("x")

    @app.get("/careless")
    async def careless(request: Request) -> Any:
        try:
            return request.session.get("x")
        except UsageError as error:
            return str(error)

    @app.get("/limited", dependencies=[depends_on("100/hour")])
    async def limited(request: Request) -> Any:
        return request.session.get("x")

    @app.post("/put")
    async def put(session: SessionDep) -> None:
        session["x"] = 1

    site = around(app, lazy=True)
    await site.browser.post("/put")
    expected = {
        "/untouched": ("free", 0),
        "/declared": (1, 1),
        "/waits": (1, 1),
        "/limited": (1, 1),
    }
    for path, (said, count) in expected.items():
        answer, trips = await site.trips("GET", path)
        assert (answer.json(), len(trips)) == (said, count), path
    assert "await load_session(request)" in (await site.browser.get("/careless")).json()
    assert (await site.new_browser().get("/careless")).json() is None, (
        "without a cookie there is nothing to load"
    )


async def test_two_middlewares_around_one_request_are_a_mistake(async_kit: AsyncStateKit) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None: ...

    inner = StatekitMiddleware(app, kit=async_kit)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(UsageError, match="keep the outer"):
        await StatekitMiddleware(inner, kit=async_kit)(scope, None, None)  # type: ignore[arg-type]


async def test_bad_settings_are_refused_at_once() -> None:
    kit = AsyncStateKit.in_memory()
    for options, match in (
        ({"tenant": "header:X"}, "tenants="),
        ({"tenants": Settings, "tenant": "cookie:x"}, "subdomain:example"),
        ({"headers": "fancy"}, "headers="),
        ({"default_limits": "5/minute"}, "list"),
        ({"default_limits": ["5 minutes"]}, "malformed"),
        ({"limit_key": "cookie:x"}, "key="),
        ({"kit": StateKit.in_memory()}, "AsyncStateKit"),
    ):
        with pytest.raises(UsageError, match=match):
            StatekitMiddleware(FastAPI(), **{"kit": kit, **options})  # type: ignore[arg-type]
    for wrong in (limit, depends_on):
        with pytest.raises(UsageError):
            wrong()(lambda: "")
        with pytest.raises(UsageError):
            wrong("5/minute", key="header:")(lambda: "")
        with pytest.raises(UsageError):
            wrong("5/minute", algorithm="x")(lambda: "")
    with pytest.raises(UsageError, match="takes a function"):
        limit("5/minute")(int)
