"""A FastAPI app that uvicorn serves with two workers: see test_asgi_uvicorn.py."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from statekit import AsyncStateKit, Decision
from statekit.store.outage import Budget
from statekit_asgi import StatekitMiddleware
from statekit_asgi.fastapi import SessionDep, limit

kit = AsyncStateKit.connect(
    os.environ["STATEKIT_URL"], os.environ["NAMESPACE"], budget=Budget(decision=5, operation=10, connect=5)
)
started = False


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    global started  # noqa: PLW0603 - one app a process
    started = True
    yield
    await kit.close()


app = FastAPI(lifespan=lifespan)
app.add_middleware(StatekitMiddleware, kit=kit, default_limits=["100000/hour"])


@app.post("/count")
async def count(session: SessionDep) -> Any:
    session["n"] = session.get("n", 0) + 1
    return {"n": session["n"], "pid": os.getpid(), "started": started}


@app.get("/limited")
async def limited(
    session: SessionDep, decision: Annotated[Decision, limit("20/hour", key=lambda _scope: "everyone")]
) -> Any:
    return {"pid": os.getpid(), "n": session.get("n"), "left": decision.remaining}


@app.get("/flag")
async def flag() -> Any:
    return {"on": kit.flags.enabled("news"), "pid": os.getpid()}


@app.get("/slow")
async def slow(session: SessionDep) -> Any:
    await asyncio.sleep(0.2)
    return {"n": session.get("n"), "pid": os.getpid()}


@app.get("/stream")
async def stream(session: SessionDep) -> Any:
    session["streamed"] = True

    async def lines() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(lines())


@app.websocket("/chat")
async def chat(
    websocket: WebSocket, session: SessionDep, _: Annotated[Decision, limit("2/hour", name="chat")]
) -> None:
    await websocket.accept()
    session["said"] = await websocket.receive_text()
    await session.save()
    await websocket.send_text(f"{session.get('n')} {session['said']}")
    await websocket.close()


@app.get("/said")
async def said(session: SessionDep) -> Any:
    return {"said": session.get("said")}
