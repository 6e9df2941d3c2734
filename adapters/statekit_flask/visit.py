"""The visit: what this adapter knows about the request under way.

It lies at ``flask.g.statekit``, and is found through the request itself: ``g`` belongs to the app context,
which a test may share between several requests.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from weakref import ref

from flask import Request, g, has_request_context, request

from statekit import Decision
from statekit.web import Rule, governing

if TYPE_CHECKING:
    from statekit_flask.session import FlaskSession

__all__ = ["Visit", "current_request", "current_visit", "visit"]

_ENVIRON = "statekit.visit"
current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001
"""The request itself: each look through the proxy costs as much as a look at ten attributes."""
_current_g: Callable[[], Any] = g._get_current_object  # noqa: SLF001


class Visit:
    """One request: its session, the decisions about it, its tenant."""

    __slots__ = ("_home", "decided", "decisions", "scope", "session", "tenant")

    def __init__(self, home: object) -> None:
        self._home = ref(home)  # weakly: home holds the visit, and circles wait for the garbage collector
        self.session: FlaskSession | None = None
        self.decisions: list[Decision] = []
        self.decided: set[Rule] = set()
        self.tenant: str | None = None
        self.scope: AbstractContextManager[Any] | None = None

    def is_at_home(self) -> bool:
        """Whether this is the ``g`` it belongs to: a thread with a copy of the request's context has another."""
        return self._home() is _current_g()

    @property
    def decision(self) -> Decision | None:
        """The decision of the limits; of several, the refusal, else the one with the least left."""
        return governing(self.decisions)


def visit() -> Visit:
    """The current request's visit, begun if need be."""
    environ = current_request().environ
    found: Visit | None = environ.get(_ENVIRON)
    if found is None:
        home = _current_g()
        found = home.statekit = environ[_ENVIRON] = Visit(home)
    return found


def current_visit() -> Visit | None:
    """Same as `visit`, but None outside a request."""
    return visit() if has_request_context() else None
