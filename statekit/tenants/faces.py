"""The two faces of a tenant registry: `Tenants` for blocking code, `AsyncTenants` for asyncio."""

from __future__ import annotations

from typing import TypeVar

from statekit.errors import StoreError, VersionConflict
from statekit.replica.core import Absent, Convergence, Entry
from statekit.replica.faces import AsyncReplica, Replica
from statekit.store.durations import Duration
from statekit.tenants.changes import Rewrite
from statekit.tenants.core import (
    Explanation,
    TenantChange,
    change_of,
    defaults_document,
    tenant_document,
    tenants_among,
    undoable,
)
from statekit.tenants.layers import Overrides
from statekit.tenants.registry import Registry
from statekit.tenants.scope import AsyncScope, Scope
from statekit.tenants.settings import TenantSettings

__all__ = ["AsyncTenants", "Tenants"]

S = TypeVar("S", bound=TenantSettings)
EVERY = 1000
"""All entries a history holds."""


class Tenants(Registry[S, Replica]):
    """Settings by tenant: layered, frozen, the same in every process. For blocking code; thread-safe.

    Reading is local: a dict lookup. The first read loads the documents and begins to follow them; every later
    change arrives by push. While the store is down reads go on with what is there (`stale` turns true) and
    writes raise `StoreUnavailable`.
    """

    def load(self) -> None:
        """Load the documents and follow them from now on. Free when done; never raises for a store that is down."""
        self._replica.load()

    def get(self, tenant: str) -> S:
        """The tenant's settings: frozen, whole, of one version; the newest this process has.

        A tenant without a document has the defaults, unless the registry is ``strict``: then `UnknownTenant`.
        Changing the result raises `SettingsFrozen`. Raises `UsageError` for an id that is empty or not text.
        """
        if not self._replica.loaded:
            self._replica.load()
        return self._read(tenant)

    def scope(self, tenant: str) -> Scope[S]:
        """Make a tenant current for a request: ``with tenants.scope("acme") as settings:``.

        Inside, `current` returns the version there was on entry, even if an update lands meanwhile; it holds in
        tasks and in threads started with this context, and nowhere else. Scopes nest.
        """
        return Scope(tenant, self._current, self.get)

    def draft(self, tenant: str) -> S:
        """A copy of the settings that this request may change as it likes; nobody else sees it, nothing stores it.

        In the tenant's scope it is a copy of what `current` returns, else of what `get` returns.
        """
        if not self._replica.loaded:
            self._replica.load()
        return self._draft(tenant)

    def known(self) -> tuple[str, ...]:
        """The ids of the tenants that have a document, sorted. Local."""
        self._replica.load()
        return tenants_among(self._replica.snapshot.documents)

    def version_of(self, tenant: str) -> int:
        """The version of a tenant's own document, for ``if_version=``; 0 if it has none. Local."""
        self._replica.load()
        return self._replica.snapshot.version_of(tenant_document(tenant))

    def update(
        self,
        tenant: str,
        patch: Overrides,
        *,
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Merge `patch` into the tenant's overrides (RFC 7396: None takes an override away); returns the version.

        The outcome is validated before anything is written. With `if_version` it is written only if the
        tenant's document still has that version (0: there is none); without, the patch is applied to whatever
        is there by then, never over it. `wait`: how many seconds to wait until every live process shows it.

        Raises `DocumentInvalid` naming fields and values, `VersionConflict` naming both versions, `StoreError`.
        Nothing was written if it raises, except `StoreUnavailable`: then that is unknown.

        >>> from statekit import StateKit, TenantSettings
        >>> class Settings(TenantSettings):
        ...     plan: str = "free"
        >>> tenants = StateKit.in_memory().tenants(Settings)
        >>> done = tenants.update("acme", {"plan": "pro"}, by="ann", reason="upgrade")
        >>> tenants.get("acme").plan, tenants.get("other").plan, done.version
        ('pro', 'free', 1)
        """
        return self._write(self._changes.patch(tenant, patch, if_version, by, reason), wait)

    def update_defaults(
        self,
        patch: Overrides,
        *,
        group: str = "",
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `update`, for the layer under all tenants, or under those of a `group` (see ``group_by``).

        Refused with `DocumentInvalid` if any tenant would not validate any more.
        """
        return self._write(self._changes.patch_defaults(patch, group, if_version, by, reason), wait)

    def delete(
        self,
        tenant: str,
        *,
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Take all of a tenant's overrides away, its document included. `undo` brings it back.

        Raises `UnknownTenant` if it has no document, `VersionConflict`, `StoreError`.
        """
        return self._write(self._changes.delete(tenant, if_version, by, reason), wait)

    def explain(self, tenant: str, path: str) -> Explanation:
        """Say why a setting, such as ``"limits.rps"``, has the value it has: layer, version, who, when, why.

        Asks the store for the history; when it is down, who and when stay None. Raises `UsageError` for a path
        there is not, naming the nearest.
        """
        self._replica.load()
        asked = self._question(tenant, path)
        return asked.answered(self._recalled(asked.document))

    def _recalled(self, document: str) -> tuple[Entry, ...]:
        try:
            return self._replica.history(document, EVERY) if document else ()
        except StoreError:
            return ()

    def history(self, tenant: str, limit: int = 100) -> tuple[TenantChange, ...]:
        """The writes to a tenant's overrides, newest first, as far back as the store remembers."""
        return tuple(map(change_of, self._replica.history(tenant_document(tenant), limit)))

    def defaults_history(self, group: str = "", limit: int = 100) -> tuple[TenantChange, ...]:
        """The writes to the layer under all tenants, or under those of a group, newest first."""
        return tuple(map(change_of, self._replica.history(defaults_document(group), limit)))

    def undo(
        self,
        tenant: str,
        version: int | None = None,
        *,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Take back what one write changed (the latest, if no `version` is given), as a new write.

        What other writes changed since is kept; if one changed the same setting again: `VersionConflict`.
        Raises `UsageError` if the history has no such write to this tenant.
        """
        return self._undo(tenant_document(tenant), version, by, reason, wait)

    def undo_defaults(
        self,
        version: int | None = None,
        *,
        group: str = "",
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `undo`, for the layer under all tenants, or under those of a group."""
        return self._undo(defaults_document(group), version, by, reason, wait)

    def _undo(
        self, document: str, version: int | None, by: str, reason: str, wait: Duration | None
    ) -> Convergence:
        change = undoable(document, version, self._replica.history(document, EVERY))
        return self._write(self._changes.undo(document, change, by, reason), wait)

    def _write(self, rewrite: Rewrite, wait: Duration | None) -> Convergence:
        self._replica.load()
        while True:
            try:
                return self._replica.write(**rewrite.terms(self._replica.snapshot), wait=wait)
            except Absent as absent:
                raise rewrite.missing(absent, self._replica.snapshot) from None
            except VersionConflict as conflict:
                rewrite.overtaken(conflict)
                self._replica.settled()


class AsyncTenants(Registry[S, AsyncReplica]):
    """Same as `Tenants`, for asyncio. `scope`, `current` and the properties are local and not awaited.

    A scope entered with ``with`` never waits: before the first load it has the last-known-good settings or the
    defaults, and `stale` is true. ``async with`` loads first.
    """

    async def load(self) -> None:
        """Same as `Tenants.load`, for asyncio."""
        await self._replica.load()

    async def get(self, tenant: str) -> S:
        """Same as `Tenants.get`, for asyncio."""
        if not self._replica.loaded:
            await self._replica.load()
        return self._read(tenant)

    def scope(self, tenant: str) -> AsyncScope[S]:
        """Same as `Tenants.scope`, for asyncio: ``with`` or ``async with``."""
        return AsyncScope(tenant, self._current, self._at_hand, self._replica.load)

    _file_read = False

    def _at_hand(self, tenant: str) -> S:
        if not self._file_read:
            self._file_read = True
            self._replica.recall()
        return self._read(tenant)

    async def draft(self, tenant: str) -> S:
        """Same as `Tenants.draft`, for asyncio."""
        if not self._replica.loaded:
            await self._replica.load()
        return self._draft(tenant)

    async def known(self) -> tuple[str, ...]:
        """Same as `Tenants.known`, for asyncio."""
        await self._replica.load()
        return tenants_among(self._replica.snapshot.documents)

    async def version_of(self, tenant: str) -> int:
        """Same as `Tenants.version_of`, for asyncio."""
        await self._replica.load()
        return self._replica.snapshot.version_of(tenant_document(tenant))

    async def update(
        self,
        tenant: str,
        patch: Overrides,
        *,
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Tenants.update`, for asyncio."""
        return await self._write(self._changes.patch(tenant, patch, if_version, by, reason), wait)

    async def update_defaults(
        self,
        patch: Overrides,
        *,
        group: str = "",
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Tenants.update_defaults`, for asyncio."""
        return await self._write(self._changes.patch_defaults(patch, group, if_version, by, reason), wait)

    async def delete(
        self,
        tenant: str,
        *,
        if_version: int | None = None,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Tenants.delete`, for asyncio."""
        return await self._write(self._changes.delete(tenant, if_version, by, reason), wait)

    async def explain(self, tenant: str, path: str) -> Explanation:
        """Same as `Tenants.explain`, for asyncio."""
        await self._replica.load()
        asked = self._question(tenant, path)
        return asked.answered(await self._recalled(asked.document))

    async def _recalled(self, document: str) -> tuple[Entry, ...]:
        try:
            return await self._replica.history(document, EVERY) if document else ()
        except StoreError:
            return ()

    async def history(self, tenant: str, limit: int = 100) -> tuple[TenantChange, ...]:
        """Same as `Tenants.history`, for asyncio."""
        return tuple(map(change_of, await self._replica.history(tenant_document(tenant), limit)))

    async def defaults_history(self, group: str = "", limit: int = 100) -> tuple[TenantChange, ...]:
        """Same as `Tenants.defaults_history`, for asyncio."""
        return tuple(map(change_of, await self._replica.history(defaults_document(group), limit)))

    async def undo(
        self,
        tenant: str,
        version: int | None = None,
        *,
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Tenants.undo`, for asyncio."""
        return await self._undo(tenant_document(tenant), version, by, reason, wait)

    async def undo_defaults(
        self,
        version: int | None = None,
        *,
        group: str = "",
        by: str = "",
        reason: str = "",
        wait: Duration | None = None,
    ) -> Convergence:
        """Same as `Tenants.undo_defaults`, for asyncio."""
        return await self._undo(defaults_document(group), version, by, reason, wait)

    async def _undo(
        self, document: str, version: int | None, by: str, reason: str, wait: Duration | None
    ) -> Convergence:
        change = undoable(document, version, await self._replica.history(document, EVERY))
        return await self._write(self._changes.undo(document, change, by, reason), wait)

    async def _write(self, rewrite: Rewrite, wait: Duration | None) -> Convergence:
        await self._replica.load()
        while True:
            try:
                return await self._replica.write(**rewrite.terms(self._replica.snapshot), wait=wait)
            except Absent as absent:
                raise rewrite.missing(absent, self._replica.snapshot) from None
            except VersionConflict as conflict:
                rewrite.overtaken(conflict)
                await self._replica.settled()
