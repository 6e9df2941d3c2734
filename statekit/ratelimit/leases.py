"""The leases of one limiter in one process: finds a caller's, spends it, asks for more, gives back.

Rule 1: spending takes a lock for a moment; nobody ever waits for the store under one. Who finds a slice used up
        while another thread asks for the next is decided by the store alone, at the same moment.
Rule 2: a slice is surrendered before it is settled, so nothing is spent of it while the request is on its way.
Rule 3: memory is bounded. Callers are kept in two halves of `HALF`; when the young one is full the old one is
        forgotten. A slice forgotten lapses in the store by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from secrets import token_hex
from time import monotonic_ns
from typing import Any

from statekit.errors import StoreError, UsageError
from statekit.ratelimit.core import deciding, without_store
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.holding import Ending, Wish, holding, settling, told
from statekit.ratelimit.lease import Lease, lease_time
from statekit.ratelimit.rule import Hit, Rule
from statekit.ratelimit.terms import Terms
from statekit.store.fork import on_fork
from statekit.store.keys import encoded
from statekit.store.op import Op, ask, together
from statekit.store.store import AsyncStore, Store

__all__ = ["Leases", "leased"]

HALF = 5_000


def leased(rule: Rule, *, lease: bool) -> bool:
    """Check ``lease=``; False too where leases would gain nothing: for a trial, or windows under 100 ms."""
    if not isinstance(lease, bool):
        raise UsageError(f"lease={lease!r}: give True (spend slices of the limit locally) or False")
    return lease and not rule.shadow and lease_time(rule.limits) > 0


def _micros() -> int:
    return monotonic_ns() // 1000


class Leases:
    """What this process holds of one limiter, caller by caller. Thread-safe; a forked child starts with none."""

    def __init__(self, terms: Terms[Any]) -> None:
        self._store: Store | AsyncStore = terms.store
        self._rule = terms.rule
        self._outage = terms.outage
        self._refusals = terms.refusals
        self._time = lease_time(terms.rule.limits)
        self._now: Callable[[], int] = terms.store.clock or _micros
        self._young: dict[str, Lease] = {}
        self._old: dict[str, Lease] = {}
        self._lock = threading.Lock()
        on_fork(self)

    # -- spending ------------------------------------------------------------------------------------------

    def spend(self, key: str, cost: int) -> Decision | None:
        """Answer a hit from the slice this process has, if it can."""
        try:
            lease = self._young.get(key)
        except TypeError:  # no key at all: whoever checks it says so
            return None
        if lease is None or type(cost) is not int or cost < 1 or lease.tokens < cost:
            return None
        now = self._now()
        with self._lock:
            return lease.decision(now) if lease.spend(cost, now) else None

    def hitting(self, key: str, cost: int) -> Op[Decision]:
        """The operation behind a hit: spends here, or asks the store, and for a slice with it."""
        hit = Hit.of(self._rule, key, cost)
        encoded(key)  # raises for what is no key, before it is looked for
        return self._hitting(hit) if hit.take else self._exactly(hit)

    def _hitting(self, hit: Hit) -> Op[Decision]:
        decision = self.spend(hit.key, hit.take)
        if decision is not None:
            return decision
        refused = self._refusals.recall((hit,))
        if refused is not None:
            return refused
        now = self._now()
        with self._lock:
            lease = self._lease(hit.key, now)
            ending, size = lease.surrender(), lease.wanted(hit.take, now)
            exact = lease.asking or not (size or ending.id)
            lease.asking = lease.asking or not exact
        if not exact:
            return (yield from self._refilling(lease, hit, ending, size))
        decision = yield from self._exactly(hit)
        lease.learned(decision)
        return decision

    def _exactly(self, hit: Hit) -> Op[Decision]:
        store = self._store
        return deciding(store.keys, (hit,), store.now(), self._outage, self._refusals)

    def _refilling(self, lease: Lease, hit: Hit, ending: Ending, size: int) -> Op[Decision]:
        wish = Wish(token_hex(8), 0, size, self._time)
        call = holding(self._store.keys, hit, self._store.now(), ending, wish)
        turn, asked = self._refusals.asking(), self._now()
        try:
            reply = yield from ask(call)
            held = told(hit, reply)
            with self._lock:
                decision = lease.granted(held, wish.id, asked, self._now())
        except BaseException as error:
            with self._lock:
                lease.resume(ending)
            if isinstance(error, StoreError):
                return without_store(call, (hit,), self._outage, error)
            raise
        finally:
            lease.asking = False
        if not decision.allowed:
            self._refusals.remember((hit,), decision, turn)
        return decision

    def _lease(self, key: str, now: int) -> Lease:
        """The lease of a caller, moved among the young; the lock is held."""
        lease = self._young.get(key)
        if lease is None:
            lease = self._old.pop(key, None) or Lease(self._time, now)
            if len(self._young) >= HALF:
                self._old, self._young = self._young, {}
            self._young[key] = lease
        return lease

    # -- giving back ---------------------------------------------------------------------------------------

    def resetting(self, key: str, op: Op[bool]) -> Op[bool]:
        """Run a reset, and drop what this process still had of what it forgot."""
        forgotten = yield from op
        self._forget(key)
        return forgotten

    def _forget(self, key: str) -> None:
        with self._lock:
            for lease in (self._young.pop(key, None), self._old.pop(key, None)):
                if lease is not None:
                    lease.surrender()

    def giving_back(self) -> Op[tuple[Any, ...]]:
        """Settle all slices this process has, in one round trip."""
        with self._lock:
            every = [*self._old.items(), *self._young.items()]
            endings = [(key, lease.surrender()) for key, lease in every]
        store = self._store
        return together(
            *(
                settling(store.keys, self._rule, key, store.now(), ending, self._refusals)
                for key, ending in endings
                if ending.id
            )
        )

    def after_fork(self) -> None:
        """What the parent holds is the parent's."""
        self._lock = threading.Lock()
        self._young, self._old = {}, {}
