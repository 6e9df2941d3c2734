"""The twin of ``log.lua``: two lists, ticks and running totals, searched with `bisect`.

What is said there about clamped clocks, carried units and rounding is not said again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from statekit.ratelimit.memory_base import Moment, Spec, ceil_div
from statekit.ratelimit.memory_holds import Hold, living, outliving

__all__ = ["OpenLog", "straight"]


@dataclass(slots=True)
class Log:
    """Hits in order: when, and the units charged up to and with each. The oldest `first` are dead."""

    bits: int
    shift: int
    ticks: list[int] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    first: int = 0
    gone: int = 0
    """Units charged before the first entry that is kept."""
    holds: list[Hold] = field(default_factory=list)

    def before(self, index: int) -> int:
        return self.totals[index - 1] if index else self.gone

    def cost(self, index: int) -> int:
        return self.totals[index] - self.before(index)

    @property
    def total(self) -> int:
        return self.totals[-1] if self.totals else self.gone

    def recode(self, spec: Spec, back: int, now: int) -> None:
        scale, span = 1 << self.shift, ceil_div(spec.longest, 1 << spec.shift)
        self.drop(self.first)
        self.ticks = [ceil_div((tick - back) * scale, 1 << spec.shift) for tick in self.ticks]
        horizon = max(ceil_div(now, 1 << spec.shift), *self.ticks[-1:], 0) - span
        self.drop(bisect_right(self.ticks, horizon))
        self.bits, self.shift = spec.bits, spec.shift
        while 1 << self.bits <= self.total - self.gone and self.bits < 32 and 1 << (63 - self.bits) >= span:
            self.bits += 1
        most = (1 << self.bits) - 1
        self.gone, *totals = [-min(self.total - one, most) for one in (self.gone, *self.totals)]
        pairs = zip(self.ticks, [self.gone, *totals], totals, strict=False)
        kept = [(tick, total) for tick, before, total in pairs if total > before]
        self.ticks, self.totals = [tick for tick, _ in kept], [total for _, total in kept]

    def strike(self, index: int) -> None:
        """Take one entry out; those after it count its units no more."""
        units = self.cost(index)
        del self.ticks[index], self.totals[index]
        self.totals[index:] = [total - units for total in self.totals[index:]]
        if self.first == len(self.ticks):
            self.drop(self.first)

    def forget(self, first: int) -> None:
        """Hold the oldest to be dead; drop them once they are half of what is kept."""
        self.first = first
        if first * 2 > len(self.ticks):
            self.drop(first)

    def drop(self, first: int) -> None:
        self.gone = self.before(first)
        del self.ticks[:first], self.totals[:first]
        self.first = 0


class LogState:
    """One window over a log."""

    def __init__(self, held: OpenLog, window: int) -> None:
        self.held = held
        self.window = window
        log = held.log
        self.edge = bisect_right(log.ticks, held.tick - window, lo=log.first)
        self.used = log.total - log.before(self.edge)

    def wait(self, target: int) -> int:
        if self.used <= target:
            return 0
        log = self.held.log
        holder = bisect_left(log.totals, log.total - target, lo=self.edge)
        return ((log.ticks[holder] + self.window - 1) << log.shift) + 1 - self.held.moment.now


class OpenLog:
    """A log opened for one decision."""

    carried = False  # what was counted needs no carrying: all limits read the same log

    def __init__(self, moment: Moment, key: str, spec: Spec) -> None:
        self.moment, self.key, self.spec = moment, key, spec
        self.log: Log = moment.data.get(key) or Log(spec.bits, spec.shift)
        self.holds, moved = living(self.log.holds, moment.now, spec.longest)
        if moved:
            self.keep()
        self.tick = self._settle()
        windows = [ceil_div(span.window, 1 << self.log.shift) for span in spec.spans]
        self.states = [LogState(self, window) for window in windows]

    def _settle(self) -> int:
        """Bring the stored log and the clock together; returns the tick of this moment."""
        log, spec = self.log, self.spec
        here, span = ceil_div(self.moment.now, 1 << log.shift), ceil_div(spec.longest, 1 << log.shift)
        ahead = log.ticks[-1] - here if log.ticks else 0
        narrow = 1 << (64 - log.bits) < span or 1 << log.bits <= spec.highest
        if ahead > span or narrow or log.shift != spec.shift:
            log.recode(spec, ahead if ahead > span else 0, self.moment.now)
            self.keep()
        here = ceil_div(self.moment.now, 1 << log.shift)
        return max(here, log.ticks[-1]) if log.ticks else here

    def charge(self, units: int) -> None:
        log = self.log
        units = min(units, (1 << log.bits) - 1 - max(state.used for state in self.states))
        if units <= 0:
            return
        edges = [state.edge for state in self.states]
        total = log.total + units
        log.ticks.append(self.tick)
        log.totals.append(total)
        for state in self.states:
            state.used += units
        kept = len(log.ticks)
        log.forget(min(edges))
        for state in self.states:
            state.edge -= kept - len(log.ticks)
        self.keep()

    def refund(self, units: int, at: int) -> bool:
        log, tick = self.log, ceil_div(at, 1 << self.log.shift)
        index = bisect_right(log.ticks, tick, lo=log.first) - 1
        while index >= log.first and log.ticks[index] == tick and log.cost(index) != units:
            index -= 1
        if index < log.first or log.ticks[index] != tick:
            return False
        if tick + ceil_div(self.spec.longest, 1 << log.shift) <= self.tick:
            return False
        log.strike(index)
        if log.ticks or self.holds:
            self.keep()
        else:
            self.moment.data.delete(self.key)
        return True

    def keep(self) -> None:
        log, now = self.log, self.moment.now
        log.holds = list(self.holds)
        ahead = max(0, (log.ticks[-1] << log.shift) - now) if log.ticks else 0
        life = outliving(log.holds, self.spec.longest, now, self.spec.longest + min(ahead, self.spec.longest))
        self.moment.data.put(self.key, log, self.moment.lifetime(life))


def straight(moment: Moment, key: str, spec: Spec) -> list[int] | None:
    """Decide the common case, one window over a log without holds or surprises; None where it is not that."""
    log: Log | None = moment.data.get(key)
    now, (count, window) = moment.now, (spec.highest, spec.longest)
    if log is None or log.holds or log.shift or spec.shift or not log.ticks or log.ticks[-1] > now:
        return None
    if 1 << (64 - log.bits) < window or 1 << log.bits <= count + spec.take or spec.need > count:
        return None
    edge = bisect_right(log.ticks, now - window, lo=log.first)
    total, before = log.totals[-1], log.before(edge)
    left = count - (total - before)
    if left < 0 or left < spec.need - 1 or edge == len(log.ticks):  # the wait is found by search
        return None
    gone = log.ticks[edge] + window - now
    if left < spec.need:
        return [spec.shadow, now, left, gone, gone, log.ticks[-1] + window - now]
    if spec.take:
        log.ticks.append(now)
        log.totals.append(total + spec.take)
        log.forget(edge)
        moment.data.put(key, log, moment.lifetime(window))
    return [1, now, left - spec.take, 0, gone, log.ticks[-1] + window - now]
