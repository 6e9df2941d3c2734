"""Sessions: how often the store is asked, what reading and changing one costs, and what is lost or comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from benchmarks.bench import AtMost, Comparison, Contender, Figure, Figures, Lab, case
from benchmarks.suites.apps.session_stores import (
    DATA,
    Store,
    begun,
    blocking,
    flask_session,
    starsessions,
    statekit,
)
from statekit import AsyncStateKit

TRIES = 50


@case("sessions/round-trips", "How often is the store asked for the session of one request?")
def round_trips(lab: Lab) -> Iterator[Figures]:
    ours, flask, star = _statekit_trips(lab), _flask_session_trips(lab), _starsessions_trips(lab)
    for label, most in (("untouched", 0), ("read", 1), ("changed", 2)):
        yield Figures(
            label,
            "round trips",
            [
                Figure("statekit", ours[label]),
                Figure("Flask-Session", flask[label], note="an app with its defaults"),
                Figure("starsessions", star[label], note="with SessionAutoloadMiddleware"),
            ],
            promises=[AtMost("statekit", most)],
        )


def _statekit_trips(lab: Lab) -> dict[str, float]:
    kit = lab.kit()
    sessions = kit.sessions()
    cookie, asked = statekit(sessions).new(), {}
    for label, use in USES.items():
        with lab.round_trips(kit) as trips:
            session = sessions.open(cookie)
            use(session)
            sessions.save(session)
        asked[label] = float(len(trips))
    return asked


def _flask_session_trips(lab: Lab) -> dict[str, float]:
    import redis
    from flask import Flask, session
    from flask_session import Session

    client = counting(redis.Redis).from_url(lab.url)
    app = Flask("bench")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
    Session(app)

    @app.get("/<label>")
    def endpoint(label: str) -> str:
        USES[label](session)
        return ""

    @app.post("/new")
    def new() -> str:
        session.update(DATA)
        return ""

    browser, asked = app.test_client(), {}
    browser.post("/new")
    for label in USES:
        client.asked = 0
        browser.get(f"/{label}")
        asked[label] = float(client.asked)
    client.close()
    return asked


def _starsessions_app(client: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    async def endpoint(request: Request) -> Response:
        USES[request.path_params["label"]](request.session)
        return Response()

    async def new(request: Request) -> Response:
        request.session.update(DATA)
        return Response()

    store = (
        SessionMiddleware,
        {"store": RedisStore(connection=client), "lifetime": 7200, "cookie_https_only": False},
    )
    return Starlette(
        routes=[Route("/new", new, methods=["POST"]), Route("/{label}", endpoint)],
        middleware=[Middleware(store[0], **store[1]), Middleware(SessionAutoloadMiddleware)],
    )


def _starsessions_trips(lab: Lab) -> dict[str, float]:
    import redis.asyncio

    client = counting(redis.asyncio.Redis).from_url(lab.url)
    app = _starsessions_app(client)

    async def visited() -> dict[str, float]:
        import httpx

        asked = {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as browser:
            await browser.post("/new")
            for label in USES:
                client.asked = 0
                await browser.get(f"/{label}")
                asked[label] = float(client.asked)
        await client.aclose()
        return asked

    return lab.run(visited())


def counting(kind: Any) -> Any:
    """A class of redis-py clients that count what they ask; each command is a round trip to them."""

    class Counting(kind):
        asked = 0

        def execute_command(self, *args: Any, **options: Any) -> Any:
            self.asked += 1
            return super().execute_command(*args, **options)

    return Counting


def _change(session: Any) -> None:
    session["visits"] += 1


USES: dict[str, Callable[[Any], Any]] = {
    "untouched": lambda _: None,
    "read": lambda session: session["items"],
    "changed": _change,
}


def _read(store: Store) -> Callable[[], Any]:
    cookie = store.new()
    return lambda: store.open(cookie)["items"]


def _change(store: Store) -> Callable[[], Any]:
    cookie, numbers = store.new(), count(1)

    def request() -> None:
        session = store.open(cookie)
        session["visits"] = next(numbers)
        store.save(session)

    return request


@case("sessions/cost", "What does a session cost: read only, and read, changed and saved?")
def cost(lab: Lab) -> Iterator[Comparison]:
    ours, twin, flask = (
        statekit(lab.kit().sessions()),
        statekit(lab.memory_kit().sessions()),
        flask_session(lab),
    )
    client = lab.client()
    client.set("bench-session", json.dumps(DATA))

    def get_and_set() -> None:
        client.set("bench-session", client.get("bench-session"), ex=7200)

    yield Comparison(
        "opened and read",
        [
            Contender("statekit", _read(ours)),
            Contender("Flask-Session", _read(flask)),
            Contender("statekit in memory", _read(twin), twin=True),
            Contender("GET", lambda: client.get("bench-session"), floor=True),
        ],
    )
    yield Comparison(
        "opened, changed and saved",
        [
            Contender("statekit", _change(ours)),
            Contender(
                "Flask-Session", _change(flask), note="writes the whole session, over whatever is there"
            ),
            Contender("statekit in memory", _change(twin), twin=True),
            Contender("GET and SET", get_and_set, floor=True),
        ],
    )


def _reading(store: Any, cookie: Any) -> Callable[[], Any]:
    async def request() -> Any:
        return (await store.open(cookie))["items"]

    return request


def _changing(store: Any, cookie: Any) -> Callable[[], Any]:
    numbers = count(1)

    async def request() -> None:
        session = await store.open(cookie)
        session["visits"] = next(numbers)
        await store.save(session)

    return request


@case("sessions/asyncio", "The same for asyncio, one request at a time")
def asyncio_cost(lab: Lab) -> Iterator[Comparison]:
    ours, twin = lab.async_kit().sessions(), AsyncStateKit.in_memory(lab.name()).sessions()
    cookies = {store: lab.run(begun(store)) for store in (ours, twin)}
    star, key = starsessions(lab)
    cookies[star] = key
    client = lab.async_client()
    lab.run(client.set("bench-session", json.dumps(DATA)))

    async def get() -> Any:
        return await client.get("bench-session")

    async def get_and_set() -> None:
        await client.set("bench-session", await client.get("bench-session"), ex=7200)

    yield Comparison(
        "opened and read",
        [
            Contender("statekit", _reading(ours, cookies[ours])),
            Contender("starsessions", _reading(star, cookies[star])),
            Contender("statekit in memory", _reading(twin, cookies[twin]), twin=True),
            Contender("GET", get, floor=True),
        ],
    )
    yield Comparison(
        "opened, changed and saved",
        [
            Contender("statekit", _changing(ours, cookies[ours])),
            Contender(
                "starsessions",
                _changing(star, cookies[star]),
                note="writes the whole session, over whatever is there",
            ),
            Contender("statekit in memory", _changing(twin, cookies[twin]), twin=True),
            Contender("GET and SET", get_and_set, floor=True),
        ],
    )


@case("sessions/lost", "What is lost when two requests share a session?")
def lost(lab: Lab) -> Iterator[Figures]:
    star, _ = starsessions(lab)
    stores = [statekit(lab.kit().sessions()), flask_session(lab), blocking(lab, star)]
    yield Figures(
        f"of {TRIES} pairs of requests that write different keys at once",
        "writes lost",
        [Figure(store.name, float(sum(_loses(store) for _ in range(TRIES)))) for store in stores],
        promises=[AtMost("statekit", 0)],
        note="Both open the session, each sets a key of its own, both save; the first one's key is looked for.",
    )
    yield Figures(
        f"of {TRIES} logouts during a slow request",
        "sessions that came back",
        [Figure(store.name, float(sum(_returns(store) for _ in range(TRIES)))) for store in stores],
        promises=[AtMost("statekit", 0)],
        note="A request opens the session and changes it; meanwhile another logs out; then the first one saves.",
    )


def _loses(store: Store) -> bool:
    cookie = store.new()
    first, second = store.open(cookie), store.open(cookie)
    first["seen"], second["theme"] = 1, "dark"  # each is read here, where reading is lazy
    store.save(first)
    store.save(second)
    return "seen" not in store.open(cookie)


def _returns(store: Store) -> bool:
    cookie = store.new()
    slow = store.open(cookie)
    slow["visits"] += 1
    store.destroy(store.open(cookie))
    store.save(slow)
    return "user_id" in store.open(cookie)
