"""Answers the middleware gives itself: problems over HTTP, and to a websocket that is to be refused."""

from __future__ import annotations

import json
from typing import Any

from statekit.web import MEDIA_TYPE, Problem
from statekit_asgi.scope import Scope, Send

__all__ = ["answer", "respond"]

TRY_AGAIN_LATER = 1013
POLICY_VIOLATION = 1008


async def answer(scope: Scope, send: Send, problem: Problem, *, accepted: bool = False) -> None:
    """Send a problem as the whole answer.

    A websocket that is `accepted` is closed. One that is not gets the answer if the server can send one (the
    extension ``websocket.http.response``), else it is refused, which is a bare 403.
    """
    later = TRY_AGAIN_LATER if problem.retry_after is not None else POLICY_VIOLATION
    if scope["type"] == "http":
        await respond(scope, send, problem.status, problem.body, _fields(problem))
    elif not accepted and "websocket.http.response" in (scope.get("extensions") or {}):
        await respond(scope, send, problem.status, problem.body, _fields(problem), "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": later, "reason": problem.title})


async def respond(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes | dict[str, Any],
    fields: list[tuple[bytes, bytes]] | None = None,
    kind: str = "http.response",
) -> None:
    """Send a whole answer: bytes with their own fields, or a dict as JSON that nobody may keep."""
    if isinstance(body, dict):
        body = json.dumps(body).encode() + b"\n"
        fields = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    headers = [*(fields or ()), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    shown = b"" if scope.get("method") == "HEAD" else body
    await send({"type": f"{kind}.body", "body": shown, "more_body": False})


def _fields(problem: Problem) -> list[tuple[bytes, bytes]]:
    fields = [(b"content-type", MEDIA_TYPE.encode())]
    if problem.retry_after is not None:
        fields.append((b"retry-after", str(problem.retry_after).encode()))
    return fields
