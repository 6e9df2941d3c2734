"""What the extraction score says: candidates with their factors, and every factor with what it was made from.

All of it is plain data: `record` and `recalled` carry it to JSON and back, so that it can be kept in a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from statekit.audit.model import Category, Confidence

__all__ = ["Candidate", "Factor", "Grip", "Hold", "Part", "Score", "SharedState"]

MOST_SPREAD = 3.0
"""A state held by many is dearer by so much at most: beyond that, more of them change nothing."""


class Grip(StrEnum):
    """How a package holds a state."""

    WRITES = "writes"
    READS = "reads"
    WRITES_BY_CALLS = "writes by calls"
    """It calls a function of another package that writes the state."""
    READS_BY_CALLS = "reads by calls"
    BINDS = "binds"
    """The state stands in its code, and is used by others only."""

    @property
    def strength(self) -> float:
        """What one grip counts for in the coupling."""
        return _STRENGTH[self]


_STRENGTH = {
    Grip.WRITES: 2.0,
    Grip.READS: 1.0,
    Grip.WRITES_BY_CALLS: 1.0,
    Grip.READS_BY_CALLS: 0.5,
    Grip.BINDS: 0.5,
}


@dataclass(frozen=True, slots=True)
class Hold:
    """One package's grip on one state, and the functions it has it by."""

    package: str
    grip: Grip
    functions: tuple[str, ...]
    """Spelt ``path:line name``; the first few."""
    count: int
    """How many functions there are."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """A state, and every package that holds it."""

    name: str
    """Qualified."""
    category: Category
    confidence: Confidence
    path: str
    line: int
    weight: float
    """Of its category."""
    object: str
    """The class it is an attribute of, qualified; '' where it stands alone."""
    holds: tuple[Hold, ...]

    @property
    def is_shared(self) -> bool:
        return len(self.holds) > 1

    def cost(self, package: str) -> float:
        """What sharing it adds to the coupling of a package."""
        mine = next((one for one in self.holds if one.package == package), None)
        others = [one for one in self.holds if one.package != package]
        if mine is None or not others:
            return 0.0
        strongest = max(one.grip.strength for one in others)
        spread = min(MOST_SPREAD, 1 + (len(others) - 1) / 4)
        return self.weight * mine.grip.strength * strongest / 2 * spread


@dataclass(frozen=True, slots=True)
class Part:
    """One input of a factor: a share between 0 and 1, its weight, and the figures behind it in words."""

    name: str
    share: float
    weight: float
    said: str


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor, what it was derived from, and who overrode it for which reason."""

    value: float
    derived: float
    """As the code has it, whatever `value` was set to."""
    parts: tuple[Part, ...] = ()
    reason: str = ""
    """Why it was overridden; '' where it was not."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package or module that could be moved out, and how ready it is."""

    name: str
    files: int
    functions: int
    handlers: int
    clarity: Factor
    viability: Factor
    coupling: Factor
    shares: tuple[tuple[str, float], ...]
    """Shared states, by qualified name, with what each adds to the coupling; dearest first."""
    partners: tuple[str, ...]
    """Packages it shares state with; those it shares most with first."""
    own: int
    """States nobody else touches."""

    @property
    def score(self) -> float:
        """(clarity x viability) / coupling: from 1 / coupling to 100."""
        return round(self.clarity.value * self.viability.value / self.coupling.value, 1)


@dataclass(frozen=True, slots=True)
class Score:
    """The candidates, readiest first, and who shares which state."""

    candidates: tuple[Candidate, ...]
    states: tuple[SharedState, ...]
    """Every state the audit is fairly sure of, shared or not."""
    passed_over: tuple[str, ...] = ()
    """Packages with neither handlers nor state: the rest uses them, nobody moves them."""
    excluded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shared(self) -> tuple[SharedState, ...]:
        return tuple(one for one in self.states if one.is_shared)
