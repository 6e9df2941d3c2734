"""What the flags tell beside their answers: explanations, history, changes, and events for hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from statekit.flags.compiled import Reason
from statekit.flags.core import Flag

__all__ = ["Explanation", "FlagChange", "FlagInvalid", "FlagMismatch", "FlagRevision", "FlagUnknown"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a flag answers what it answers for one actor; made by the same evaluation as the answer."""

    name: str
    value: Any
    """What `value` returns; the caller's default where the flag has nothing to say."""
    enabled: bool
    variant: str | None
    reason: Reason
    rule: int | None
    """Index of the rule that decided."""
    bucket: int | None
    """The actor's bucket, 0 to 99,999; a rollout of P percent holds those below P * 1000."""
    version: int
    """The version of the flags that answered."""
    stale: bool
    suggestion: str | None = None
    """A flag of a similar name, if there is none of this one."""
    error: str | None = None
    """What is wrong with the latest document, if it does not make a flag."""


@dataclass(frozen=True, slots=True)
class FlagRevision:
    """One write in the history of the flags; a flag that did not exist, or no longer does, is None."""

    version: int
    at: datetime
    name: str
    by: str
    reason: str
    before: Flag | None = field(repr=False)
    after: Flag | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class FlagChange:
    """The flags of this process changed: which, and the version they have now."""

    names: frozenset[str]
    version: int


@dataclass(frozen=True, slots=True)
class FlagUnknown:
    """Event, once a name and process: a flag nobody has set was asked for."""

    name: str
    suggestion: str | None


@dataclass(frozen=True, slots=True)
class FlagInvalid:
    """Event: a document arrived that does not make a flag; what was known before stays in force."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class FlagMismatch:
    """Event, once a name and process: a flag's value is not of the type of the caller's default."""

    name: str
    value: Any
    default: Any
