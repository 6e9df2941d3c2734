"""Limits of an ASGI app: found, decided together, announced, refused."""

import asyncio
import time
from typing import Any

import pytest
from fastapi import FastAPI, Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from statekit import AsyncStateKit, Limit
from statekit.errors import UsageError
from statekit_asgi import StatekitMiddleware, by_header, by_ip, exempt, limit
from statekit_asgi.fastapi import limit as depends_on
from tests.adapters.conftest import AsgiSite
from tests.conftest import PATIENT


async def view(_request: Request) -> Any:
    return PlainTextResponse("in")


def fresh() -> Any:
    """An endpoint of its own, for one test to mark."""

    async def endpoint(_request: Request) -> Any:
        return PlainTextResponse("in")

    return endpoint


def app_of(**endpoints: Any) -> Starlette:
    methods = ["GET", "POST", "OPTIONS"]
    return Starlette(routes=[Route(f"/{name}", one, methods=methods) for name, one in endpoints.items()])


async def codes(site: Any, *paths: str, **options: Any) -> list[int]:
    return [(await site.browser.get(path, **options)).status_code for path in paths]


async def test_a_limit_lets_so_many_through_and_no_more(around: Any) -> None:
    site = around(app_of(a=limit("3/hour")(fresh())))
    assert await codes(site, *["/a"] * 5) == [200, 200, 200, 429, 429]


async def test_at_once_too(around: Any) -> None:
    site = around(app_of(a=limit("10/hour")(fresh())))
    answers = await asyncio.gather(*(site.browser.get("/a") for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 30


async def test_a_refusal_explains_itself(around: Any) -> None:
    site = around(app_of(a=limit("1/hour", name="one")(fresh())))
    await site.browser.get("/a")
    answer = await site.browser.get("/a")
    assert answer.status_code == 429
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    body = answer.json()
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert body["status"] == 429
    assert body["title"]
    assert body["detail"]
    assert body["violated-policies"] == ["one"]
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert answer.headers.get_list("Retry-After") == [answer.headers["Retry-After"]]
    assert answer.headers["RateLimit-Policy"] == '"one";q=1;w=3600'
    assert ";r=0" in answer.headers["RateLimit"]


async def test_a_refused_request_runs_nothing_of_the_app(around: Any) -> None:
    ran = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        ran.append(await receive())
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    site = around(app, default_limits=["1/hour"])
    assert (await site.browser.post("/", content=b"x" * 100)).status_code == 204
    assert (await site.browser.post("/", content=b"x" * 100)).status_code == 429
    assert len(ran) == 1


async def test_every_limited_answer_carries_the_headers_and_no_other(around: Any) -> None:
    site = around(app_of(limited=limit("5/minute")(fresh()), free=view))
    assert ";r=4" in (await site.browser.get("/limited")).headers["RateLimit"]
    assert "RateLimit" not in (await site.browser.get("/free")).headers
    assert "RateLimit" not in (await site.browser.get("/healthz")).headers


async def test_legacy_headers(around: Any) -> None:
    site = around(app_of(a=limit("5/minute", "100/hour")(fresh())), headers="legacy")
    answer = await site.browser.get("/a")
    assert answer.headers["X-RateLimit-Limit"] == "5"
    assert answer.headers["X-RateLimit-Remaining"] == "4"
    assert "RateLimit" not in answer.headers


async def test_no_headers(around: Any) -> None:
    site = around(app_of(a=view), headers=None, default_limits=["1/hour"])
    await site.browser.get("/a")
    answer = await site.browser.get("/a")
    assert answer.status_code == 429
    assert "RateLimit" not in answer.headers
    assert int(answer.headers["Retry-After"]) > 3500


async def test_stacked_limits_are_one_decision_all_or_nothing(around: Any) -> None:
    stacked = limit("2/hour")(limit("100/hour", "500/day", key="header:X-API-Key", name="keys")(fresh()))
    site = around(app_of(a=stacked), default_limits=["1000/hour"])
    answer, trips = await site.trips("GET", "/a", headers={"X-API-Key": "a"})
    assert answer.status_code == 200
    assert trips == [("ratelimit.hit",)]
    assert await codes(site, *["/a"] * 5, headers={"X-API-Key": "a"}) == [200, 429, 429, 429, 429]
    keys = site.kit.rate_limiter("keys", "100/hour", "500/day")
    caller = by_header("X-API-Key")({"headers": [(b"x-api-key", b"a")]})
    assert (await keys.peek(caller)).remaining == 98, "a refusal charges no limit"


async def test_the_same_key_stacked_twice_is_two_limits(around: Any) -> None:
    twice = limit("1/hour")(limit("5/minute")(fresh()))
    site = around(app_of(a=twice))
    answer = await site.browser.get("/a")
    assert "by_ip#2" in answer.headers["RateLimit-Policy"]
    assert answer.headers["RateLimit-Policy"].count(";q=") == 2


async def test_a_request_pays_its_cost(around: Any) -> None:
    async def price(scope: Any) -> int:
        return int(scope["path_params"]["n"])

    app = Starlette(routes=[Route("/{n:int}", limit("10/hour", cost=price)(fresh()))])
    site = around(app)
    assert await codes(site, "/7", "/4", "/3") == [200, 429, 200]
    assert "never" in (await site.browser.get("/11")).json()["detail"]


async def test_default_limits_count_over_the_whole_app(around: Any) -> None:
    site = around(app_of(a=view, b=view, free=exempt(fresh())), default_limits=["2/hour"])
    assert await codes(site, "/a", "/b", "/a", "/free", "/healthz") == [200, 200, 429, 200, 200]
    assert await codes(site, "/nowhere") == [429], "a scan of addresses is counted too"


async def test_static_files_may_be_exempt(around: Any, tmp_path: Any) -> None:
    (tmp_path / "logo.svg").write_text("<svg/>")
    files = Mount("/static", exempt(StaticFiles(directory=tmp_path)))  # type: ignore[type-var]
    site = around(Starlette(routes=[files, Route("/", view)]), default_limits=["1/hour"])
    assert await codes(site, "/static/logo.svg", "/", "/static/logo.svg", "/") == [200, 200, 200, 429]


async def test_methods(around: Any) -> None:
    site = around(app_of(a=limit("1/hour", methods=["post"])(fresh()), b=limit("1/hour")(fresh())))
    assert await codes(site, "/a", "/a") == [200, 200]
    posted = [(await site.browser.post("/a")).status_code for _ in range(2)]
    assert posted == [200, 429]
    asked = [(await site.browser.options("/b")).status_code for _ in range(3)]
    assert asked == [200, 200, 200], "browsers ask by themselves before they post elsewhere"


async def test_callers(around: Any) -> None:
    site = around(
        app_of(
            ip=limit("1/hour")(fresh()),
            key=limit("1/hour", key="header:X-API-Key")(fresh()),
            own=limit("1/hour", key=lambda scope: scope["query_string"].decode())(fresh()),
        )
    )
    assert await codes(site, "/ip", "/ip") == [200, 429]
    other = site.new_browser("2001:db8::1")
    neighbour = site.new_browser("2001:db8::2")
    assert (await other.get("/ip")).status_code == 200
    assert (await neighbour.get("/ip")).status_code == 429, "the same subscriber"
    assert await codes(site, "/key", "/key", headers={"X-API-Key": "a"}) == [200, 429]
    assert await codes(site, "/key", "/key", headers={"X-API-Key": "b"}) == [200, 429]
    assert await codes(site, "/key", "/key") == [200, 429], "without a key, by address"
    assert await codes(site, "/own?a", "/own?b", "/own?a") == [200, 200, 429]


async def test_forged_forwarding_headers_move_nobody(around: Any) -> None:
    site = around(app_of(a=limit("1/hour")(fresh())))
    for n in range(3):
        forged = {
            "X-Forwarded-For": f"10.0.0.{n}",
            "Forwarded": f"for=10.0.0.{n}",
            "X-Real-IP": f"10.0.0.{n}",
        }
        assert await codes(site, "/a", headers=forged) == [200 if n == 0 else 429]


def test_addresses() -> None:
    assert by_ip({"client": ("203.0.113.7", 1)}) == "ip=203.0.113.7"
    assert by_ip({"client": ("::ffff:203.0.113.7", 1)}) == "ip=203.0.113.7"
    assert by_ip({"client": ("2001:db8:1:2:3::4", 1)}) == "ip=2001:db8:1:2::/64"
    assert by_ip({"client": None}) == by_ip({}) == by_ip({"client": ("", None)}) == "ip=unknown"
    with pytest.raises(UsageError):
        by_header("no header")
    secret = by_header("X-Key")({"headers": [(b"x-key", b"hunter2")]})
    assert "hunter2" not in str(secret)
    assert by_header("X-Key", secret=False)({"headers": [(b"x-key", b"a")]}) == "header=a"


async def test_a_limiter_may_be_shared_with_other_code(around: Any, async_kit: AsyncStateKit) -> None:
    mail = async_kit.rate_limiter("mail", Limit(2, 3600))
    site = around(app_of(a=limit(mail, key=lambda _: "ann")(fresh())))
    await mail.hit("ann")
    assert await codes(site, "/a", "/a") == [200, 429]


async def test_limits_can_be_switched_off_for_tests(around: Any) -> None:
    app = FastAPI()

    @app.get("/", dependencies=[depends_on("1/hour")])
    async def index() -> str:
        return "in"

    site = around(app, default_limits=["1/hour"], limits=False)
    assert await codes(site, "/", "/", "/") == [200, 200, 200]


async def test_shadow_limits_refuse_nothing(around: Any) -> None:
    site = around(app_of(a=limit("1/hour", shadow=True)(fresh())))
    assert await codes(site, "/a", "/a") == [200, 200]


async def test_the_answers_of_the_app_are_left_alone(around: Any) -> None:
    app = FastAPI()

    @app.get("/busy", dependencies=[depends_on("5/hour")])
    async def busy() -> Any:
        return Response(status_code=429, headers={"Retry-After": "7"})

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    site = around(app)
    answer = await site.browser.get("/busy")
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (429, b"", "7")
    assert (await site.browser.get("/broken")).status_code == 500


async def test_a_limit_needs_the_middleware() -> None:
    with pytest.raises(UsageError, match="StatekitMiddleware"):
        await limit("1/hour")(fresh())(None)


async def test_the_middleware_passes_other_scopes_on() -> None:
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    await StatekitMiddleware(app, kit=AsyncStateKit.in_memory())({"type": "mqtt"}, None, None)  # type: ignore[arg-type]
    assert seen == ["mqtt"]


async def test_many_addresses_are_not_remembered_for_ever(
    around: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statekit_asgi.routes.REMEMBERED", 8)
    app = Starlette(routes=[Route("/{id}", limit("1000/hour")(fresh()))])
    middleware = StatekitMiddleware(app, kit=AsyncStateKit.in_memory())
    routes = middleware._admission.routes
    for n in range(30):
        scope = {"type": "http", "method": "GET", "path": f"/{n}", "headers": []}
        assert routes.find(scope).params == {"id": str(n)}
        assert routes.find(scope).params == {"id": str(n)}
        assert len(routes._known) <= 8
    long = {"type": "http", "method": "GET", "path": "/" + "x" * 1000, "headers": []}
    assert routes.find(long).plan.rules
    assert long["path"] not in str(routes._known)


async def test_a_refused_flood_asks_the_store_for_nothing(valkey_url: str, namespace: str) -> None:
    async def begin(request: Request) -> Any:
        request.session["x"] = 1
        return PlainTextResponse("")

    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    app = app_of(begin=begin, a=limit("1/hour")(fresh()))
    site = AsgiSite(StatekitMiddleware(app, kit=kit), kit)
    await site.browser.get("/begin")
    await site.browser.get("/a")
    deadline = time.monotonic() + 30
    trips: Any = ["the process begins to listen with the first refusal"]
    while trips:
        answer, trips = await site.trips("GET", "/a")
        assert answer.status_code == 429
        assert time.monotonic() < deadline
    answer, trips = await site.trips("GET", "/a")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert trips == [], "not even for its session"
    await kit.close()


async def test_a_leased_limit_may_guard_an_endpoint(around: Any) -> None:
    site = around(app_of(a=limit("100000/minute", lease=True, key=lambda _: "all")(fresh())))
    assert await codes(site, *["/a"] * 20) == [200] * 20
    counts = [len((await site.trips("GET", "/a"))[1]) for _ in range(50)]
    assert sum(counts) < 25, "most are decided in the process"
