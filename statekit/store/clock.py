"""The clock of what a process decides by itself: how long what it has heard holds, and how long a slice may be spent."""

from __future__ import annotations

import time
from time import clock_gettime_ns

__all__ = ["micros"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def micros() -> int:
    """Microseconds of a clock that never stops, not even while the machine is suspended: the store's goes on, too."""
    return clock_gettime_ns(_CLOCK) // 1000
