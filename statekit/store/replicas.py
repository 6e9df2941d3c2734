"""Replicas: writes that return only when replicas have them, for those whose loss would do harm.

Replication is asynchronous: the primary answers, then tells its replicas, and a primary that dies in between takes
the write with it. ``WAIT n ms`` (https://redis.io/docs/latest/commands/wait/) holds the answer back until `n` replicas
have confirmed all that its connection wrote, or the time is up.

Rule 1: the connection that wrote is the one that waits, in the same round trip. On another one the question could
        reach another server, one that was promoted in between, and be answered for a history without the write.
Rule 2: at most one question a round, at its end: calls that share a round share the waiting.
Rule 3: an operation is never cut short for want of a confirmation. What it set out to do is done on the primary,
        whole, and then `NotReplicated` is raised: half of a revocation would be worse than an unconfirmed one.

What this does not buy is consistency: docs/reliability.md says what remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from statekit.errors import NotReplicated, StoreError, UsageError
from statekit.store.op import Call, Op, Reply, Round, started

__all__ = ["checked_replicas", "gathered", "question", "replicated"]

T = TypeVar("T")

SHARE: Final = 0.6
"""Of a round's budget that may be spent waiting for replicas. An idle server looks at its clock ten times a second,
so it may answer 100 ms late, and the answer must still come in time."""


def checked_replicas(given: int) -> int:
    """Return a number of replicas, or raise `UsageError` for what is none."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise UsageError(
            f"replicas={given!r}: give the number of replicas that must confirm a write, 0 for none"
        )
    return given


def question(replicas: int, budget: float) -> Call:
    """Ask how many replicas have all that was written before; answered when it is `replicas`, or in time."""
    return Call(("WAIT", replicas, max(1, int(budget * SHARE * 1000))), waits=True)


def replicated(op: Op[T], asked: Call) -> Op[T]:
    """Wrap an operation that writes: raises `NotReplicated` at its end unless replicas confirmed each round.

    A round that only reads is left alone, and so is what follows one that was not confirmed: that is known then.
    """
    lacking: NotReplicated | None = None
    try:
        calls = next(started(op))
        while True:
            asks = lacking is None and not all(call.read_only for call in calls)
            try:
                replies = yield (*calls, asked) if asks else calls
            except StoreError as error:
                calls = op.throw(error)
                continue
            if asks:
                *replies, confirmed = replies
                lacking = _lack(asked, confirmed)
            calls = op.send(replies)
    except StopIteration as stop:
        if lacking is not None:
            lacking.result = stop.value
            raise lacking from lacking.__cause__
        return stop.value  # type: ignore[no-any-return]


def _lack(asked: Call, confirmed: int | StoreError) -> NotReplicated | None:
    """Judge the answer to a question; None if enough replicas have the write."""
    wanted, patience = map(int, asked.args[1:])
    if isinstance(confirmed, StoreError):  # demoted while it waited, or this user may not ask
        lack = NotReplicated(f"written, but no replica is known to have it: {confirmed}", wanted=wanted)
        lack.__cause__ = confirmed
        return lack
    if confirmed >= wanted:
        return None
    return NotReplicated(
        f"written, but only {confirmed} of {wanted} replicas confirmed it within {patience} ms: it is lost if the "
        "primary fails now; to say it again is safe",
        confirmed=confirmed,
        wanted=wanted,
    )


def gathered(op: Op[T]) -> Op[T]:
    """Wrap what is about to be sent: the questions of a round become one, at its end."""
    try:
        calls = next(started(op))
        while True:
            asking = next((call for call in calls if call.waits), None)
            try:
                if asking is None:
                    replies = yield calls
                else:
                    replies = _spread(calls, (yield (*(call for call in calls if not call.waits), asking)))
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _spread(calls: Round, replies: Sequence[Reply]) -> Sequence[Reply]:
    """Give the one answer to each call that asked."""
    *plain, confirmed = replies
    rest = iter(plain)
    return [confirmed if call.waits else next(rest) for call in calls]
