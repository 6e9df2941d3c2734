"""Round-robin over the pods in rotation, read from a file that whoever runs the pods keeps up to date."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Rotation", "put_in_rotation"]

EVERY = 0.05
"""Seconds between two looks at the file."""


class Rotation:
    """Hands out pods, one after the other; nobody stays with one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = 0.0
        self._urls: list[str] = []
        self._turn = 0

    def next(self) -> str:
        """The pod the next request goes to."""
        now = time.monotonic()
        if now - self._looked > EVERY:
            self._looked, self._urls = now, json.loads(self._path.read_text())
        self._turn += 1
        return self._urls[self._turn % len(self._urls)]


def put_in_rotation(path: Path, urls: Sequence[str]) -> None:
    """Say which pods are to be sent requests from now on."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(list(urls)))
    part.replace(path)
