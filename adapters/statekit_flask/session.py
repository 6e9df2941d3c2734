"""Sessions: `flask.session`, kept in the store.

Rule 1: a request that does not touch its session reads nothing; one that changes nothing writes nothing.
Rule 2: the cookie is set only when there is a new id, and taken away only when the session was ended here.
Rule 3: a session that was revoked while the request ran is never written back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Any
from weakref import ref

from flask import Flask, Request, Response, has_request_context, request
from flask.sessions import SessionInterface, SessionMixin

from statekit import CookiePolicy, SaveOutcome, Session, Sessions
from statekit.errors import StoreError, UsageError
from statekit.web import RequestSession
from statekit_flask.problems import answer, turn_into
from statekit_flask.visit import Visit, visit

__all__ = ["FlaskSession", "StatekitSessionInterface", "current_session"]

FLASKS_NAME = "session"
"""The name a Flask app's cookie has unless the app says otherwise."""
SETTINGS = tuple(
    f"SESSION_COOKIE_{name}" for name in ("NAME", "PATH", "SECURE", "SAMESITE", "PARTITIONED", "DOMAIN")
)


class FlaskSession(RequestSession, SessionMixin):
    """`flask.session`: a statekit session that is opened when it is first used.

    A mapping of text keys to data (str, int, float, bool, None, bytes, datetime, and tuples, lists and dicts of
    them); anything else raises `NonPrimitiveValue` at the assignment. A list or dict changed in place is saved:
    ``session.modified = True`` is accepted and not needed. ``clear()`` ends the session, as it does in any Flask
    app: what is assigned afterwards begins a new one.
    """

    _sessions: Sessions
    accessed = False

    def __init__(
        self,
        sessions: Sessions,
        carried: Callable[[], str | None],
        sign_in_key: str | None = None,
        declared: Callable[[], str | None] = lambda: None,
        method: str = "GET",
    ) -> None:
        super().__init__(sign_in_key, method)
        self._sessions = sessions
        self._carried = carried
        self._declared = declared
        self.persistence_changed = False

    @cached_property
    def cookie(self) -> str | None:
        """What the request's cookie says; looked for when somebody asks."""
        return self._carried() or None

    @property
    def arrived(self) -> bool:
        """Whether the request came with a session's cookie."""
        return self.cookie is not None

    @property
    def awaited(self) -> bool:
        """Whether reading it would ask the store."""
        return self.arrived and self._opened is None

    def opening(self) -> Any:
        """The operation that reads it, to travel with others."""
        return self._sessions.opening(self.cookie, self._shown(self._declared()))

    @property
    def opened(self) -> Session:
        """The `statekit.Session` behind it."""
        self.accessed = True
        return super().opened

    def _fetched(self) -> Session:
        return self._sessions.open(self.cookie, self._shown(self._declared()))

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether nothing is stored under its id yet."""
        return super().new

    @property
    def modified(self) -> bool:
        """Whether saving would write anything. Setting it has no effect: changes are found by comparing."""
        return self.changed

    @modified.setter
    def modified(self, value: bool) -> None:
        """Accept what Flask apps are used to write."""

    def save(self) -> SaveOutcome:
        """Write what changed, if anything did and the session still exists.

        Raises `StoreError`; so too if the session could not be read and was changed all the same.
        """
        if not self.used or self._opened is None:
            return SaveOutcome.UNTOUCHED
        self.used = False  # whatever comes of it, it is not tried again for the error page of this request
        self._follow_sign_in(self._opened)
        if not self._opened.modified:
            return SaveOutcome.UNTOUCHED
        return self._insisted(self._sessions.save(self._opened))

    def _watch(self, key: str) -> None:
        if key == "_permanent":
            self.persistence_changed = True
        super()._watch(key)


class StatekitSessionInterface(SessionInterface):
    """Gives each request its `FlaskSession`, saves it when the request ends."""

    def __init__(
        self,
        sessions: Sessions,
        learn: Callable[[Visit], None],
        sign_in_key: str | None,
        declared: Callable[[], str | None],
    ) -> None:
        self._sessions = sessions
        self._learn = learn
        self._declared = declared
        self._sign_in_key = sign_in_key
        self._adjusted: tuple[tuple[Any, ...], CookiePolicy] = (), sessions.cookie

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        """Hand out a session that has not been read yet."""
        here = ref(request)  # weakly: it holds the session, and circles wait for the garbage collector

        def carried() -> str | None:
            request = here()
            if request is None:
                raise UsageError(
                    "this session's request has ended: read it before, or copy its context along"
                )
            if "HTTP_COOKIE" not in request.environ:
                return None
            policy = self.policy(app)
            return policy.pick(request.cookies, **_seen(request, policy))

        session = visit().session = FlaskSession(
            self._sessions, carried, self._sign_in_key, self._declared, request.method
        )
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Write what changed; if that fails, the answer becomes a 503, unless the route has declared otherwise."""
        if not isinstance(session, FlaskSession):
            return
        if session.accessed:
            if "Vary" in response.headers:
                response.vary.add("Cookie")
            else:
                response.headers["Vary"] = "Cookie"
        self._learn(visit())
        try:
            outcome = session.save()
        except StoreError as error:
            if not session.forgive(error):
                turn_into(response, answer(error))
        else:
            self._send_cookie(app, session, outcome, response)

    def policy(self, app: Flask) -> CookiePolicy:
        """The cookie's rules: those of the session store, with what the app's settings say otherwise.

        Read: ``SESSION_COOKIE_NAME``, ``_PATH``, ``_SECURE`` (True), ``_SAMESITE``, ``_PARTITIONED``. The cookie is
        HttpOnly always. Raises `UsageError` for ``SESSION_COOKIE_DOMAIN``.
        """
        said: tuple[Any, ...] = tuple(map(app.config.get, SETTINGS))
        known, policy = self._adjusted
        if said != known:
            policy = _adjusted(self._sessions.cookie, *said)
            self._adjusted = said, policy
        return policy

    def _send_cookie(
        self, app: Flask, session: FlaskSession, outcome: SaveOutcome, response: Response
    ) -> None:
        kept = outcome is SaveOutcome.SAVED and session.persistence_changed
        if outcome.sends_cookie or kept:
            policy = self._aged(app, session)
            response.headers.add("Set-Cookie", policy.header(session.opened.id, **_seen(request, policy)))
            response.headers["Cache-Control"] = "no-store"  # a cache that kept it would give the session away
        elif outcome.drops_cookie:
            policy = self.policy(app)
            response.headers.add("Set-Cookie", policy.removal(**_seen(request, policy)))

    def _aged(self, app: Flask, session: FlaskSession) -> CookiePolicy:
        """A permanent session's cookie outlives the browser, but never the session."""
        policy = self.policy(app)
        if not session.permanent:
            return policy
        longest = min(
            app.permanent_session_lifetime, timedelta(microseconds=self._sessions.rules.absolute_us)
        )
        return replace(policy, max_age=max(1, int(longest.total_seconds())))


def _adjusted(
    policy: CookiePolicy,
    name: str,
    path: str | None,
    secure: bool,
    same_site: Any,
    partitioned: bool | None,
    domain: str | None,
) -> CookiePolicy:
    if domain:
        raise UsageError(
            f"SESSION_COOKIE_DOMAIN={domain!r}: a session cookie for all subdomains could be planted by any of them; "
            "remove the setting, the cookie is bound to its host"
        )
    if name != FLASKS_NAME:
        policy = replace(policy, name=name.removeprefix("__Host-").removeprefix("__Secure-"))
    return replace(
        policy,
        path=path or policy.path,
        secure=secure or policy.secure,
        same_site=same_site.title() if same_site else policy.same_site,
        partitioned=bool(partitioned) or policy.partitioned,
    )


def _seen(request: Request, policy: CookiePolicy) -> dict[str, Any]:
    """What a cookie's rules need to know about a request; its host only where that matters."""
    secure = request.is_secure
    return {"secure_request": secure, "host": request.host if policy.secure is None and not secure else ""}


def current_session() -> FlaskSession | None:
    """The current request's session; None outside a request, or where the app keeps Flask's own."""
    return visit().session if has_request_context() else None
