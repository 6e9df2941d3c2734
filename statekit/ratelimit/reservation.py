"""Reservations: units set aside for work whose cost is known when it is done.

The units count as used from the moment they are reserved. Settled, what was really used is charged and the rest is
free at once. Not settled, because the process died, they count until the deadline and one window longer, and then
lapse: a crash can make the limit stricter for that time, never looser.
"""

from __future__ import annotations

from collections.abc import Generator
from secrets import token_hex
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from statekit.errors import LimitExceeded, StoreError, UsageError
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.holding import Ending, Held, Wish, reserving, settling
from statekit.ratelimit.limits import LARGEST
from statekit.ratelimit.rule import Hit
from statekit.ratelimit.terms import Terms
from statekit.store.op import Op
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncReservation", "Reservation"]

S = TypeVar("S", Store, AsyncStore)


class _Reservation(Generic[S]):
    """What both faces share: what was reserved, and the operations on it."""

    def __init__(self, terms: Terms[S], key: str, cost: int, lasts_us: int) -> None:
        self._terms: Terms[S] = terms
        self._hit = Hit.of(terms.rule, key, cost)
        if cost == 0:
            raise UsageError("cost=0: there is nothing to reserve; give the most the work may use")
        self._lasts_us = lasts_us
        self._id = token_hex(8)
        self._held: Held | None = None
        self._used: int | None = None
        self._settled = False

    @property
    def id(self) -> str:
        """What the units are held under in the store; settling is fenced by it."""
        return self._id

    @property
    def key(self) -> str:
        """The caller the units are reserved for."""
        return self._hit.key

    @property
    def cost(self) -> int:
        """How many units were asked for."""
        return self._hit.take

    @property
    def decision(self) -> Decision:
        """What the limiter decided, and why. Raises `UsageError` before it was asked."""
        if self._held is None:
            raise UsageError("nothing is reserved yet: await the reservation, or enter it with `async with`")
        return self._held.decision

    @property
    def allowed(self) -> bool:
        """Whether the work may begin."""
        return self.decision.allowed

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        told = self._held.decision if self._held else "not asked for yet"
        return f"<{type(self).__name__} of {self.cost} units: {told!r}>"

    def reserving(self) -> Op[Self]:
        """Ask for the units, once."""
        if self._held is None:
            terms = self._terms
            if terms.rule.asks_who_lives:
                terms.store.roster.attend()
            wish = Wish(self._id, self.cost, self.cost, self._lasts_us)
            store = terms.store
            self._held = yield from reserving(
                store.keys, self._hit, store.now(), wish, terms.outage, terms.refusals
            )
        return self

    def settling(self, used: int) -> Op[bool]:
        """The operation behind `settle`, to share a round trip with others."""
        if isinstance(used, bool) or not isinstance(used, int) or not 0 <= used <= LARGEST:
            raise UsageError(f"used={used!r}: give a whole number of units, 0 to {LARGEST:,}")
        return self._settling(used)

    def _settling(self, used: int) -> Op[bool]:
        if self._settled or self._held is None or not self._held.units:
            return False
        self._used = used
        terms = self._terms
        store, ending = terms.store, Ending(self._id, used)
        charged = yield from settling(store.keys, terms.rule, self.key, store.now(), ending, terms.refusals)
        self._settled = True
        return charged

    def _entered(self) -> Self:
        """Refuse to run a block that nobody would count."""
        if self.allowed:
            return self
        decision = self.decision
        wait = decision.retry_after
        until = "it never will" if wait is None else f"it would in {wait:g} s"
        message = f"{decision.limiter!r} has no {self.cost} units left for {self.key!r}: {until}"
        raise LimitExceeded(message, decision=decision)

    def _leaving(self, error: BaseException | None) -> Op[bool]:
        """Charge what `settle` was told, else all; a block that raised used nothing."""
        used = self._used if self._used is not None else self.cost if error is None else 0
        try:
            return (yield from self._settling(used))
        except StoreError as lost:  # the units lapse by themselves; the block's own outcome is what counts
            self._terms.outage.report(self._terms.rule.name, lost)
            return False


class Reservation(_Reservation[Store]):
    """Units set aside by `RateLimiter.reserve`. True if they were; ``with`` it, and call `settle` inside.

    >>> from statekit import StateKit
    >>> tokens = StateKit.in_memory().rate_limiter("tokens", "1000/minute")
    >>> with tokens.reserve("ann", cost=500) as reservation:
    ...     tokens.peek("ann").remaining
    ...     reservation.settle(120)
    500
    True
    >>> tokens.peek("ann").remaining
    880
    """

    def settle(self, used: int) -> bool:
        """Charge what was really used, 0 or more, and free the rest at once; more than reserved is charged too.

        True if it was charged. False, and nothing charged, if there is nothing to settle: it was settled before,
        it has lapsed, it was refused, or it was made while the store was down. Raises `StoreUnavailable`, and may
        then be called again: it is never charged twice.
        """
        return self._terms.store.run(self.settling(used))

    def __enter__(self) -> Self:
        return self._entered()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._terms.store.run(self._leaving(error))


class AsyncReservation(_Reservation[AsyncStore]):
    """Same as `Reservation`, for asyncio: ``await`` it, or enter it with ``async with``, to ask for the units."""

    def __await__(self) -> Generator[Any, None, Self]:
        store = self._terms.store
        return store.run(self.reserving(), store.budget.decision).__await__()

    async def settle(self, used: int) -> bool:
        """Same as `Reservation.settle`, for asyncio."""
        return await self._terms.store.run(self.settling(used))

    async def __aenter__(self) -> Self:
        await self
        return self._entered()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._terms.store.run(self._leaving(error))
