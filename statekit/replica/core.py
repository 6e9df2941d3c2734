"""The replica's operations: synchronise, write, put back, list history and readers.

Keys, all under one hash tag ``{<name>}`` of kind ``replica``:
    …:meta     hash   epoch, version, held                    kept for ever
    …:docs     hash   name -> ``<version>:<JSON text>``       kept for ever
    …:log      list   JSON, newest first, the last 1,000      kept for ever
    …:workers  sorted set  reader -> last sign of life, ms    expires
    …:acks     hash   reader -> ``<epoch>:<version>``         expires
and the channel ``…:news``. Configuration must not vanish by itself: it is the one thing statekit writes without
a TTL, bounded by the number of documents and by the length of the log.
Scripts: replica.sync, replica.write, replica.reseed, replica.workers.

Guarantee: writes are atomic, ordered, and compared if asked; every live reader has a write within one
    round trip of its publication, or within one reconcile interval if that message was lost; no reader goes
    back a version within an epoch; after a flush readers keep what they have.
    A server that takes over without the last writes is noticed by whoever shows one of them, also where their
    versions were given out again: what it holds becomes a data set of its own, and all take it over.
Not guaranteed: that a write the server acknowledged survives the server (that is its persistence).
Store down: readers go on with what they have, `stale` after a while; writes raise `StoreUnavailable`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from statekit.errors import CorruptValue, StoreUnavailable, UsageError, VersionConflict
from statekit.replica.protocol import Message, Snapshot, dumped
from statekit.store.codec import DEEPEST, tree
from statekit.store.keys import Keys, encoded
from statekit.store.op import Op, Script, command

__all__ = [
    "Absent",
    "Address",
    "Change",
    "Convergence",
    "Entry",
    "Reader",
    "Worker",
    "Written",
    "checked",
    "history",
    "leave",
    "restore",
    "sync",
    "undo",
    "workers",
    "write",
]

SYNC = Script.load(__package__, "sync")
WRITE = Script.load(__package__, "write")
RESEED = Script.load(__package__, "reseed")
WORKERS = Script.load(__package__, "workers", read_only=True)

RECONCILE = 3.0
"""Seconds between two questions "what do I lack?" of a reader that hears nothing."""
MISSED = 3
"""Intervals of silence after which a reader counts as gone, and a copy as stale."""
KEEP = 1000
"""Entries the log keeps."""
LARGEST = 256 * 1024
"""Bytes of one document's JSON."""

LONGEST_VERSION = 16
"""Digits of a version: a script counts in doubles."""

Now = int | str


class Absent(UsageError, LookupError):
    """A document there is not was to be deleted; nothing was written."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica lives in the store."""

    name: str
    meta: str
    docs: str
    log: str
    workers: str
    acks: str
    channel: str

    @classmethod
    def of(cls, keys: Keys, name: str) -> Address:
        tag = encoded(name, "replica")
        parts = ("meta", "docs", "log", "workers", "acks", "news")
        return cls(name, *(keys.of("replica", tag, suffix=part) for part in parts))


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: its name in the fleet, and how long it counts as alive without a sign of life."""

    worker: str
    lifetime_ms: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write that happened."""

    name: str
    text: str | None
    epoch: str
    version: int
    at: datetime
    readers: int
    """Live readers at that moment."""
    since: int = 0
    """When the write before it happened, in microseconds; 0 if that is not known."""

    def message(self) -> Message:
        """The write as readers hear of it."""
        at = (self.at - moment(0)) // timedelta(microseconds=1)
        return Message(self.epoch, self.version, self.name, self.text, at, self.since)


@dataclass(frozen=True, slots=True)
class Entry:
    """One write in the history: what, when, by whom and why, before and after (None: no document)."""

    version: int
    at: datetime
    name: str
    by: str
    reason: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Worker:
    """One live reader, and the version it has confirmed to show."""

    name: str
    epoch: str
    version: int
    silent: float
    """Seconds since its last sign of life."""

    def confirms(self, written: Written) -> bool:
        """Whether this reader shows the write, or something newer."""
        return self.epoch == written.epoch and self.version >= written.version


@dataclass(frozen=True, slots=True)
class Change:
    """The snapshot was replaced: the names that differ, and the snapshot now shown."""

    names: frozenset[str]
    snapshot: Snapshot = field(repr=False)


@dataclass(frozen=True, slots=True)
class Convergence:
    """How far a write has come: of `workers` live readers, `acknowledged` confirmed `version` in `seconds`.

    Without ``wait`` nobody is asked: `acknowledged` is 0 and `seconds` is the write alone.
    """

    version: int
    workers: int
    acknowledged: int
    seconds: float
    lagging: tuple[str, ...] = ()
    """The readers that had not confirmed when the waiting ended: slow, cut off, or killed a moment ago."""

    @property
    def complete(self) -> bool:
        """Whether every live reader has confirmed."""
        return self.workers > 0 and self.acknowledged == self.workers

    @classmethod
    def seen(cls, written: Written, alive: Sequence[Worker], seconds: float) -> Convergence:
        """Judge a write by the readers alive."""
        lagging = tuple(one.name for one in alive if not one.confirms(written))
        return cls(written.version, len(alive), len(alive) - len(lagging), seconds, lagging)

    @classmethod
    def unasked(cls, written: Written, seconds: float) -> Convergence:
        return cls(written.version, written.readers, 0, seconds)


def sync(at: Address, reader: Reader, shown: Snapshot, fresh: str, now: Now) -> Op[Sequence[Any]]:
    """Ask what `shown` lacks, and acknowledge it; the reply is for `protocol.synced`.

    If the documents of exactly this version are gone, evicted from under their version, they are put back first.
    """
    keys = (at.meta, at.docs, at.log, at.workers, at.acks)
    known = (shown.epoch, shown.version)
    args = (reader.worker, *known, reader.lifetime_ms, fresh, at.channel, now, shown.at)
    reply: Sequence[Any] = yield from SYNC(keys, args)
    if reply[0] == b"lost" and (reply[1], reply[2]) == (shown.epoch.encode(), b"%d" % shown.version):
        yield from restore(at, shown, fresh)
        reply = yield from SYNC(keys, args)
    return reply


def leave(at: Address, worker: str, shown: Snapshot) -> Op[None]:
    """Take a reader off the list of the living."""
    yield from sync(at, Reader(worker, 0), shown, shown.epoch, "")


def write(
    at: Address,
    name: str,
    text: str | None,
    who: tuple[str, str],
    expected: int | None,
    shown: Snapshot,
    draw: tuple[str, int, Now],
) -> Op[Written]:
    """Store a document (None: delete it) as `who` = (by, reason); `draw` = (fresh epoch, lifetime ms, now).

    If the store has lost the data set `shown` came from, that is put back first, under the fresh epoch: a
    write after a flush must not take all other documents away from readers that still show them. Raises
    `VersionConflict`, or `Absent` if there is nothing to delete; `StoreUnavailable` if documents were lost that
    only another process can put back.
    """
    fresh, lifetime, now = draw
    _signature(*who)
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 0):
        raise UsageError(f"if_version={expected!r}: give the version you read (0: there is none), or None")
    signed = dumped({"name": name, "by": who[0], "reason": who[1]})[1:-1]
    keys = (at.meta, at.docs, at.log, at.workers)
    first = "" if shown.knows() else fresh
    for epoch in (first, fresh):
        wanted = "" if expected is None else expected
        args = (_field(name), text or "", wanted, signed, epoch, KEEP, lifetime, at.channel, now)
        reply = yield from WRITE(keys, args)
        if reply[0] not in {b"empty", b"lost"}:
            break
        if not shown.knows():
            raise _lost(at)
        yield from restore(at, shown, fresh)
    else:  # it has lost another version than is shown here, or loses them as fast as they are put back
        raise _lost(at)
    if reply[0] == b"conflict":
        raise VersionConflict(
            f"{name!r} is at version {int(reply[1])}, not {expected}: somebody wrote in between; "
            "read it again and decide anew"
        )
    if reply[0] == b"absent":
        raise Absent(f"there is no {name!r:.80} to delete: nothing was written")
    epoch, version, stamp, readers, since = reply[1].decode(errors="replace"), *map(int, reply[2:])
    return Written(name, text, epoch, version, moment(stamp), readers, since)


def _lost(at: Address) -> StoreUnavailable:
    return StoreUnavailable(
        f"the store has lost the documents of {at.name!r}: a process that shows them puts them back within"
        f" {RECONCILE:g} s; if there is none, restore() begins anew without them"
    )


def undo(
    at: Address, version: int, who: tuple[str, str], shown: Snapshot, draw: tuple[str, int, Now]
) -> Op[Written]:
    """Write what was there before `version` as a new version, unless somebody wrote that document since."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise UsageError(f"version={version!r}: give the number of a write, as history() lists it")
    entries = yield from history(at, None, KEEP)
    undone = next((one for one in entries if one.version == version), None)
    if undone is None:
        raise UsageError(f"version {version!r} is not in the history, which keeps the last {KEEP:,} writes")
    expected = 0 if undone.after is None else version
    return (yield from write(at, undone.name, undone.before, who, expected, shown, draw))


def restore(at: Address, shown: Snapshot, fresh: str) -> Op[bool]:
    """Put `shown` back into a store that has lost it; False if the store has a data set."""
    flat = [part for name, one in shown.documents.items() for part in (name, f"{one.version}:{one.text}")]
    pairs = json.dumps(flat, ensure_ascii=False).encode("utf-8", "surrogatepass")
    done = yield from RESEED((at.meta, at.docs), (fresh, shown.version, at.channel, pairs))
    return bool(done)


def history(at: Address, name: str | None, limit: int) -> Op[tuple[Entry, ...]]:
    """The latest writes, newest first; of one document if `name` is given."""
    if name is not None and not isinstance(name, str):
        raise UsageError(f"name={name!r} is {type(name).__name__}: give text")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit={limit!r}: give a number of writes, 1 or more")
    last = limit - 1 if name is None else -1
    entries = yield from command("LRANGE", at.log, 0, last, read_only=True)
    listed = (entry(one) for one in entries)
    return tuple(one for one in listed if name is None or one.name == name)[:limit]


def workers(at: Address, lifetime_ms: int, now: Now) -> Op[tuple[Worker, ...]]:
    """The readers alive, by name."""
    flat = yield from WORKERS((at.workers, at.acks), (lifetime_ms, now))
    listed = []
    for name, ack, silent in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        epoch, _, version = ack.decode(errors="replace").rpartition(":")
        known = version.isascii() and version.isdecimal() and len(version) <= LONGEST_VERSION
        shown = int(version) if known else 0  # what another program wrote confirms nothing
        listed.append(Worker(name.decode(errors="replace"), epoch, shown, int(silent) / 1000))
    return tuple(sorted(listed, key=lambda one: one.name))


def entry(stored: bytes) -> Entry:
    """Read an entry of the log. Raises `CorruptValue` if another program wrote it."""
    try:
        said = tree(stored, DEEPEST + 1)
        before, after = (None if said[side] is None else dumped(said[side]) for side in ("before", "after"))
        at = moment(int(said["at"]))
        return Entry(int(said["version"]), at, said["name"], said["by"], said["reason"], before, after)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise CorruptValue(f"{stored[:40]!r} is no entry of a history: {type(error).__name__}") from error


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a moment."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def checked(name: str, text: str | None) -> None:
    """Refuse what cannot be stored, before anything is sent."""
    if not isinstance(name, str) or not name:
        raise UsageError(f"name={name!r}: give a text that is not empty")
    if text is None:
        return
    try:
        tree(text)  # it will stand inside the JSON of the log and of the message
    except ValueError as error:
        raise UsageError(f"{name!r}: {text[:50]!r} is not JSON that can be kept: {error}") from error
    if len(text) > LARGEST:
        raise UsageError(
            f"{name!r} is {len(text):,} bytes of JSON, more than {LARGEST:,}: keep large data elsewhere, "
            "and its address here"
        )


def _signature(by: object, reason: object) -> None:
    for name, value in (("by", by), ("reason", reason)):
        if not isinstance(value, str):
            raise UsageError(f"{name}={value!r} is {type(value).__name__}: give text, or leave it out")


def _field(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
