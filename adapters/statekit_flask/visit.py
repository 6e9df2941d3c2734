"""The visit: what this adapter knows about the request under way.

It lies at ``flask.g.statekit``, and is found through the request itself: ``g`` belongs to the app context,
which a test may share between several requests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from flask import g, has_request_context, request

from statekit import Decision
from statekit.web import Rule, governing

if TYPE_CHECKING:
    from statekit_flask.session import FlaskSession

__all__ = ["Visit", "visit"]

_ENVIRON = "statekit.visit"


class Visit:
    """One request: its session, the decisions about it, its tenant."""

    __slots__ = ("decided", "decisions", "home", "scope", "session", "tenant")

    def __init__(self, home: object) -> None:
        self.home = home
        """The ``g`` it belongs to: a thread with a copy of the request's context has another."""
        self.session: FlaskSession | None = None
        self.decisions: list[Decision] = []
        self.decided: set[Rule] = set()
        self.tenant: str | None = None
        self.scope: AbstractContextManager[Any] | None = None

    @property
    def decision(self) -> Decision | None:
        """The decision of the limits; of several, the refusal, else the one with the least left."""
        return governing(self.decisions)


def visit() -> Visit:
    """The current request's visit, begun if need be."""
    found: Visit | None = request.environ.get(_ENVIRON)
    if found is None:
        found = g.statekit = request.environ[_ENVIRON] = Visit(g._get_current_object())  # noqa: SLF001
    return found


def current_visit() -> Visit | None:
    """Same as `visit`, but None outside a request."""
    return visit() if has_request_context() else None
