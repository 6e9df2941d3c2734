"""Sessions: a visitor's state in the shared store, under ids that only statekit issues."""

from statekit.sessions.cookie import CookiePolicy
from statekit.sessions.encryption import Encryption
from statekit.sessions.faces import AsyncSessions, Sessions
from statekit.sessions.model import (
    Outage,
    Rules,
    SaveOutcome,
    SessionEvent,
    SessionEventKind,
    SessionGrown,
    SessionInfo,
)
from statekit.sessions.record import Record
from statekit.sessions.session import Session

__all__ = [
    "AsyncSessions",
    "CookiePolicy",
    "Encryption",
    "Outage",
    "Record",
    "Rules",
    "SaveOutcome",
    "Session",
    "SessionEvent",
    "SessionEventKind",
    "SessionGrown",
    "SessionInfo",
    "Sessions",
]
