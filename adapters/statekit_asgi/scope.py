"""What is read of an ASGI scope: one look through the headers, no request object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = [
    "App",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "cookie",
    "header",
    "is_secure",
    "joined",
    "peer",
    "scope_of",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that (lower-case) name, as text; None if there is none."""
    for field, value in scope["headers"]:
        if field == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]
    return None


def joined(scope: Scope, name: bytes) -> str:
    """All headers of that (lower-case) name as one list; empty if there is none."""
    return ",".join([value.decode("latin-1") for field, value in scope["headers"] if field == name])


def peer(scope: Scope) -> str | None:
    """The address at the other end of the connection; None if it has none."""
    client = scope.get("client")
    return client[0] or None if client else None


def cookie(scope: Scope, name: bytes) -> str | None:
    """The first cookie of that name, the one browsers send for the most specific path; None if there is none."""
    for field, value in scope["headers"]:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                key, _, text = pair.partition(b"=")
                if key.strip() == name:
                    return text.strip().strip(b'"').decode("latin-1")  # type: ignore[no-any-return]
    return None


def is_secure(scope: Scope) -> bool:
    """Whether the request came over TLS, as far as the server knows."""
    return scope.get("scheme") in ("https", "wss")


def scope_of(connection: Any) -> Scope:
    """The scope of a request, a websocket, or a scope itself."""
    return getattr(connection, "scope", connection)  # type: ignore[no-any-return]
