"""Feature flags: documents shared by the fleet, compiled to closures, answered locally."""

from __future__ import annotations

from statekit.flags.compiled import Reason
from statekit.flags.core import Flag, Kind, Rule, Variant
from statekit.flags.explain import (
    Explanation,
    FlagChange,
    FlagInvalid,
    FlagMismatch,
    FlagRevision,
    FlagUnknown,
)
from statekit.flags.faces import AsyncFlags, Flags

__all__ = [
    "AsyncFlags",
    "Explanation",
    "Flag",
    "FlagChange",
    "FlagInvalid",
    "FlagMismatch",
    "FlagRevision",
    "FlagUnknown",
    "Flags",
    "Kind",
    "Reason",
    "Rule",
    "Variant",
]
