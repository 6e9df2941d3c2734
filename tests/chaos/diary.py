"""What callers saw while something was being broken, and what it adds up to."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import isawaitable
from itertools import pairwise
from time import monotonic
from typing import Any

from statekit.errors import StoreError

CALM = 0.3
"""Seconds without a single degraded answer, after which full service counts as being back from their beginning."""


class Outcome(StrEnum):
    """What came of one call."""

    RIGHT = "right"
    DEGRADED = "degraded"
    """The answer declared for an outage, marked as such."""
    REFUSED = "refused"
    """An error declared for an outage: one of `StoreError`, or a pool that says that the store is the reason."""
    WRONG = "wrong"
    CRASH = "crash"
    """Any other error."""


@dataclass(slots=True)
class Diary:
    """What one caller, then one process, then all of them saw. Times are those of the machine, monotonic."""

    counts: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)
    """Of each verb the seconds its slowest call took."""
    troubles: list[float] = field(default_factory=list)
    """When each call began that was not answered in full."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Kinds of errors that were raised, or were the reason of a degraded answer."""
    hits: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of each key of the limiter how many hits were admitted, refused, unknown."""
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """Of each thing there may be only so many of, from when until when each was there."""

    async def ask(
        self, verb: str, call: Callable[[], Any], wrong: Callable[[Any], object] = lambda _: None
    ) -> Any:
        """Make one call, judge and time it; returns its answer, None for an error. `wrong` says what is wrong."""
        begin = monotonic()
        try:
            answer = call()
            if isawaitable(answer):
                answer = await answer
        except Exception as error:
            declared = isinstance(error, StoreError) or getattr(error, "bound", "") == "store"
            self._note(verb, begin, Outcome.REFUSED if declared else Outcome.CRASH)
            self.reasons[type(error).__name__] += 1
            if not declared:
                self.complaints.append(f"{verb}: {''.join(traceback.format_exception(error))}")
            return None
        if getattr(answer, "degraded", False):
            self._note(verb, begin, Outcome.DEGRADED)
        elif complaint := wrong(answer):
            self._note(verb, begin, Outcome.WRONG)
            self.complaints.append(f"{verb}: {complaint}")
        else:
            self._note(verb, begin, Outcome.RIGHT)
        return answer

    def _note(self, verb: str, begin: float, outcome: Outcome) -> None:
        self.counts[verb, outcome] += 1
        self.longest[verb] = max(monotonic() - begin, self.longest.get(verb, 0.0))
        if outcome is not Outcome.RIGHT:
            self.troubles.append(begin)

    def take(self, other: Diary) -> None:
        """Add what another saw."""
        self.counts += other.counts
        self.complaints += other.complaints
        self.troubles += other.troubles
        self.reasons += other.reasons
        for verb, seconds in other.longest.items():
            self.longest[verb] = max(seconds, self.longest.get(verb, 0.0))
        for key, count in other.hits.items():
            self.hits[key] += count
        for name, spans in other.spans.items():
            self.spans[name] += spans

    # -- what it adds up to ------------------------------------------------------------------------------

    def count(self, *outcomes: Outcome) -> int:
        return sum(number for (_, outcome), number in self.counts.items() if outcome in outcomes)

    def back(self, since: float, until: float) -> float:
        """Seconds after `since` at which full service was back; infinite if it was not before `until`."""
        moments = sorted(moment for moment in self.troubles if since <= moment < until)
        for last, following in pairwise([since, *moments, until]):
            if following - last >= CALM:
                return last - since
        return float("inf")

    def most_at_once(self, name: str) -> int:
        """How many of a thing there were at the same moment."""
        turns = [(begin, 1) for begin, _ in self.spans[name]] + [(end, -1) for _, end in self.spans[name]]
        most = now = 0
        for _, step in sorted(turns):
            now += step
            most = max(most, now)
        return most

    def miscounted(self, limit: int, lives: Callable[[str], int] = lambda _: 1) -> list[str]:
        """Say which keys of the limiter admitted too many, or refused too early.

        Every life of the store, if it forgets, begins to count anew: `lives` says how many a key had.
        """
        found = []
        for key, count in sorted(self.hits.items()):
            most = limit * lives(key)
            if count["admitted"] > most:
                found.append(f"{key}: {count['admitted']} admitted, {most} allowed")
            elif count["refused"] and count["admitted"] + count["unknown"] < limit:
                found.append(f"{key}: refused after {count['admitted']} admitted, {count['unknown']} unknown")
        return found

    def __str__(self) -> str:
        lines = []
        for verb in sorted({verb for verb, _ in self.counts}):
            parts = [f"{self.counts[verb, one]} {one}" for one in Outcome if self.counts[verb, one]]
            lines.append(f"{verb:10} longest {self.longest[verb] * 1000:6.0f} ms   {', '.join(parts)}")
        return "\n".join([*lines, *self.complaints[:5]])


def together(diaries: Iterable[Diary]) -> Diary:
    whole = Diary()
    for one in diaries:
        whole.take(one)
    return whole
