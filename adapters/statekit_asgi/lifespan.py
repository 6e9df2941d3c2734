"""Lifespan: the kit starts before the app does, and ends after it; also around an app that knows no lifespan."""

from __future__ import annotations

from statekit import AsyncStateKit
from statekit_asgi.scope import App, Message, Receive, Scope, Send

__all__ = ["Lifespan"]


class Lifespan:
    """One run of an app: loads the kit's local copies at its start, closes the kit at its end if it is ours."""

    def __init__(self, kit: AsyncStateKit, *, owned: bool) -> None:
        self._kit = kit
        self._owned = owned
        self._heard = False
        self._answered = False

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app have its lifespan; speak for it if it has none."""

        async def starting() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._heard = True
                await self._kit.__aenter__()
            return message

        async def ending(message: Message) -> None:
            self._answered = True
            if message["type"] != "lifespan.startup.complete":
                await self._close()
            await send(message)

        try:
            await app(scope, starting, ending)
        except Exception:
            if self._answered:
                raise
        if not self._answered:
            await self._alone(receive, starting, send)

    async def _alone(self, receive: Receive, starting: Receive, send: Send) -> None:
        """For an app that refuses the scope, or returns from it without a word."""
        if not self._heard:
            await starting()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _close(self) -> None:
        if self._owned:
            await self._kit.close()
