"""The visit: what the middleware knows about the request under way.

It lies in the scope under ``"statekit"``, and in a context variable, where endpoints find it that are not handed
their request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from statekit import Decision
from statekit.errors import UsageError
from statekit.web import Refusal, governing
from statekit_asgi.scope import Scope, joined, peer, scope_of
from statekit_asgi.session import AsgiSession

if TYPE_CHECKING:
    from statekit_asgi.admission import Admission
    from statekit_asgi.rules import Plan

__all__ = [
    "CURRENT",
    "KEY",
    "Visit",
    "client_address",
    "current_decision",
    "current_session",
    "current_tenant",
    "load_session",
    "visit",
    "visit_of",
]

KEY = "statekit"
CURRENT: ContextVar[Visit | None] = ContextVar("statekit_visit", default=None)


class Visit:
    """One request, or one websocket: its session, the decisions about it, its tenant."""

    __slots__ = (
        *("_admission", "_params", "decisions", "late", "method", "plan", "scope", "session", "tenant"),
        *("tenants", "trouble"),
    )

    def __init__(
        self, admission: Admission, scope: Scope, session: AsgiSession | None, tenants: Any = None
    ) -> None:
        self._admission = admission
        found = admission.routes.find(scope)
        self.scope = scope
        self._params = found.params
        self.method: str = scope.get("method", "GET")
        self.plan: Plan = found.plan
        self.session = session
        self.tenants = tenants
        self.tenant: str | None = None
        self.decisions: list[Decision] = []
        self.late: set[object] = set()
        """What was decided only when the endpoint asked for it."""
        self.trouble: Refusal | None = None
        """The refusal that was raised inside the app, for a framework that makes a 500 of it."""

    @property
    def seen(self) -> Scope:
        """The scope as functions of the app shall see it before the app has run: with the parameters of its path."""
        return {**self.scope, "path_params": self._params} if self._params else self.scope

    @property
    def decision(self) -> Decision | None:
        """The decision of the limits; of several, the refusal, else the one with the least left."""
        return self.decisions[0] if len(self.decisions) == 1 else governing(self.decisions)

    @property
    def address(self) -> str | None:
        """The client's address, told by trusted proxies or the peer's own."""
        proxies, near = self._admission.proxies, peer(self.scope)
        if proxies is None:
            return near
        return proxies.client(near, joined(self.scope, proxies.header.lower().encode()))

    def has_decided(self, asked: object) -> bool:
        """Whether a rule or a dependency was part of what has been decided."""
        return asked in self.plan.decided or asked in self.late

    def declare(self, on_outage: str) -> None:
        """Say what the session shows if it cannot be loaded, where the plan could not know."""
        if self.session is not None:
            self.session.declare(on_outage)

    async def enforce(self, rule: Any, asked: object = None) -> Decision | None:
        """Decide a rule now, unless that has been done; raises `TooManyRequests`. Returns the request's decision.

        `asked`: the dependency that stands for the rule; then `rule` is a function that makes it.
        """
        if not self.has_decided(asked or rule):
            self.late.add(asked or rule)
            made = rule if asked is None else rule(self.scope.get("endpoint"), ())
            await self._admission.enforce(self, made)
        return self.decision


def visit() -> Visit:
    """The visit under way; raises `UsageError` where there is none."""
    found = CURRENT.get()
    if found is None:
        raise _outside()
    return found


def visit_of(connection: Any) -> Visit:
    """The visit of a request, a websocket or a scope; raises `UsageError` where there is none."""
    found = scope_of(connection).get(KEY)
    if not isinstance(found, Visit):
        raise _outside()
    return found


async def load_session(connection: Any) -> AsgiSession:
    """The session of a request, a websocket or a scope, fetched if that has not been done.

    One round trip at most, none without a session's cookie. Raises `StoreUnavailable`, and `UsageError` where
    there are no sessions.
    """
    session = visit_of(connection).session
    if session is None:
        raise UsageError("this app has no statekit sessions: StatekitMiddleware(…, sessions=True)")
    return await session.load()


def client_address(connection: Any) -> str | None:
    """The address a request comes from: the peer's, or the one that ``trusted_proxies=`` of the middleware tell.

    None if there is none: a unix socket, a test without a client.
    """
    scope = scope_of(connection)
    found = scope.get(KEY)
    return found.address if isinstance(found, Visit) else peer(scope)


def current_session() -> AsgiSession | None:
    """The session of the request under way; None outside a request, or without sessions."""
    found = CURRENT.get()
    return None if found is None else found.session


def current_decision() -> Decision | None:
    """The decision about the request under way: of several, the refusal, else the one with the least left."""
    found = CURRENT.get()
    return None if found is None else found.decision


def current_tenant() -> str | None:
    """The tenant of the request under way, if it has one."""
    found = CURRENT.get()
    return None if found is None else found.tenant


def _outside() -> UsageError:
    return UsageError("this needs StatekitMiddleware around the app, and a request under way")
