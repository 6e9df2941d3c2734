"""The twin of ``rows.lua``: fixed window, sliding counter and GCRA, a tuple of numbers a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from statekit.ratelimit.memory_base import Moment, Span, Spec, ceil_div
from statekit.ratelimit.memory_holds import Hold, living, outliving

__all__ = ["OpenRows"]

MOST_DEBT = 9 * 10**15
Row: TypeAlias = tuple[int, int, int, int]


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

    def refund(self, units: int, at: int) -> None:
        if at - at % self.window == self.begin:
            self.used = max(0, self.used - units)

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
        self.used = self._used()

    def _used(self) -> int:
        return self.current + ceil_div(self.before * ceil_div(self.rest, self.step), self.steps)

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

    def refund(self, units: int, at: int) -> None:
        since = at - at % self.window
        if since == self.begin:
            self.current = max(0, self.current - units)
        elif since == self.begin - self.window:
            self.before = max(0, self.before - units)
        self.used = self._used()

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
        self.charged = row[2] if row else 0
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
        self.debt = min(self.debt + units * self.emission, MOST_DEBT)
        self.used = ceil_div(self.debt, self.emission)

    def refund(self, units: int, at: int) -> None:
        idle = max(0, self.charged - at)
        self.debt = max(0, self.debt - max(0, units * self.emission - idle * self.grains))

    def row(self) -> Row:
        return self.window, self.emission, self.at, self.debt


RowState: TypeAlias = Fixed | Counter | Gcra
OPEN: dict[str, type[RowState]] = {"fixed": Fixed, "counter": Counter, "gcra": Gcra}


@dataclass(slots=True)
class Table:
    """What lies under a key."""

    rows: list[Row] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)


class OpenRows:
    """The rows of one key, opened for one decision."""

    def __init__(self, moment: Moment, key: str, spec: Spec) -> None:
        self.moment, self.key, self.open = moment, key, OPEN[spec.algorithm]
        table: Table = moment.data.get(key) or Table()
        self.rows, self.spans, self.longest = table.rows, spec.spans, spec.longest
        rows = table.rows
        self.holds, moved = living(table.holds, moment.now, spec.longest)
        paired = len(rows) == len(spec.spans)
        self.carried = False
        self.states = [
            self._resumed(rows, rows[i] if paired else None, span) for i, span in enumerate(spec.spans)
        ]
        if moved or any(state.moved for state in self.states) or (self.carried and spec.take):
            self.keep()

    def _resumed(self, rows: Sequence[Row], place: Row | None, span: Span) -> RowState:
        now = self.moment.now
        own = next((row for row in rows if row[0] == span.window), None)
        fresh = self.open(now, None, span.window, span.count)
        if own and (not isinstance(fresh, Gcra) or fresh.emission == own[1]):
            return self.open(now, own, span.window, span.count)
        old = own or place
        used = min(self.open(now, old, old[0], None).used, span.count) if old else 0
        if used:
            fresh.take(used)
            self.carried = True
        return fresh

    def charge(self, units: int) -> None:
        for state in self.states:
            state.take(units)
        self.keep()

    def refund(self, units: int, at: int) -> bool:
        name = 2 if self.open is Gcra else 1  # a row is known by its window, and its rate
        known = {row[:name] for row in self.rows}
        if not known or not all(state.row()[:name] in known for state in self.states):
            return False
        for state in self.states:
            state.refund(units, at)
        self.keep()
        return True

    def keep(self) -> None:
        longest = max(state.wait(0) for state in self.states)
        life = outliving(self.holds, self.longest, self.moment.now, longest)
        table = Table([state.row() for state in self.states], list(self.holds))
        self.moment.data.put(self.key, table, self.moment.lifetime(life))
