"""Sessions: ``request.session``, kept in the store.

Rule 1: a mapping cannot wait, so a session is loaded before the app runs, if the request carries a session's
        cookie. Where limits are asked as well it travels with them. With ``lazy=True`` it is not fetched for its
        own sake: ``await load_session(request)`` does that, and reading it without raises `UsageError`.
Rule 2: a session that could not be loaded harms nobody who does not use it: reading it raises the error, or shows
        what the route has declared.
Rule 3: the cookie is set only when there is a new id, and taken away only when the session was ended here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar

from statekit import AsyncSessions, CookiePolicy, Op, SaveOutcome, Session
from statekit.errors import StoreError, UsageError
from statekit.web import RequestSession
from statekit_asgi.scope import Scope, cookie, header, is_secure

__all__ = ["AsgiSession", "CookieJar"]

T = TypeVar("T")


class AsgiSession(RequestSession):
    """``scope["session"]`` and so ``request.session``: a statekit session, saved before the answer leaves.

    A mapping of text keys to data (str, int, float, bool, None, bytes, datetime, and tuples, lists and dicts of
    them); anything else raises `NonPrimitiveValue` at the assignment. A list or dict changed in place is saved.
    ``clear()`` ends the session: what is assigned afterwards begins a new one. On a websocket it is saved when the
    connection is accepted and when it ends, or at once with ``await session.save()``.
    """

    _sessions: AsyncSessions

    def __init__(
        self,
        sessions: AsyncSessions,
        carried: str | None,
        sign_in_key: str | None = None,
        method: str = "GET",
    ) -> None:
        super().__init__(sign_in_key, method)
        self._sessions = sessions
        self.cookie = carried
        """What the request's cookie says."""
        self.declared: str | None = None
        """What the route shows if it cannot be loaded; None: what the sessions were made with."""
        self.error: StoreError | None = None
        """Why it could not be loaded."""
        self._final = False
        """Whether that is the last word: the store had all the time it may take."""
        self.raised: StoreError | None = None
        """The error the app met for it."""

    @property
    def awaited(self) -> bool:
        """Whether there is something to fetch that has not been fetched."""
        return self._opened is None and self.cookie is not None

    @property
    def patience(self) -> float:
        """How long loading it may take, in seconds."""
        return self._sessions.patience(self._shown(self.declared))

    def declare(self, on_outage: str) -> None:
        """Say what the route shows if it cannot be loaded, unless something closer to the endpoint has said so."""
        if self.declared is None:
            self.declared = on_outage
            self._sessions.expect(on_outage)

    def arriving(self, budget: float) -> Op[None]:
        """The operation that fetches it within `budget`, to travel with others; it keeps its error to itself."""
        try:
            self._opened = yield from self._sessions.opening(self.cookie, self._shown(self.declared))
        except StoreError as error:
            self.error, self._final = error, budget >= self.patience

    async def load(self) -> AsgiSession:
        """Fetch it now, if that has not been done. Raises `StoreUnavailable`."""
        if self._opened is None and self._final:
            self._opened = self._fetched()
        elif self._opened is None:
            self._opened = await self._sessions.open(self.cookie, self._shown(self.declared))
            self.error = None
        self.used = True
        return self

    async def save(self) -> SaveOutcome:
        """Write what changed, if anything did and the session still exists.

        Raises `StoreError`; so too if the session could not be read and was changed all the same. Done for each answer; call it yourself on a long-lived websocket. A new id cannot be handed out once the
        answer has begun.
        """
        if not self.used or self._opened is None:
            return SaveOutcome.UNTOUCHED
        self._follow_sign_in(self._opened)
        return self._insisted(await self._sessions.save(self._opened))

    @property
    def needs_cookie(self) -> bool:
        """Whether saving what changed would have to hand out a new id, or take the cookie away."""
        opened = self._opened
        return opened is not None and (opened.record is None or opened.change is not opened.change.NONE)

    def ahydrate(self, key: str, load: Callable[[Any], Awaitable[T]]) -> Awaitable[T | None]:
        """Same as `hydrate`, for a coroutine function."""
        return self.opened.ahydrate(key, load)

    def _fetched(self) -> Session:
        if self.error is not None:
            try:
                return self._sessions.instead(self.cookie, self.error, self._shown(self.declared))
            except StoreError as error:
                self.raised = type(error)(*error.args)
                raise self.raised from error
        session = self._sessions.lazy(self.cookie, self._shown(self.declared))
        if session.loaded:
            return session
        raise UsageError(
            "this request's session is not loaded: `await load_session(request)` before reading it, take it as "
            "SessionDep (FastAPI), or leave out lazy=True"
        )


class CookieJar:
    """The session's cookie in requests and answers, by the rules of a session store."""

    def __init__(self, policy: CookiePolicy) -> None:
        self._policy = policy
        self._name = lru_cache(maxsize=256)(self._named)

    def pick(self, scope: Scope) -> str | None:
        """What the request's cookie says, None if it carries none."""
        secure = is_secure(scope)
        return cookie(scope, self._name(secure, "" if secure else header(scope, b"host") or "")) or None

    def set(self, scope: Scope, id_: str) -> bytes:
        """The field that hands out an id."""
        return self._policy.header(id_, **_seen(scope)).encode("latin-1")

    def removal(self, scope: Scope) -> bytes:
        """The field that takes the cookie away."""
        return self._policy.removal(**_seen(scope)).encode("latin-1")

    def _named(self, secure: bool, host: str) -> bytes:
        return self._policy.name_for(secure_request=secure, host=host).encode("latin-1")


def _seen(scope: Scope) -> dict[str, Any]:
    """What a cookie's rules need to know about a request."""
    return {"secure_request": is_secure(scope), "host": header(scope, b"host") or ""}
