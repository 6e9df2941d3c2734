"""Admission: a request's decision, and its session in the same round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from statekit.errors import StoreError
from statekit.ratelimit.decision import Decision
from statekit.store.op import Op, together

__all__ = ["admitting", "deciding"]

T = TypeVar("T")


def deciding(kit: Any, charges: Sequence[Any]) -> Op[Decision]:
    """The operation that decides all charges, ``(limiter, key, cost)``, of a request: all pass, or none."""
    if len(charges) == 1:
        limiter, key, cost = charges[0]
        return limiter.hitting(key, cost)  # type: ignore[no-any-return]
    return kit.hitting_all(charges)  # type: ignore[no-any-return]


def admitting(decision: Op[Decision], loading: Op[T]) -> Op[tuple[Decision, T | None]]:
    """Decide and load in one round trip.

    A refusal this process gives by itself leaves the session where it is: a flood asks the store for nothing.
    """
    try:
        calls = next(decision)
    except StopIteration as stop:
        loaded = (yield from loading) if stop.value.allowed else None
        return stop.value, loaded
    return (yield from together(_resumed(decision, calls), loading))


def _resumed(op: Op[T], calls: Any) -> Op[T]:
    """Go on with an operation that has said what it sends first."""
    try:
        while True:
            try:
                replies = yield calls
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
