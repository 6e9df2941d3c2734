"""One small shop for FastAPI: bare, with statekit, with starsessions + slowapi, with fastapi-redis-sdk.

    uvicorn benchmarks.suites.apps.shop_asgi:served --factory

`served` builds the shop that ``BENCH_SHOP`` names, over the server that ``BENCH_URL`` names. Each shop has
``POST /fill`` (begins a session), ``GET /cart`` (reads it; one limit a caller, which refuses nobody here),
``GET /scarce`` (a limit that does) and ``GET /stalls`` (how the event loop fared since it was last asked).
"""

# Annotations are not postponed here: FastAPI reads those of the endpoints, whose names are local to their shop.
import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter, thread_time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response

CART = ["apple", "pear"]
AMPLE, SCARCE = "100000/minute", 20
TICK = 0.001
ENOUGH = 1000
"""Connections for redis-py's asyncio pool: with its default of 100, half of 200 concurrent requests fail."""


class Watch:
    """What the event loop of this process is like to live in.

    `late`: a task sleeps a millisecond at a time, and notes how much longer it was kept waiting. At saturation that
    is mostly the queue in front of it. `step`: the longest the loop ran one callback, during which nobody else could;
    `work`: the most processor time one took, which leaves out that the machine had others to serve, and waiting.
    """

    def __init__(self) -> None:
        self.late: list[float] = []
        self.step = 0.0
        self.work = 0.0

    async def tick(self) -> None:
        while True:
            start = perf_counter()
            await asyncio.sleep(TICK)
            self.late.append(perf_counter() - start - TICK)

    def follow_steps(self) -> None:
        """Time every callback of the loop from now on; under a microsecond each, for all shops alike."""
        run = asyncio.Handle._run  # noqa: SLF001 - asyncio has no other place to look from

        def timed(handle: asyncio.Handle) -> None:
            start, worked = perf_counter(), thread_time()
            run(handle)
            self.step = max(self.step, perf_counter() - start)
            self.work = max(self.work, thread_time() - worked)

        asyncio.Handle._run = timed  # type: ignore[method-assign] # noqa: SLF001

    def told(self) -> dict[str, float]:
        """Milliseconds, since the last time."""
        late, self.late = sorted(self.late) or [0.0], []
        told = {
            "p999": _at(late, 0.999),
            "max": _at(late, 1.0),
            "step": self.step * 1000,
            "work": self.work * 1000,
        }
        self.step = self.work = 0.0
        return told


def _at(ordered: list[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))] * 1000


def served() -> Any:
    """The shop this process is to serve."""
    return SHOPS[os.environ["BENCH_SHOP"]](os.environ["BENCH_URL"])


def _begun() -> FastAPI:
    """An app that watches its event loop."""
    watch = Watch()

    @asynccontextmanager
    async def watched(_: FastAPI) -> AsyncIterator[None]:
        watch.follow_steps()
        gc.collect()
        gc.freeze()  # or the collector's walks through what was imported, 30 ms each, would be what is measured
        ticking = asyncio.create_task(watch.tick())
        yield
        ticking.cancel()

    app = FastAPI(lifespan=watched)

    @app.get("/stalls")
    async def stalls() -> dict[str, float]:
        return watch.told()

    return app


def bare(_: str) -> Any:
    app = _begun()

    @app.get("/cart")
    async def cart() -> dict[str, Any]:
        return {"items": CART}

    @app.post("/fill")
    async def fill() -> None: ...

    return app


def with_statekit(url: str) -> Any:
    """docs/asgi.md."""
    from statekit import AsyncStateKit

    return _statekit(AsyncStateKit.connect(url, "bench-asgi"))


def in_memory(_: str) -> Any:
    from statekit import AsyncStateKit

    return _statekit(AsyncStateKit.in_memory())


def _statekit(kit: Any) -> Any:
    from statekit import Decision
    from statekit_asgi import StatekitMiddleware
    from statekit_asgi.fastapi import SessionDep, limit

    app = _begun()
    app.add_middleware(StatekitMiddleware, kit=kit)

    @app.get("/cart")
    async def cart(session: SessionDep, _: Annotated[Decision, limit(AMPLE)]) -> dict[str, Any]:
        return {"items": session["items"]}

    @app.post("/fill")
    async def fill(session: SessionDep) -> None:
        session["items"] = CART

    @app.get("/scarce")
    async def scarce(_: Annotated[Decision, limit(f"{SCARCE}/hour")]) -> None: ...

    return app


def with_peers(url: str, strategy: str = "moving-window") -> Any:
    """https://github.com/alex-oleshkevich/starsessions (README) and https://slowapi.readthedocs.io ("FastAPI")."""
    import redis.asyncio
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    app = _begun()
    limiter = Limiter(
        get_remote_address,
        storage_uri=url.replace("unix:", "redis+unix:"),
        strategy=strategy,
        headers_enabled=True,
        key_prefix=strategy,
    )
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]
    app.add_middleware(SessionAutoloadMiddleware)
    store = RedisStore(connection=redis.asyncio.Redis.from_url(url, max_connections=ENOUGH))
    app.add_middleware(SessionMiddleware, store=store, lifetime=7200, cookie_https_only=False)

    @app.get("/cart")
    @limiter.limit(AMPLE)
    async def cart(request: Request, response: Response) -> dict[str, Any]:  # noqa: ARG001 - for slowapi's headers
        return {"items": request.session["items"]}

    @app.post("/fill")
    async def fill(request: Request) -> None:
        request.session["items"] = CART

    @app.get("/scarce")
    @limiter.limit(f"{SCARCE}/hour")
    async def scarce(request: Request, response: Response) -> None: ...

    return app


def with_fixed_windows(url: str) -> Any:
    return with_peers(url, "fixed-window")


def with_sdk(url: str) -> Any:
    """https://github.com/redis/fastapi-redis-sdk (README, "Rate limiting", "Sessions")."""
    from redis_fastapi import FastAPIRedis, SessionDep, get_settings, rate_limit

    settings = get_settings()
    settings.url = url
    settings.max_connections = ENOUGH
    settings.session_cookie_https_only = False
    app = _begun()
    FastAPIRedis(app).lifespan().rate_limiting().sessions()

    @app.get("/cart", dependencies=[Depends(rate_limit(AMPLE))])
    async def cart(session: SessionDep) -> dict[str, Any]:
        return {"items": session["items"]}

    @app.post("/fill")
    async def fill(session: SessionDep) -> None:
        session["items"] = CART

    @app.get("/scarce", dependencies=[Depends(rate_limit(f"{SCARCE}/hour"))])
    async def scarce() -> None: ...

    return app


SHOPS: dict[str, Callable[[str], Any]] = {
    "bare": bare,
    "statekit": with_statekit,
    "memory": in_memory,
    "peers": with_peers,
    "fixed": with_fixed_windows,
    "sdk": with_sdk,
}
