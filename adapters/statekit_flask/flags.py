"""Flags in a request: the actor and the tenant are filled in, the rest is `StateKit.flags`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statekit import StateKit
from statekit_flask.session import current_session
from statekit_flask.visit import current_visit

__all__ = ["Actor", "BoundFlags", "session_principal"]

Actor = Callable[[], str | None]


def principal_in_use() -> str | None:
    """The principal, if this request has already used its session; never loads one for a flag's sake.

    A session that merely travelled along with the limits does not count: the answer of a flag must not depend
    on whether it did.
    """
    session = current_session()
    return session.principal if session is not None and session.used else None


def session_principal() -> str | None:
    """The principal, loading the session if need be; pass it as ``actor=session_principal``."""
    session = current_session()
    return None if session is None else session.principal


class BoundFlags:
    """`StateKit.flags` with ``actor`` and ``tenant`` of the current request, unless they are given.

    Outside a request it is the same as `StateKit.flags`.
    """

    def __init__(self, kit: StateKit, actor: Actor) -> None:
        self._kit = kit
        self._actor = actor

    def enabled(self, name: str, **attributes: Any) -> bool:
        """Whether a flag is on for the current request; local, no I/O once loaded."""
        return self._kit.flags.enabled(name, **self._filled(attributes))

    def value(self, name: str, default: Any = None, **attributes: Any) -> Any:
        """The value of a flag for the current request; local, no I/O once loaded."""
        return self._kit.flags.value(name, default=default, **self._filled(attributes))

    def explain(self, name: str, **attributes: Any) -> Any:
        """Why a flag answers as it does for the current request."""
        return self._kit.flags.explain(name, **self._filled(attributes))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kit.flags, name)

    def _filled(self, attributes: dict[str, Any]) -> dict[str, Any]:
        current = current_visit()
        if current is None:
            return attributes
        if "actor" not in attributes:
            attributes["actor"] = self._actor()
        if current.tenant is not None:
            attributes.setdefault("tenant", current.tenant)
        return attributes
