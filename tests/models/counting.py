"""How units are counted, said so plainly that it can be run.

Everything is whole numbers; moments and spans are microseconds. Each algorithm is one sentence, ``used(t)``: the units
that count at a moment `t` if nothing more is charged. From it all else follows: a call that needs `n` units passes if
``used(now) + n <= count``, and any wait is the least `w` for which ``used(now + w)`` is low enough.

A clock that is behind what was last written, by no more than a window, is taken to stand there. One that is further
behind was set back for good: what was written moves back with it and keeps its age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

MOST_DEBT = 9 * 10**15
COARSE_GRAINS = 100 * 86400 * 10**6


class Bound(NamedTuple):
    """At most `count` units in `window` microseconds."""

    count: int
    window: int


def up(a: int, b: int) -> int:
    """The quotient, rounded up."""
    return -(-a // b)


class Window(Protocol):
    """One limit at one moment."""

    def used(self, t: int) -> int: ...
    def wait(self, target: int) -> int: ...


# -- the sliding log: every unit counts for exactly one window ---------------------------------------------


@dataclass(slots=True)
class Logged:
    """``used(t)``: the units whose moment is in ``(t - W, t]``, in ticks of `step`, rounded against the caller."""

    log: Log
    now: int
    span: int

    def used(self, t: int) -> int:
        edge = max(up(t, self.log.step), self.log.newest) - self.span
        return sum(units for tick, units in self.log.entries if tick > edge)

    def wait(self, target: int) -> int:
        """Units leave in the order they came; who was charged at tick `p` leaves when a whole window has passed."""
        rest = self.used(self.now)
        if rest <= target:
            return 0
        edge = max(up(self.now, self.log.step), self.log.newest) - self.span
        inside = (one for one in self.log.entries if one[0] > edge)
        while rest > target:
            tick, units = next(inside)
            rest -= units
        return (tick + self.span - 1) * self.log.step + 1 - self.now


@dataclass(slots=True)
class Log:
    """Every charge: its tick, its units. What has left the longest window goes with the next charge."""

    step: int = 1
    entries: list[tuple[int, int]] = field(default_factory=list)
    longest: int = 0
    now: int = 0
    carried: bool = False

    @property
    def newest(self) -> int:
        return self.entries[-1][0] if self.entries else 0

    def at(self, now: int, bounds: Sequence[Bound]) -> tuple[list[Logged], bool]:
        # Where 64 bits are too few for the units and the moments of a window, a tick is 2, 4, 8 … microseconds.
        most, longest = max(count for count, _ in bounds), max(window for _, window in bounds)
        self.step = 2 ** max(0, most.bit_length() + (longest - 1).bit_length() - 64)
        self.longest, self.now = up(longest, self.step), now
        ahead = self.newest - up(now, self.step)
        back = ahead > self.longest
        if back:
            self.entries = [(tick - ahead, units) for tick, units in self.entries]
            self._forget()
        return [Logged(self, now, up(window, self.step)) for _, window in bounds], back

    def charge(self, units: int) -> None:
        self.entries.append((max(up(self.now, self.step), self.newest), units))
        self._forget()

    def _forget(self) -> None:
        edge = self.newest - self.longest
        if self.entries[0][0] <= edge:
            self.entries = [one for one in self.entries if one[0] > edge]

    def keep(self) -> None:
        """Entries are kept as they are."""


# -- the others: a few numbers a limit ---------------------------------------------------------------------


def aligned(begin: int, window: int, now: int) -> tuple[int, bool]:
    """The begin of the window that counts at `now`, and whether the clock was set back for good."""
    here = now - now % window
    if begin > here and begin - now <= window:
        return begin, False
    return here, begin > here


@dataclass(slots=True)
class Fixed:
    """``used(t)``: the units charged since the last whole multiple of the window."""

    window: int
    now: int
    begin: int
    units: int = 0
    moved: bool = False

    @classmethod
    def fresh(cls, bound: Bound, now: int) -> Fixed:
        return cls(bound.window, now, now - now % bound.window)

    def fits(self, bound: Bound) -> bool:
        return self.window == bound.window

    def at(self, now: int, _count: int) -> Fixed:
        begin, moved = aligned(self.begin, self.window, now)
        return Fixed(self.window, now, begin, self.units if self.begin >= begin else 0, moved)

    def used(self, t: int) -> int:
        return self.units if t < self.begin + self.window else 0

    def wait(self, target: int) -> int:
        return self.begin + self.window - self.now if self.units > target else 0

    def take(self, units: int) -> None:
        self.units += units


@dataclass(slots=True)
class Counter:
    """``used(t)``: the units of this window, and of the one before the share that is less than a window ago."""

    window: int
    now: int
    begin: int
    current: int = 0
    before: int = 0
    moved: bool = False
    step: int = 1
    """Of so many microseconds' time is counted, where products would pass 2^52."""

    @classmethod
    def fresh(cls, bound: Bound, now: int) -> Counter:
        return cls(bound.window, now, now - now % bound.window).at(now, bound.count)

    def fits(self, bound: Bound) -> bool:
        return self.window == bound.window

    def at(self, now: int, count: int) -> Counter:
        begin, moved = aligned(self.begin, self.window, now)
        current, before = self.current, self.before
        if self.begin < begin:
            current, before = 0, current if self.begin == begin - self.window else 0
        step = 1
        while max(current, before, count) * up(self.window, step) >= 2**52:
            step *= 2
        return Counter(self.window, now, begin, current, before, moved, step)

    def used(self, t: int) -> int:
        end = self.begin + self.window
        if t < end:
            return self.current + self._share(self.before, end - max(t, self.begin))
        return self._share(self.current, max(0, end + self.window - t))

    def _share(self, units: int, rest: int) -> int:
        return up(units * up(rest, self.step), up(self.window, self.step))

    def wait(self, target: int) -> int:
        """The greatest rest of a window whose share is small enough gives the moment."""
        if self.used(self.now) <= target:
            return 0
        end, steps = self.begin + self.window, up(self.window, self.step)
        if target >= self.current:
            return end - (target - self.current) * steps // self.before * self.step - self.now
        return end + self.window - target * steps // self.current * self.step - self.now

    def take(self, units: int) -> None:
        self.current += units


@dataclass(slots=True)
class Gcra:
    """``used(t)``: the units not yet drained, begun ones included; one drains in `emission` grains, never sooner."""

    window: int
    emission: int
    now: int
    written: int
    debt: int = 0
    moved: bool = False

    @classmethod
    def fresh(cls, bound: Bound, now: int) -> Gcra:
        grains = 1 if bound.window > COARSE_GRAINS else 1000
        return cls(bound.window, up(bound.window * grains, max(bound.count, 1)), now, now)

    @property
    def grains(self) -> int:
        return 1 if self.window > COARSE_GRAINS else 1000

    def fits(self, bound: Bound) -> bool:
        return (self.window, self.emission) == (bound.window, Gcra.fresh(bound, 0).emission)

    def at(self, now: int, _count: int) -> Gcra:
        if self.written > now:
            moved = self.written - now > self.window
            return replace(self, now=now, written=now if moved else self.written, moved=moved)
        return Gcra(self.window, self.emission, now, now, self._owed(now))

    def _owed(self, t: int) -> int:
        return max(0, self.debt - max(0, t - self.written) * self.grains)

    def used(self, t: int) -> int:
        return up(self._owed(t), self.emission)

    def wait(self, target: int) -> int:
        too_much = self.debt - target * self.emission
        return self.written + up(too_much, self.grains) - self.now if too_much > 0 else 0

    def take(self, units: int) -> None:
        self.debt = min(self.debt + units * self.emission, MOST_DEBT)


@dataclass(slots=True)
class Rows:
    """The numbers of each limit as last written. Limits that are new take over what was used, at most all of it."""

    kind: Any
    rows: list[Any] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    carried: bool = False
    """Whether limits were changed, and what was used counts for the new ones from now on."""

    def at(self, now: int, bounds: Sequence[Bound]) -> tuple[list[Any], bool]:
        paired, self.carried = len(self.rows) == len(bounds), False
        self.opened = [
            self._resumed(self.rows[i] if paired else None, bound, now) for i, bound in enumerate(bounds)
        ]
        return self.opened, any(one.moved for one in self.opened)

    def _resumed(self, place: Any, bound: Bound, now: int) -> Any:
        own = next((row for row in self.rows if row.window == bound.window), None)
        if own and own.fits(bound):
            return own.at(now, bound.count)
        fresh, old = self.kind.fresh(bound, now), own or place
        used = min(old.at(now, 0).used(now), bound.count) if old else 0
        if used:
            fresh.take(used)
            self.carried = True
        return fresh

    def charge(self, units: int) -> None:
        for one in self.opened:
            one.take(units)
        self.keep()

    def keep(self) -> None:
        self.rows = [replace(one, moved=False) for one in self.opened]


KINDS = {"counter": Counter, "gcra": Gcra, "fixed": Fixed}


def tally(algorithm: str) -> Any:
    """Nothing counted yet."""
    return Log() if algorithm == "log" else Rows(KINDS[algorithm])
