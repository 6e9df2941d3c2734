"""Connection pools with one budget for the whole fleet: the lease protocol and what callers are told.

Footprint
    ``sk1:<ns>:pool:{<name>}``  hash, one field a process (share, open, in use, waiting, lease); TTL twice the
    longest lease, set by every write. Nothing at all for a pool without ``fleet=``.
    Scripts: ``pools.renew`` (report, give back, claim), ``pools.release``, ``pools.view``.

Guarantee
    The shares of all processes whose lease has not run out never add up to more than the budget, and a
    process never has more connections open (being opened and being closed included) than its share. Shrink
    before grow: what one process gives up is granted to another only after its close returned, or its lease
    ran out. The clock is the store's. A share nobody uses moves to who waits: its holder is called over
    pub/sub, or learns of it by its next report (half a second). With fewer connections than waiting processes
    they take turns.

Not guaranteed
    A process that is stopped (SIGSTOP, a frozen VM) for longer than its lease keeps its sockets open while
    others are granted its share: nobody can close another's sockets. When it wakes it asks the store before
    it hands out a client again, and closes what is no longer its own. A client in use is never closed under
    its user. After the store lost its data, processes that were running re-book what they hold before
    anything is granted; a *new* process that claims before the first of them has reported (half a second)
    may be granted what is still in use.

Store down
    ``on_outage="keep"`` (default): a process keeps its last share, opens nothing beyond it, and says
    ``degraded`` in its statistics; while nobody reaches the store nobody can claim either, so the cap holds.
    Only a process cut off from a store that others still reach can push the total over the cap, by at most
    its own share, until it reaches the store again.
    ``on_outage="close"``: a process that cannot renew closes its idle connections before its lease runs out,
    those in use as they come back, and refuses checkouts: the cap holds even then, but the third party is
    gone when the store is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import CodeType

from statekit.errors import BudgetError, CorruptValue, StoreError, UsageError
from statekit.store.durations import Duration, seconds
from statekit.store.keys import encoded
from statekit.store.op import Op, Script

__all__ = [
    "Bound",
    "ConnectionLeaked",
    "FleetView",
    "Grant",
    "Holder",
    "OnOutage",
    "PoolConfig",
    "PoolStats",
    "ProcessShare",
    "Report",
    "releasing",
    "renewing",
    "viewing",
]

RENEW = Script.load(__package__, "renew")
RELEASE = Script.load(__package__, "release")
VIEW = Script.load(__package__, "view", read_only=True)

SLICE = 1_000_000
"""Microseconds a process may keep its only connection while other processes have none at all."""
SHORTEST_LEASE = 0.5


class OnOutage(StrEnum):
    """What a process does with its share when it cannot renew it."""

    KEEP = "keep"
    CLOSE = "close"


class Bound(StrEnum):
    """What kept a caller from getting a client."""

    PROCESS = "process"
    """This process's own cap, ``per_process``."""
    FLEET = "fleet"
    """The budget of the whole fleet."""
    STORE = "store"
    """The store is away, so no share could be claimed."""
    CLOSED = "closed"
    """The pool has been closed."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The bounds of one pool, checked on construction. Durations are seconds or `timedelta`.

    Raises `BudgetError` for caps that contradict each other, `UsageError` for anything else that cannot be.
    """

    name: str
    per_process: int = 4
    """Most connections of one process."""
    fleet: int | None = None
    """Most connections of all processes together; None: no common budget, and no talk to the store."""
    timeout: Duration = 5.0
    """How long a checkout waits unless it says otherwise."""
    idle: Duration | None = 60.0
    """A client unused that long is closed; None: never."""
    lifetime: Duration | None = 3600.0
    """A client is closed after that long, up to a tenth earlier so that not all go at once; None: never."""
    ping_after: Duration = 5.0
    """A client unused that long is pinged before it is handed out."""
    leak_after: Duration | None = 60.0
    """A client held that long is reported to the hooks, once; None: never."""
    lease: Duration = 6.0
    """A killed process's share returns to the others after that long."""
    on_outage: OnOutage = OnOutage.KEEP

    def __post_init__(self) -> None:
        encoded(self.name, "pool name")
        self._check_caps()
        for name in ("timeout", "idle", "lifetime", "ping_after", "leak_after", "lease"):
            given = getattr(self, name)
            if given is not None:
                given = seconds(given, name, zero=name in ("timeout", "ping_after"))
            elif name in ("timeout", "ping_after", "lease"):
                raise UsageError(f"{name}=None is not a duration: give seconds or a timedelta")
            object.__setattr__(self, name, given)
        if self.lease_seconds < SHORTEST_LEASE:
            raise UsageError(f"lease={self.lease!r} is too short to renew in time: give at least 0.5 seconds")
        object.__setattr__(self, "on_outage", _policy(self.on_outage))

    def _check_caps(self) -> None:
        for name, cap in (("per_process", self.per_process), ("fleet", self.fleet)):
            if cap is None and name == "fleet":
                continue
            if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
                raise BudgetError(f"pool {self.name!r}: {name}={cap!r}; give a whole number, 1 or more")
        if self.fleet is not None and self.per_process > self.fleet:
            raise BudgetError(
                f"pool {self.name!r}: per_process={self.per_process} passes fleet={self.fleet}; "
                "one process may have at most what the whole fleet may have"
            )

    @property
    def lease_seconds(self) -> float:
        return float(self.lease)  # type: ignore[arg-type]  # a float since __post_init__

    @property
    def tick(self) -> float:
        """Seconds between two reports of a process that holds or awaits connections."""
        return min(0.5, self.lease_seconds / 6)


def _policy(given: str) -> OnOutage:
    try:
        return OnOutage(given)
    except ValueError:
        raise UsageError(f'on_outage={given!r}: give "keep" or "close"') from None


# -- what callers are told -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a client: the thread or task, for how many seconds, and where it was checked out."""

    name: str
    seconds: float
    site: str

    def __str__(self) -> str:
        return f"{self.name} for {self.seconds:.1f} s since {self.site}"


@dataclass(frozen=True, slots=True)
class ConnectionLeaked:
    """Hook event: a client has been held longer than ``leak_after``; told once each time it is held."""

    pool: str
    holder: Holder


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One pool as this process sees it, now. Waits are of the last 256 checkouts that found no idle client."""

    name: str
    per_process: int
    share: int
    """Connections this process may have now; without a fleet budget its own cap."""
    open: int
    in_use: int
    idle: int
    waiting: int
    opened_total: int
    closed_total: int
    checkouts_total: int
    waited_total: int
    timeouts_total: int
    leaks_total: int
    wait_p50: float
    wait_max: float
    degraded: bool
    """The store could not be reached at the last report: the share is the last one known."""
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class ProcessShare:
    """One process in a fleet, as of its last report (at most about half a second ago while it is busy)."""

    worker: str
    share: int
    open: int
    in_use: int
    waiting: int
    budget: int
    """The cap this process was configured with."""
    lease_left: float


@dataclass(frozen=True, slots=True)
class FleetView:
    """All live processes of one pool. ``budget`` is the cap in force: the lowest any of them was given."""

    pool: str
    budget: int | None
    processes: tuple[ProcessShare, ...]
    settling: bool = False
    """The store lost its data: processes re-book what they hold, and nothing is granted meanwhile."""

    @property
    def shares(self) -> tuple[ProcessShare, ...]:
        """The shares, one a process: another name for `processes`."""
        return self.processes

    @property
    def granted(self) -> int:
        """The sum of all shares; never more than the budget."""
        return sum(process.share for process in self.processes)

    @property
    def open(self) -> int:
        return sum(process.open for process in self.processes)

    @property
    def conflict(self) -> bool:
        """Whether processes were configured with different budgets (a rollout under way, or a mistake)."""
        return len({process.budget for process in self.processes}) > 1


def call_site(code: CodeType | None, offset: int) -> str:
    """Write a place in code as ``file.py:12 in function``; computed late, since checkouts are many."""
    if code is None:
        return "an unknown place"
    line = next((line for start, end, line in code.co_lines() if start <= offset < end), None)
    return f"{code.co_filename}:{line or code.co_firstlineno} in {code.co_name}"


# -- the lease on a share --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """What a process tells the fleet, and asks of it. It must not open more than `keep` until answered."""

    worker: str
    seq: int
    epoch: int
    keep: int
    in_use: int
    waiting: int
    want: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a report. Without one (store away, or overtaken) only ``error`` says something."""

    share: int = 0
    surplus: int = 0
    epoch: int = 0
    budget: int = 0
    taken: int = 0
    processes: int = 0
    settling: bool = False
    error: StoreError | None = None


def renewing(key: str, config: PoolConfig, report: Report, now: int | str) -> Op[Grant]:
    """Report and renew; when the store is away the answer carries the error, and the share stays as it is."""
    lease = round(config.lease_seconds * 1_000_000)
    numbers = (report.seq, report.epoch, report.keep, report.in_use, report.waiting, report.want)
    assert config.fleet is not None
    try:
        reply = yield from RENEW((key,), (report.worker, *numbers, config.fleet, lease, SLICE, now))
    except StoreError as error:
        return Grant(error=error)
    if reply[0] == b"overtaken":
        return Grant(error=StoreError("a later report of this process arrived first"))
    share, surplus, epoch, budget, taken, processes, settling = map(int, reply[1:])
    return Grant(share, surplus, epoch, budget, taken, processes, bool(settling))


def releasing(key: str, worker: str, seq: int) -> Op[bool]:
    """Leave the fleet; false if there was nothing to give back or the store is away (the lease runs out)."""
    try:
        return bool((yield from RELEASE((key,), (worker, seq))))
    except StoreError:
        return False


def viewing(key: str, config: PoolConfig, now: int | str) -> Op[FleetView]:
    """Read the whole fleet. Raises `StoreError` when the store is away: a guess would be worth nothing."""
    reply = yield from VIEW((key,), (now,))
    pairs = zip(reply[2::2], reply[3::2], strict=True)
    processes = tuple(_process(worker, record, int(reply[0])) for worker, record in pairs)
    budgets = [process.budget for process in processes]
    budget = min((*budgets, config.fleet)) if config.fleet is not None else None
    return FleetView(config.name, budget, processes, bool(reply[1]))


def _process(worker: bytes, record: bytes, now: int) -> ProcessShare:
    try:
        share, open_, in_use, waiting, _want, expires, budget, *_ = map(int, record.split())
        left = (expires - now) / 1_000_000
        return ProcessShare(worker.decode(), share, open_, in_use, waiting, budget, lease_left=left)
    except (ValueError, OverflowError) as error:
        raise CorruptValue(f"{worker[:40]!r}: no report of a process that statekit wrote") from error


def median(values: Sequence[float]) -> float:
    """The middle value; 0.0 of nothing."""
    return sorted(values)[len(values) // 2] if values else 0.0


AllStats = Mapping[str, PoolStats]
