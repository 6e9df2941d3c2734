"""Every error statekit raises, as one tree.

Rule 1: each class says whose fault it is (``fault``) and which HTTP status fits (``http_status``), so that an
        adapter maps errors to responses without a table of its own.
Rule 2: a message names the value at fault and the cure. It never carries a credential.
Rule 3: this file imports nothing from statekit.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "BudgetError",
    "CorruptValue",
    "DocumentInvalid",
    "Fault",
    "InFlightUnknown",
    "LimitExceeded",
    "NonPrimitiveValue",
    "NotReplicated",
    "OutsideScope",
    "PoolExhausted",
    "SessionError",
    "SessionTooLarge",
    "SettingsFrozen",
    "StateNotShared",
    "StatekitError",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreRejected",
    "StoreTimeout",
    "StoreUnavailable",
    "TooManyInFlight",
    "UnknownFlag",
    "UnknownPool",
    "UnknownTenant",
    "UsageError",
    "VersionConflict",
]


class Fault(StrEnum):
    """Whose fault an error is: the code that called, the peer that sent a request, or the store."""

    CALLER = "caller"
    PEER = "peer"
    STORE = "store"


class StatekitError(Exception):
    """The root of all errors of this library; catch it to catch them all."""

    fault: ClassVar[Fault] = Fault.CALLER
    http_status: ClassVar[int] = 500


class UsageError(StatekitError, ValueError):
    """An argument that cannot mean anything: a malformed limit, a key of the wrong type, a negative cost."""


# -- the store -------------------------------------------------------------------------------------------


class StoreError(StatekitError):
    """The shared store did not do what was asked."""

    fault = Fault.STORE
    http_status = 503


class StoreUnavailable(StoreError):
    """The store cannot be reached, or its circuit is open. Whether a write was applied is unknown."""

    part: str = ""
    """The node of a cluster it is about, while the others answer; empty if it is the whole store."""


class StoreTimeout(StoreUnavailable):
    """The store did not answer within the time budget. Whether a write was applied is unknown."""


class StoreRejected(StoreError):
    """The store answered with an error. Nothing was applied by the command it is about."""


class StoreFull(StoreRejected):
    """The store is out of memory (``OOM``): it refuses writes until something expires or it gets more."""


class StoreReadOnly(StoreRejected):
    """The store refuses writes (``READONLY``, ``MISCONF``, ``NOREPLICAS``): a replica, or a primary that cannot keep them."""


class NotReplicated(StoreError):
    """A write was applied by the primary, but too few replicas confirmed it in time: a failover now would lose it.

    Raised with ``replicas=…`` alone. The call did all it was asked to do; to say it again is safe.
    """

    def __init__(self, message: str, *, confirmed: int = 0, wanted: int = 0) -> None:
        super().__init__(message)
        self.confirmed = confirmed
        """Replicas known to have the write."""
        self.wanted = wanted
        self.result: Any = None
        """What the call would have returned."""


# -- the primitives --------------------------------------------------------------------------------------


class LimitExceeded(StatekitError):
    """A limit refused the call, and the caller asked for an exception instead of an answer."""

    fault = Fault.PEER
    http_status = 429

    def __init__(self, message: str, *, decision: Any = None) -> None:
        super().__init__(message)
        self.decision = decision
        """What the rate limiter decided, a `Decision`; None where none was made."""


class TooManyInFlight(LimitExceeded):
    """All slots of a key are taken, and none came free in time; the message says how many, and until when."""

    def __init__(
        self, message: str, *, limit: int = 0, in_flight: int = 0, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.in_flight = in_flight
        """Slots taken when it was decided; 0 if the store could not be asked."""
        self.retry_after = retry_after
        """Seconds until a slot is free if no holder renews; None if the limit refuses all."""


class InFlightUnknown(TooManyInFlight):
    """The store could not be asked how many are in flight, and the limit was declared to refuse then."""

    fault = Fault.STORE
    http_status = 503


class SessionError(StatekitError):
    """The root of what can go wrong with a session."""


class NonPrimitiveValue(SessionError, UsageError, TypeError):
    """A value that is not data was about to be stored; the message names where it stands and what to store."""


class SessionTooLarge(SessionError, UsageError):
    """A session outgrew its size budget; the message names the largest keys."""


class UnknownFlag(UsageError, LookupError):
    """A flag nobody has set was to be changed or deleted; nothing was written."""


class PoolExhausted(StatekitError, TimeoutError):
    """No connection came free in time; the message names who holds what."""

    fault = Fault.CALLER
    http_status = 503

    def __init__(
        self, message: str, *, pool: str = "", bound: str = "", holders: tuple[object, ...] = ()
    ) -> None:
        super().__init__(message)
        self.pool = pool
        self.bound = bound
        """What was the limit: ``process``, ``fleet``, ``store`` or ``closed``."""
        self.holders = holders
        """Who holds what in this process, the longest first."""


class BudgetError(UsageError):
    """A connection budget that contradicts itself or what the fleet already agreed on."""


class UnknownPool(UsageError, LookupError):
    """A pool nobody has registered was asked for."""


class UnknownTenant(StatekitError, LookupError):
    """A tenant without a document was asked for, and the registry was told to be strict."""

    fault = Fault.PEER
    http_status = 404


class DocumentInvalid(UsageError):
    """A flag or tenant document does not validate; nothing was written."""

    http_status = 422


class SettingsFrozen(UsageError, TypeError, AttributeError):
    """Code tried to change a tenant's settings in place, for every request of the process; nothing changed.

    It is all three of the errors Python code raises for this, since callers expect one or another.
    """


class OutsideScope(StatekitError, RuntimeError):
    """The current tenant was asked for outside any ``tenants.scope``."""


class StateNotShared(StatekitError, RuntimeError):
    """Several workers are configured, and the audit found state that each of them would keep for itself."""


class VersionConflict(StatekitError):
    """Somebody else wrote first: the version expected is not the version there is. Nothing was written."""

    http_status = 409


class CorruptValue(StatekitError):
    """Bytes in the store are not what this format writes: another program wrote them, or they were damaged."""

    fault = Fault.STORE
