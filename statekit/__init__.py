"""statekit makes Python web apps stateless.

    from statekit import StateKit
    kit = StateKit.connect("redis://localhost:6379/0", namespace="atlas")

Importing this opens no connection, starts no thread and reads no environment.
"""

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
from statekit.kit import AsyncStateKit, StateKit
from statekit.pools import AsyncPools, Pools
from statekit.ratelimit import AsyncRateLimiter, Decision, Limit, RateLimiter
from statekit.sessions import AsyncSessions, CookiePolicy, SaveOutcome, Session, Sessions
from statekit.store import Budget, Op, together
from statekit.tenants import TenantSettings
from statekit.tenants.faces import AsyncTenants, Tenants

__version__ = "0.1.0"

__all__ = [
    "AsyncFlags",
    "AsyncPools",
    "AsyncRateLimiter",
    "AsyncSessions",
    "AsyncStateKit",
    "AsyncTenants",
    "Budget",
    "CookiePolicy",
    "Decision",
    "Flag",
    "Flags",
    "Limit",
    "NonPrimitiveValue",
    "Op",
    "PoolExhausted",
    "Pools",
    "RateLimiter",
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
    "together",
]
