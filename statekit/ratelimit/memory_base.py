"""What the twins of the scripts of rate limits share: the words of an argument, a moment, a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from statekit.store.memory import Data

if TYPE_CHECKING:
    from statekit.ratelimit.memory_holds import Hold

__all__ = ["Moment", "Opened", "Span", "Spec", "State", "ceil_div", "parsed"]

HOUR_MS = 3_600_000


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, slots=True)
class Span:
    """One limit: so many units in so many microseconds."""

    count: int
    window: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What one key is held to, read from the script's argument."""

    algorithm: str
    need: int
    take: int
    shadow: int
    bits: int
    shift: int
    spans: tuple[Span, ...]
    longest: int
    highest: int


@lru_cache(1024)
def parsed(text: str) -> Spec:
    """Read what a key is held to; a limiter says the same with nearly every call."""
    algorithm, *words = text.split()
    need, take, shadow, bits, shift, *terms = map(int, words)
    spans = tuple(Span(*pair) for pair in zip(terms[::2], terms[1::2], strict=True))
    longest, highest = max(terms[1::2]), max(terms[::2])
    return Spec(algorithm, need, take, shadow, bits, shift, spans, longest, highest)


class State(Protocol):
    """One limit's use at this moment."""

    @property
    def used(self) -> int: ...
    def wait(self, target: int) -> int:
        """Microseconds until no more than `target` units are used."""


class Opened(Protocol):
    """The state under one key, opened for one decision."""

    @property
    def states(self) -> Sequence[State]: ...
    @property
    def holds(self) -> list[Hold]: ...
    @property
    def carried(self) -> bool:
        """Whether it holds units of limits that were changed since."""

    def charge(self, units: int) -> None:
        """Charge all states, and store them."""

    def refund(self, units: int, at: int) -> bool:
        """Take back what was charged at a moment; whether it was still there."""

    def keep(self) -> None:
        """Store the holds, which have changed."""


@dataclass(slots=True)
class Moment:
    """Where and when a run happens."""

    data: Data
    now: int
    frozen: bool

    def lifetime(self, micros: int) -> int:
        return ceil_div(micros, 1000) + (HOUR_MS if self.frozen else 1)
