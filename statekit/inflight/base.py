"""What both colours of in-flight limits share: rules, operations, the state of a hold. No I/O."""

from __future__ import annotations

from time import monotonic
from typing import Any, Generic, TypeVar

from statekit.errors import StoreRejected, TooManyInFlight, UsageError
from statekit.inflight.core import Grant, Holder, Rule, Slot, acquiring, counting, refusal, viewing
from statekit.inflight.ledger import Held, Ledger
from statekit.store.durations import Duration, seconds
from statekit.store.keys import encoded
from statekit.store.op import Op
from statekit.store.store import AsyncStore, Store

__all__ = ["BaseHold", "BaseInFlight"]

S = TypeVar("S", Store, AsyncStore)
L = TypeVar("L", bound=Ledger)
H = TypeVar("H", bound="BaseHold[Any]")
F = TypeVar("F", bound="BaseInFlight[Any, Any, Any]")


class BaseHold(Generic[F]):
    """What both colours of a hold share: how it was decided, and whether it still stands."""

    __slots__ = ("_entered", "_flight", "_grant", "_held", "_timeout", "_where", "key")

    def __init__(self, flight: F, key: str, timeout: Duration = 0) -> None:
        self._flight = flight
        self._timeout = seconds(timeout, "timeout", zero=True)
        self._where = flight._key(key)  # noqa: SLF001 - its own face
        self._grant: Grant | None = None
        self._held: Held | None = None
        self._entered = False
        self.key = key
        """What the slot is a slot of."""

    def __del__(self) -> None:
        """Whoever drops a hold cannot release it any more: its slot is given back in the background."""
        held = getattr(self, "_held", None)
        if held is not None:
            self._flight._keeper.forsake(held)  # noqa: SLF001

    @property
    def allowed(self) -> bool:
        """Whether a slot was granted, or declared to be granted while the store is away; also after its end."""
        return self._grant is not None and self._grant.allowed

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def fence(self) -> int:
        """A number greater than that of every slot of this key before; 0 without a slot, or degraded.

        Hand it to what the block changes, and let that refuse a number lower than the highest it has seen.
        """
        return self._grant.fence if self._grant is not None else 0

    @property
    def lost(self) -> bool:
        """Whether the lease has run out, or may have, before the hold was released. Local; once true, it stays."""
        return self._held is not None and self._held.lapsed

    @property
    def degraded(self) -> bool:
        """The store could not be asked: this is the answer declared as ``on_outage``."""
        return self._grant is not None and self._grant.error is not None

    @property
    def in_flight(self) -> int:
        """How many slots of the key were taken when this was decided, its own included; 0 if that is unknown."""
        return self._grant.in_flight if self._grant is not None else 0

    @property
    def retry_after(self) -> float | None:
        """Seconds until a slot is free if no holder renews; 0.0 if allowed, None if the limit refuses all."""
        return self._grant.retry_after if self._grant is not None else 0.0

    def _enter(self) -> bool:
        """Note that a block begins; whether a slot has to be taken for it."""
        if self._entered or (self._held is not None and self._held.ended):
            raise UsageError(f"this hold of {self.key!r} was used before: make a new one for each block")
        self._entered = True
        return self._grant is None

    def _checked(self) -> TooManyInFlight | None:
        """The error for a block that must not be entered."""
        if self._grant is None or self._grant.allowed:
            return None
        return refusal(self._flight.rule, self.key, self._grant)

    def __repr__(self) -> str:
        told = ("allowed", "fence", "in_flight", "retry_after", "lost", "degraded")
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in told)
        return f"<{type(self).__name__} {self._flight.name!r} of {self.key!r}: {said}>"


class BaseInFlight(Generic[S, L, H]):
    """What both faces share."""

    _hold: type[H]

    def __init__(
        self,
        store: S,
        keeper: L,
        name: str,
        limit: int,
        *,
        lease: Duration = 30,
        on_outage: str = "allow",
    ) -> None:
        self.rule = Rule(name, limit, lease, on_outage)
        """The limit as it was checked."""
        self._store: S = store
        self._keeper: L = keeper
        self._tag = encoded(name, "in_flight name")
        self._channel = store.keys.of("flight", self._tag, suffix="freed")

    @property
    def name(self) -> str:
        """What is counted, in keys and in messages."""
        return self.rule.name

    @property
    def limit(self) -> int:
        """How many at once, for each key."""
        return self.rule.limit

    def holding(self, key: str) -> Op[H]:
        """The operation behind `acquire` without waiting, to share a round trip: ``kit.run(together(op, …))``.

        Its result is a hold that is allowed or refused, to be released like any other.
        """
        return self._taking(self._hold(self, key), announce=False)

    def releasing(self, hold: H) -> Op[bool]:
        """The operation behind ``hold.release()``."""
        held = hold._held  # noqa: SLF001 - its own hold
        if held is not None and self._keeper.take_out(held):
            return (yield from self._keeper.releasing(held))
        return False

    def counting(self, key: str) -> Op[int]:
        """The operation behind `count`."""
        return counting(self._key(key), self._store.now())

    def viewing(self, key: str) -> Op[tuple[Holder, ...]]:
        """The operation behind `holders`."""
        return viewing(self._key(key), self._store.now())

    def _key(self, key: str) -> str:
        return self._store.keys.of("flight", self._tag, encoded(key))

    def _taking(self, hold: H, *, announce: bool) -> Op[H]:
        """Try once. A slot that was granted without anybody hearing of it is given back in the background."""
        key, subject = hold._where, f"{self.name}:{hold.key}"  # noqa: SLF001 - its own hold
        self._keeper.begin(self.rule.lease_us)
        sent, token = monotonic(), self._keeper.token()
        asked = Slot(key, self._channel, f"0 {token}", self.rule.lease_us)
        try:
            grant = yield from acquiring(self.rule, key, token, self._store.now(), announce=announce)
        except GeneratorExit:
            self._keeper.doubt(asked)
            raise
        if grant.error is not None:
            self._keeper.report(subject, grant.error)
            if not isinstance(grant.error, StoreRejected):
                self._keeper.doubt(asked)
        elif grant.allowed:
            slot = Slot(key, self._channel, f"{grant.fence} {token}", self.rule.lease_us)
            hold._held = held = Held(slot, subject, grant.fence, sent + slot.lease_us / 1e6)  # noqa: SLF001
            self._keeper.add(held)
        hold._grant = grant  # noqa: SLF001
        return hold

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.limit} at once, lease {self.rule.lease} s>"
