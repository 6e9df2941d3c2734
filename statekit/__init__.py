"""statekit makes Python web apps stateless.

    from statekit import StateKit
    kit = StateKit.connect("redis://localhost:6379/0", namespace="atlas")

Importing this opens no connection, starts no thread and reads no environment. A name's module is imported when
the name is first asked for (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statekit.async_kit import AsyncStateKit
    from statekit.audit.guard import guard
    from statekit.errors import (
        NonPrimitiveValue,
        PoolExhausted,
        StatekitError,
        StoreError,
        StoreUnavailable,
        UsageError,
        VersionConflict,
    )
    from statekit.flags import AsyncFlags, Flag, Flags, Rule, Variant
    from statekit.inflight import AsyncInFlight, InFlight
    from statekit.kit import StateKit
    from statekit.pools import AsyncPools, Pools
    from statekit.ratelimit import (
        AsyncRateLimiter,
        AsyncReservation,
        Decision,
        Limit,
        RateLimiter,
        Reservation,
    )
    from statekit.sessions import AsyncSessions, CookiePolicy, Encryption, SaveOutcome, Session, Sessions
    from statekit.store import Budget, Op, together
    from statekit.store.embedded import Embedded
    from statekit.tenants import TenantSettings
    from statekit.tenants.faces import AsyncTenants, Tenants

__version__ = "0.2.0"

_HOMES = {
    name: home
    for home, names in {
        "statekit.async_kit": ("AsyncStateKit",),
        "statekit.audit.guard": ("guard",),
        "statekit.errors": (
            "NonPrimitiveValue",
            "NotReplicated",
            "PoolExhausted",
            "StatekitError",
            "StoreError",
            "StoreUnavailable",
            "UsageError",
            "VersionConflict",
        ),
        "statekit.flags": ("AsyncFlags", "Flag", "Flags", "Rule", "Variant"),
        "statekit.inflight": ("AsyncInFlight", "InFlight"),
        "statekit.kit": ("StateKit",),
        "statekit.pools": ("AsyncPools", "Pools"),
        "statekit.ratelimit": (
            "AsyncRateLimiter",
            "AsyncReservation",
            "Decision",
            "Limit",
            "RateLimiter",
            "Reservation",
        ),
        "statekit.sessions": (
            "AsyncSessions",
            "CookiePolicy",
            "Encryption",
            "SaveOutcome",
            "Session",
            "Sessions",
        ),
        "statekit.store": ("Budget", "Op", "together"),
        "statekit.store.embedded": ("Embedded",),
        "statekit.tenants": ("TenantSettings",),
        "statekit.tenants.faces": ("AsyncTenants", "Tenants"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home, once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'statekit' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AsyncFlags",
    "AsyncInFlight",
    "AsyncPools",
    "AsyncRateLimiter",
    "AsyncReservation",
    "AsyncSessions",
    "AsyncStateKit",
    "AsyncTenants",
    "Budget",
    "CookiePolicy",
    "Decision",
    "Embedded",
    "Encryption",
    "Flag",
    "Flags",
    "InFlight",
    "Limit",
    "NonPrimitiveValue",
    "NotReplicated",
    "Op",
    "PoolExhausted",
    "Pools",
    "RateLimiter",
    "Reservation",
    "Rule",
    "SaveOutcome",
    "Session",
    "Sessions",
    "StateKit",
    "StatekitError",
    "StoreError",
    "StoreUnavailable",
    "TenantSettings",
    "Tenants",
    "UsageError",
    "Variant",
    "VersionConflict",
    "guard",
    "together",
]
