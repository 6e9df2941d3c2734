"""The twin of ``hit.lua`` over this process's memory: other data structures, the same answers.

The log is two lists here, ticks and running totals, searched with `bisect`; rows are tuples. What is said in
``hit.lua`` about clamped clocks, carried units and rounding is not said again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import Protocol, TypeAlias

from statekit.store.memory import Data, Twins
from statekit.store.op import Arg

__all__ = ["TWINS"]

HOUR_MS = 3_600_000
Row: TypeAlias = tuple[int, int, int, int]


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(slots=True)
class Span:
    """One limit: so many units in so many microseconds."""

    count: int
    window: int


@dataclass(slots=True)
class Spec:
    """What one key is held to, read from the script's argument."""

    algorithm: str
    need: int
    take: int
    shadow: int
    bits: int
    shift: int
    spans: list[Span]

    @classmethod
    def parse(cls, text: str) -> Spec:
        algorithm, *words = text.split()
        need, take, shadow, bits, shift, *terms = map(int, words)
        spans = [Span(*pair) for pair in zip(terms[::2], terms[1::2], strict=True)]
        return cls(algorithm, need, take, shadow, bits, shift, spans)

    @property
    def longest(self) -> int:
        return max(span.window for span in self.spans)


class State(Protocol):
    """One limit's use at this moment."""

    used: int

    def wait(self, target: int) -> int:
        """Microseconds until no more than `target` units are used."""


class Held(Protocol):
    """The state under one key."""

    @property
    def states(self) -> Sequence[State]: ...
    def charge(self, units: int) -> None: ...


@dataclass(slots=True)
class Moment:
    """Where and when a run happens."""

    data: Data
    now: int
    frozen: bool

    def lifetime(self, micros: int) -> int:
        return ceil_div(micros, 1000) + (HOUR_MS if self.frozen else 1)


# -- the sliding log -------------------------------------------------------------------------------------


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

    def before(self, index: int) -> int:
        return self.totals[index - 1] if index else self.gone

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
        self.gone, *self.totals = [-min(self.total - one, most) for one in (self.gone, *self.totals)]

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

    def __init__(self, held: HeldLog, window: int) -> None:
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


class HeldLog:
    """A log opened for one decision."""

    def __init__(self, moment: Moment, key: str, spec: Spec) -> None:
        self.moment, self.key, self.spec = moment, key, spec
        self.log: Log = moment.data.get(key) or Log(spec.bits, spec.shift)
        self.tick = self._settle()
        windows = [ceil_div(span.window, 1 << self.log.shift) for span in spec.spans]
        self.states = [LogState(self, window) for window in windows]

    def _settle(self) -> int:
        """Bring the stored log and the clock together; returns the tick of this moment."""
        log, spec = self.log, self.spec
        here, span = ceil_div(self.moment.now, 1 << log.shift), ceil_div(spec.longest, 1 << log.shift)
        ahead = log.ticks[-1] - here if log.ticks else 0
        narrow = 1 << (64 - log.bits) < span or 1 << log.bits <= max(one.count for one in spec.spans)
        if ahead > span or narrow or log.shift != spec.shift:
            log.recode(spec, ahead if ahead > span else 0, self.moment.now)
            self._keep()
        here = ceil_div(self.moment.now, 1 << log.shift)
        return max(here, log.ticks[-1]) if log.ticks else here

    def charge(self, units: int) -> None:
        log = self.log
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
        self._keep()

    def _keep(self) -> None:
        log, now = self.log, self.moment.now
        ahead = max(0, (log.ticks[-1] << log.shift) - now) if log.ticks else 0
        ttl = self.moment.lifetime(self.spec.longest + min(ahead, self.spec.longest))
        self.moment.data.put(self.key, log, ttl)


# -- the algorithms with a few numbers a limit -----------------------------------------------------------


def aligned(begin: int | None, window: int, now: int) -> int:
    here = now - now % window
    return begin if begin is not None and begin > here and begin - now <= window else here


class Fixed:
    """A counter of the running window."""

    def __init__(self, now: int, row: Row | None, window: int, count: int | None) -> None:  # noqa: ARG002
        self.now, self.window = now, window
        stored = row[1] if row else None
        self.begin = aligned(stored, window, now)
        self.moved = stored is not None and stored > self.begin
        self.used = row[2] if row and row[1] >= self.begin else 0

    def wait(self, target: int) -> int:
        return self.begin + self.window - self.now if self.used > target else 0

    def take(self, units: int) -> None:
        self.used += units

    def row(self) -> Row:
        return self.window, self.begin, self.used, 0


class Counter:
    """Counters of the running window and the one before."""

    def __init__(self, now: int, row: Row | None, window: int, count: int | None) -> None:
        self.window = window
        stored = row[1] if row else None
        self.begin = aligned(stored, window, now)
        self.moved = stored is not None and stored > self.begin
        self.current, self.before = self._counts(row)
        self.step = 1
        while max(self.current, self.before, count or 0) * ceil_div(window, self.step) >= 2**52:
            self.step *= 2
        self.steps = ceil_div(window, self.step)
        self.offset = max(0, self.begin - now)
        self.rest = self.begin + window - max(now, self.begin)
        self.used = self.current + ceil_div(self.before * ceil_div(self.rest, self.step), self.steps)

    def _counts(self, row: Row | None) -> tuple[int, int]:
        if row and row[1] >= self.begin:
            return row[2], row[3]
        return 0, row[2] if row and row[1] == self.begin - self.window else 0

    def wait(self, target: int) -> int:
        if self.used <= target:
            return 0
        if target >= self.current:
            return self.offset + self.rest - (target - self.current) * self.steps // self.before * self.step
        ahead = self.offset + self.rest + self.window
        return ahead - target * self.steps // self.current * self.step

    def take(self, units: int) -> None:
        self.current += units
        self.used += units

    def row(self) -> Row:
        return self.window, self.begin, self.current, self.before


class Gcra:
    """The theoretical arrival time, as a debt that drains."""

    def __init__(self, now: int, row: Row | None, window: int, count: int | None) -> None:
        self.now, self.window = now, window
        self.grains = 1 if window > 8_640_000_000_000 else 1000
        self.emission = (
            row[1] if row and count is None else ceil_div(window * self.grains, max(count or 0, 1))
        )
        self.at, self.debt = now, 0
        self.moved = row is not None and row[2] - now > window
        if row and 0 < row[2] - now <= window:
            self.at, self.debt = row[2], row[3]
        elif row:
            self.debt = max(0, row[3] - max(0, now - row[2]) * self.grains)
        self.used = ceil_div(self.debt, self.emission)

    def wait(self, target: int) -> int:
        excess = self.debt - target * self.emission
        return self.at - self.now + ceil_div(excess, self.grains) if excess > 0 else 0

    def take(self, units: int) -> None:
        self.debt += units * self.emission
        self.used += units

    def row(self) -> Row:
        return self.window, self.emission, self.at, self.debt


RowState: TypeAlias = Fixed | Counter | Gcra
OPEN: dict[str, type[RowState]] = {"fixed": Fixed, "counter": Counter, "gcra": Gcra}


class HeldRows:
    """The rows of one key, opened for one decision."""

    def __init__(self, moment: Moment, key: str, spec: Spec) -> None:
        self.moment, self.key, self.open = moment, key, OPEN[spec.algorithm]
        rows: list[Row] = moment.data.get(key) or []
        paired = len(rows) == len(spec.spans)
        self.states = [
            self._resumed(rows, rows[i] if paired else None, span) for i, span in enumerate(spec.spans)
        ]
        if any(state.moved for state in self.states):
            self._keep()

    def _resumed(self, rows: Sequence[Row], place: Row | None, span: Span) -> RowState:
        now = self.moment.now
        own = next((row for row in rows if row[0] == span.window), None)
        fresh = self.open(now, None, span.window, span.count)
        if own and (not isinstance(fresh, Gcra) or fresh.emission == own[1]):
            return self.open(now, own, span.window, span.count)
        old = own or place
        if old:
            fresh.take(min(self.open(now, old, old[0], None).used, span.count))
        return fresh

    def charge(self, units: int) -> None:
        for state in self.states:
            state.take(units)
        self._keep()

    def _keep(self) -> None:
        longest = max(state.wait(0) for state in self.states)
        rows = [state.row() for state in self.states]
        self.moment.data.put(self.key, rows, self.moment.lifetime(longest))


# -- the decision ----------------------------------------------------------------------------------------


def hit(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> bytes:
    """Decide as ``hit.lua`` does."""
    moment = Moment(data, data.now(args[0]), args[0] != "")
    specs = [Spec.parse(str(text)) for text in args[1:]]
    held: list[Held] = [
        (HeldLog if spec.algorithm == "log" else HeldRows)(moment, key, spec)
        for key, spec in zip(keys, specs, strict=True)
    ]
    waits = [_waits(spec, one) for spec, one in zip(specs, held, strict=True)]
    admitted = all(spec.shadow or not any(wait) for spec, wait in zip(specs, waits, strict=True))
    reply = [int(admitted), moment.now]
    for spec, one, wait in zip(specs, held, waits, strict=True):
        if admitted and spec.take and not any(wait):
            one.charge(spec.take)
        for span, state, retry in zip(spec.spans, one.states, wait, strict=True):
            more = state.wait(max(0, min(state.used, span.count) - 1))
            reply += [max(0, span.count - state.used), retry, more, state.wait(0)]
    return pack(f">{len(reply)}q", *reply)


def _waits(spec: Spec, held: Held) -> list[int]:
    return [
        -1 if spec.need > span.count else state.wait(span.count - spec.need)
        for span, state in zip(spec.spans, held.states, strict=True)
    ]


TWINS: Twins = {"ratelimit.hit": hit}
