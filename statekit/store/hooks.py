"""Hooks: what the kit tells whoever listens. One frozen object per kind of event, no framework of metrics here.

A listener is any callable that takes the event; it runs in the thread or task that caused it, so it must be
quick, and an exception it raises is logged and goes no further.

    seen = []
    stop = kit.hooks.subscribe(seen.append)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Degraded", "Hooks", "Listener", "RoundTrip"]

Listener: TypeAlias = Callable[[Any], None]
log = logging.getLogger("statekit")


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One exchange with the store: the commands sent together, how long it took, how it ended."""

    commands: tuple[str, ...]
    """The verbs, with a script's name in place of its digest: ``("ratelimit.hit", "GET")``."""
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Degraded:
    """A primitive gave its declared answer for an outage instead of a real one."""

    primitive: str
    subject: str
    error: Exception


class Hooks:
    """The listeners of one kit; events are not even built while nobody listens."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns the function that ends it."""
        self._listeners = (*self._listeners, listener)
        return lambda: self.unsubscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners = tuple(one for one in self._listeners if one != listener)

    def emit(self, event: Any) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a statekit hook failed on %r", event)
