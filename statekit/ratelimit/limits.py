"""Limits: how many, in how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self, TypeAlias

from statekit.errors import UsageError
from statekit.store.durations import Duration, micros, seconds

__all__ = ["LARGEST", "Limit", "LimitLike"]

LARGEST = 4_000_000_000
"""Units of one limit at most; count larger amounts in larger units (KiB instead of bytes)."""

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SHORT = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86400, "w": 604800}
_SECONDS = _UNITS | {f"{unit}s": span for unit, span in _UNITS.items()} | _SHORT
_TEXT = re.compile(r"\s*(\d+)\s*(?:/|\bper\b)\s*(\d+)?\s*([a-z]+)\s*\Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` units in any `window` seconds (or `timedelta`).

    A count of 0 refuses everything. Raises `UsageError` for a count that is not a whole number from 0 to
    4,000,000,000 and for a window that is not a duration of a microsecond or more.

    >>> Limit(5, 60) == Limit.per_minute(5) == Limit.parse("5/minute")
    True
    >>> str(Limit.parse("100 per 15 minutes"))
    '100/15 minutes'
    """

    count: int
    window: Duration

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int):
            raise UsageError(f"count={self.count!r} is not a whole number: write Limit(5, 60) or '5/minute'")
        if not 0 <= self.count <= LARGEST:
            raise UsageError(f"count={self.count} is out of range: use 0 to {LARGEST:,}, in larger units")
        if not isinstance(self.window, int) and round(seconds(self.window, "window") * 1_000_000, 3) < 1:
            raise UsageError(f"window={self.window!r} is too short: the smallest is a microsecond, 1e-6")
        object.__setattr__(self, "window", micros(self.window, "window") / 1_000_000)

    @property
    def window_us(self) -> int:
        """The window in whole microseconds."""
        return micros(self.window, "window")

    @classmethod
    def per_second(cls, count: int) -> Self:
        """So many in any second."""
        return cls(count, 1)

    @classmethod
    def per_minute(cls, count: int) -> Self:
        """So many in any minute."""
        return cls(count, 60)

    @classmethod
    def per_hour(cls, count: int) -> Self:
        """So many in any hour."""
        return cls(count, 3600)

    @classmethod
    def per_day(cls, count: int) -> Self:
        """So many in any 24 hours."""
        return cls(count, 86400)

    @classmethod
    def parse(cls, text: LimitLike) -> Self | Limit:
        """Read ``"5/minute"``, ``"5 per minute"``, ``"100/15 minutes"``, ``"10/s"``; a `Limit` passes through.

        Raises `UsageError`, naming the text and showing a right one.
        """
        if isinstance(text, Limit):
            return text
        if not isinstance(text, str):
            raise UsageError(f"limit {text!r} is {type(text).__name__}: write '5/minute' or Limit(5, 60)")
        match = _TEXT.match(text)
        span = match and _SECONDS.get(match[3].lower())
        if not match or not span or match[2] == "0" or len(match[1]) > 18:
            raise UsageError(
                f"limit {text!r} is malformed: write a count, a slash and a time, such as '5/minute' or "
                f"'100/15 minutes'; the times are {', '.join(_UNITS)}"
            )
        return cls(int(match[1]), int(match[2] or 1) * span)

    def __str__(self) -> str:
        for unit, span in reversed(_UNITS.items()):
            if self.window_us % (span * 1_000_000) == 0:
                times = self.window_us // (span * 1_000_000)
                return f"{self.count}/{unit}" if times == 1 else f"{self.count}/{times} {unit}s"
        return f"{self.count}/{self.window_us / 1_000_000:g} s"


LimitLike: TypeAlias = Limit | str
