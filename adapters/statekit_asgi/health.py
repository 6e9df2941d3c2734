"""Health: two addresses for whoever runs the process, answered before the app.

``/healthz`` says that the process answers; it never asks the store, so a store that is down does not make an
orchestrator kill every pod. ``/readyz`` says whether to send requests here: it pings the store, and answers
503 while the process is being drained.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

from statekit import AsyncStateKit
from statekit.errors import StoreError
from statekit.web import Problem
from statekit_asgi.answers import answer, respond
from statekit_asgi.scope import Scope, Send

__all__ = ["Draining", "Probe", "probes"]

Draining = Callable[[], bool]
Probe = Callable[[Scope, Send], Awaitable[None]]


def probes(
    kit: AsyncStateKit, health: str | None, ready: str | None, draining: Draining | None
) -> dict[str, Probe]:
    """The probes by their address."""
    found: dict[str, Probe] = {}
    if health:
        found[health] = _alive
    if ready:
        found[ready] = partial(_ready, kit, draining)
    return found


async def _alive(scope: Scope, send: Send) -> None:
    await respond(scope, send, 200, {"status": "ok", "pid": os.getpid()})


async def _ready(kit: AsyncStateKit, draining: Draining | None, scope: Scope, send: Send) -> None:
    if draining is not None and draining():
        await answer(
            scope, send, Problem(503, "This process is being drained", "Send requests to another one.")
        )
        return
    try:
        seconds = await kit.ping()
    except StoreError as error:
        await answer(scope, send, Problem(503, "The store does not answer", str(error), retry_after=1))
        return
    report = {"status": "ok", "pid": os.getpid(), "store_ms": round(seconds * 1000, 3)}
    await respond(scope, send, 200, report)
