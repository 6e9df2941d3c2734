"""The two faces of a rate limiter: blocking and asyncio. Neither decides anything."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

from statekit.errors import StoreError, UsageError
from statekit.ratelimit.core import Outage, deciding, pause, resetting
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.leases import Leases, leased
from statekit.ratelimit.limits import LARGEST, Limit, LimitLike
from statekit.ratelimit.local import alone
from statekit.ratelimit.refusals import ASK_ALWAYS, refusals_of
from statekit.ratelimit.reservation import AsyncReservation, Reservation
from statekit.ratelimit.rule import Hit, Rule, Workers
from statekit.ratelimit.spread import spreading
from statekit.ratelimit.terms import Terms
from statekit.store.durations import Duration, micros, seconds
from statekit.store.op import Call, Op, Reply, together
from statekit.store.pulse import Beat
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncRateLimiter", "Pairs", "RateLimiter", "hitting_all"]

S = TypeVar("S", Store, AsyncStore)


class _RateLimiter(Generic[S]):
    """What both faces share: the rule, and the operations built from it."""

    _beat: Beat

    def __init__(
        self,
        store: S,
        name: str,
        *limits: LimitLike,
        algorithm: str = "sliding-log",
        on_outage: str = "allow",
        shadow: bool = False,
        workers: Workers | None = None,
        local_refusals: bool = True,
        lease: bool = False,
    ) -> None:
        self._store: S = store
        self._rule = Rule.of(name, limits, algorithm, on_outage, shadow=shadow, workers=workers)
        self._signs = self._rule.asks_who_lives
        self._outage = Outage(self._local, self._shares, self._report)
        self._refusals = refusals_of(store) if local_refusals else ASK_ALWAYS
        self._terms: Terms[S] = Terms(store, self._rule, self._outage, self._refusals)
        self._leases = Leases(self._terms, self._watch) if leased(self._rule, lease=lease) else None

    @property
    def name(self) -> str:
        """What the limiter is called, in keys and in headers."""
        return self._rule.name

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order given."""
        return self._rule.limits

    @property
    def workers(self) -> int | None:
        """How many processes share the limits in an outage, where ``on_outage="local"``; None: not known yet."""
        return self._sharing(self._rule)

    def hitting(self, key: str, cost: int = 1) -> Op[Decision]:
        """The operation behind `hit`, to share a round trip: ``kit.run(together(op, …))``."""
        if self._leases is not None:
            return self._signing(self._leases.hitting(key, cost))
        return self._deciding(Hit.of(self._rule, key, cost))

    def peeking(self, key: str, cost: int = 1) -> Op[Decision]:
        """The operation behind `peek`."""
        return self._deciding(Hit.of(self._rule, key, cost, charge=False))

    def _deciding(self, hit: Hit) -> Op[Decision]:
        store = self._store
        op = deciding(store.keys, (hit,), store.now(), self._outage, self._refusals)
        return self._signing(op) if self._signs else op

    def _signing(self, op: Op[Decision]) -> Op[Decision]:
        """Have this process counted among those that live, where its answers in an outage depend on how many do."""
        return self._store.roster.attending(op) if self._signs else op

    def resetting(self, key: str) -> Op[bool]:
        """The operation behind `reset`."""
        op = resetting(self._store.keys, self._rule, key, self._refusals)
        return op if self._leases is None else self._leases.resetting(key, op)

    def giving_back(self) -> Op[Any]:
        """Settle the slices this process has leased, in one round trip; what the kit does when it is closed."""
        return self._leases.giving_back() if self._leases is not None else together()

    def _watch(self, seconds: float) -> None:
        """Begin to look after slices that go idle."""
        self._beat = self._store.pulse.every(seconds, self._give_idle_back)

    def _give_idle_back(self) -> Any:
        raise NotImplementedError

    def _local(self, call: Call) -> Reply:
        return alone(self._store, call)

    def _sharing(self, rule: Rule) -> int | None:
        workers = self._store.roster.live if rule.workers is None else rule.workers
        return max(1, workers()) if callable(workers) else workers

    def _shares(self, rule: Rule) -> int:
        """Divide by the most there can be while it is not known: one unit is a share that is never too large."""
        return self._sharing(rule) or LARGEST

    def _report(self, subject: str, error: Exception) -> None:
        self._store.hooks.report("ratelimit", subject, error)

    def __repr__(self) -> str:
        limits = ", ".join(map(str, self.limits))
        return f"<{type(self).__name__} {self.name!r}: {limits}, {self._rule.algorithm}>"


class RateLimiter(_RateLimiter[Store]):
    """Holds callers to limits that are counted in the store, for all processes together.

    Made by ``kit.rate_limiter``. Thread-safe; keep one for as long as you like, it holds no connection.

    >>> from statekit import StateKit
    >>> login = StateKit.in_memory().rate_limiter("login", "2/minute", "100/hour")
    >>> [login.hit("203.0.113.7").allowed for _ in range(3)]
    [True, True, False]
    """

    def hit(self, key: str, cost: int = 1) -> Decision:
        """Ask for `cost` units of every limit at once: all are charged, or none.

        A cost of 0 only asks whether a hit would pass, as `peek` does. A cost above a limit is refused with
        ``retry_after`` None. Raises `UsageError` for a key that is not text or a cost that is not a whole
        number from 0. With the store down the answer is the one declared as ``on_outage``.

        The same call again is refused by this process alone (``decision.local``) until a permit can exist.
        """
        if self._leases is not None and (decision := self._leases.spend(key, cost)) is not None:
            return decision
        refused = self._refusals.known(self._rule, key, cost)
        if refused is not None:
            return refused
        return self._store.run(self.hitting(key, cost), self._store.budget.decision)

    def peek(self, key: str, cost: int = 1) -> Decision:
        """Say what `hit` would decide now, without charging anything."""
        return self._store.run(self.peeking(key, cost), self._store.budget.decision)

    def reset(self, key: str) -> bool:
        """Forget what a caller has used; returns whether there was anything. Raises `StoreUnavailable`."""
        return self._store.run(self.resetting(key))

    def reserve(self, key: str, cost: int = 1, ttl: Duration = 60) -> Reservation:
        """Set units aside for work whose cost is known when it is done; charge what it used with `settle`.

        ``with login.reserve(key, cost=500) as r: r.settle(120)``. Entering the block raises `LimitExceeded` if
        the limiter refused. Left without `settle`, the block is charged in full; left by an exception, nothing.
        Nobody settles within `ttl` seconds (the process died): the units count for one window more, then lapse.
        With the store down the answer is the one declared as ``on_outage``, and there is nothing to settle.
        """
        return self._store.run(self.reserving(key, cost, ttl), self._store.budget.decision)

    def reserving(self, key: str, cost: int = 1, ttl: Duration = 60) -> Op[Reservation]:
        """The operation behind `reserve`."""
        return Reservation(self._terms, key, cost, micros(ttl, "ttl")).reserving()

    def wait(self, key: str, timeout: Duration, cost: int = 1) -> Decision:
        """Wait until the hit is allowed, at most `timeout` seconds; returns the last decision.

        Sleeps exactly until units are free, so it asks the store about once a turn. Gives up at once if they
        come free too late. Waiters are not queued: who asks first after a unit comes free gets it.
        """
        deadline = time.monotonic() + seconds(timeout, "timeout", zero=True)
        while True:
            decision = self.hit(key, cost)
            sleep = pause(decision, deadline - time.monotonic(), random.random())  # noqa: S311 - jitter
            if sleep is None:
                return decision
            time.sleep(sleep)

    def _give_idle_back(self) -> None:
        if self._leases is not None:
            with suppress(StoreError):  # what cannot be settled lapses by itself
                self._store.run(self._leases.giving_back(idle=True))
            if self._leases.idle():
                self._beat.cancel()


class AsyncRateLimiter(_RateLimiter[AsyncStore]):
    """Same as `RateLimiter`, for asyncio."""

    async def hit(self, key: str, cost: int = 1) -> Decision:
        """Same as `RateLimiter.hit`, for asyncio."""
        if self._leases is not None and (decision := self._leases.spend(key, cost)) is not None:
            return decision
        refused = self._refusals.known(self._rule, key, cost)
        if refused is not None:
            return refused
        return await self._store.run(self.hitting(key, cost), self._store.budget.decision)

    async def peek(self, key: str, cost: int = 1) -> Decision:
        """Same as `RateLimiter.peek`, for asyncio."""
        return await self._store.run(self.peeking(key, cost), self._store.budget.decision)

    async def reset(self, key: str) -> bool:
        """Same as `RateLimiter.reset`, for asyncio."""
        return await self._store.run(self.resetting(key))

    def reserve(self, key: str, cost: int = 1, ttl: Duration = 60) -> AsyncReservation:
        """Same as `RateLimiter.reserve`, for asyncio: ``async with limiter.reserve(…) as r``, or ``await`` it."""
        return AsyncReservation(self._terms, key, cost, micros(ttl, "ttl"))

    def reserving(self, key: str, cost: int = 1, ttl: Duration = 60) -> Op[AsyncReservation]:
        """Same as `RateLimiter.reserving`, for asyncio."""
        return AsyncReservation(self._terms, key, cost, micros(ttl, "ttl")).reserving()

    async def wait(self, key: str, timeout: Duration, cost: int = 1) -> Decision:  # noqa: ASYNC109 - as blocking
        """Same as `RateLimiter.wait`, for asyncio."""
        deadline = time.monotonic() + seconds(timeout, "timeout", zero=True)
        while True:
            decision = await self.hit(key, cost)
            sleep = pause(decision, deadline - time.monotonic(), random.random())  # noqa: S311 - jitter
            if sleep is None:
                return decision
            await asyncio.sleep(sleep)

    async def _give_idle_back(self) -> None:
        if self._leases is not None:
            with suppress(StoreError):
                await self._store.run(self._leases.giving_back(idle=True))
            if self._leases.idle():
                self._beat.cancel()


Pairs: TypeAlias = Sequence[tuple[_RateLimiter[Any], str] | tuple[_RateLimiter[Any], str, int]]
"""Limiters with the key, and if it is not 1 the cost, each is asked for."""


def hitting_all(pairs: Pairs) -> Op[Decision]:
    """The operation behind ``kit.hit_all``: several limiters, all or nothing, in one round trip.

    Raises `UsageError` if there is no pair, if a pair is not (limiter, key) or (limiter, key, cost), or if two
    limiters of one name and algorithm have different limits.
    """
    if not isinstance(pairs, list | tuple):
        raise UsageError(f"hit_all({pairs!r}): give a list of pairs such as (limiter, key)")
    hits = [_hit(pair) for pair in pairs]
    if not hits:
        raise UsageError("hit_all([]) has nothing to decide: give pairs such as (limiter, key)")
    first = pairs[0][0]
    store = first._store  # noqa: SLF001 - same room
    decide = spreading if store.keys.slotted and len(hits) > 1 else deciding
    op = decide(store.keys, hits, store.now(), first._outage, first._refusals)  # noqa: SLF001 - same room
    for hit in hits:
        if hit.rule.asks_who_lives:
            op = store.roster.attending(op)
            break
    return op


def _hit(pair: Any) -> Hit:
    size = len(pair) if isinstance(pair, list | tuple) else 0
    limiter, key, cost = pair if size == 3 else (*pair, 1) if size == 2 else (None, "", 0)
    if not isinstance(limiter, _RateLimiter):
        raise UsageError(f"hit_all: {pair!r} is not (limiter, key) or (limiter, key, cost)")
    return Hit.of(limiter._rule, key, cost)  # noqa: SLF001 - same room
