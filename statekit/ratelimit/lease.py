"""A lease: what one process may spend of one caller's limits by itself. Pure: time comes in, nothing is sent.

The process asks the store for a slice of what is free. The store sets the slice aside as a hold, so it counts as
used from that moment on; the process spends it until the deadline, counted from *before* it asked, and what it
spent is charged when it settles. So a unit counts at least as long as it must, and at most `lease_time` longer.

How large a slice: what is needed for a quarter of the lease time, as measured. Nobody who comes seldom gets one
(fewer than `SMALLEST` hits in that time): he is decided one by one, and it costs what it costs without leases.
Nor does anyone near the limit, where a quarter of what is free is less than that: there every unit is decided by
the store, so that all of them are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statekit.ratelimit.decision import Decision
from statekit.ratelimit.holding import Ending, Held
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.rule import Hit

__all__ = ["Lease", "lease_time"]

LONGEST_US = 1_000_000
SHORTEST_US = 5_000
SMALLEST = 4
"""Units of a slice below which asking for each unit is cheaper."""
NOTHING_ENDS = Ending()


def lease_time(limits: Sequence[Limit]) -> int:
    """Microseconds a slice may be spent: a twentieth of the shortest window, a second at most.

    0, so no leases, where that is less than 5 ms: it would hardly be longer than asking takes.
    """
    time = min(LONGEST_US, min(limit.window_us for limit in limits) // 20)
    return time if time >= SHORTEST_US else 0


class Lease:
    """One caller's slice, and how much of it this process needs. Not thread-safe: its keeper has the lock."""

    __slots__ = (
        "_began", "_demand", "_figures", "_free", "_hits", "_rate", "_received", "_time",
        "asking", "deadline", "id", "spent", "tokens",
    )  # fmt: skip

    def __init__(self, time: int, now: int) -> None:
        self._time = time
        self.tokens = 0
        """Units left to spend."""
        self.deadline = 0
        """When spending ends."""
        self.id = ""
        """The hold in the store, if there is one to settle."""
        self.spent = 0
        self.asking = False
        """Whether somebody of this process is asking for a slice."""
        self._began, self._demand, self._rate = now, 0, 0
        self._free = 0
        self._hits: tuple[Hit, ...] = ()
        self._figures: tuple[int, ...] = ()
        self._received = now

    # -- spending ------------------------------------------------------------------------------------------

    def spend(self, cost: int, now: int) -> Decision | None:
        """Take units of the slice, if it has that many and still lasts; the answer, as the store would give it."""
        tokens = self.tokens - cost
        if tokens < 0 or now >= self.deadline:
            return None
        self.tokens = tokens
        self.spent += cost
        figures: tuple[int, ...] = self._figures
        if len(figures) == 6:
            _, at, left, _, more, reset = figures
            figures = (1, at, left + tokens, 0, more, reset)
        else:
            figures = with_tokens(figures, tokens)
        # allowed, hits, figures, degraded, local, aged_us
        return Decision(True, self._hits, figures, False, True, now - self._received)  # noqa: FBT003 - by position

    # -- asking --------------------------------------------------------------------------------------------

    def surrender(self) -> Ending:
        """Stop spending, and tell what is to be settled."""
        if not self.id:
            return NOTHING_ENDS
        ending = Ending(self.id, self.spent)
        self._demand += self.spent
        self.id, self.tokens, self.spent, self.deadline = "", 0, 0, 0
        return ending

    def resume(self, ending: Ending) -> None:
        """Settle with the next slice what could not be settled now; settling twice does no harm."""
        if ending.id and not self.id:
            self.id, self.spent = ending.id, ending.spent
            self._demand -= ending.spent

    def wanted(self, cost: int, now: int) -> int:
        """Count a hit that could not be spent here; returns how large a slice it is time for, 0 for none.

        What was asked for since the measuring began is taken for the rate, and not less than what it was before;
        so slices double from one to the next while the measuring is young.
        """
        period, elapsed = self._time // 4, now - self._began
        size = self._demand * period // max(elapsed, period)
        if 0 <= elapsed < period:
            size = max(size, self._rate)
            self._demand += cost
        else:
            self._began, self._demand, self._rate = now, cost, size
        return size if size >= SMALLEST and self._free >= 4 * SMALLEST else 0

    def granted(self, held: Held, id_: str, asked: int, now: int) -> Decision:
        """Take the slice the store has set aside; `asked` is when the request was about to be sent."""
        decision = held.decision
        self.learned(decision)
        if not held.units:
            return decision
        self.id, self.tokens, self.deadline = id_, held.units, asked + self._time
        self._hits, self._figures, self._received = decision.hits, decision.figures, now
        return replace(decision, figures=with_tokens(decision.figures, held.units))

    def learned(self, decision: Decision) -> None:
        """Note how much is free."""
        if not decision.degraded:
            self._free = min(decision.figures[2::4])


def with_tokens(figures: Sequence[int], tokens: int) -> tuple[int, ...]:
    """Figures of a decision with a slice counted among what remains."""
    told = list(figures)
    told[2::4] = [left + tokens for left in figures[2::4]]
    return tuple(told)
