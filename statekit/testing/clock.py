"""A clock for tests: it moves only when told."""

from __future__ import annotations

from statekit.store.durations import Duration, micros

__all__ = ["FrozenClock"]

NEW_YEAR_2030 = 1_893_456_000_000_000


class FrozenClock:
    """Microseconds since the epoch that stand still; give it to a kit as ``clock=``.

    Scripts then compute with this time instead of the server's. What the server forgets by itself (TTLs) still
    follows the real clock.

    >>> clock = FrozenClock()
    >>> start = clock()
    >>> clock.advance(1.5)
    >>> clock() - start
    1500000
    """

    __slots__ = ("now_us",)

    def __init__(self, now_us: int = NEW_YEAR_2030) -> None:
        self.now_us = now_us
        """The time, in microseconds since the epoch; may be set."""

    def __call__(self) -> int:
        return self.now_us

    def advance(self, duration: Duration) -> None:
        """Let `duration` (seconds or a `timedelta`) pass."""
        self.now_us += micros(duration, zero=True)
