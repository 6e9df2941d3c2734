"""A pool in one process, as procedures: generators that yield what they need done and are sent the outcome.

Rule 1: the account lives in `Ledger`; the store's side in `core`. Here is only the order of steps.
Rule 2: a procedure does no I/O and never waits: it yields an `Effect`, and a driver with threads or one with
        tasks carries it out. Whatever interrupts it (a cancelled task, Ctrl-C), no room is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from statekit.errors import PoolExhausted
from statekit.pools.core import Bound, ConnectionLeaked, Grant, PoolConfig, releasing, renewing
from statekit.pools.ledger import Ledger
from statekit.pools.loan import Entry, Signal, Verb, Waiter
from statekit.store.hooks import Degraded
from statekit.store.op import Op

__all__ = ["Ask", "Close", "Effect", "LocalPool", "Open", "Park", "Ping", "Steps"]

T = TypeVar("T")
log = logging.getLogger("statekit")


@dataclass(frozen=True, slots=True)
class Open:
    """Call the user's ``open``; the outcome is the client."""


@dataclass(frozen=True, slots=True)
class Close:
    """Call the user's ``close``."""

    client: Any


@dataclass(frozen=True, slots=True)
class Ping:
    """Call the user's ``ping``; False (or an exception) means broken, anything else well."""

    client: Any


@dataclass(frozen=True, slots=True)
class Ask:
    """Run an operation against the store."""

    op: Op[Any]


@dataclass(frozen=True, slots=True)
class Park:
    """Sleep until the signal is set, at most that many seconds."""

    signal: Any
    seconds: float


Effect: TypeAlias = Open | Close | Ping | Ask | Park
Steps: TypeAlias = Generator[Effect, Any, T]


class LocalPool:
    """The procedures of one pool: check out, take back, tend, drain."""

    def __init__(
        self,
        ledger: Ledger,
        key: str,
        worker: Callable[[], str],
        now: Callable[[], int | str],
        signal: Callable[[], Signal],
        name_of: Callable[[Any], str],
        tell: Callable[[Any], None],
    ) -> None:
        self.ledger = ledger
        self.config: PoolConfig = ledger.config
        self._key = key
        self._worker = worker
        self._now = now
        self._signal = signal
        self._name_of = name_of
        self._tell = tell

    def checkout(self, timeout: float) -> Steps[Entry]:
        """Get a client: an idle one, a new one, or the first that comes free. Raises `PoolExhausted`."""
        since = self.ledger.clock()
        waiter = Waiter(self._signal(), since, since + timeout)
        try:
            while True:
                verb = self.ledger.next(waiter)
                entry = yield from self._take_step(verb, waiter)
                if entry is not None:
                    waiter.entry = None
                    self.ledger.served(waiter)
                    return entry
        except GeneratorExit:  # abandoned (its event loop is gone): nothing can be awaited any more
            if (handed := self.ledger.leave(waiter)) is not None:
                self.ledger.put(handed, drop=True)
                self.ledger.gone()
            raise
        except BaseException:
            if (handed := self.ledger.leave(waiter)) is not None and self.ledger.put(handed, suspect=True):
                yield from self._close(handed)
            raise

    def _take_step(self, verb: Verb, waiter: Waiter) -> Steps[Entry | None]:
        entry = waiter.entry
        match verb:
            case Verb.USE:
                return entry
            case Verb.OPEN:
                return (yield from self._open())
            case Verb.PARK:
                yield Park(waiter.signal, waiter.pause)
            case Verb.REPORT:
                yield from self._report()
            case Verb.GIVE_UP:
                raise self._exhausted(waiter)
            case Verb.PROBE | Verb.RETIRE:
                assert entry is not None
                if verb is Verb.PROBE:
                    if (yield from self._alive(entry)):
                        return entry
                    self.ledger.condemn(entry)
                waiter.entry = None
                yield from self._close(entry)
        return None

    def _open(self) -> Steps[Entry]:
        try:
            client = yield Open()
        except BaseException:
            self.ledger.failed()
            raise
        return self.ledger.opened(client)

    def _alive(self, entry: Entry) -> Steps[bool]:
        try:
            return (yield Ping(entry.client)) is not False
        except Exception:
            log.info(
                "pool %r: a client did not answer its ping, another takes its place",
                self.config.name,
                exc_info=True,
            )
            return False

    def _close(self, entry: Entry) -> Steps[None]:
        try:
            yield Close(entry.client)
        except Exception:
            log.warning("pool %r: closing a client failed", self.config.name, exc_info=True)
        finally:
            self.ledger.gone()

    def _close_all(self, entries: list[Entry]) -> Steps[None]:
        """Close several; if this is interrupted, the rest is closed by nobody but no longer counted."""
        pending = list(entries)
        try:
            while pending:
                yield from self._close(pending.pop())
        finally:
            for _ in pending:
                self.ledger.gone()

    def retire(self, entry: Entry) -> Steps[None]:
        """Close a client that came back and may not stay, and tell the fleet at once: others may wait for it."""
        yield from self._close(entry)
        if self.ledger.begin_report():
            yield from self._report()

    def _report(self) -> Steps[None]:
        """Report and absorb the answer, until it costs nothing more. The caller has set ``reporting``."""
        try:
            while True:
                report = self.ledger.report(self._worker())
                grant: Grant = yield Ask(renewing(self._key, self.config, report, self._now()))
                if grant.error is not None and self.ledger.share.grant.error is None:
                    self._tell(Degraded("pools", self.config.name, grant.error))
                shed = self.ledger.absorb(grant)
                if not shed:
                    break
                yield from self._close_all(shed)
        finally:
            leaving = self.ledger.end_report()
        if leaving:
            yield from self._leave()

    def _leave(self) -> Steps[None]:
        """Give the whole share back. No report is under way, or it could arrive later and book it anew."""
        try:
            yield Ask(releasing(self._key, self._worker(), self.ledger.share.next_seq()))
        finally:
            self.ledger.share.reporting = False

    def tend(self) -> Steps[None]:
        """What the background does: renew the share, close what is stale, tell of leaks."""
        if self.ledger.begin_report():
            yield from self._report()
        yield from self._close_all(self.ledger.stale())
        for holder in self.ledger.leaking(self._name_of):
            self._tell(ConnectionLeaked(self.config.name, holder))

    def drain(self) -> Steps[None]:
        """Close what is idle and leave the fleet; what is in use keeps its part of the share for one lease."""
        yield from self._close_all(self.ledger.close())
        if self.ledger.begin_leaving():
            yield from self._report()

    def _exhausted(self, waiter: Waiter) -> PoolExhausted:
        self.ledger.served(waiter)
        self.ledger.timeouts += 1
        bound, config, grant = self.ledger.bound(), self.config, self.ledger.share.grant
        holders = self.ledger.holders(self._name_of)
        reason = {
            Bound.CLOSED: "the pool has been closed; check out before kit.close()",
            Bound.PROCESS: f"this process's own cap of per_process={config.per_process} is reached; "
            "return clients sooner or raise it",
            Bound.FLEET: f"the fleet's budget of {grant.budget} is the limit: this process has {self.ledger.share.size}, "
            f"{grant.processes - 1} others have {grant.taken}; see pools.fleet({config.name!r})",
            Bound.STORE: f"the store could not be asked for a share of the fleet's budget ({grant.error}); "
            f"this process keeps the {self.ledger.share.size} it had",
        }[bound]
        waited = self.ledger.clock() - waiter.since
        held = "; ".join(map(str, holders)) or "nobody in this process"
        message = f"pool {config.name!r}: no client within {waited:.2f} s: {reason}. Held by {held}"
        return PoolExhausted(message, pool=config.name, bound=bound, holders=holders)
