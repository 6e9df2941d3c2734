"""What a limiter's faces, leases and reservations share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from statekit.ratelimit.core import Outage, Remembered
from statekit.ratelimit.rule import Rule
from statekit.store.store import AsyncStore, Store

__all__ = ["Terms"]

S = TypeVar("S", Store, AsyncStore)


@dataclass(frozen=True, slots=True)
class Terms(Generic[S]):
    """A limiter at work: where it counts, what it holds callers to, and what it answers otherwise."""

    store: S
    rule: Rule
    outage: Outage
    refusals: Remembered
