"""Changes: how a write is computed from what is stored, checked, and computed again if somebody was faster."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from statekit.errors import DocumentInvalid, StatekitError, UsageError, VersionConflict
from statekit.replica.core import Absent
from statekit.replica.protocol import Document, Snapshot
from statekit.tenants.core import (
    TenantChange,
    defaults_document,
    reverted,
    tenant_document,
    tenants_among,
    titled,
    unknown,
)
from statekit.tenants.layers import Overrides, described, patched, read, written
from statekit.tenants.local import Local, Stack
from statekit.tenants.settings import TenantSettings

__all__ = ["Changes", "Rewrite"]

S = TypeVar("S", bound=TenantSettings)
TRIES = 100
"""Times a write is computed again because somebody else wrote first, before the conflict is raised. Each time
somebody has succeeded, so this many in a row mean a tenant that is written to all the time."""


@dataclass(slots=True)
class Rewrite:
    """One write under way: from the overrides there are to those there shall be.

    The face asks for `terms`, tries to write them, and after a `VersionConflict` tells `overtaken` and catches
    up before it asks again.
    """

    document: str
    compute: Callable[[Overrides, Snapshot], Overrides | None]
    if_version: int | None
    by: str
    reason: str
    tries: int = 0

    def terms(self, snapshot: Snapshot) -> dict[str, Any]:
        """The arguments of the replica's write, computed from this snapshot; raises `VersionConflict`."""
        version = snapshot.version_of(self.document)
        if self.if_version not in (None, version):
            raise VersionConflict(
                f"{titled(self.document)} is at version {version}, not {self.if_version}: somebody wrote in "
                "between; read it again and decide anew. Nothing was written"
            )
        after = self.compute(read(snapshot.documents.get(self.document)), snapshot)
        text = None if after is None else written(after)
        return {
            "name": self.document,
            "text": text,
            "by": self.by,
            "reason": self.reason,
            "if_version": version,
        }

    def overtaken(self, conflict: VersionConflict) -> None:
        """Note that what it was computed from is not what is stored; raises the conflict when it is final."""
        self.tries += 1
        if self.tries > (TRIES if self.if_version is None else 1):
            raise conflict

    def missing(self, absent: Absent, snapshot: Snapshot) -> StatekitError:
        """What to raise when there was nothing to delete."""
        for tenant in tenants_among((self.document,)):
            return unknown(tenant, snapshot.documents)
        return absent


class Changes(Generic[S]):
    """The writes there are, for one registry. Each raises `DocumentInvalid` before anything is sent."""

    def __init__(self, local: Local[S]) -> None:
        self._local = local

    def patch(self, tenant: str, patch: Overrides, if_version: int | None, by: str, reason: str) -> Rewrite:
        """Merge a patch into a tenant's overrides."""
        change = self._local.layers.patch(patch)
        own = tenant_document(tenant)

        def compute(overrides: Overrides, snapshot: Snapshot) -> Overrides:
            after = patched(overrides, change)
            self._check(own, _with(snapshot, own, after))
            return after

        return Rewrite(own, compute, expected(if_version), by, reason)

    def patch_defaults(
        self, patch: Overrides, group: str, if_version: int | None, by: str, reason: str
    ) -> Rewrite:
        """Merge a patch into the layer under all tenants, or under those of a group."""
        change = self._local.layers.patch(patch)
        name = self._defaults(group, change)

        def compute(overrides: Overrides, snapshot: Snapshot) -> Overrides:
            after = patched(overrides, change)
            self._check_everyone(_with(snapshot, name, after), snapshot)
            return after

        return Rewrite(name, compute, expected(if_version), by, reason)

    def undo(self, document: str, change: TenantChange, by: str, reason: str) -> Rewrite:
        """Take one change back, keeping what was written since."""

        def compute(overrides: Overrides, snapshot: Snapshot) -> Overrides | None:
            after = reverted(overrides, change)
            documents = _with(snapshot, document, after or {})
            if document.startswith(defaults_document()):
                self._check_everyone(documents, snapshot)
            else:
                self._check(document, documents)
            return after

        return Rewrite(document, compute, None, by, reason or f"undo of version {change.version}")

    def delete(self, tenant: str, if_version: int | None, by: str, reason: str) -> Rewrite:
        """Take a tenant's document away: the layers below apply again."""
        return Rewrite(
            tenant_document(tenant), lambda _now, _snapshot: None, expected(if_version), by, reason
        )

    def _defaults(self, group: str, change: Overrides) -> str:
        by_field = self._local.group_by
        if group and by_field is None:
            raise UsageError(f"group={group!r}: this registry has no groups; name a field with group_by=")
        if group and by_field in change:
            raise DocumentInvalid(
                f"{by_field!r} chooses the group and cannot be set by one. Nothing was written"
            )
        return defaults_document(group)

    def _check(self, own: str, documents: Mapping[str, Document]) -> None:
        """Refuse documents with which the tenant whose own is named `own` would not validate."""
        self._local.layers.checked(self._local.stack(own, documents).readable())

    def _check_everyone(self, documents: Mapping[str, Document], snapshot: Snapshot) -> None:
        """Refuse defaults under which a tenant that is well would not validate any more."""
        self._check("", documents)  # a tenant nobody has configured
        well: set[Any] = set()  # many tenants say the same: what was found well once is not validated again
        for tenant in tenants_among(documents):
            stack = self._local.stack(tenant_document(tenant), documents)
            said = tuple((layer, document.text) for layer, _, document in stack.layers)
            if said not in well and self._is_well(tenant, stack, snapshot):
                well.add(said)

    def _is_well(self, tenant: str, stack: Stack, snapshot: Snapshot) -> bool:
        """Whether a tenant validates; raises `DocumentInvalid` if it does not any more."""
        try:
            self._local.layers.settings(stack.readable())
        except ValidationError as error:
            if not self._local.rejected(tenant, snapshot):
                raise DocumentInvalid(
                    f"with these defaults tenant {tenant!r:.80} would not validate: {described(error)}. "
                    "Nothing was written"
                ) from error
            return False
        return True


def _with(snapshot: Snapshot, name: str, after: Overrides) -> Mapping[str, Document]:
    """The documents as they would be after a write; nothing is copied, there may be many."""
    return ChainMap({name: Document(snapshot.version + 1, written(after))}, snapshot.documents)  # type: ignore[arg-type]


def expected(if_version: int | None) -> int | None:
    """Check an expected version; raises `UsageError`."""
    if if_version is None or (
        isinstance(if_version, int) and not isinstance(if_version, bool) and if_version >= 0
    ):
        return if_version
    raise UsageError(
        f"if_version={if_version!r}: give the version you read (0: there is no document), or None"
    )
