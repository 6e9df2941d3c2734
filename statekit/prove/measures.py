"""Two measures of what a load saw. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Timed", "percentile", "worst_window"]


class Timed(Protocol):
    """Something that was sent and answered, in seconds of one clock."""

    @property
    def sent(self) -> float: ...
    @property
    def received(self) -> float: ...


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: a value that was really seen. None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def worst_window(permits: Sequence[Timed], window: float = 60.0) -> int:
    """The most permits that were for certain granted within one window.

    A permit was granted somewhere between its request's sending and its answer's arrival. It is counted in a
    window only if both lie inside, so a slow answer is never mistaken for a permit too many.
    """
    sent = sorted(permit.sent for permit in permits)
    received = sorted(permit.received for permit in permits)
    return max(
        (bisect_left(received, start + window) - bisect_left(sent, start) for start in sent), default=0
    )
