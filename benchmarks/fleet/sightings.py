"""What the load generator saw: one record a request, with the moments it was sent and answered.

Every figure of the report is computed from these records and from nothing else. Times are seconds of the
machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Sighting", "load", "save"]


@dataclass(slots=True)
class Sighting:
    """One request as its sender saw it."""

    sent: float
    received: float
    name: str
    """The kind of request, such as ``GET /me``."""
    status: int
    """The HTTP status; 0 when no answer came."""
    pod: str = ""
    pid: int = 0
    fact: dict[str, Any] = field(default_factory=dict)
    """What the sender knows about it: the session it belongs to, the value it wrote or read."""

    @property
    def failed(self) -> bool:
        """True when the visitor got nothing of use: no answer, or the server's own failure."""
        return self.status == 0 or self.status >= 500

    @property
    def took(self) -> float:
        return self.received - self.sent


def save(path: Path, sightings: Iterable[Sighting]) -> None:
    """Write the records, one JSON array a line; the file appears whole or not at all."""
    rows = ([s.sent, s.received, s.name, s.status, s.pod, s.pid, s.fact] for s in sightings)
    whole = path.with_suffix(".part")
    whole.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    whole.replace(path)


def load(path: Path) -> list[Sighting]:
    """Read the records back, oldest first."""
    with path.open() as lines:
        return sorted((Sighting(*json.loads(line)) for line in lines), key=lambda sighting: sighting.sent)
