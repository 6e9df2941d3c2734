"""The exchange: what passes between the app and the server, with the session saved before the answer begins.

Rule 1: the first message of an answer is held until the session is saved; if that fails the answer is a 503,
        never a false success, unless the route has declared otherwise (`statekit.web.session`).
Rule 2: everything behind it passes untouched, as it comes: streams stay streams.
Rule 3: what the app raises goes on to the server, unless it is an error of statekit that has an answer.
"""

from __future__ import annotations

import logging
from typing import Any

from statekit import SaveOutcome
from statekit.errors import StatekitError, StoreError
from statekit.web import Problem, announced, problem_of
from statekit_asgi.answers import answer
from statekit_asgi.scope import App, Message, Receive, Send
from statekit_asgi.session import AsgiSession, CookieJar
from statekit_asgi.visit import Visit

__all__ = ["Exchange"]

log = logging.getLogger("statekit")
BEGINNINGS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
Fields = list[tuple[bytes, bytes]]


class _Replaced(OSError):
    """Raised where a stream goes on sending an answer that was replaced: to the app its peer has gone."""


class Exchange:
    """One request, or one websocket, on its way through the app."""

    __slots__ = ("_begun", "_jar", "_replaced", "_send", "_style", "visit")

    def __init__(self, visit: Visit, send: Send, jar: CookieJar | None, style: str | None) -> None:
        self.visit = visit
        self._send = send
        self._jar = jar
        self._style = style
        self._begun = False
        self._replaced = False

    async def run(self, app: App, receive: Receive) -> None:
        """Run the app, then save what a stream, a background task or a websocket has changed meanwhile."""
        try:
            await app(self.visit.scope, receive, self.send)
        except Exception:
            if self.visit.scope["type"] == "websocket":  # a peer that leaves is an exception there
                await self._save_late()
            if not self._replaced:
                raise
        else:
            await self._save_late()

    async def send(self, message: Message) -> None:
        """Pass a message on; the first of an answer completed with cookie and limits."""
        if self._begun and not self._replaced:
            await self._send(message)
        elif self._replaced:
            if message.get("more_body"):
                raise _Replaced("this answer was replaced")
        elif message["type"] in BEGINNINGS:
            await self._begin(message)
        else:
            await self._send(message)

    async def refuse(self, error: StatekitError) -> bool:
        """Answer an error, if it has an answer and nothing has been answered; returns whether it did."""
        problem = problem_of(error)
        accepted = self._begun and self.visit.scope["type"] == "websocket"
        if problem is None or (self._begun and not accepted):
            return False
        self._note(error, problem)
        if accepted:
            await answer(self.visit.scope, self._send, problem, accepted=True)
        else:
            await self._replace(problem)
        return True

    async def _begin(self, message: Message) -> None:
        visit, session = self.visit, self.visit.session
        trouble = visit.trouble or (None if session is None else session.raised)
        if trouble is not None and message.get("status") == 500 and await self.refuse(trouble):
            return
        outcome = SaveOutcome.UNTOUCHED
        used = session is not None and session.used
        if session is not None and used:
            try:
                outcome = await session.save()
            except StoreError as error:
                session.used = False  # whatever was answered, it is not tried again
                if not session.forgive(error):
                    await self.refuse(error)
                    return
        self._begun = True
        if used or visit.decisions:
            headers = [*message.get("headers", ())]
            if session is not None and used:
                self._dress(headers, session, outcome)
            self._announce(headers)
            message = {**message, "headers": headers}
        await self._send(message)

    async def _replace(self, problem: Problem) -> None:
        self._begun = self._replaced = True

        async def announcing(message: Message) -> None:
            if "headers" in message:
                self._announce(message["headers"])
            await self._send(message)

        await answer(self.visit.scope, announcing, problem)

    def _dress(self, headers: Fields, session: AsgiSession, outcome: SaveOutcome) -> None:
        """Add what the session says of the answer: whom it was for, and its cookie."""
        assert self._jar is not None
        _vary(headers)
        if outcome.sends_cookie:  # and no cache may keep it, or it would give the session away
            headers[:] = [field for field in headers if field[0].lower() != b"cache-control"]
            headers.append((b"set-cookie", self._jar.set(self.visit.scope, session.opened.id)))
            headers.append((b"cache-control", b"no-store"))
        elif outcome.drops_cookie:
            headers.append((b"set-cookie", self._jar.removal(self.visit.scope)))
        session.used = False  # what is used from here on came after the answer began

    def _announce(self, headers: Fields) -> None:
        """Put the limits into the answer's headers."""
        for name, value in announced(self.visit.decisions, self._style):
            field = name.lower().encode("latin-1")
            if field == b"retry-after" and any(known == field for known, _ in headers):
                continue
            headers.append((field, value.encode("latin-1")))

    async def _save_late(self) -> None:
        """Save what was changed after the answer began; a new id cannot be handed out any more."""
        session, where = self.visit.session, self.visit.scope["path"]
        if session is None or not session.used or not session.changed:
            return
        if session.needs_cookie:
            log.warning("statekit: %s changed its session after its answer had begun: not saved", where)
            return
        try:
            await session.save()
        except StoreError as error:
            log.warning("statekit: %s could not save its session after its answer: %s", where, error)

    def _note(self, error: StatekitError, problem: Problem) -> None:
        if isinstance(error, StoreError):
            scope: Any = self.visit.scope
            method = scope.get("method", scope["type"])
            log.warning("statekit: %s %s answered %d: %s", method, scope["path"], problem.status, error)


def _vary(headers: Fields) -> None:
    for index, (name, value) in enumerate(headers):
        if name.lower() == b"vary":
            if b"cookie" not in value.lower() and value.strip() != b"*":
                headers[index] = name, value + b", Cookie"
            return
    headers.append((b"vary", b"Cookie"))
