"""What sessions are made of: the rules of a store, outcomes, events, list entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from hashlib import sha256
from typing import Any

from statekit.errors import UsageError
from statekit.store.durations import Duration, micros

__all__ = [
    "Outage",
    "Rules",
    "SaveOutcome",
    "SessionEvent",
    "SessionEventKind",
    "SessionGrown",
    "SessionInfo",
    "checked_outage",
    "handle_of",
    "moment",
    "well_formed",
]

ID_LENGTH = 43
"""32 random bytes in the URL-safe alphabet of base64, without padding."""
_ID_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - reads the same on every supported Python


def well_formed(cookie: object) -> bool:
    """Whether a cookie's value can be an id of ours at all; nothing else ever reaches the store."""
    if not isinstance(cookie, str) or len(cookie) != ID_LENGTH or not cookie.isascii():
        return False
    return not cookie.encode().translate(None, _ID_ALPHABET)  # nothing is left


def handle_of(id_: str) -> str:
    """The public name of a session: SHA-256 of its id. Its preimage, the credential, cannot be found."""
    return sha256(id_.encode()).hexdigest()


def moment(us: int) -> datetime:
    """Microseconds since the epoch as an aware `datetime` in UTC."""
    return _EPOCH + timedelta(microseconds=us)


class Outage(StrEnum):
    """What opening a session answers while the store cannot."""

    RAISE = "raise"
    """`StoreUnavailable`, which adapters answer with 503."""
    ANONYMOUS = "anonymous"
    """An empty session marked ``degraded``, which is never written."""
    LAST_SEEN = "last-seen"
    """What this process saw last under that id, marked ``degraded``, with its ``age``, never written; where it has
    seen none lately, `StoreUnavailable`."""


def checked_outage(given: str) -> Outage:
    """Return the answer for an outage that a word stands for; raises `UsageError` for any other."""
    if given not in tuple(Outage):
        raise UsageError(f"on_outage={given!r}: use 'raise', 'anonymous' or 'last-seen'")
    return Outage(given)


@dataclass(frozen=True, slots=True)
class Rules:
    """The deadlines and bounds of one session store, checked on construction."""

    idle: Duration = 7200
    absolute: Duration = 43200
    touch_after: float = 0.25
    grace: Duration = 10
    max_bytes: int = 65536
    on_outage: str = "raise"
    last_seen_for: Duration = 60
    idle_us: int = field(init=False)
    absolute_us: int = field(init=False)
    touch_us: int = field(init=False)
    grace_us: int = field(init=False)
    last_seen_us: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "idle_us", micros(self.idle, "idle"))
        object.__setattr__(self, "absolute_us", micros(self.absolute, "absolute"))
        object.__setattr__(self, "grace_us", micros(self.grace, "grace", zero=True))
        object.__setattr__(self, "last_seen_us", micros(self.last_seen_for, "last_seen_for"))
        self._check()
        object.__setattr__(self, "touch_us", int(self.idle_us * self.touch_after))

    def _check(self) -> None:
        if self.idle_us > self.absolute_us:
            raise UsageError(
                f"idle={self.idle!r} is longer than absolute={self.absolute!r}: it could never be reached"
            )
        share = self.touch_after
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 0.9:
            raise UsageError(f"touch_after={self.touch_after!r}: give a share of idle, from 0 to 0.9")
        if isinstance(self.max_bytes, bool) or not isinstance(self.max_bytes, int) or self.max_bytes < 1:
            raise UsageError(f"max_bytes={self.max_bytes!r}: give a positive number of bytes")
        checked_outage(self.on_outage)


class SaveOutcome(StrEnum):
    """How a save ended; tells an adapter what to do about the cookie."""

    UNTOUCHED = "untouched"
    """Nothing had changed (or an empty session was never begun): nothing was sent."""
    SAVED = "saved"
    CREATED = "created"
    """A new session was written: send its cookie."""
    RENEWED = "renewed"
    """The session has a new id: send its cookie."""
    ENDED = "ended"
    """Signed out: take the cookie away."""
    GONE = "gone"
    """Somebody ended the session meanwhile, or it expired: nothing was written. The next request gets a new one."""
    SUPERSEDED = "superseded"
    """Another request renewed the id meanwhile: nothing was written, that request's cookie is the one that counts."""
    DEGRADED = "degraded"
    """The store could not be read when the session was opened: nothing was written."""

    @property
    def sends_cookie(self) -> bool:
        """Whether the response must carry the session's id."""
        return self in (SaveOutcome.CREATED, SaveOutcome.RENEWED)

    @property
    def drops_cookie(self) -> bool:
        """Whether the response should take the cookie away."""
        return self is SaveOutcome.ENDED


class SessionEventKind(StrEnum):
    """What happened to a session."""

    OPENED = "opened"
    RENEWED = "renewed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNKNOWN_ID = "unknown-id"
    """A well-formed id that names no session: expired long ago, or guessed. Many from one address: an attack."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One step in the life of a session, for logs and alarms. Carries the handle, never the id."""

    kind: SessionEventKind
    handle: str
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class SessionGrown:
    """A session was saved that takes more than half of its size budget; the largest keys first."""

    handle: str
    size: int
    max_bytes: int
    largest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """An entry in the list of a principal's sessions. All moments are aware datetimes in UTC."""

    handle: str
    created: datetime
    last_seen: datetime
    """Of the last write or touch; up to `touch_after` of the idle time older than the last read."""
    idle_deadline: datetime
    absolute_deadline: datetime

    @classmethod
    def read(cls, handle: str, reply: Sequence[Any]) -> SessionInfo | None:
        """Sort the reply of the glance script; None if that is not one of ours."""
        try:
            created, touched, absolute, idle = map(int, reply)
            deadline = min(touched + idle, absolute)
            return cls(handle, moment(created), moment(touched), moment(deadline), moment(absolute))
        except (ValueError, TypeError, OverflowError):
            return None
