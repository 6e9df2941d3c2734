"""In flight: how many at once, over all processes, as leases with fences.

Footprint
    ``sk1:<ns>:flight:{<name>:<key>}``  zset, one member a slot, scored by the end of its lease; TTL: twice the
    longest lease, from every grant and renewal on. Channel ``sk1:<ns>:flight:{<name>}:freed``.
    Scripts: ``inflight.acquire``, ``inflight.renew``, ``inflight.release``, ``inflight.view``.

Guarantee
    At most `limit` leases of a key run at the same moment, by the store's clock. A holder that dies is gone
    after one `lease`; one that lives renews at a third of it, all holds of a process in one round trip. Fences
    grow with every slot taken of a key: a resource that refuses a fence lower than the highest it has seen is
    safe from a holder that lost its slot and does not know it yet. A slot is renewed and given back by its own
    fence only, and a lease that has run out is never brought back: its holder is told, ``hold.lost``.

Not guaranteed
    That a holder stops working when its lease runs out: a process that was frozen learns of it when it wakes.
    That is what the fence is for. Order among waiters of different processes: within one it is first come,
    first served. Slots a primary had not replicated when it failed are free on the new one; their holders are
    told by their next renewal. Fences grow across the loss of a key as long as the store's clock was not set
    back behind the last one.

Store down
    ``on_outage="allow"`` (default): the block runs, with a hold that is ``degraded``, has the fence 0 and counts
    nowhere. ``"deny"``: refused. Leaving a block never raises for the store; the slot is given back when the
    store is there again, or its lease ends. All of it is told to the hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from statekit.errors import (
    CorruptValue,
    InFlightUnknown,
    StoreError,
    StoreRejected,
    TooManyInFlight,
    UsageError,
)
from statekit.store.durations import Duration, micros
from statekit.store.op import Call, Op, Reply, Script

__all__ = [
    "Answers",
    "Grant",
    "HoldLost",
    "Holder",
    "OnOutage",
    "Rule",
    "Slot",
    "acquiring",
    "counting",
    "refusal",
    "releasing",
    "renewing",
    "viewing",
]

ACQUIRE = Script.load(__package__, "acquire")
RENEW = Script.load(__package__, "renew")
RELEASE = Script.load(__package__, "release")
VIEW = Script.load(__package__, "view", read_only=True)

LARGEST = 1_000_000
SHORTEST_LEASE_US = 500_000
ANNOUNCED_US = 2_000_000
"""How long a waiter's wish to hear of a free slot stands; it asks again well before."""
OUTAGE_RETRY = 1.0
"""Seconds a caller refused for an outage is told to wait: the breaker asks the store again well before."""
MISUSE = ("CROSSSLOT", "ERR", "NOPERM", "WRONGTYPE")
"""Rejections that do not pass by themselves: raised, for answering them with a policy would hide them."""


class OnOutage(StrEnum):
    """What to answer when the store cannot be asked."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """How many at once, and for how long without a sign of life.

    Raises `UsageError` for a limit that is not a whole number from 0 to 1,000,000, for a lease that is not a
    duration of half a second or more, and for an unknown policy.
    """

    name: str
    limit: int
    lease: Duration = 30
    on_outage: str = OnOutage.ALLOW
    lease_us: int = field(init=False)
    """The lease in microseconds."""

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int):
            raise UsageError(f"limit={self.limit!r} is not a whole number: say how many at once, such as 10")
        if not 0 <= self.limit <= LARGEST:
            raise UsageError(f"limit={self.limit} is out of range: give 0 (refuse all) to {LARGEST:,}")
        object.__setattr__(self, "lease_us", micros(self.lease, "lease"))
        if self.lease_us < SHORTEST_LEASE_US:
            raise UsageError(f"lease={self.lease!r} is too short to renew in time: give 0.5 seconds or more")
        if self.on_outage not in tuple(OnOutage):
            raise UsageError(f"on_outage={self.on_outage!r}: give 'allow' or 'deny'")


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to one attempt to take a slot."""

    allowed: bool
    in_flight: int = 0
    """Slots of the key that are taken, this one included."""
    fence: int = 0
    """Grows with every slot taken of a key; 0: none was taken."""
    retry_after: float | None = 0.0
    """Seconds until a slot comes free if nobody renews; 0.0 if allowed, None if never."""
    error: StoreError | None = None
    """Why the store could not be asked: this is the answer declared as ``on_outage``."""


class Slot(NamedTuple):
    """What is needed to renew a slot, or to give it back."""

    key: str
    channel: str
    member: str
    lease_us: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds one slot."""

    worker: str
    """The process: host, pid, and a random part."""
    fence: int
    since: datetime
    """When it was taken, by the store's clock."""
    until: datetime
    """When its lease ends unless it is renewed."""


@dataclass(frozen=True, slots=True)
class HoldLost:
    """An event for hooks: a hold of this process has lost its slot while it was in use."""

    subject: str
    """The name and key, as ``name:key``."""
    fence: int


def acquiring(rule: Rule, key: str, token: str, now: int | str, *, announce: bool) -> Op[Grant]:
    """Try once to take a slot; if there is none and `announce` is true, the next free one is announced."""
    try:
        outcome, figure, other = yield from ACQUIRE(
            (key,), (rule.limit, rule.lease_us, token, ANNOUNCED_US if announce else 0, now)
        )
    except StoreError as error:
        if isinstance(error, StoreRejected) and str(error).startswith(MISUSE):
            raise
        return _substitute(rule, error)
    if outcome == b"held":
        return Grant(allowed=True, in_flight=other, fence=figure)
    return Grant(allowed=False, in_flight=figure, retry_after=None if other < 0 else other / 1e6)


def _substitute(rule: Rule, error: StoreError) -> Grant:
    """Answer without the store. A limit of 0 refuses all, whatever happens."""
    if rule.limit == 0:
        return Grant(allowed=False, retry_after=None, error=error)
    allowed = rule.on_outage == OnOutage.ALLOW
    return Grant(allowed, retry_after=0.0 if allowed else OUTAGE_RETRY, error=error)


def refusal(rule: Rule, key: str, grant: Grant) -> TooManyInFlight:
    """Say why a block was not entered."""
    where, wait, kind = f"{rule.name!r} for {key!r}", grant.retry_after, TooManyInFlight
    if wait is None:
        why = f"the limit is {rule.limit}, which refuses all"
    elif grant.error is not None:
        kind = InFlightUnknown
        why = f"how many are in flight is unknown, and on_outage='deny': {grant.error}"
    else:
        why = (
            f"{grant.in_flight} of {rule.limit} are in flight; a slot is free as soon as a block ends, "
            f"or in {wait:.1f} s if its process is gone"
        )
    return kind(f"{where}: {why}", limit=rule.limit, in_flight=grant.in_flight, retry_after=wait)


Answers: TypeAlias = dict[Slot, bool | StoreError]
"""What became of each slot: still its holder's or not, or why that is unknown."""


def renewing(slots: Sequence[Slot], now: int | str) -> Op[Answers]:
    """Prolong slots, in one round trip; a slot that is gone is not brought back."""
    return _each(slots, lambda one, members: RENEW.call((one.key,), (one.lease_us, now, *members)))


def releasing(slots: Sequence[Slot], now: int | str) -> Op[Answers]:
    """Give slots back, in one round trip."""
    return _each(slots, lambda one, members: RELEASE.call((one.key,), (one.channel, now, *members)))


def _each(slots: Sequence[Slot], call: Callable[[Slot, list[str]], Call]) -> Op[Answers]:
    """Send one call for each key and lease, and tell the answers apart; never raises for the store."""
    groups: dict[tuple[str, int], list[Slot]] = {}
    for slot in slots:
        groups.setdefault((slot.key, slot.lease_us), []).append(slot)
    calls = tuple(call(group[0], [slot.member for slot in group]) for group in groups.values())
    replies: Sequence[Reply]
    try:
        replies = (yield calls) if calls else ()
    except StoreError as error:
        return dict.fromkeys(slots, error)
    answers: Answers = {}
    for group, reply in zip(groups.values(), replies, strict=True):
        failed = isinstance(reply, StoreError)
        answers |= {slot: reply if failed else reply[at] == 1 for at, slot in enumerate(group)}
    return answers


def counting(key: str, now: int | str) -> Op[int]:
    """Count the slots of a key that are taken."""
    (taken,) = yield from VIEW((key,), (0, now))
    return int(taken)


def viewing(key: str, now: int | str) -> Op[tuple[Holder, ...]]:
    """List who holds the slots of a key, the one taken first at the front."""
    _, *rows = yield from VIEW((key,), (1, now))
    holders = map(_holder, rows[::2], rows[1::2])
    return tuple(sorted(holders, key=lambda holder: holder.fence))


def _holder(member: bytes, end: int) -> Holder:
    try:
        fence, worker, _ = member.decode().split(" ")
        return Holder(worker, int(fence), _moment(int(fence)), _moment(end))
    except (ValueError, OverflowError) as error:
        raise CorruptValue(f"{member[:40]!r} is no slot that statekit gave out") from error


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)
