"""The local side: settings objects made from the replica's documents, kept until a document changes.

Rule 1: reading takes no lock. Caches are replaced or written whole; two threads that miss at once build the same
        value twice, and either may stay.
Rule 2: a tenant's settings are built again only if one of its own layers changed, whatever else did.
Rule 3: what cannot be read never takes down what could: documents that do not validate leave the settings in
        force that were last good, and say so (`SettingsRejected`, ``explain(...).stale``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from statekit.replica.protocol import Document, Snapshot
from statekit.store.hooks import Hooks
from statekit.tenants.core import Layer, SettingsRejected, defaults_document, tenant_document
from statekit.tenants.frozen import frozen, thawed
from statekit.tenants.layers import Layers, Overrides, parsed, read
from statekit.tenants.settings import TenantSettings

__all__ = ["Local", "Stack"]

S = TypeVar("S", bound=TenantSettings)
NOBODY: Any = object()
"""Where the settings of all tenants without a document are kept; no id is equal to it."""
GENERATION = 4096
"""Tenants in the younger half of the cache; twice as many are kept at most."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The documents that make one tenant's settings, lowest first."""

    layers: tuple[tuple[Layer, str, Document], ...]

    def overrides(self) -> list[Overrides]:
        """Parse them all; raises `ValueError` for one that is not a JSON object."""
        return [parsed(document.text) for _, _, document in self.layers]

    def readable(self) -> list[Overrides]:
        """Parse those that can be parsed."""
        return [read(document) for _, _, document in self.layers]


@dataclass(slots=True)
class _Entry(Generic[S]):
    """One tenant's settings as built from a stack; `seen` is the last snapshot it was found current in."""

    seen: Snapshot
    stack: Stack
    settings: S
    rejected: bool = False


class Local(Generic[S]):
    """Settings by tenant, from snapshots handed in by the face."""

    def __init__(self, layers: Layers[S], hooks: Hooks, group_by: str | None, *, draft_copies: bool) -> None:
        self.layers = layers
        self.hooks = hooks
        self.group_by = group_by
        self._young: dict[Any, _Entry[S]] = {}
        self._old: dict[Any, _Entry[S]] = {}
        self._live: dict[str, tuple[Stack, S]] | None = None if draft_copies else {}

    def settings(self, tenant: str, snapshot: Snapshot) -> S:
        """The tenant's frozen settings in this snapshot; a dict lookup if nothing has changed since the last time."""
        entry = self._young.get(tenant)
        if entry is None or entry.seen is not snapshot:
            entry = self._entry(tenant, snapshot)
        if self._live:
            return self._leaked(tenant, entry)
        return entry.settings

    def rejected(self, tenant: str, snapshot: Snapshot) -> bool:
        """Whether what is stored for a tenant did not validate, so that older or lower settings are in force."""
        return self._entry(tenant, snapshot).rejected

    def draft(self, tenant: str, settings: S, snapshot: Snapshot) -> S:
        """Settings that may be changed: a copy for the caller alone (but see ``draft_copies``)."""
        if self._live is None:
            return thawed(settings)  # type: ignore[no-any-return]
        stack = self._entry(tenant, snapshot).stack
        known, live = self._live.get(tenant, (None, None))
        if live is None or known != stack:
            live = thawed(settings)
            self._live[tenant] = stack, live
        return live

    def stack(self, own: str, documents: Mapping[str, Document]) -> Stack:
        """The documents that apply to the tenant whose own document is named `own`, lowest first."""
        names = [(Layer.GLOBAL, defaults_document()), (Layer.TENANT, own)]
        if self.group_by is not None:
            names.insert(1, (Layer.GROUP, defaults_document(self._group(documents, own))))
        return Stack(tuple((layer, name, documents[name]) for layer, name in names if name in documents))

    def _group(self, documents: Mapping[str, Document], own: str) -> str:
        """The group a tenant belongs to: what it, or the global document, or the code says the field is."""
        assert self.group_by is not None
        for name in (own, defaults_document()):
            overrides = read(documents.get(name))
            if self.group_by in overrides:
                return str(overrides[self.group_by])
        return str(getattr(self.layers.code, self.group_by))

    def _entry(self, tenant: str, snapshot: Snapshot) -> _Entry[S]:
        own = tenant_document(tenant)
        # Tenants nobody has configured share one entry: ids out of an attacker's head fill no cache.
        key = tenant if own in snapshot.documents else NOBODY
        entry = self._young.get(key) or self._old.get(key)
        if entry is None or entry.seen is not snapshot:
            stack = self.stack(own, snapshot.documents)
            if entry is None or entry.stack != stack:
                entry = self._built(tenant, snapshot, stack, entry)
            entry.seen = snapshot
        self._keep(key, entry)
        return entry

    def _keep(self, key: Any, entry: _Entry[S]) -> None:
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = entry

    def _built(self, tenant: str, snapshot: Snapshot, stack: Stack, last: _Entry[S] | None) -> _Entry[S]:
        try:
            return _Entry(snapshot, stack, self.layers.settings(stack.overrides()))
        except (ValidationError, ValueError) as error:
            version = max(document.version for _, _, document in stack.layers)
            self.hooks.emit(SettingsRejected(tenant, version, error))
            good = last.settings if last is not None else self.layers.salvaged(stack.readable())
            return _Entry(snapshot, stack, good, rejected=True)

    def _leaked(self, tenant: str, entry: _Entry[S]) -> S:
        """The process's own live object, as other requests have left it: what the demo's "before" is about."""
        assert self._live is not None
        stack, live = self._live.get(tenant, (None, None))
        return entry.settings if live is None or stack != entry.stack else frozen(live)
