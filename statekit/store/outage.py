"""Outages: how long an answer may take, and when to stop asking.

The breaker has three states. *Closed*: everything goes through; `FAILURES` failed rounds in a row open it.
*Open*: rounds fail at once, without I/O, until a pause has passed. *Half-open*: one round is let through as a
probe; its success closes the breaker, its failure opens it again for a pause twice as long, up to `LONGEST`.
Pauses are shortened at random, so that a fleet does not ask a returning store all at once.

What a primitive answers while the store is away is its own declared policy (docs/guarantees.md); this file
only decides that it is away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from statekit.errors import UsageError
from statekit.store.durations import seconds

__all__ = ["Breaker", "Budget", "checked_budget"]

FAILURES = 5
SHORTEST = 0.05
LONGEST = 0.5
"""Half a second: the store is used again at most that long after it came back."""
PROBE = 2.0
"""Seconds after which a probe nobody has heard of again is taken for lost."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one round trip may take, in seconds, before the answer for an outage is given.

    Raises `UsageError` for what is no duration above zero.
    """

    decision: float = 0.05
    """Answers on a request's critical path that have a declared substitute: limits, slots in flight."""
    operation: float = 0.5
    """Everything else: sessions, writes of flags and tenants, leases."""
    connect: float = 1.0

    def __post_init__(self) -> None:
        for name in ("decision", "operation", "connect"):
            object.__setattr__(self, name, seconds(getattr(self, name), name))


def checked_budget(given: Budget) -> Budget:
    """Return a budget, or raise `UsageError` for what is none."""
    if not isinstance(given, Budget):
        raise UsageError(f"budget={given!r}: give a Budget(decision=…, operation=…, connect=…), in seconds")
    return given


class Breaker:
    """A circuit breaker with one probe at a time. Times are monotonic seconds, passed in.

    Needs no lock: each attribute is replaced whole, and a lost update only lets one more probe through.
    """

    __slots__ = ("_failures", "_jitter", "_pause", "opened_until")

    def __init__(self, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self._jitter = jitter
        self._failures = 0
        self._pause = SHORTEST
        self.opened_until: float | None = None

    @property
    def open(self) -> bool:
        """Whether rounds are being refused (or only a probe is let through)."""
        return self.opened_until is not None

    def admits(self, now: float) -> bool:
        """Whether a round may go to the store; a True while open makes the caller the probe."""
        if self.opened_until is None:
            return True
        if now < self.opened_until:
            return False
        self.opened_until = now + PROBE  # one at a time: its end says when the next may go
        return True

    def abandoned(self, now: float) -> None:
        """Let another probe go out: this round was given up by its caller and tells nothing."""
        if self.opened_until is not None:
            self.opened_until = now

    def succeeded(self) -> None:
        if self._failures:
            self._failures, self._pause, self.opened_until = 0, SHORTEST, None

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures < FAILURES:
            return
        if self.opened_until is not None:
            self._pause = min(LONGEST, self._pause * 2)
        self.opened_until = now + self._pause * self._jitter()
