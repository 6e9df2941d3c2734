"""Tenant configuration: what each customer's settings are, the same in every process, frozen for every reader.

Keys       those of the replica named ``tenants:<name>`` (see `statekit.replica`), which do not expire. Documents:
           ``tenant:<id>`` holds the overrides of one tenant, ``defaults`` those for all, ``defaults:<group>`` those
           for a group; each a JSON object of what was overridden, never a copy of a default.
Scripts    the replica's; none of its own.
Guarantee  a reader gets one validated version, whole, that no other code can change; inside a scope it keeps that
           version. A write is validated against the layers below it before it is stored, applied only to the
           version it was computed from (compare-and-set), kept in the history, and pushed to every process.
Not        that all processes switch at the same instant (``wait=`` says when all have confirmed), nor that the
           history reaches back for ever (the replica bounds it).
Outage     reads go on from the local copy, or after a restart from the snapshot file, with ``stale`` true; writes
           raise `StoreUnavailable`. Nothing that was stored is ever read as "back to the defaults".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from itertools import islice
from typing import Any, TypeAlias

from statekit.errors import UnknownTenant, UsageError, VersionConflict
from statekit.store.codec import tree
from statekit.tenants.frozen import frozen
from statekit.tenants.layers import ABSENT, found, read

__all__ = [
    "Explanation",
    "Layer",
    "SettingsRejected",
    "TenantChange",
    "TenantsChanged",
    "defaults_document",
    "tenant_document",
]

Overrides: TypeAlias = Mapping[str, Any]
_TENANT, _DEFAULTS = "tenant:", "defaults"
COMPARED = 64
"""Documents an unknown id is compared with; it may come from outside, as often as somebody likes."""


class Layer(StrEnum):
    """Where a setting's value comes from; a later one is laid over the earlier ones."""

    CODE = "code"
    GLOBAL = "global"
    GROUP = "group"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a setting has the value it has."""

    path: str
    value: Any
    layer: Layer
    version: int
    """The write that gave it this value; 0 for the code. An older one than the history keeps reads as the
    version of the document it stands in, with `by`, `at` and `reason` unknown."""
    by: str | None = None
    at: datetime | None = None
    reason: str | None = None
    stale: bool = False
    """True if this process may be behind the store, or if what is stored does not validate and older settings
    are in force."""


@dataclass(frozen=True, slots=True)
class TenantChange:
    """One write: who changed which overrides from what to what."""

    version: int
    at: datetime
    by: str
    reason: str
    before: Overrides | None
    """The overrides before, frozen; None if there was no document."""
    after: Overrides | None


@dataclass(frozen=True, slots=True)
class TenantsChanged:
    """Documents changed: of these tenants, or a layer under everyone."""

    tenants: frozenset[str]
    version: int
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class SettingsRejected:
    """A stored document does not validate in this release; the settings that were good before stay in force."""

    tenant: str
    version: int
    error: Exception


# -- names -----------------------------------------------------------------------------------------------


def registry_replica(name: str) -> str:
    """The replica of the registry of that name; raises `UsageError` for what cannot be a name."""
    if not isinstance(name, str) or not name:
        raise UsageError(f"tenants(name={name!r}): a registry's name is a text that is not empty")
    return f"tenants:{name}"


def tenant_document(tenant: str) -> str:
    """The document of one tenant; raises `UsageError` for what cannot be an id."""
    if not isinstance(tenant, str) or not tenant:
        raise UsageError(f"tenant={tenant!r}: a tenant's id is a text that is not empty")
    return _TENANT + tenant


def defaults_document(group: str = "") -> str:
    """The document laid under all tenants, or under those of one group."""
    return f"{_DEFAULTS}:{group}" if group else _DEFAULTS


def titled(document: str) -> str:
    """A document's name as people say it."""
    if document.startswith(_TENANT):
        return f"tenant {document.removeprefix(_TENANT)!r:.80}"
    return f"the document {document!r:.80}"


def tenants_among(documents: Iterable[str]) -> tuple[str, ...]:
    """The ids of the tenants that have a document, sorted."""
    return tuple(sorted(name.removeprefix(_TENANT) for name in documents if name.startswith(_TENANT)))


def unknown(tenant: str, documents: Iterable[str]) -> UnknownTenant:
    """The error for an id without a document; says which of the first few may have been meant."""
    known = tenants_among(islice(documents, COMPARED))
    near = get_close_matches(tenant, known, 1, 0.7)
    cure = f"did you mean {near[0]!r}?" if near else "store a document for it with tenants.update(id, {...})"
    return UnknownTenant(f"there is no tenant {tenant!r:.80}: {cure}")


# -- what happened ---------------------------------------------------------------------------------------


def change_of(entry: Any) -> TenantChange:
    """Read one entry of the replica's history."""
    before, after = (frozen(_read(text), "history") for text in (entry.before, entry.after))
    return TenantChange(entry.version, entry.at, entry.by, entry.reason, before, after)


def _read(text: str | None) -> Any:
    return None if text is None else tree(text)


def undoable(document: str, version: int | None, history: Sequence[Any]) -> TenantChange:
    """Find the write to take back among newest-first entries; raises `UsageError`."""
    for entry in history:
        if version in (None, entry.version):
            return change_of(entry)
    known = ", ".join(str(entry.version) for entry in history[:8]) or "none at all"
    raise UsageError(
        f"version={version}: {titled(document)} has no such write in its history; it has {known}. "
        "Nothing was written"
    )


def changed_among(names: Iterable[str], version: int) -> TenantsChanged:
    """Tell which tenants a change of documents is about."""
    every = any(name == _DEFAULTS or name.startswith(f"{_DEFAULTS}:") for name in names)
    return TenantsChanged(frozenset(tenants_among(names)), version, everyone=every)


# -- why a value is what it is ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """What is known about a value without asking the store, and which document's history knows the rest."""

    known: Explanation
    inside: tuple[str, ...]
    """The path in a document."""
    document: str = ""

    def answered(self, history: Sequence[Any]) -> Explanation:
        """Add who last changed the value, if the newest-first history of its document still tells."""
        for one in map(change_of, history):
            if found(one.before or {}, self.inside) != found(one.after or {}, self.inside):
                return replace(self.known, version=one.version, by=one.by, at=one.at, reason=one.reason)
        return self.known


def question(
    known: Explanation, inside: tuple[str, ...], layers: Sequence[tuple[Layer, str, Any]]
) -> Question:
    """Find the topmost layer, among lowest-first ones, that says something about a path."""
    for layer, name, document in reversed(layers):
        if found(read(document), inside) is not ABSENT:
            return Question(replace(known, layer=layer, version=document.version), inside, name)
    return Question(known, inside)


# -- taking a change back --------------------------------------------------------------------------------


def reverted(document: Overrides, change: TenantChange) -> Overrides | None:
    """Take one change back out of a document, keeping what was written since.

    Returns None if that leaves a tenant that had no document without one. Raises `VersionConflict` if a later
    write changed one of the same settings again: which of the two is meant cannot be guessed.
    """
    before, after = change.before or {}, change.after or {}
    clash = _clash(document, before, after)
    if clash:
        raise VersionConflict(
            f"{clash} was changed again after version {change.version}: undo the later change first. Nothing was written"
        )
    result = _restored(document, before, after)
    return None if change.before is None and not result else result


def _clash(now: Any, before: Any, after: Any, path: str = "") -> str:
    """The first setting that a change touched and that is no longer as the change left it."""
    if not all(isinstance(one, Mapping) for one in (now, before, after)):
        return "" if now == after else path
    changed = [name for name in (*before, *after) if before.get(name) != after.get(name)]
    clashes = (
        _clash(now.get(name), before.get(name), after.get(name), f"{path}.{name}".strip("."))
        for name in changed
    )
    return next(filter(None, clashes), "")


def _restored(now: Any, before: Any, after: Any) -> Any:
    if not all(isinstance(one, Mapping) for one in (now, before, after)):
        return before
    result = dict(now)
    for name in {*before, *after}:
        if name not in before:
            result.pop(name, None)
        elif before.get(name) != after.get(name):
            result[name] = _restored(now.get(name), before[name], after.get(name))
    return result
