"""What rate limits mean, said so plainly that it can be run: the oracle the scripts are held to.

`counting` has the four algorithms. Here are the units set aside, and a caller with everything that is his.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.models.counting import Bound, Window, tally

__all__ = ["ALGORITHMS", "Asked", "Bound", "Caller", "Hold", "Wish", "hit", "hold"]


class Hold(NamedTuple):
    """Units that count until they are settled, or for a window from the deadline on: each may be spent just then."""

    id: str
    units: int
    made: int
    deadline: int


@dataclass(slots=True)
class Laden:
    """A limit with units set aside."""

    own: Window
    window: int
    holds: Sequence[Hold]
    now: int

    def used(self, t: int) -> int:
        return self.own.used(t) + sum(one.units for one in self.holds if one.deadline + self.window > t)

    def wait(self, target: int) -> int:
        """However many holds go first, the least moment at which own units and the other holds are few enough."""
        if self.used(self.now) <= target:
            return 0
        ends = [(one.deadline + self.window - self.now, one.units) for one in self.holds]
        ends = [(0, 0), *sorted(one for one in ends if one[0] > 0)]
        held, waits = sum(units for _, units in ends), []
        for gone, units in ends:
            held -= units
            if held <= target:
                waits.append(max(gone, self.own.wait(target - held)))
        return min(waits)


ALGORITHMS = ("log", "counter", "gcra", "fixed")


class Caller:
    """One caller of one limiter."""

    def __init__(self, algorithm: str) -> None:
        self.tally: Any = tally(algorithm)
        self.written = False
        self.stored: list[Hold] = []
        self.holds: list[Hold] = []

    def open(self, now: int, bounds: Sequence[Bound], *, looks: bool = False) -> Sequence[Window]:
        """Bring everything to this moment, for good if the clock was set back, or if somebody hits changed limits."""
        self.bounds, self.now = bounds, now
        longest = max(window for _, window in bounds)
        self.holds = [one for one in self.stored if one.deadline + longest > now or one.made - now > longest]
        moved = [one for one in self.holds if one.made - now > longest]
        for one in moved:
            self.holds[self.holds.index(one)] = Hold(one.id, one.units, now, one.deadline - one.made + now)
        self.windows, back = self.tally.at(now, bounds)
        if moved or back or (self.tally.carried and not looks):
            self.keep()
        return self.laden()

    def laden(self) -> Sequence[Window]:
        if not self.holds:
            return self.windows
        pairs = zip(self.windows, self.bounds, strict=True)
        return [Laden(own, bound.window, self.holds, self.now) for own, bound in pairs]

    def charge(self, units: int) -> None:
        self.tally.charge(units)
        self.stored, self.written = list(self.holds), True

    def keep(self) -> None:
        self.tally.keep()
        self.stored, self.written = list(self.holds), True


class Asked(NamedTuple):
    """A limiter applied to a caller: units that must be free, and units to charge."""

    caller: Caller
    bounds: tuple[Bound, ...]
    need: int
    take: int
    shadow: bool = False


class Standing:
    """What one caller is told, gathered before and after he is charged."""

    def __init__(self, asked: Asked, windows: Sequence[Window], now: int) -> None:
        self.asked, self.windows, self.now = asked, windows, now
        self.waits = [
            -1 if asked.need > bound.count else window.wait(bound.count - asked.need)
            for bound, window in zip(asked.bounds, windows, strict=True)
        ]
        self.full = any(self.waits)

    def told(self) -> list[int]:
        figures = []
        for bound, window, wait in zip(self.asked.bounds, self.asked.caller.laden(), self.waits, strict=True):
            used = window.used(self.now)
            more = window.wait(max(0, min(used, bound.count) - 1))
            figures += [max(0, bound.count - used), wait, more, window.wait(0)]
        return figures


def hit(now: int, *all_asked: Asked) -> list[int]:
    """All pass and are charged, or none is; a limiter in shadow that would refuse is not charged, and stops nobody."""
    standings = [
        Standing(one, one.caller.open(now, one.bounds, looks=not one.take), now) for one in all_asked
    ]
    admitted = all(one.asked.shadow or not one.full for one in standings)
    for one in standings:
        if admitted and one.asked.take and not one.full:
            one.asked.caller.charge(one.asked.take)
    return [int(admitted), now, *(figure for one in standings for figure in one.told())]


class Wish(NamedTuple):
    """A hold to settle with what was spent under it, and one to make; both may be absent."""

    old: str = ""
    spent: int = 0
    new: str = ""
    least: int = 0
    most: int = 0
    lasts: int = 0


def hold(now: int, asked: Asked, wish: Wish) -> list[int]:
    """Settle, then set aside a quarter of what is free, between `least` and `most`, if the call passes."""
    caller = asked.caller
    caller.open(now, asked.bounds, looks=not (asked.take or wish.new))
    ended = next((one for one in caller.holds if one.id == wish.old), None)
    if ended:
        caller.holds.remove(ended)
        if wish.spent:
            caller.charge(wish.spent)
    standing, held = Standing(asked, caller.laden(), now), 0
    if wish.new and not standing.full:
        if asked.take:
            caller.charge(asked.take)
        free = min(
            bound.count - window.used(now) for bound, window in zip(asked.bounds, caller.laden(), strict=True)
        )
        held = min(wish.most, max(wish.least, free // 4))
    if held:
        caller.holds.append(Hold(wish.new, held, now, now + wish.lasts))
    if ended or held:
        caller.keep()
    return [int(not standing.full or asked.shadow), now, *standing.told(), held, int(bool(ended))]
