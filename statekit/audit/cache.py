"""What was read before: facts by the hash of the file's content, and the outcome by the hash of all that went in.

Two or three files for each audited root, in a folder only its owner may enter (``$XDG_CACHE_HOME/statekit/audit``). A file
that is damaged, of another user, or written by another version of this program or of Python is as good as none.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import statekit
from statekit.audit import facts

__all__ = ["Cache", "folder", "hash_of", "program"]

MAGIC = b"statekit audit\n"
FORGET_AFTER = 30 * 86400
"""Seconds after which what nobody asked for again is removed."""


class Cache:
    """What is kept for one audited root; one that is `off` knows nothing and keeps nothing."""

    def __init__(self, root: Path, *, off: bool = False) -> None:
        self._folder = None if off else folder()
        self.off = self._folder is None
        self._name = blake2b(os.fsencode(root), digest_size=16).hexdigest()

    def facts(self) -> dict[bytes, bytes]:
        """The facts of files as `marshal` wrote them, by the hash of their content."""
        return self._load("facts", program(reading_only=True)) or {}

    def keep_facts(self, known: Mapping[bytes, bytes]) -> None:
        self._save("facts", program(reading_only=True), dict(known))

    def outcome(self, kind: str, of: bytes) -> Any:
        """What an analysis of just these inputs said, or None; the last of each kind is kept."""
        return self._load(kind, of)

    def keep_outcome(self, kind: str, of: bytes, outcome: Any) -> None:
        self._save(kind, of, outcome)

    def _load(self, kind: str, stamp: bytes) -> Any:
        path = self._path(kind)
        if path is None or not _trusted(path):
            return None
        try:
            data = memoryview(path.read_bytes())
            head = len(MAGIC) + 32
            if data[:head] != MAGIC + stamp + _digest(data[head:]):
                return None
            os.utime(path)
            return marshal.loads(data[head:])  # noqa: S302 - our own, undamaged, in a folder of our own
        except (OSError, ValueError, EOFError, TypeError):
            return None

    def _save(self, kind: str, stamp: bytes, thing: Any) -> None:
        path = self._path(kind)
        if path is None:
            return
        body = marshal.dumps(thing)
        with suppress(OSError):  # a full or read-only disk: the next run reads everything again
            with NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(MAGIC + stamp + _digest(body))
                file.write(body)
            Path(file.name).replace(path)
            _forget(path.parent)

    def _path(self, kind: str) -> Path | None:
        return self._folder and self._folder / f"{self._name}.{kind}"


def folder() -> Path | None:
    """The folder of all caches, made at first use; None where there can be no safe one."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = Path(base) / "statekit" / "audit"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _trusted(path) else None
    except (OSError, RuntimeError):  # no home, a read-only one
        return None


def _trusted(path: Path) -> bool:
    """Whether only this user can have written it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _forget(where: Path) -> None:
    oldest = time.time() - FORGET_AFTER
    for one in where.iterdir():
        if one.stat().st_mtime < oldest:
            one.unlink(missing_ok=True)


def _digest(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=16).digest()


def hash_of(parts: Iterable[bytes]) -> bytes:
    """One hash of several, each with its length, so that no two lists of parts look alike."""
    total = blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.digest()


@cache
def program(*, reading_only: bool = False) -> bytes:
    """A hash of the version of Python, of this package, and of the files the audit is made of."""
    home = Path(__file__).parent
    parts = [sys.version.encode(), statekit.__version__.encode(), bytes([facts.FORMAT % 256])]
    files = (
        [home / "facts.py", *home.glob("reading/*.py")]
        if reading_only
        else [*home.rglob("*.py"), *home.rglob("*.toml")]
    )
    for one in sorted(files):
        with suppress(OSError):  # in a zip: the version has to do
            status = one.stat()
            parts.append(f"{one.relative_to(home)} {status.st_size} {status.st_mtime_ns}".encode())
    return hash_of(parts)
