"""What the audit says: findings, each one piece of state with its writes, its reason and its replacement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from statekit.audit.score.model import Score

__all__ = ["Category", "Confidence", "Finding", "Report", "Severity", "Site"]


class Category(StrEnum):
    """What a piece of state is for; each has one primitive that replaces it."""

    RATE_LIMITER = "rate_limiter"
    FLAG_CACHE = "flag_cache"
    CLIENT_POOL = "client_pool"
    TENANT_CONFIG = "tenant_config"
    SESSION_STORE = "session_store"
    MEMO_CACHE = "memo_cache"
    BACKGROUND_WORKER = "background_worker"
    CONNECTION_MANAGER = "connection_manager"
    LOCK = "lock"
    COUNTER = "counter"
    EVENT_BUS = "event_bus"
    MISCONFIG = "misconfig"
    OTHER_SINGLETON = "other_singleton"


class Confidence(StrEnum):
    """How sure the audit is that a reviewer would agree."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Severity(StrEnum):
    """What two workers do to it: wrong answers, lost or doubled work, or only waste."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Site:
    """A place where the state is changed, and the handler through which a request gets there ('' if none is known)."""

    path: str
    line: int
    handler: str = ""
    function: str = ""
    """The function that makes the change."""
    route: str = ""
    """How a request gets to the handler: ``POST /login``, or what else makes it one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of state in the memory of a process."""

    rule: str
    """Stable id, such as ``SK101``."""
    category: Category
    confidence: Confidence
    severity: Severity
    path: str
    """Of the binding, relative to what was audited, with forward slashes."""
    line: int
    """Of the binding; of the ``def`` where a decorator keeps the state."""
    name: str
    """The bound name alone."""
    qualified_name: str
    """The name with its class or function and its module."""
    writes: tuple[Site, ...]
    why: str
    """What breaks with two workers, in one sentence."""
    replacement: str
    """What to use instead, in the project's own names."""
    keep: str = ""
    """What has to stay in the process, where something has."""
    evidence: tuple[str, ...] = ()
    """What made the audit believe it."""
    status: str = "open"
    """open · suppressed or accepted (a comment at the binding says why) · baseline (known before)"""
    reason: str = ""
    """Why it was suppressed or accepted, in the words of the comment."""
    part_of: str = ""
    """The qualified name of the state whose object keeps this in an attribute; '' for a finding of its own."""
    parts: tuple[Finding, ...] = ()
    """What the object keeps in its attributes, each with its own category: told with it, not counted beside it."""

    def with_status(self, status: str, reason: str = "") -> Finding:
        """The same with another status, its parts too, but for those a comment of their own speaks of."""
        parts = tuple(one.with_status(status, reason) if one.status == "open" else one for one in self.parts)
        return replace(self, status=status, reason=reason, parts=parts)


@dataclass(frozen=True, slots=True)
class Report:
    """All that one audit found."""

    findings: tuple[Finding, ...]
    unparsed: tuple[tuple[str, str], ...] = ()
    """Files that could not be read, and why."""
    files: int = 0
    lines: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())
    """What else is to be said: unused suppressions, stale entries of a baseline."""
    root: str = ""
    """The folder that paths are relative to."""
    prefix: str = ""
    """What to put before every path to make it relative to the working directory: ``src/``, or ''."""
    hidden: tuple[tuple[Confidence, int], ...] = ()
    """How many open findings of lower confidence were left out, by confidence."""
    score: Score | None = None
    """The extraction score, where it was asked for."""
