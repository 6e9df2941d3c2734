"""What preload_app.py is for Flask, for FastAPI under uvicorn: an app that uses every primitive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from statekit import AsyncStateKit, TenantSettings
from statekit.store.outage import Budget
from statekit_asgi import StatekitMiddleware
from statekit_asgi.fastapi import SessionDep


class Settings(TenantSettings):
    plan: str = "free"


class ThirdParty:
    """A connection to whoever counts them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: str) -> ThirdParty:
        return cls(*await asyncio.open_connection("127.0.0.1", int(os.environ[port])))

    async def ask(self) -> None:
        self._writer.write(b"?")
        assert await self._reader.readexactly(1) == b"!"

    async def close(self) -> None:
        self._writer.close()


budget = Budget(decision=float(os.environ.get("BUDGET", "5")), operation=10, connect=5)
kit = AsyncStateKit.connect(
    os.environ["STATEKIT_URL"], os.environ["NAMESPACE"], budget=budget, snapshot_dir=None
)
tenants = kit.tenants(Settings)
leased = kit.rate_limiter("leased", "300/day", lease=True)
reports = kit.in_flight("reports", 3, lease=2)
kit.pools.register("billing", open=lambda: ThirdParty.connect("POOL_PORT"), per_process=2, fleet=3)


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    async with kit:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(StatekitMiddleware, kit=kit)


@app.get("/plain")
async def plain() -> Any:
    return {"pid": os.getpid()}


@app.post("/count")
async def count(session: SessionDep) -> Any:
    session["n"] = session.get("n", 0) + 1
    return {"n": session["n"], "pid": os.getpid()}


@app.get("/leased")
async def lease() -> Any:
    decision = await leased.hit("everyone")
    return {"allowed": decision.allowed, "degraded": decision.degraded, "pid": os.getpid()}


@app.get("/flag")
async def flag() -> Any:
    return {"on": kit.flags.enabled("news"), "version": kit.flags.version, "pid": os.getpid()}


@app.get("/tenant")
async def tenant() -> Any:
    plan = (await tenants.get("acme")).plan
    return {"plan": plan, "stale": tenants.stale, "pid": os.getpid()}


@app.get("/hold")
async def hold() -> Any:
    async with reports.hold("acme", timeout=30) as one:
        connection = await ThirdParty.connect("FLIGHT_PORT")
        try:
            await connection.ask()
        finally:
            await connection.close()
        return {"fence": one.fence, "pid": os.getpid()}


@app.get("/borrow")
async def borrow() -> Any:
    async with kit.pools.checkout("billing", timeout=30) as connection:
        await connection.ask()
    return {"pid": os.getpid()}
