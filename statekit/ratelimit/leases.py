"""The leases of one limiter in one process: finds a caller's, spends it, asks for more, gives back.

Rule 1: spending takes a lock for a moment; nobody ever waits for the store under one. Who finds a slice used up
        while another thread asks for the next is decided by the store alone, at the same moment.
Rule 2: a slice is surrendered before it is settled, so nothing is spent of it while the request is on its way.
Rule 3: memory is bounded. Callers are kept in two halves of `HALF`; when the young one is full the old one is
        forgotten. No more than `MOST_LENT` have a slice at once.
Rule 4: a slice whose deadline has passed is settled by the caller's next hit, or in the background, at the latest
        `IDLE_AFTER` seconds or its own length later: nobody pays for long for a caller that went silent here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from secrets import token_hex
from typing import Any

from statekit.errors import StoreError, UsageError
from statekit.ratelimit.core import deciding, without_store
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.holding import Ending, Wish, holding, settling, told
from statekit.ratelimit.lease import Lease, lease_time
from statekit.ratelimit.rule import Hit, Rule
from statekit.ratelimit.terms import Terms
from statekit.store.clock import micros
from statekit.store.fork import on_fork
from statekit.store.keys import encoded
from statekit.store.op import Op, ask, together
from statekit.store.store import AsyncStore, Store

__all__ = ["Leases", "leased"]

HALF = 5_000
MOST_LENT = 5_000
IDLE_AFTER = 0.25


def leased(rule: Rule, *, lease: bool) -> bool:
    """Check ``lease=``; False too where leases would gain nothing: for a trial, or windows under 100 ms."""
    if not isinstance(lease, bool):
        raise UsageError(f"lease={lease!r}: give True (spend slices of the limit locally) or False")
    return lease and not rule.shadow and lease_time(rule.limits) > 0


class Leases:
    """What this process holds of one limiter, caller by caller. Thread-safe; a forked child starts with none."""

    def __init__(self, terms: Terms[Any], watch: Callable[[float], object]) -> None:
        self._store: Store | AsyncStore = terms.store
        self._rule = terms.rule
        self._outage = terms.outage
        self._refusals = terms.refusals
        self._time = lease_time(terms.rule.limits)
        self._now: Callable[[], int] = terms.store.clock or micros
        self._young: dict[str, Lease] = {}
        self._old: dict[str, Lease] = {}
        self._lent: dict[str, Lease] = {}
        """The leases with a slice that is not settled yet."""
        self._watch = watch
        self._watched = terms.store.clock is not None  # under a test's clock nothing happens by itself
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
            return lease.spend(cost, now)

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
            ending, size = self._surrendered(hit.key, lease), lease.wanted(hit.take, now)
            size = size if len(self._lent) < MOST_LENT else 0
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
                watch = self._lending(hit.key, lease)
        except BaseException as error:
            with self._lock:
                lease.resume(ending)
                self._lending(hit.key, lease)
            if isinstance(error, StoreError):
                return without_store(call, (hit,), self._outage, error)
            raise
        finally:
            lease.asking = False
        if watch:
            self._watch(max(IDLE_AFTER, self._time / 1e6))
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

    def _lending(self, key: str, lease: Lease) -> bool:
        """Note a slice; whether it is time to begin watching for those that go idle."""
        if not lease.id:
            return False
        self._lent[key] = lease
        watched, self._watched = self._watched, True
        return not watched

    def _surrendered(self, key: str, lease: Lease) -> Ending:
        if self._lent.get(key) is lease:
            del self._lent[key]
        return lease.surrender()

    def resetting(self, key: str, op: Op[bool]) -> Op[bool]:
        """Run a reset, and drop what this process still had of what it forgot."""
        forgotten = yield from op
        with self._lock:
            if (lease := self._lent.get(key)) is not None:
                self._surrendered(key, lease)
        return forgotten

    def giving_back(self, *, idle: bool = False) -> Op[tuple[Any, ...]]:
        """Settle the slices this process has, or those whose deadline has passed, in one round trip."""
        now, store = self._now(), self._store
        with self._lock:
            lent = [(key, lease) for key, lease in self._lent.items() if not idle or lease.deadline <= now]
            endings = [(key, self._surrendered(key, lease)) for key, lease in lent]
        return together(
            *(
                settling(store.keys, self._rule, key, store.now(), ending, self._refusals)
                for key, ending in endings
            )
        )

    def idle(self) -> bool:
        """Whether no slice is left to watch; whoever is told so stops watching until he is called again."""
        with self._lock:
            self._watched = bool(self._lent)
            return not self._watched

    def after_fork(self) -> None:
        """What the parent holds is the parent's."""
        self._lock = threading.Lock()
        self._young, self._old, self._lent = {}, {}, {}
