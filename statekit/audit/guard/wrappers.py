"""The guard as WSGI and as ASGI: an app around an app."""

from __future__ import annotations

import atexit
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, TypeAlias

from statekit.audit.guard.report import Report, written
from statekit.audit.guard.routes import of_environ, of_scope
from statekit.audit.guard.watch import Look, Watch

__all__ = ["ASGIGuard", "Guard", "WSGIGuard", "is_asgi"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def is_asgi(app: Any) -> bool:
    """Whether an app is called as ASGI: with a coroutine function, by itself or as its ``__call__``."""
    return iscoroutinefunction(app) or iscoroutinefunction(getattr(type(app), "__call__", None))  # noqa: B004


class Guard:
    """An app, watched: pass it on to the server in the app's place, and ask it for its `report`."""

    def __init__(self, app: Any, watch: Watch, write: Path | None) -> None:
        self.app = app
        self._watch = watch
        self._made_in = os.getpid()
        if write is not None:
            atexit.register(self._write, write)

    def report(self) -> Report:
        """What the requests of this process really changed, so far."""
        return self._watch.report()

    def _write(self, path: Path) -> None:
        if self._watch.requests:  # a master that only forks has nothing to say
            written(self.report(), path, self._made_in)


class WSGIGuard(Guard):
    """A WSGI app, watched. A request ends when its answer has been sent and closed."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        look = self._watch.begin()
        names: list[str] = []

        def starting(*given: Any, **named: Any) -> Any:
            names.append(of_environ(environ))  # Flask forgets what it routed to before the answer is closed
            return start_response(*given, **named)

        def ended() -> None:
            self._watch.end(look, names[0] if names else of_environ(environ))

        try:
            return _Answer(self.app(environ, starting), ended)
        except BaseException:
            ended()
            raise


class _Answer:
    """The body of an answer; says so when it is closed."""

    def __init__(self, body: Iterable[bytes], closed: Callable[[], None]) -> None:
        self._body = body
        self._closed: Callable[[], None] | None = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Close the body, then take the second look."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            closed, self._closed = self._closed, None
            if closed:
                closed()


class ASGIGuard(Guard):
    """An ASGI app, watched. A connection that stays open is looked at whenever its app waits for the next message."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve a connection."""
        if scope.get("type") not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        self._watch.serving = scope.get("app")
        look = self._watch.begin()
        try:
            stays = scope["type"] == "websocket"
            await self.app(scope, self._stepping(look, scope, receive) if stays else receive, send)
        finally:
            self._watch.end(look, of_scope(scope))

    def _stepping(self, look: Look, scope: Scope, receive: Receive) -> Receive:
        async def stepping() -> MutableMapping[str, Any]:
            self._watch.pause(look, of_scope(scope))
            try:
                return await receive()
            finally:
                self._watch.resume(look)

        return stepping
