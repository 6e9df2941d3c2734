"""Folders: whether what lies in one can only have been put there by this user.

A folder among the temporary files has a name that others can guess, and make before we do: as a folder of theirs,
or as a link to one of ours.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["own", "trust"]

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def trust(folder: Path) -> None:
    """Raise `PermissionError` for a folder in which somebody else could have put something for us to believe."""
    real, link = folder.stat(), folder.lstat()
    if real.st_uid != os.getuid() or real.st_mode & WRITABLE_BY_OTHERS:
        raise PermissionError(
            f"{folder} belongs to or is writable by others: make it yours alone, or choose another"
        )
    if link.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"{folder} is a link that somebody else has made: remove it, or choose another")


def own(folder: Path) -> None:
    """Make a folder that is this user's alone, or `trust` the one that is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust(folder)
