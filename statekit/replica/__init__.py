"""The replica: named JSON documents, the same in every process, read without I/O.

Flags and tenant configuration are both made of this. It knows nothing of what the documents say.

    replica = Replica(store, "tenants:tenants", directory=…)          # AsyncReplica: the same, awaited where marked *
    replica.snapshot                  -> Snapshot(epoch, version, documents: Mapping[str, Document]); immutable
    replica.snapshot.documents["acme"] -> Document(version, text)      text is JSON; version = the replica version
                                         of its last write, what `if_version` compares with (0: no document)
    replica.version, replica.epoch, replica.stale, replica.age         local, no I/O
    replica.load()                  * first sync, then follow in the background; repeated calls are free; never
                                      raises when the store is down: last-known-good from file, `stale` true
    replica.loaded                    whether `load` has run in this process (blocking faces call `load` at first use)
    replica.write(name, text | None, by="", reason="", if_version=None, wait=None) * -> Convergence
                                      None deletes. Raises VersionConflict (both versions named), StoreError
    replica.writing(name, text, by=…, reason=…, if_version=…) -> Op[Written]    for together(); publish with
                                      `replica.took(written)` afterwards (write() does both)
    replica.undo(version, by="", reason="", wait=None) * -> Convergence     writes what was there before `version`
                                      (VersionConflict if that document was written since); undoing(…) -> Op
    replica.history(name=None, limit=100) * -> tuple[Entry, ...]       newest first: Entry(version, at, name, by,
                                      reason, before, after); before/after are JSON text or None; at: datetime UTC
    replica.on_change(listener) -> stop      listener(Change(names, snapshot)), in the thread or task that applied
                                      it, after `snapshot` was swapped and before the version is acknowledged;
                                      the first load counts as a change of all names
    replica.derive(compute)              as on_change, but under the replica's lock and strictly in order: for what is
                                      computed from the documents; no I/O in there
    replica.workers()               * -> tuple[Worker, ...]            live readers and the version each confirmed
    replica.close()                 * leave the fleet (the store's push and pulse are closed by the store)

`Convergence(version, workers, acknowledged, seconds, lagging)`, `.complete`.
"""

from __future__ import annotations

from statekit.replica.core import Change, Convergence, Entry, Worker, Written
from statekit.replica.faces import AsyncReplica, Replica
from statekit.replica.file import default_directory
from statekit.replica.local import ChangeListener
from statekit.replica.protocol import Document, Snapshot

__all__ = [
    "AsyncReplica",
    "Change",
    "ChangeListener",
    "Convergence",
    "Document",
    "Entry",
    "Replica",
    "Snapshot",
    "Worker",
    "Written",
    "default_directory",
]
