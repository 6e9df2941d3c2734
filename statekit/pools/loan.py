"""What the ledger keeps book of: clients on loan or idle, callers in line, and what a caller does next."""

from __future__ import annotations

from enum import StrEnum
from types import CodeType
from typing import Any, Protocol

__all__ = ["Entry", "Signal", "Verb", "Waiter"]


class Signal(Protocol):
    """What a waiting caller sleeps on: ``threading.Event`` or ``asyncio.Event``."""

    def set(self) -> None: ...
    def clear(self) -> None: ...


class Verb(StrEnum):
    """What a caller who wants a client does next."""

    USE = "use"
    PROBE = "probe"
    RETIRE = "retire"
    OPEN = "open"
    REPORT = "report"
    PARK = "park"
    GIVE_UP = "give up"


class Entry:
    """One client: when it was opened, until when it is fresh, and who holds it."""

    __slots__ = (
        "client",
        "code",
        "expires_at",
        "fresh_until",
        "holder",
        "idle_since",
        "leaked",
        "offset",
        "taken_at",
    )

    def __init__(self, client: Any, now: float, expires_at: float) -> None:
        self.client = client
        self.expires_at = expires_at
        self.fresh_until = 0.0
        """Until when it may be handed out without a second look."""
        self.idle_since = self.taken_at = now
        self.leaked = False
        self.holder: Any = None
        self.code: CodeType | None = None
        self.offset = 0


class Waiter:
    """One caller in line: until when, and what woke it."""

    __slots__ = ("deadline", "entry", "pause", "served", "signal", "since")

    def __init__(self, signal: Signal, since: float, deadline: float) -> None:
        self.signal = signal
        self.since = since
        self.deadline = deadline
        self.entry: Entry | None = None
        self.pause = 0.0
        self.served = False
        """Was at the head of the line already: goes back there if what it got was no good."""
