"""The last-known-good file: what a process shows when it starts while the store is down.

One file a replica, shared by all processes of a host: each replaces it whole (written beside, then renamed),
none deletes it. The first line tells the version and the digest of the rest; a file that is cut short,
altered or of another release is passed over, never believed and never fatal. Only this user may read it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from statekit.errors import UsageError
from statekit.replica.documents import Documents
from statekit.replica.protocol import EMPTY, Document, Snapshot, dumped
from statekit.store.codec import tree
from statekit.store.folders import own, trust

__all__ = ["Directory", "LastKnownGood", "default_directory", "snapshot_directory"]

Directory: TypeAlias = str | os.PathLike[str] | None
"""``"auto"``, a path, or None for no file."""

FORMAT = 1
PART = 1000
LARGEST = 1 << 30
"""Bytes of a file that are read."""
log = logging.getLogger("statekit")


def default_directory() -> Path:
    """``$XDG_STATE_HOME/statekit``, else ``statekit-<uid>`` in the directory for temporary files."""
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "statekit"
    return Path(tempfile.gettempdir()) / f"statekit-{os.getuid()}"


def snapshot_directory(given: Directory) -> Path | None:
    """What ``snapshot_dir`` means: ``"auto"`` is the default directory, None is no file."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike) or "\0" in os.fspath(given):
        raise UsageError(f'snapshot_dir={given!r}: give a folder, "auto", or None for no file')
    return default_directory() if given == "auto" else Path(given)


class LastKnownGood:
    """The file of one replica of one store."""

    def __init__(self, directory: Path, store: str, namespace: str, name: str) -> None:
        digest = blake2b(f"{store}\0{namespace}\0{name}".encode(), digest_size=16).hexdigest()
        self.path = directory / f"{digest}.json"
        self._kept = ("", 0)

    def read(self) -> Snapshot:
        """The snapshot in the file; the empty one if there is none that can be trusted."""
        try:
            trust(self.path.parent)
            if self.path.stat().st_size > LARGEST:
                raise ValueError(f"it is larger than {LARGEST:,} bytes")  # noqa: TRY301 - one way out for all of it
            head, _, body = self.path.read_bytes().partition(b"\n")
            told = tree(head)
            if told["format"] != FORMAT or told["digest"] != _digest(body):
                raise ValueError("the digest does not match")  # noqa: TRY301 - same
            self._kept = (str(told["epoch"]), int(told["version"]))
            rows = tree(body, 2, LARGEST).items()
            documents = {name: Document(int(version), str(text)) for name, (version, text) in rows}
            return Snapshot(*self._kept, Documents(documents), int(told.get("at", 0)))
        except FileNotFoundError:
            return EMPTY
        except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            log.warning("statekit: %s cannot be used and is passed over: %s", self.path, error)
            return EMPTY

    def lacks(self, snapshot: Snapshot) -> bool:
        """Whether this process neither wrote nor read this snapshot last."""
        return snapshot.knows() and self._kept != (snapshot.epoch, snapshot.version)

    def keep(self, snapshot: Snapshot) -> None:
        """Write the snapshot, unless this process wrote or read the same one last."""
        if not self.lacks(snapshot):
            return
        try:
            self._write(snapshot)
            self._kept = (snapshot.epoch, snapshot.version)
        except OSError as error:
            log.warning("statekit: %s cannot be written: %s", self.path, error)

    def _write(self, snapshot: Snapshot) -> None:
        body = _body(snapshot)
        told = {"format": FORMAT, "epoch": snapshot.epoch, "version": snapshot.version}
        told |= {"at": snapshot.at} if snapshot.at else {}
        head = dumped({**told, "digest": _digest(body)}).encode()
        own(self.path.parent)
        handle, beside = tempfile.mkstemp(dir=self.path.parent, prefix=".snapshot-")  # made with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(head + b"\n" + body)
            Path(beside).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            raise


def _body(snapshot: Snapshot) -> bytes:
    """The documents as one JSON object, written a part at a time: other threads wait for no more than a part."""
    rows = iter(snapshot.documents.items())
    parts = []
    while part := {name: [one.version, one.text] for name, one in islice(rows, PART)}:
        parts.append(dumped(part)[1:-1])
    return f"{{{','.join(parts)}}}".encode()


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()
