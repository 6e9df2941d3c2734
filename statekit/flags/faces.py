"""Feature flags: the two faces."""

from __future__ import annotations

from statekit.flags.core import Flag
from statekit.flags.explain import FlagRevision
from statekit.flags.local import LocalFlags, checked, revision
from statekit.replica import AsyncReplica, Convergence, Replica, Worker
from statekit.store.durations import Duration

__all__ = ["AsyncFlags", "Flags"]


class Flags(LocalFlags[Replica]):
    """Feature flags: set by anybody, answered from a local copy that every process keeps current.

    `enabled`, `value` and `explain` cost no I/O. The copy is loaded by ``with kit:`` or by the first use, then
    kept by push within a round trip of each write, and reconciled every few seconds in case a message was
    lost. While the store is down the last known flags stay in force, from a file if the process starts then,
    and `stale` is true. Writes raise `StoreUnavailable` while it is down.
    """

    def _ready(self) -> None:
        self._replica.load()
        self._answer_at_once()

    def load(self) -> None:
        """Load the flags and follow them from now on; free if that has happened. Never raises for the store."""
        self._replica.load()

    def set(
        self,
        name: str,
        flag: Flag,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Set a flag for the whole fleet, and wait up to `wait` seconds until every live process has it.

        `by` and `reason` go into the history. `if_version` is the version the flag was last written in (0: it
        must not exist yet). Without `wait` nobody is waited for. Raises `UsageError` for a flag that makes no
        sense, `VersionConflict` if somebody wrote it meanwhile, `StoreError` if the store did not take it.
        """
        self._ready()
        text = checked(self._shelf.flag, name, flag)
        return self._replica.write(name, text, by=by, reason=reason, if_version=if_version, wait=wait)

    def delete(
        self,
        name: str,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Remove a flag; callers get their defaults from then on. The history keeps it, `undo` brings it back.

        Raises `UnknownFlag` if there is no such flag, `VersionConflict`, `StoreError`.
        """
        with self._existing(name):
            return self._replica.write(name, None, by=by, reason=reason, if_version=if_version, wait=wait)

    def undo(
        self, version: int, *, by: str = "", reason: str = "", wait: Duration | None = None
    ) -> Convergence:
        """Put the flag that was written in `version` back to what it was before, as a new version.

        Raises `VersionConflict` if that flag was written again since: undo that first, or `set` it.
        """
        return self._replica.undo(version, by=by, reason=reason, wait=wait)

    def history(self, name: str | None = None, limit: int = 100) -> tuple[FlagRevision, ...]:
        """Who wrote what, when and why, newest first; of one flag or of all. The store keeps 1,000 writes."""
        return tuple(revision(entry) for entry in self._replica.history(name, limit))

    def workers(self) -> tuple[Worker, ...]:
        """The processes that follow the flags, and the version each has confirmed."""
        return self._replica.workers()

    def restore(self) -> bool:
        """Put the flags this process shows back into a store that lost them; False if the store has flags."""
        return self._replica.restore()


class AsyncFlags(LocalFlags[AsyncReplica]):
    """Same as `Flags`, for asyncio.

    `enabled`, `value` and `explain` are not awaited: before ``async with kit:`` or the first awaited call they
    answer from the last-known-good file, or the defaults, and `stale` is true.
    """

    _recalled = False

    def _ready(self) -> None:
        if not self._recalled:
            self._recalled = True
            self._replica.recall()
        self._answer_at_once()

    async def load(self) -> None:
        """Same as `Flags.load`, for asyncio."""
        await self._replica.load()

    async def set(
        self,
        name: str,
        flag: Flag,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Flags.set`, for asyncio."""
        await self._replica.load()
        text = checked(self._shelf.flag, name, flag)
        return await self._replica.write(name, text, by=by, reason=reason, if_version=if_version, wait=wait)

    async def delete(
        self,
        name: str,
        *,
        by: str = "",
        reason: str = "",
        if_version: int | None = None,
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Flags.delete`, for asyncio."""
        with self._existing(name):
            return await self._replica.write(
                name, None, by=by, reason=reason, if_version=if_version, wait=wait
            )

    async def undo(
        self, version: int, *, by: str = "", reason: str = "", wait: Duration | None = None
    ) -> Convergence:
        """Same as `Flags.undo`, for asyncio."""
        return await self._replica.undo(version, by=by, reason=reason, wait=wait)

    async def history(self, name: str | None = None, limit: int = 100) -> tuple[FlagRevision, ...]:
        """Same as `Flags.history`, for asyncio."""
        await self._replica.load()
        return tuple(revision(entry) for entry in await self._replica.history(name, limit))

    async def workers(self) -> tuple[Worker, ...]:
        """Same as `Flags.workers`, for asyncio."""
        await self._replica.load()
        return await self._replica.workers()

    async def restore(self) -> bool:
        """Same as `Flags.restore`, for asyncio."""
        return await self._replica.restore()
