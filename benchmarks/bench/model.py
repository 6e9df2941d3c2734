"""What a case is made of: contenders, promises, checks. Plain data; nothing here measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from benchmarks.bench.lab import Lab

__all__ = [
    "CASES",
    "Absent",
    "AtLeast",
    "AtMost",
    "Case",
    "Check",
    "Comparison",
    "Contender",
    "Faster",
    "Figure",
    "Figures",
    "Promise",
    "Skip",
    "case",
]


class Skip(Exception):
    """Raised by a case that cannot run here; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work. `call` is a callable, a coroutine function, or a statement over `names`."""

    name: str
    call: Callable[[], Any] | str
    names: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 1
    """How many units of work one call does; times are given for one unit."""
    before: Callable[[], Any] | None = None
    """Runs in front of each batch, untimed."""
    floor: bool = False
    twin: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    """A peer that is left out, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something a contender must do right to be measured at all; ``fn()`` returns None, or what is wrong.

    With ``fatal=False`` it is measured all the same, and the page tells.
    """

    who: str
    what: str
    fn: Callable[[], str | None]
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Bound:
    """The figure of `who` is held to `bound` times that of `of`, or to `bound` outright."""

    who: str
    bound: float
    of: str | None = None
    above: str | None = None
    """Subtracted from both first: what is compared is what they add to it."""
    p50: bool = False
    """Compare the median single calls of each round, not whole batches."""

    def __str__(self) -> str:
        direction = "at most" if isinstance(self, AtMost) else "at least"
        if self.of is None:
            return f"{direction} {self.bound:g}"
        whole = f"what {self.of} adds to {self.above}" if self.above else self.of
        return f"{direction} {self.bound:g}x {whole}{' (p50)' if self.p50 else ''}"


@dataclass(frozen=True, slots=True)
class AtMost(Bound):
    """`who` takes at most `bound` times what `of` takes, or at most `bound` outright."""

    def kept(self, measured: float) -> bool:
        return measured <= self.bound


@dataclass(frozen=True, slots=True)
class AtLeast(Bound):
    """The figure of `who` is at least `bound` times that of `of`, or at least `bound` outright."""

    def kept(self, measured: float) -> bool:
        return measured >= self.bound


@dataclass(frozen=True, slots=True)
class Faster:
    """`who` takes less time than `than`, `bound` times less at least."""

    who: str
    bound: float
    than: str
    above: str | None = None
    p50: bool = False

    @property
    def of(self) -> str:
        return self.than

    def __str__(self) -> str:
        return f"at least {self.bound:g} times faster than {self.than}"

    def kept(self, measured: float) -> bool:
        return measured >= self.bound


Promise: TypeAlias = AtMost | AtLeast | Faster


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contenders that the runner times in turn, round after round."""

    label: str
    contenders: Sequence[Contender | Absent]
    promises: Sequence[Promise] = ()
    checks: Sequence[Check] = ()
    rounds: int | None = None
    """How many rounds, where the usual number would take too long."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, or one value a round."""

    name: str
    values: float | Sequence[float]
    floor: bool = False
    twin: bool = False
    failed: str = ""
    """What the contender did wrong: it scores nothing."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Values a case has measured itself, all of one unit."""

    label: str
    unit: str
    figures: Sequence[Figure | Absent]
    promises: Sequence[Promise] = ()
    checks: Sequence[Check] = ()
    more_is_better: bool = False
    note: str = ""


Run: TypeAlias = "Callable[[Lab], Iterator[Comparison | Figures]]"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    question: str
    run: Run
    seconds: float = 180.0
    """It is given up after this long."""


CASES: dict[str, Case] = {}


def case(name: str, question: str, *, seconds: float = 180.0) -> Callable[[Run], Run]:
    """Register a case, named ``suite/case``; `question` is what its figures answer, in one sentence."""

    def registered(run: Run) -> Run:
        if name in CASES:
            raise ValueError(f"two cases are named {name!r}")
        CASES[name] = Case(name, question, run, seconds)
        return run

    return registered
