"""Proofs from what callers saw: did a limiter let more through than it may? Pure.

A call is seen from outside: it was decided at some moment between when it was made and when it returned. So more than
was allowed is *proven* only by calls that lie in a window whole, from making to returning.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TypeAlias

__all__ = ["Span", "hammered", "most_in_a_window", "once", "within"]

Span: TypeAlias = tuple[float, float]
"""When a call was made, and when it returned; seconds of one monotonic clock."""


HAIR = 1e-9
"""Calls exactly a window apart are not in one: it is half-open."""


def most_in_a_window(admitted: Iterable[Span], window: float) -> int:
    """The most calls proven to have been admitted within one span of `window` seconds."""
    reach = window - HAIR
    spans = sorted(
        span for span in admitted if span[1] - span[0] <= reach
    )  # a longer one is in no window, whole
    returned = sorted(after for _, after in spans)
    most = 0
    for position, (made, _) in enumerate(spans):
        # Of all that returned by then, the `position` calls made before this one are not in its window.
        most = max(most, bisect_right(returned, made + reach) - position)
    return most


def within(admitted: Sequence[Span], window: float, limit: int) -> str | None:
    """What is wrong: more than `limit` in a window; None if nothing is."""
    most = most_in_a_window(admitted, window)
    if most <= limit:
        return None
    return f"let {most} through within {window:g} s where {limit} were allowed"


def hammered(hit: Callable[[], bool], seconds: float) -> list[Span]:
    """Call for so long, without a pause; when each call was admitted."""
    admitted: list[Span] = []
    end = monotonic() + seconds
    while monotonic() < end:
        admitted += once(hit)
    return admitted


def once(hit: Callable[[], bool]) -> list[Span]:
    """Call once; the span of the call if it was admitted."""
    before = monotonic()
    passed = hit()
    return [(before, monotonic())] if passed else []
