"""Hooks: what the kit tells whoever listens. One frozen object per kind of event, no framework of metrics here.

A listener is any callable that takes the event; it runs in the thread or task that caused it, so it must be
quick, and an exception it raises is logged and goes no further.

    seen = []
    stop = kit.hooks.subscribe(seen.append)

Degraded answers are counted as well, whether anybody listens or not: ``kit.hooks.degraded``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from statekit.store.fork import on_fork

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
    """The listeners of one kit; round trips are not even put into words while nobody listens."""

    __slots__ = ("__weakref__", "_counting", "_degraded", "_listeners")

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._degraded: dict[str, int] = {}
        self._counting = threading.Lock()
        on_fork(self)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns the function that ends it."""
        self._listeners = (*self._listeners, listener)
        return lambda: self.unsubscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners = tuple(one for one in self._listeners if one != listener)

    @property
    def degraded(self) -> dict[str, int]:
        """How many answers of each primitive were the declared ones for an outage, since this process began."""
        return dict(self._degraded)

    def after_fork(self) -> None:
        """A child counts its own answers, and nobody in it holds the lock."""
        self._counting = threading.Lock()
        self._degraded = {}

    def report(self, primitive: str, subject: str, error: Exception) -> None:
        """Say that an answer was the declared one for an outage."""
        self.emit(Degraded(primitive, subject, error))

    def emit(self, event: Any) -> None:
        """Tell every listener; a degraded answer is counted first."""
        if isinstance(event, Degraded):
            with self._counting:
                self._degraded[event.primitive] = self._degraded.get(event.primitive, 0) + 1
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a statekit hook failed on %r", event)
