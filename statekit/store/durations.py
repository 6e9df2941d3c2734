"""Durations: the one place where seconds and `timedelta` become the integers scripts work with.

Inside statekit a moment is microseconds since the Unix epoch and a span is microseconds too, both integers.
`timedelta.seconds` is never read: it drops the days.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from statekit.errors import UsageError

__all__ = ["Duration", "micros", "millis", "seconds"]

Duration: TypeAlias = float | int | timedelta

LONGEST = 10 * 366 * 86400
"""Ten years: longer is taken for a mistake of unit (milliseconds given as seconds)."""


def seconds(value: Duration, name: str = "duration", *, zero: bool = False) -> float:
    """Check a duration and return it in seconds.

    Raises `UsageError`, naming `name` and the value, unless it is a finite positive number of seconds or a
    `timedelta`, at most ten years. Zero is refused unless `zero` is true.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UsageError(f"{name}={value!r} is not a duration: give seconds or a timedelta")
    lowest_passes = number >= 0 if zero else number > 0
    if not math.isfinite(number) or not lowest_passes or number > LONGEST:
        floor = "0 or more" if zero else "more than 0"
        raise UsageError(f"{name}={value!r} is out of range: give {floor} and at most ten years, in seconds")
    return float(number)


def micros(value: Duration, name: str = "duration", *, zero: bool = False) -> int:
    """Return a checked duration in whole microseconds, rounded up so that it never becomes zero."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LONGEST:
        return value * 1_000_000
    return math.ceil(round(seconds(value, name, zero=zero) * 1_000_000, 3))


def millis(value: Duration, name: str = "duration", *, zero: bool = False) -> int:
    """Return a checked duration in whole milliseconds, rounded up."""
    return -(-micros(value, name, zero=zero) // 1000)
