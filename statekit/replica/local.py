"""What both faces of the replica share: the snapshot, who is told of changes, the operations. No I/O here."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

from statekit.errors import StoreError
from statekit.replica import core, protocol
from statekit.replica.core import Change, Reader, Worker, Written
from statekit.replica.file import LastKnownGood
from statekit.replica.protocol import EMPTY, Message, Snapshot, Step
from statekit.store.clock import micros
from statekit.store.durations import Duration, seconds
from statekit.store.fork import on_fork
from statekit.store.op import Op
from statekit.store.store import AsyncStore, Store

__all__ = ["ChangeListener", "LocalCopy", "fresh"]

S = TypeVar("S", Store, AsyncStore)
ChangeListener: TypeAlias = Callable[[Change], None]

ROUNDS = 5
"""Questions in a row at most: catch up, acknowledge, and again if something was written meanwhile."""
log = logging.getLogger("statekit")


class LocalCopy(Generic[S]):
    """A copy of the documents of one replica."""

    def __init__(
        self, store: S, name: str, directory: Path | None = None, reconcile: Duration | None = None
    ) -> None:
        self._store: S = store
        self._at = core.Address.of(store.keys, name)
        self._reconcile = seconds(core.RECONCILE if reconcile is None else reconcile, "reconcile")
        self._lifetime_ms = math.ceil(core.MISSED * self._reconcile * 1000)
        where = (store.transport.describe(), store.keys.namespace, name)
        self._file = LastKnownGood(directory, *where) if directory else None
        self._changing = threading.RLock()
        self._derived: tuple[ChangeListener, ...] = ()
        self._listeners: tuple[ChangeListener, ...] = ()
        self._confirmed: float | None = None
        self._lost = False
        self._left = False
        self._whole = False
        self._ahead: int | None = None
        """Microseconds from this process's clock to the store's."""
        self.snapshot = EMPTY
        on_fork(self)

    @property
    def version(self) -> int:
        """The version shown; 0 before anything was ever seen."""
        return self.snapshot.version

    @property
    def epoch(self) -> str:
        """The data set the version counts in."""
        return self.snapshot.epoch

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that this copy is current; infinite if it never has."""
        return math.inf if self._confirmed is None else monotonic() - self._confirmed

    @property
    def stale(self) -> bool:
        """Whether this copy may be behind: not confirmed for three intervals, or the store lost its data."""
        return self._lost or self.age > core.MISSED * self._reconcile

    def store_time(self) -> int:
        """Microseconds since 1970 by the store's clock, as last heard of; by this machine's until then."""
        return time.time_ns() // 1000 if self._ahead is None else micros() + self._ahead

    def derive(self, compute: ChangeListener) -> None:
        """Call ``compute(change)`` with each change, one at a time and in order, before anybody else hears of it.

        For what is computed from the documents; it must not do I/O, other readers and writers wait for it.
        """
        with self._changing:
            self._derived = (*self._derived, compute)

    def on_change(self, listener: ChangeListener) -> Callable[[], None]:
        """Call ``listener(change)`` after each swap of the snapshot; returns a function that ends it."""
        with self._changing:
            self._listeners = (*self._listeners, listener)
        return lambda: self._forget(listener)

    def _forget(self, listener: ChangeListener) -> None:
        with self._changing:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

    # -- inputs ------------------------------------------------------------------------------------------

    def heard(self, message: bytes | None) -> None:
        """Take a pushed message (None: messages may be missing); what it asks for is done when all settled."""
        self._take(lambda shown: protocol.heard(shown, None if message is None else Message.parse(message)))

    def took(self, written: Written) -> bool:
        """Show a write of this process at once; True if the store must be asked for more."""
        return self._take(lambda shown: protocol.heard(shown, written.message())).fetch

    def recall(self) -> None:
        """Show the last-known-good file, if nothing better is shown."""
        known = self._file.read() if self._file and not self.snapshot.knows() else EMPTY
        if known.knows():
            step = Step(known, frozenset(known.documents))
            self._take(lambda shown: Step(shown) if shown.knows() else step)

    def remember(self) -> None:
        """Write the last-known-good file, if what is shown is newer."""
        if self._file:
            self._file.keep(self.snapshot)

    def _answered(self, asked: Snapshot, reply: Sequence[Any]) -> bool:
        """Take an answer; True if it is worth asking again: to get more, or to acknowledge."""
        step = self._take(lambda shown: protocol.synced(shown, asked.epoch, reply))
        self._confirmed = monotonic()
        self._lost = step.lost
        asked_for_all, self._whole = self._whole, step.whole
        return step.fetch or step.snapshot is not asked or asked_for_all

    def _take(self, decide: Callable[[Snapshot], Step]) -> Step:
        """Swap the snapshot and what is derived from it under the lock; tell listeners outside of it."""
        with self._changing:
            step = decide(self.snapshot)
            self.snapshot = step.snapshot
            self._tell(self._derived, step)
        self._tell(self._listeners, step)
        return step

    @staticmethod
    def _tell(listeners: Sequence[ChangeListener], step: Step) -> None:
        for listener in listeners if step.changed else ():
            try:
                listener(Change(step.changed, step.snapshot))
            except Exception:
                log.exception("statekit: a listener failed on a change of %s", sorted(step.changed))

    def after_fork(self) -> None:
        self._changing = threading.RLock()

    # -- operations --------------------------------------------------------------------------------------

    def syncing(self) -> Op[None]:
        """Catch up with the store and acknowledge; when the store is down, keep what is shown."""
        reader = Reader(self._store.worker, self._lifetime_ms)
        try:
            for _ in range(ROUNDS):
                if self._left:
                    return
                shown = self.snapshot
                told = EMPTY if self._whole else shown
                asked = micros()
                reply = yield from core.sync(self._at, reader, told, fresh(), self._store.now())
                self._ahead = int(reply[-1]) - (asked + micros()) // 2
                if not self._answered(shown, reply):
                    return
        except StoreError as error:
            self._store.hooks.report("replica", self._at.name, error)

    def writing(
        self,
        name: str,
        text: str | None,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
    ) -> Op[Written]:
        """Write a document (None deletes it); hand the result to `took`."""
        core.checked(name, text)
        draw = (fresh(), self._lifetime_ms, self._store.now())
        op = core.write(self._at, name, text, (by, reason), if_version, self.snapshot, draw)
        return self._store.confirmed(op)

    def undoing(self, version: int, *, by: str = "", reason: str = "") -> Op[Written]:
        """Write what was there before `version`; hand the result to `took`."""
        draw = (fresh(), self._lifetime_ms, self._store.now())
        why = reason or f"undo {version}"
        return self._store.confirmed(core.undo(self._at, version, (by, why), self.snapshot, draw))

    def listing(self) -> Op[tuple[Worker, ...]]:
        """The readers alive."""
        return core.workers(self._at, self._lifetime_ms, self._store.now())

    def _confirming(self) -> Op[tuple[Worker, ...]]:
        try:
            return (yield from self.listing())
        except StoreError:  # the write has happened; that nobody can be asked does not undo it
            return ()

    def leaving(self) -> Op[None]:
        """Say goodbye, so that no write waits for this reader."""
        self._left = True
        try:
            yield from core.leave(self._at, self._store.worker, self.snapshot)
        except StoreError as error:
            log.debug("statekit: the store could not be told that this reader leaves: %s", error)


def fresh() -> str:
    """An epoch nobody has used."""
    return os.urandom(8).hex()
