"""The replica's protocol: what a reader does with what it hears. No I/O, no state; snapshot in, step out.

Rule 1: a snapshot is named by (epoch, version). The epoch is random and made with the data set; inside one the
        version only grows, by one a write. A server that took over without the last writes may give their versions
        out again: so the moment of the last write is told with it, and where it differs, a new epoch begins.
Rule 2: a pushed message is applied only if it is the very next version of the same epoch. An older one is
        passed over; anything else asks for a fetch. So messages may be lost, doubled or reordered.
Rule 3: only a fetch changes the epoch. The store is asked with what the reader has, and tells what it lacks;
        an answer that comes when the reader has moved on to another epoch is passed over, and asked for again.
Rule 4: an empty store is not an empty data set: the reader keeps what it has and says that it is stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from statekit.replica.documents import Documents
from statekit.store.codec import DEEPEST, tree

__all__ = ["EMPTY", "Document", "Message", "Snapshot", "Step", "heard", "synced"]


@dataclass(frozen=True, slots=True)
class Document:
    """One named document: its JSON text, and the version of the replica in which it was last written."""

    version: int
    text: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a reader knows, at one version; never changed, only replaced."""

    epoch: str
    version: int
    documents: Mapping[str, Document] = field(repr=False)
    at: int = field(default=0, repr=False)
    """When its last write happened, in microseconds by the store's clock; 0 if that is not known."""

    def version_of(self, name: str) -> int:
        """The version `if_version` is compared with: 0 if there is no such document."""
        document = self.documents.get(name)
        return document.version if document else 0

    def knows(self) -> bool:
        """Whether any data set was ever seen."""
        return bool(self.epoch)


EMPTY = Snapshot("", 0, Documents())


@dataclass(frozen=True, slots=True)
class Message:
    """One write as it is published: the document under `name` is now `text`, or gone if that is None."""

    epoch: str
    version: int
    name: str
    text: str | None
    at: int = 0
    """When, in microseconds by the store's clock."""
    since: int = 0
    """When the write before it happened; 0 if that is not known."""

    def follows(self, snapshot: Snapshot) -> bool:
        """Whether this is the write after the last one of a snapshot, as far as both tell."""
        if self.version != snapshot.version + 1:
            return False
        return not self.since or not snapshot.at or self.since == snapshot.at

    @classmethod
    def parse(cls, data: bytes | str) -> Message | None:
        """Read a message; None for "look at the store" or for one of a newer release that cannot be read."""
        try:
            said = tree(data, DEEPEST + 1)
            text = None if said["after"] is None else dumped(said["after"])
            at, since = int(said.get("at", 0)), int(said.get("since", 0))
            return cls(str(said["epoch"]), int(said["version"]), str(said["name"]), text, at, since)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from an input: the snapshot to show, the names that differ, whether to ask the store."""

    snapshot: Snapshot
    changed: frozenset[str] = frozenset()
    fetch: bool = False
    lost: bool = False
    """The store has lost what it had, as far as this reader can tell."""
    whole: bool = False
    """Ask for everything: the changes alone cannot be read, or follow something else."""


def dumped(value: Any) -> str:
    """Write JSON the one way it is written here: compact, ASCII, keys in their order."""
    return json.dumps(value, separators=(",", ":"))


def heard(snapshot: Snapshot, message: Message | None) -> Step:
    """Take a pushed message; None stands for a gap, or for a message that only says "look"."""
    if message is None or message.epoch != snapshot.epoch:
        return Step(snapshot, fetch=True)
    if message.version <= snapshot.version:
        return Step(snapshot)
    if not message.follows(snapshot):
        return Step(snapshot, fetch=True)
    return Step(_advanced(snapshot, [message]), frozenset({message.name}))


def synced(snapshot: Snapshot, asked: str, reply: Sequence[Any]) -> Step:
    """Take the store's answer to "I have (epoch, version), what do I lack?"; `asked` is the epoch then."""
    kind = reply[0]
    if snapshot.epoch != asked:
        return Step(snapshot, fetch=True)
    if kind in {b"empty", b"lost"}:
        return Step(snapshot, lost=kind == b"lost" or snapshot.knows())
    try:
        epoch, version = reply[1].decode(), int(reply[2])
    except ValueError:  # another program wrote there: no data set that can be read
        return Step(snapshot, lost=snapshot.knows())
    if kind == b"full":
        at = reply[4] if len(reply) == 6 and reply[4].isdigit() else b"0"
        return _replaced(snapshot, epoch, version, reply[3], int(at))
    if kind == b"delta":
        return _caught_up(snapshot, [Message.parse(entry) for entry in reply[3]])
    return Step(snapshot)


def _caught_up(snapshot: Snapshot, messages: Sequence[Message | None]) -> Step:
    known = [one for one in messages if one is not None]
    news = sorted((one for one in known if one.version > snapshot.version), key=lambda one: one.version)
    expected = range(snapshot.version + 1, snapshot.version + 1 + len(news))
    if len(known) < len(messages) or [one.version for one in news] != [*expected]:
        return Step(snapshot, fetch=True, whole=True)
    if not news:
        return Step(snapshot)
    if not news[0].follows(snapshot):
        return Step(snapshot, fetch=True, whole=True)
    return Step(_advanced(snapshot, news), frozenset(one.name for one in news))


def _advanced(snapshot: Snapshot, messages: Sequence[Message]) -> Snapshot:
    known = snapshot.documents
    documents = known if isinstance(known, Documents) else Documents(known)
    changes = {one.name: None if one.text is None else Document(one.version, one.text) for one in messages}
    last = messages[-1]
    return Snapshot(snapshot.epoch, last.version, documents.succeeded(changes), last.at)


def _replaced(snapshot: Snapshot, epoch: str, version: int, pairs: Sequence[bytes], at: int) -> Step:
    """Take over a whole data set, unless it is one this reader has already moved past."""
    if epoch == snapshot.epoch and version <= snapshot.version:
        return Step(snapshot)
    texts = zip(pairs[::2], pairs[1::2], strict=True)
    documents = {named(name): document(text) for name, text in texts}
    names = documents.keys() | snapshot.documents.keys()
    changed = frozenset(name for name in names if documents.get(name) != snapshot.documents.get(name))
    return Step(Snapshot(epoch, version, Documents(documents), at), changed)


def named(stored: bytes) -> str:
    """Read a document's name. What is no text, another program wrote: a name that nobody asks for."""
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return stored.decode("utf-8", "backslashreplace")


def document(stored: bytes) -> Document:
    """Read a document as the store keeps it: ``<version>:<JSON text>``.

    What another program left there becomes a document that validates nowhere: one bad field must not keep the
    others from being read, and whoever made something of the earlier one keeps that.
    """
    text = stored.decode("utf-8", "replace")
    version, colon, rest = text.partition(":")
    if not colon or not (version.isascii() and version.isdecimal()):
        return Document(0, text)
    return Document(int(version), rest)
