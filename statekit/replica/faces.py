"""The replica's two faces: a local copy that follows the store."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

from statekit.errors import StoreError
from statekit.replica import core, protocol
from statekit.replica.core import Change, Convergence, Entry, Reader, Worker, Written
from statekit.replica.file import LastKnownGood
from statekit.replica.protocol import EMPTY, Message, Step
from statekit.store.durations import Duration, seconds
from statekit.store.fork import on_fork
from statekit.store.hooks import Degraded
from statekit.store.op import Op
from statekit.store.pulse import Beat
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncReplica", "ChangeListener", "Replica"]

S = TypeVar("S", Store, AsyncStore)
ChangeListener: TypeAlias = Callable[[Change], None]

ROUNDS = 5
"""Questions in a row at most: catch up, acknowledge, and again if something was written meanwhile."""
log = logging.getLogger("statekit")


def _ebb() -> Iterator[float]:
    """Pauses between two looks at who has confirmed: short first, never above 20 ms."""
    pause = 0.0005
    while True:
        yield pause
        pause = min(0.02, pause * 1.5)


class _Copy(Generic[S]):
    """What both faces share: the snapshot, who is told of changes, and the operations. No I/O of its own."""

    def __init__(
        self, store: S, name: str, directory: Path | None = None, reconcile: Duration = core.RECONCILE
    ) -> None:
        self._store: S = store
        self._at = core.Address.of(store.keys, name)
        self._reconcile = seconds(reconcile, "reconcile")
        self._lifetime_ms = math.ceil(core.MISSED * self._reconcile * 1000)
        where = (store.transport.describe(), store.keys.namespace, name)
        self._file = LastKnownGood(directory, *where) if directory else None
        self._changing = threading.RLock()
        self._listeners: tuple[ChangeListener, ...] = ()
        self._confirmed: float | None = None
        self._lost = False
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
        with self._changing:
            self._take(protocol.heard(self.snapshot, None if message is None else Message.parse(message)))

    def took(self, written: Written) -> bool:
        """Show a write of this process at once; True if the store must be asked for more."""
        with self._changing:
            return self._take(protocol.heard(self.snapshot, written.message())).fetch

    def recall(self) -> None:
        """Show the last-known-good file, if nothing better is shown."""
        known = self._file.read() if self._file else EMPTY
        with self._changing:
            if known.knows() and not self.snapshot.knows():
                self._take(Step(known, frozenset(known.documents)))

    def remember(self) -> None:
        """Write the last-known-good file, if what is shown is newer."""
        if self._file:
            self._file.keep(self.snapshot)

    def _answered(self, asked: str, reply: Sequence[Any]) -> bool:
        """Take an answer; True if it is worth asking again: to get more, or to acknowledge."""
        with self._changing:
            before = self.snapshot
            step = self._take(protocol.synced(before, asked, reply))
            self._confirmed = monotonic()
            self._lost = step.empty and step.snapshot.knows()
            return step.fetch or step.snapshot is not before

    def _take(self, step: Step) -> Step:
        self.snapshot = step.snapshot
        if step.changed:
            for listener in self._listeners:
                try:
                    listener(Change(step.changed, step.snapshot))
                except Exception:
                    log.exception("statekit: a listener failed on a change of %s", sorted(step.changed))
        return step

    def after_fork(self) -> None:
        self._changing = threading.RLock()

    # -- operations --------------------------------------------------------------------------------------

    def syncing(self) -> Op[None]:
        """Catch up with the store and acknowledge; when the store is down, keep what is shown."""
        reader = Reader(self._store.worker, self._lifetime_ms)
        try:
            for _ in range(ROUNDS):
                shown = self.snapshot
                reply = yield from core.sync(self._at, reader, shown, _fresh(), self._store.now())
                if not self._answered(shown.epoch, reply):
                    return
        except StoreError as error:
            self._store.hooks.emit(Degraded("replica", self._at.name, error))

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
        draw = (_fresh(), self._lifetime_ms, self._store.now())
        return core.write(self._at, name, text, (by, reason), if_version, self.snapshot, draw)

    def undoing(self, version: int, *, by: str = "", reason: str = "") -> Op[Written]:
        """Write what was there before `version`; hand the result to `took`."""
        draw = (_fresh(), self._lifetime_ms, self._store.now())
        why = reason or f"undo {version}"
        return core.undo(self._at, version, (by, why), self.snapshot, draw)

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
        try:
            yield from core.leave(self._at, self._store.worker, self.snapshot)
        except StoreError as error:
            log.debug("statekit: the store could not be told that this reader leaves: %s", error)


def _fresh() -> str:
    return os.urandom(8).hex()


class Replica(_Copy[Store]):
    """A local copy of named documents that follows the store, for blocking code.

    Reading `snapshot` costs an attribute; it is replaced, never changed. `load` starts the following: messages
    on the store's push, and a question every `reconcile` seconds on its pulse. When the store is down the copy
    stays as it is and turns `stale`; writes raise `StoreUnavailable`.
    """

    loaded = False
    _beat: Beat | None = None

    def load(self) -> None:
        """Get the documents and follow them from now on; repeated calls are free.

        Shows the last-known-good file first, then what the store says. Never raises for a store that is down:
        the copy is `stale` then, and catches up by itself.
        """
        if self.loaded:
            return
        with self._changing:
            if not self.loaded:
                self.recall()
                self._store.run(self.syncing())
                self._store.push.subscribe(self._at.channel, self)
                self._beat = self._store.pulse.every(self._reconcile, self._tick)
                self.loaded = True

    def settled(self) -> None:
        """Catch up and acknowledge what was heard."""
        self._store.run(self.syncing())

    def _tick(self) -> None:
        self._store.run(self.syncing())
        self.remember()

    def write(
        self,
        name: str,
        text: str | None,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Write a document (None deletes it), and wait up to `wait` seconds until all live readers show it.

        Raises `VersionConflict` if `if_version` is given and is not the document's version, `StoreError` if
        the store did not take the write.
        """
        self.load()
        return self._spread(self.writing(name, text, by=by, reason=reason, if_version=if_version), wait)

    def undo(
        self, version: int, *, by: str = "", reason: str = "", wait: Duration | None = None
    ) -> Convergence:
        """Write what was there before `version` as a new version.

        Raises `VersionConflict` if that document was written again since, `UsageError` if the history no
        longer has the version.
        """
        self.load()
        return self._spread(self.undoing(version, by=by, reason=reason), wait)

    def _spread(self, op: Op[Written], wait: Duration | None) -> Convergence:
        """Write, show it here, and see how far it gets."""
        limit = None if wait is None else seconds(wait, "wait", zero=True)
        start = monotonic()
        written = self._store.run(op)
        if self.took(written) or limit is not None:
            self._store.run(self.syncing())
        if limit is None:
            return Convergence.unasked(written, monotonic() - start)
        for pause in _ebb():
            alive = self._store.run(self._confirming())
            seen = Convergence.seen(written, alive, monotonic() - start)
            if seen.complete or seen.seconds >= limit:
                break
            time.sleep(min(pause, limit - seen.seconds))
        return seen

    def history(self, name: str | None = None, limit: int = 100) -> tuple[Entry, ...]:
        """The latest writes, newest first, of one document or of all; the store keeps 1,000."""
        return self._store.run(core.history(self._at, name, limit))

    def workers(self) -> tuple[Worker, ...]:
        """The live readers, and the version each has confirmed."""
        return self._store.run(self.listing())

    def restore(self) -> bool:
        """Put what this copy shows back into a store that lost it; False if the store has a data set."""
        self.load()
        done = self._store.run(core.restore(self._at, self.snapshot, _fresh()))
        self._store.run(self.syncing())
        return done

    def close(self) -> None:
        """Stop following, and leave the fleet. Closing twice is fine."""
        if self.loaded:
            self.loaded = False
            if self._beat:
                self._beat.cancel()
            self._store.push.unsubscribe(self._at.channel, self)
            self._store.run(self.leaving(), self._store.budget.decision)
            self.remember()


class AsyncReplica(_Copy[AsyncStore]):
    """Same as `Replica`, for asyncio."""

    _beat: Beat | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _start: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> bool:
        """Whether the documents were asked for and are being followed."""
        return self._start is not None and self._start.done()

    async def load(self) -> None:
        """Same as `Replica.load`, for asyncio; on another event loop it starts over."""
        loop = asyncio.get_running_loop()
        if self._start is None or self._loop is not loop:
            self._loop, self._start = loop, loop.create_task(self._begin(), name="statekit-replica-load")
        if not self._start.done():
            await asyncio.shield(self._start)

    async def _begin(self) -> None:
        self.recall()
        await self._store.run(self.syncing())
        await self._store.push.subscribe(self._at.channel, self)
        self._beat = self._store.pulse.every(self._reconcile, self._tick)

    async def settled(self) -> None:
        """Same as `Replica.settled`, for asyncio."""
        await self._store.run(self.syncing())

    async def _tick(self) -> None:
        await self._store.run(self.syncing())
        await asyncio.to_thread(self.remember)

    async def write(
        self,
        name: str,
        text: str | None,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Replica.write`, for asyncio."""
        await self.load()
        op = self.writing(name, text, by=by, reason=reason, if_version=if_version)
        return await self._spread(op, wait)

    async def undo(
        self, version: int, *, by: str = "", reason: str = "", wait: Duration | None = None
    ) -> Convergence:
        """Same as `Replica.undo`, for asyncio."""
        await self.load()
        return await self._spread(self.undoing(version, by=by, reason=reason), wait)

    async def _spread(self, op: Op[Written], wait: Duration | None) -> Convergence:
        limit = None if wait is None else seconds(wait, "wait", zero=True)
        start = monotonic()
        written = await self._store.run(op)
        if self.took(written) or limit is not None:
            await self._store.run(self.syncing())
        if limit is None:
            return Convergence.unasked(written, monotonic() - start)
        for pause in _ebb():
            alive = await self._store.run(self._confirming())
            seen = Convergence.seen(written, alive, monotonic() - start)
            if seen.complete or seen.seconds >= limit:
                break
            await asyncio.sleep(min(pause, limit - seen.seconds))
        return seen

    async def history(self, name: str | None = None, limit: int = 100) -> tuple[Entry, ...]:
        """Same as `Replica.history`, for asyncio."""
        return await self._store.run(core.history(self._at, name, limit))

    async def workers(self) -> tuple[Worker, ...]:
        """Same as `Replica.workers`, for asyncio."""
        return await self._store.run(self.listing())

    async def restore(self) -> bool:
        """Same as `Replica.restore`, for asyncio."""
        await self.load()
        done = await self._store.run(core.restore(self._at, self.snapshot, _fresh()))
        await self._store.run(self.syncing())
        return done

    async def close(self) -> None:
        """Same as `Replica.close`, for asyncio."""
        if self._start is not None and self._loop is asyncio.get_running_loop():
            self._start = None
            if self._beat:
                self._beat.cancel()
            self._store.push.unsubscribe(self._at.channel, self)
            await self._store.run(self.leaving(), self._store.budget.decision)
            await asyncio.to_thread(self.remember)
