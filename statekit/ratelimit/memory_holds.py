"""The twin of ``holds.lua``: units set aside, laid over what an algorithm has counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statekit.ratelimit.memory_base import Opened, Span, State

__all__ = ["Hold", "laden", "living", "outliving"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Units set aside until a deadline, and for one window longer."""

    id: str
    units: int
    made: int
    deadline: int


def living(stored: Sequence[Hold], now: int, longest: int) -> tuple[list[Hold], bool]:
    """The holds that still count, the first to end first; and whether the clock was set back for good."""
    holds, moved = [], False
    for hold in stored:
        back = hold.made - now
        if back > longest:
            holds.append(Hold(hold.id, hold.units, now, hold.deadline - back))
            moved = True
        elif hold.deadline + longest > now:
            holds.append(hold)
    return sorted(holds, key=lambda hold: (hold.deadline, hold.id)), moved


def outliving(holds: Sequence[Hold], longest: int, now: int, life: int) -> int:
    """Microseconds a key must live for its holds, if it would live `life` without them."""
    return max(life, holds[-1].deadline + longest - now) if holds else life


class Burdened:
    """One window's own state with the holds over it."""

    def __init__(self, own: State, window: int, holds: Sequence[Hold], now: int) -> None:
        self.own = own
        self.left = [(hold.deadline + window - now, hold.units) for hold in holds]
        self.left = [one for one in self.left if one[0] > 0]

    @property
    def used(self) -> int:
        return self.own.used + sum(units for _, units in self.left)

    def wait(self, target: int) -> int:
        """The least time at which enough holds have gone, and enough own units besides."""
        if self.used <= target:
            return 0
        held, waits = sum(units for _, units in self.left), []
        for ends, units in [(0, 0), *self.left]:
            held -= units
            if held <= target:
                waits.append(max(ends, self.own.wait(target - held)))
        return min(waits)


def laden(opened: Opened, spans: Sequence[Span], now: int) -> Sequence[State]:
    """The states of an opened key with its holds over them."""
    if not opened.holds:
        return opened.states
    pairs = zip(opened.states, spans, strict=True)
    return [Burdened(state, span.window, opened.holds, now) for state, span in pairs]
