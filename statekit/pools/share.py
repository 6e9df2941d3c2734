"""A process's share of the fleet's budget: how large, until when, and when to talk to the store about it.

Rule 1: no lock and no I/O here; `Ledger` calls with its lock held.
Rule 2: the share never grows but by a grant, and a lease counts from before its report was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statekit.pools.core import Grant, OnOutage, PoolConfig, Report

__all__ = ["NEVER", "Share", "or_never"]

NEVER = float("inf")
VALID = 0.75
"""Part of the lease after which a process trusts it no more; the rest is for closing before it runs out."""
SHORTEST_POLL = 0.005
LONGEST_POLL = 0.05


class Share:
    """How many connections a process may hold. Without a fleet budget: its own cap, for ever."""

    __slots__ = (
        "_config",
        "_jitter",
        "_poll",
        "_reported_at",
        "ask_at",
        "epoch",
        "grant",
        "reporting",
        "seq",
        "size",
        "valid_until",
    )

    def __init__(self, config: PoolConfig, jitter: Callable[[], float]) -> None:
        self._config = config
        self._jitter = jitter
        self.size = config.per_process if config.fleet is None else 0
        self.valid_until = NEVER
        """Until when clients may be handed out without asking the store first."""
        self.seq = self.epoch = 0
        self.grant = Grant()
        """The last answer."""
        self.reporting = False
        self.ask_at = 0.0
        self._reported_at = -NEVER
        self._poll = SHORTEST_POLL

    def may_grow(self, held: int, now: float) -> bool:
        """Whether the store could give more, or has to confirm what there is."""
        return self._config.fleet is not None and (held < self._config.per_process or now >= self.valid_until)

    def begin_asking(self, now: float) -> bool:
        """Start a report on behalf of a waiting caller, unless one is under way or it is too soon."""
        if self.reporting or now < self.ask_at:
            return False
        self.reporting = True
        return True

    def begin_renewing(self, now: float, *, busy: bool) -> bool:
        """Start a report from the background: each time while busy or booked for something, else by lease."""
        if self._config.fleet is None or self.reporting or not self.seq:
            return False
        every = 0.0 if busy or self.grant.share else self._config.lease_seconds / 3
        self.reporting = now >= self._reported_at + every
        return self.reporting

    def unanswered(self, now: float) -> bool:
        """Whether the store owes an answer for longer than a healthy one takes."""
        return self.reporting and now - self._reported_at >= LONGEST_POLL

    def pause(self, now: float) -> float:
        """Seconds a waiting caller sleeps before it looks again."""
        return LONGEST_POLL if self.reporting else max(self.ask_at - now, 0.001)

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def report(self, worker: str, now: float, held: int, in_use: int, waiting: int, want: int) -> Report:
        """Say what is held and wanted. Until the answer the share is what is held: nothing more is opened.

        While the store does not answer the share stays what the first unanswered report kept: that report may
        have arrived, and no later one gives up anything, so a client that breaks can still be replaced.
        """
        seq = self.next_seq()
        if self.grant.error is None:
            self.size = min(self.size, held)
        self._reported_at = now
        return Report(worker, seq, self.epoch, max(held, self.size), in_use, waiting, want)

    def absorb(self, grant: Grant, now: float) -> None:
        """Take in the answer to the last report."""
        self.grant = grant
        if grant.error is None:
            self.epoch = grant.epoch
            self.size = grant.share - grant.surplus
            self.valid_until = self._reported_at + self._config.lease_seconds * VALID
        elif self._config.on_outage is OnOutage.KEEP:
            self.valid_until = now + self._config.lease_seconds
        elif now >= self.valid_until:
            self.size = 0

    def pace(self, now: float, *, grown: bool, awaited: bool) -> None:
        """Callers left without a client make the process ask again: soon at first, then every 50 ms."""
        refused = awaited and not grown
        self._poll = min(self._poll * 2, LONGEST_POLL) if refused else SHORTEST_POLL
        self.ask_at = now + self._poll * self._jitter() if refused else now


def or_never(limit: Any) -> float:
    return NEVER if limit is None else float(limit)
