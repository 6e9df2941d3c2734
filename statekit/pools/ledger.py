"""The account of one pool in one process: which client is where, who waits, what may be opened.

Rule 1: every change of the account happens here, under one lock, without I/O and without waiting.
Rule 2: ``held`` counts a connection from before it is opened until after its close has returned, and never
        passes the share.
Rule 3: who came first is served first: nobody takes a client past those who wait.

What to do next is a `Verb`; `statekit.pools.local` carries it out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from statekit.pools.core import Bound, Grant, Holder, PoolConfig, PoolStats, Report, call_site, median
from statekit.pools.loan import Entry, Verb, Waiter
from statekit.pools.share import NEVER, Share, or_never

__all__ = ["Ledger"]


class Ledger:
    """One pool's account. Times are seconds of a monotonic clock, which is passed in like lock and jitter."""

    def __init__(
        self,
        config: PoolConfig,
        lock: AbstractContextManager[Any],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        *,
        pings: bool,
    ) -> None:
        self.config = config
        self.lock = lock
        self.clock = clock
        self.jitter = jitter
        self._idle_limit = or_never(config.idle)
        self._fresh = min(self._idle_limit, float(config.ping_after) if pings else NEVER)  # type: ignore[arg-type]
        self.idle: list[Entry] = []
        self.busy: set[Entry] = set()
        self.line: deque[Waiter] = deque()
        self.opening = self.closing = 0
        self.closed = False
        self.share = Share(config, jitter)
        self.excess = 0
        """How many too many are open for the share: they are closed as they come back."""
        self._peak = 0
        # figures
        self.checkouts = self.opened_total = self.closed_total = self.waited = self.timeouts = self.leaks = 0
        self._waits: deque[float] = deque(maxlen=256)

    @property
    def held(self) -> int:
        return len(self.idle) + len(self.busy) + self.opening + self.closing

    # -- the quick way: one lock, no decision ------------------------------------------------------------

    def take(self) -> Entry | None:
        """A fresh idle client, the one used last; None if it takes more than that."""
        now = self.clock()
        with self.lock:
            idle = self.idle
            if not idle or now >= self.share.valid_until or now >= idle[-1].fresh_until:
                return None
            entry = idle.pop()
            entry.taken_at = now
            busy = self.busy
            busy.add(entry)
            self.checkouts += 1
            if len(busy) > self._peak:  # noqa: PLR1730 - max() costs a call, here where it counts
                self._peak = len(busy)
            return entry

    def put(self, entry: Entry, drop: bool = False, suspect: bool = False) -> bool:
        """Take a client back; true if the caller has to close it now."""
        now = self.clock()
        with self.lock:
            busy = self.busy
            if entry not in busy:  # a fork or another event loop came between: it is not ours any more
                return False
            busy.remove(entry)
            entry.holder = entry.code = None
            entry.leaked = False
            entry.idle_since = now
            fresh, expires = now + self._fresh, entry.expires_at
            entry.fresh_until = 0.0 if suspect else fresh if fresh < expires else expires  # noqa: FURB136 - as above
            if drop or self.excess > 0 or now >= expires or self.closed:
                self._retire()
                return True
            if self.line and not suspect and now < self.share.valid_until:
                self._hand(entry, now)
            else:
                self.idle.append(entry)
                if self.line:
                    self.line[0].signal.set()
            return False

    # -- the other way: in line ----------------------------------------------------------------------------

    def next(self, waiter: Waiter) -> Verb:
        """What the caller does next; `waiter.entry` and `waiter.pause` say with what, and for how long."""
        now = self.clock()
        with self.lock:
            if waiter.entry is not None:
                return Verb.USE
            if waiter not in self.line:
                self.line.appendleft(waiter) if waiter.served else self.line.append(waiter)
            verb = self._choose(waiter, now)
            if verb in (Verb.USE, Verb.PROBE, Verb.RETIRE, Verb.OPEN, Verb.GIVE_UP):
                waiter.served = True
                self._step_out(waiter)
            return verb

    def _choose(self, waiter: Waiter, now: float) -> Verb:
        if self.closed:
            return Verb.GIVE_UP
        first = self.line[0] is waiter
        if first and now < self.share.valid_until:
            if self.idle:
                return self._pick(waiter, now)
            if self.held < self.share.size:
                self.opening += 1
                return Verb.OPEN
        may_grow = first and self.share.may_grow(self.held, now)
        if may_grow and self.share.begin_asking(now):
            return Verb.REPORT
        if now >= waiter.deadline:
            return Verb.GIVE_UP
        waiter.pause = waiter.deadline - now
        if may_grow:
            waiter.pause = min(waiter.pause, self.share.pause(now))
        waiter.signal.clear()
        return Verb.PARK

    def _pick(self, waiter: Waiter, now: float) -> Verb:
        waiter.entry = entry = self.idle.pop()
        if now >= entry.expires_at or now >= entry.idle_since + self._idle_limit:
            self.closing += 1
            return Verb.RETIRE
        self._lend(entry, now)
        return Verb.USE if now < entry.fresh_until else Verb.PROBE

    def _lend(self, entry: Entry, now: float) -> None:
        entry.taken_at = now
        self.busy.add(entry)
        self.checkouts += 1
        self._peak = max(self._peak, len(self.busy))

    def _hand(self, entry: Entry, now: float) -> None:
        """Give a returned client to who has waited longest."""
        waiter = self.line[0]
        waiter.entry = entry
        self._lend(entry, now)
        self._step_out(waiter)
        waiter.signal.set()

    def _step_out(self, waiter: Waiter) -> None:
        if waiter in self.line:
            self.line.remove(waiter)
        if self.line:
            self.line[0].signal.set()  # whoever is first now asks the fleet, or opens

    def leave(self, waiter: Waiter) -> Entry | None:
        """A caller goes away in the middle (cancelled, interrupted); what it was handed has to be put back."""
        with self.lock:
            self._step_out(waiter)
            entry, waiter.entry = waiter.entry, None
            return entry

    def served(self, waiter: Waiter) -> None:
        """Count how long a caller waited that got its client, or gave up."""
        with self.lock:
            self.waited += 1
            self._waits.append(self.clock() - waiter.since)

    # -- opening and closing -------------------------------------------------------------------------------

    def opened(self, client: Any) -> Entry:
        now = self.clock()
        entry = Entry(client, now, now + or_never(self.config.lifetime) * self.jitter())
        with self.lock:
            self.opening -= 1
            self.opened_total += 1
            self._lend(entry, now)
        return entry

    def failed(self) -> None:
        """Opening did not work: the room is free for the next in line to try."""
        with self.lock:
            self.opening -= 1
            self._wake()

    def condemn(self, entry: Entry) -> None:
        """A client in use turned out to be broken: the caller closes it."""
        with self.lock:
            self.busy.discard(entry)
            self._retire()

    def _retire(self) -> None:
        self.closing += 1
        self._recount()

    def gone(self) -> None:
        """A close has returned, well or not."""
        with self.lock:
            self.closing -= 1
            self.closed_total += 1
            self._recount()
            self._wake()

    def _recount(self) -> None:
        self.excess = max(0, len(self.idle) + len(self.busy) + self.opening - self.share.size)

    def _wake(self) -> None:
        for waiter in list(self.line)[: max(1, self.share.size - self.held)]:
            waiter.signal.set()

    def stale(self) -> list[Entry]:
        """Take out what has been idle or alive too long; the caller closes it."""
        now = self.clock()
        with self.lock:
            old = [e for e in self.idle if now >= min(e.expires_at, e.idle_since + self._idle_limit)]
            return self._take_out(old)

    def _take_out(self, entries: list[Entry]) -> list[Entry]:
        for entry in entries:
            self.idle.remove(entry)
            self._retire()
        return entries

    def close(self) -> list[Entry]:
        """Refuse from now on; returns what the caller closes now. What is in use is closed when it returns."""
        with self.lock:
            self.closed = True
            for waiter in self.line:
                waiter.signal.set()
            return self._take_out(list(self.idle))

    # -- the share -----------------------------------------------------------------------------------------

    def begin_report(self) -> bool:
        """Whether it is time for the background to report, and nobody else is at it; true starts a report."""
        now = self.clock()
        with self.lock:
            if self.line and self.held < self.share.size and now < self.share.valid_until:
                return False  # somebody is about to open what was just granted: a report would hand it back
            return self.share.begin_renewing(now, busy=bool(self.held or self.line))

    def report(self, worker: str) -> Report:
        """What to tell the fleet. What is wanted counts the most clients in use since the last report."""
        now = self.clock()
        with self.lock:
            in_use, waiting = len(self.busy) + self.opening, len(self.line)
            want = min(max(self._peak, in_use) + waiting, self.config.per_process)
            self._peak = in_use
            return self.share.report(worker, now, self.held, in_use, waiting, 0 if self.closed else want)

    def absorb(self, grant: Grant) -> list[Entry]:
        """Take the answer in; returns the idle clients it costs, for the caller to close and report again."""
        now = self.clock()
        with self.lock:
            self.share.absorb(grant, now)
            self.share.pace(now, grown=self.share.size > self.held, awaited=bool(self.line))
            self._recount()
            self._wake()
            return self._take_out(self.idle[: self.excess])

    def end_report(self) -> bool:
        """End a report; true if the pool is closed and empty: the caller has to leave the fleet, too."""
        with self.lock:
            if self.line:
                self.line[0].signal.set()
            leaving = self.closed and not self.held
            self.share.reporting = leaving
            return leaving

    def begin_leaving(self) -> bool:
        """Start the last report of a closed pool; false if one is under way: its end will see to the rest."""
        with self.lock:
            if self.share.reporting or not self.share.seq:
                return False
            self.share.reporting = True
            return True

    # -- telling -------------------------------------------------------------------------------------------

    def bound(self) -> Bound:
        """What keeps callers waiting."""
        if self.closed:
            return Bound.CLOSED
        if self.config.fleet is None or self.held >= self.config.per_process:
            return Bound.PROCESS
        silent = self.share.grant.error is not None or self.share.unanswered(self.clock())
        return Bound.STORE if silent else Bound.FLEET

    def holders(self, name_of: Callable[[Any], str]) -> tuple[Holder, ...]:
        """Who holds what, the longest first."""
        now = self.clock()
        with self.lock:
            taken = sorted(
                ((e.taken_at, e.holder, e.code, e.offset) for e in self.busy), key=lambda row: row[0]
            )
        return tuple(
            Holder(name_of(who), now - at, call_site(code, offset)) for at, who, code, offset in taken
        )

    def leaking(self, name_of: Callable[[Any], str]) -> list[Holder]:
        """Who has newly held a client for longer than ``leak_after``."""
        now, limit = self.clock(), or_never(self.config.leak_after)
        with self.lock:
            late = [e for e in self.busy if now - e.taken_at > limit and not e.leaked]
            for entry in late:
                entry.leaked = True
            self.leaks += len(late)
        return [Holder(name_of(e.holder), now - e.taken_at, call_site(e.code, e.offset)) for e in late]

    def stats(self, name_of: Callable[[Any], str]) -> PoolStats:
        holders = self.holders(name_of)
        with self.lock:
            waits = list(self._waits)
            return PoolStats(
                name=self.config.name,
                per_process=self.config.per_process,
                share=self.share.size,
                open=self.held,
                in_use=len(self.busy),
                idle=len(self.idle),
                waiting=len(self.line),
                opened_total=self.opened_total,
                closed_total=self.closed_total,
                checkouts_total=self.checkouts,
                waited_total=self.waited,
                timeouts_total=self.timeouts,
                leaks_total=self.leaks,
                wait_p50=median(waits),
                wait_max=max(waits, default=0.0),
                degraded=self.share.grant.error is not None,
                holders=holders,
            )
