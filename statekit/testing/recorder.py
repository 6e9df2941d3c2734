"""Recording what a kit sends: the proof of "one round trip"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from statekit.store.hooks import Hooks, RoundTrip

__all__ = ["recorded"]


class _Hooked(Protocol):
    @property
    def hooks(self) -> Hooks: ...


@contextmanager
def recorded(kit: _Hooked) -> Iterator[list[RoundTrip]]:
    """Collect the round trips of a kit while the block runs.

    >>> from statekit import StateKit
    >>> kit = StateKit.in_memory()
    >>> with recorded(kit) as trips:
    ...     _ = kit.ping()
    >>> [trip.commands for trip in trips]
    [('PING',)]
    """
    trips: list[RoundTrip] = []

    def keep(event: object) -> None:
        if isinstance(event, RoundTrip):
            trips.append(event)

    stop = kit.hooks.subscribe(keep)
    try:
        yield trips
    finally:
        stop()
