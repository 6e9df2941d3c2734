"""What both faces of a tenant registry share: everything that needs no I/O."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Generic, TypeVar

from statekit.errors import StoreUnavailable, UsageError
from statekit.replica.core import Change
from statekit.replica.faces import AsyncReplica, Replica
from statekit.store.hooks import Hooks
from statekit.tenants.changes import Changes
from statekit.tenants.core import (
    Explanation,
    Layer,
    Question,
    TenantsChanged,
    changed_among,
    question,
    tenant_document,
    unknown,
)
from statekit.tenants.layers import Layers, followed
from statekit.tenants.local import Local
from statekit.tenants.scope import Current, outside
from statekit.tenants.settings import TenantSettings

__all__ = ["Registry"]

S = TypeVar("S", bound=TenantSettings)
R = TypeVar("R", Replica, AsyncReplica)


class Registry(Generic[S, R]):
    """What both faces share: everything that needs no I/O."""

    def __init__(
        self,
        replica: R,
        hooks: Hooks,
        layers: Layers[S],
        *,
        group_by: str | None = None,
        strict: bool = False,
        draft_copies: bool = True,
    ) -> None:
        if group_by is not None and group_by not in layers.model.model_fields:
            raise UsageError(f"group_by={group_by!r}: {layers.model.__name__} has no such field")
        if not isinstance(strict, bool):
            raise UsageError(f"strict={strict!r}: give True or False")
        self._replica: R = replica
        self._local = Local(layers, hooks, group_by, draft_copies=draft_copies)
        self._changes = Changes(self._local)
        self._strict = strict
        self._current: Current[S] = ContextVar("statekit_tenant", default=None)

    @property
    def model(self) -> type[S]:
        """The settings class."""
        return self._local.layers.model

    @property
    def stale(self) -> bool:
        """Whether this process may be behind the store: it was not reached lately, or has lost its data."""
        return self._replica.stale

    @property
    def version(self) -> int:
        """The version of all documents together, as this process sees them; grows by one a write."""
        return self._replica.version

    def current(self) -> S:
        """The settings of the tenant this request is for, as they were when its scope was entered. Local.

        Raises `OutsideScope` outside ``with tenants.scope(id):``, rather than guessing a tenant.
        """
        here = self._current.get()
        if here is None:
            raise outside()
        return here[1]

    def current_tenant(self) -> str:
        """The id of the tenant this request is for; raises `OutsideScope`. Local."""
        here = self._current.get()
        if here is None:
            raise outside()
        return here[0]

    def on_change(self, listener: Callable[[TenantsChanged], object]) -> Callable[[], None]:
        """Call `listener` whenever documents changed here, wherever they were written; returns what ends it.

        In the thread or task that heard of it, once the local copy is loaded; it must be quick.
        """

        def heard(change: Change) -> None:
            listener(changed_among(change.names, change.snapshot.version))

        return self._replica.on_change(heard)

    def _read(self, tenant: str) -> S:
        snapshot = self._replica.snapshot
        if self._strict and tenant_document(tenant) not in snapshot.documents:
            if not snapshot.knows() and self._replica.stale:
                raise StoreUnavailable(
                    f"whether tenant {tenant!r:.80} exists cannot be told: nothing is loaded yet"
                )
            raise unknown(tenant, snapshot.documents)
        return self._local.settings(tenant, snapshot)

    def _draft(self, tenant: str) -> S:
        settings = self._read(tenant)
        here = self._current.get()
        if here is not None and here[0] == tenant:
            settings = here[1]  # a request works with one version, in its own copy too
        return self._local.draft(tenant, settings, self._replica.snapshot)

    def _question(self, tenant: str, path: str) -> Question:
        snapshot = self._replica.snapshot
        value, inside = followed(self._read(tenant), path)
        doubt = self._replica.stale or self._local.rejected(tenant, snapshot)
        known = Explanation(path, value, Layer.CODE, 0, stale=doubt)
        return question(known, inside, self._local.stack(tenant_document(tenant), snapshot.documents).layers)
