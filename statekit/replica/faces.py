"""The replica's two faces: a local copy that follows the store."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from statekit.replica import core
from statekit.replica.core import Convergence, Entry, Worker, Written
from statekit.replica.local import LocalCopy, fresh
from statekit.store.durations import Duration, seconds
from statekit.store.op import Op
from statekit.store.pulse import Beat
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncReplica", "Replica"]


def _ebb() -> Iterator[float]:
    """Pauses between two looks at who has confirmed: short first, never above 20 ms."""
    pause = 0.0005
    while True:
        yield pause
        pause = min(0.02, pause * 1.5)


_following: weakref.WeakSet[Replica] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    """Say goodbye where nobody closed the kit, so that no write waits for a process that has ended."""
    for replica in list(_following):
        with contextlib.suppress(Exception):  # the interpreter is going down: whatever fails, fails
            replica.close()


class Replica(LocalCopy[Store]):
    """A local copy of named documents that follows the store, for blocking code.

    Reading `snapshot` costs an attribute; it is replaced, never changed. `load` starts the following: messages
    on the store's push, and a question every `reconcile` seconds on its pulse. When the store is down the copy
    stays as it is and turns `stale`; writes raise `StoreUnavailable`.
    """

    loaded = False
    _beat: Beat | None = None

    def __init__(
        self, store: Store, name: str, directory: Path | None = None, reconcile: Duration | None = None
    ) -> None:
        super().__init__(store, name, directory, reconcile)
        self._asking = threading.RLock()

    def load(self) -> None:
        """Get the documents and follow them from now on; repeated calls are free.

        Shows the last-known-good file first, then what the store says, which may take a round trip or, if the
        store hangs, one operation budget. Never raises for a store that is down: the copy is `stale` then, and
        catches up by itself.
        """
        if self.loaded:
            return
        with self._asking:
            if not self.loaded:
                self._left = False
                self.recall()
                self._sync()
                if self._beat is None:  # a forked child has them from its parent
                    self._store.push.subscribe(self._at.channel, self)
                    self._beat = self._store.pulse.every(self._reconcile, self._tick)
                self.loaded = True
                _following.add(self)

    def settled(self) -> None:
        """Catch up and acknowledge what was heard."""
        self._sync()

    def _sync(self) -> None:
        """One thread at a time, so that no sign of life overtakes the goodbye."""
        with self._asking:
            self._store.run(self.syncing())

    def after_fork(self) -> None:
        """Ask before the first use here: what the parent heard until now may be behind, and is not signed for."""
        super().after_fork()
        self._asking = threading.RLock()
        self.loaded = False

    def _tick(self) -> None:
        self._sync()
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

        Raises `VersionConflict` if `if_version` is given and is not the document's version, `Absent` if there is
        none to delete, `StoreError` if the store did not take the write.
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
            self._sync()
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
        done = self._store.run(core.restore(self._at, self.snapshot, fresh()))
        self._sync()
        return done

    def close(self) -> None:
        """Stop following, and leave the fleet. Closing twice is fine."""
        beat, self._beat, self.loaded = self._beat, None, False
        if beat is not None:
            _following.discard(self)
            beat.cancel()
            self._store.push.unsubscribe(self._at.channel, self)
            with self._asking:
                self._store.run(self.leaving(), self._store.budget.decision)
            self.remember()


class AsyncReplica(LocalCopy[AsyncStore]):
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
        self._left = False
        self.recall()
        await self._store.run(self.syncing())
        await self._store.push.subscribe(self._at.channel, self)
        self._beat = self._store.pulse.every(self._reconcile, self._tick)

    async def settled(self) -> None:
        """Same as `Replica.settled`, for asyncio."""
        await self._store.run(self.syncing())

    async def _tick(self) -> None:
        await self._store.run(self.syncing())
        await self._remember()

    async def _remember(self) -> None:
        if self._file and self._file.lacks(self.snapshot):  # no thread is made for nothing
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
        done = await self._store.run(core.restore(self._at, self.snapshot, fresh()))
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
            await self._remember()
