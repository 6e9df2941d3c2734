"""The kit: one object that knows the store and hands out the primitives.

No logic lives here; its twin for asyncio is `statekit.async_kit`. A primitive's code is
imported when it is first asked for: an app that only limits rates does not pay for tenants at every start.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import WeakSet

from statekit.errors import StoreError
from statekit.store.connect import carried, connected
from statekit.store.durations import Duration
from statekit.store.hooks import Hooks
from statekit.store.memory import AsyncMemoryTransport, MemoryTransport
from statekit.store.op import Op, command, together
from statekit.store.outage import Budget
from statekit.store.store import AsyncStore, Clock, Store

if TYPE_CHECKING:
    from statekit.flags.faces import Flags
    from statekit.inflight.faces import InFlight
    from statekit.pools.faces import Pools
    from statekit.ratelimit.decision import Decision
    from statekit.ratelimit.faces import Pairs, RateLimiter
    from statekit.ratelimit.limits import LimitLike
    from statekit.ratelimit.rule import Workers
    from statekit.replica.faces import Replica
    from statekit.replica.file import Directory
    from statekit.sessions.cookie import CookiePolicy
    from statekit.sessions.encryption import Encryption
    from statekit.sessions.faces import Sessions
    from statekit.tenants.faces import Tenants
    from statekit.tenants.layers import Overrides
    from statekit.tenants.settings import TenantSettings

__all__ = ["Kit", "StateKit"]

S = TypeVar("S", Store, AsyncStore)
T = TypeVar("T")
F = TypeVar("F")
M = TypeVar("M", bound="TenantSettings")


def twins() -> dict[str, Any]:
    """The in-memory twin of every script."""
    from statekit.inflight.memory import TWINS as IN_FLIGHT
    from statekit.pools.memory import TWINS as POOLS
    from statekit.ratelimit.memory import TWINS as LIMITS
    from statekit.replica.memory import TWINS as REPLICA
    from statekit.sessions.memory import TWINS as SESSIONS
    from statekit.store.roster import TWINS as ROSTER

    return {**IN_FLIGHT, **LIMITS, **POOLS, **REPLICA, **ROSTER, **SESSIONS}


class Kit(Generic[S]):
    """What the blocking and the asyncio kit share."""

    store: S
    draft_copies: bool = True

    def __init__(self, store: S, snapshot_dir: Directory = "auto") -> None:
        self.store = store
        self.snapshot_dir = snapshot_dir
        """Where the last-known-good copies of flags and tenants are kept on this host: ``"auto"`` is
        ``$XDG_STATE_HOME/statekit`` or this user's own directory among the temporary files; None: nowhere."""
        self._made: dict[str, Any] = {}

    @classmethod
    def _over(cls, store: S, snapshot_dir: Directory = "auto") -> Self:
        kit = cls.__new__(cls)
        Kit.__init__(kit, store, snapshot_dir)
        return kit

    def _once(self, name: str, make: Callable[[], F]) -> F:
        """What was made under a name; threads that ask at the same time all get the first one."""
        found = self._made.get(name)
        return self._made.setdefault(name, make()) if found is None else found  # type: ignore[no-any-return]

    def _giving_back(self) -> Op[Any]:
        """Settle the slices of limits this process has leased; one that cannot be lapses by itself."""
        return together(*(limiter.giving_back() for limiter in tuple(self._made.get("leased", ()))))

    def _replicas(self) -> list[Any]:
        return [made for name, made in tuple(self._made.items()) if name.startswith("replica:")]

    def _snapshots(self) -> Path | None:
        from statekit.replica.file import snapshot_directory

        memory = isinstance(self.store.transport, MemoryTransport | AsyncMemoryTransport)
        return None if memory else snapshot_directory(self.snapshot_dir)

    @property
    def namespace(self) -> str:
        """The part of every key that keeps this app apart from others on the same server."""
        return self.store.keys.namespace

    @property
    def hooks(self) -> Hooks:
        """Where to subscribe to what the kit does: round trips, degraded answers."""
        return self.store.hooks

    def hitting_all(self, pairs: Pairs) -> Op[Decision]:
        """The operation behind `hit_all`, to share a round trip with others; see `run`."""
        from statekit.ratelimit.faces import hitting_all

        return hitting_all(pairs)

    def describe(self) -> str:
        """Say in one line what this kit talks to; no credentials."""
        return f"{type(self).__name__}(namespace={self.namespace!r}) -> {self.store.transport.describe()!s}"

    __repr__ = describe


class StateKit(Kit[Store]):
    """Shared state for blocking code; thread-safe, fork-safe, one a process is enough."""

    def __init__(
        self,
        client: Any,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        replicas: int = 0,
    ) -> None:
        store = Store(carried(client), namespace, budget=budget, clock=clock, replicas=replicas)
        super().__init__(store)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        snapshot_dir: Directory = "auto",
        replicas: int = 0,
    ) -> Self:
        """Connect by URL; without one, ``$STATEKIT_URL``, else the embedded server of this project.

        `replicas`: how many replicas must confirm a write whose loss would do harm (a sign-in, a revocation, a
        flag, a tenant's settings) before the call returns; else it raises `NotReplicated`.
        """
        store = Store(connected(url, budget), namespace, budget=budget, clock=clock, replicas=replicas)
        return cls._over(store, snapshot_dir)

    @classmethod
    def in_memory(
        cls, namespace: str = "statekit", *, clock: Clock | None = None, draft_copies: bool = True
    ) -> Self:
        """The per-process twin: everything works as on a server, except that nothing is shared.

        ``draft_copies=False`` makes ``tenants.draft`` hand out the process's own live settings, as a dict of
        configurations in a module does: the leak between requests that the demo measures. For nothing else.
        """
        kit = cls._over(Store(MemoryTransport(twins()), namespace, clock=clock))
        kit.draft_copies = draft_copies
        return kit

    def _replica(self, name: str) -> Replica:
        from statekit.replica.faces import Replica

        return self._once(f"replica:{name}", lambda: Replica(self.store, name, self._snapshots()))

    def tenants(
        self,
        settings: type[M],
        *,
        name: str = "tenants",
        defaults: M | Overrides | None = None,
        group_by: str | None = None,
        strict: bool = False,
    ) -> Tenants[M]:
        """The settings of each tenant, of a class derived from `TenantSettings`.

        `name` tells registries of one app apart. `defaults` are laid over those of the class. `group_by` names
        a field, such as "plan", whose value chooses one more layer between the defaults and the tenant.
        `strict`: a tenant without a document is an `UnknownTenant`. Raises `UsageError` if a field has no
        default. Registries of one name share one local copy.
        """
        from statekit.tenants.core import registry_replica
        from statekit.tenants.faces import Tenants
        from statekit.tenants.layers import Layers

        return Tenants(
            self._replica(registry_replica(name)),
            self.hooks,
            Layers(settings, defaults),
            group_by=group_by,
            strict=strict,
            draft_copies=self.draft_copies,
        )

    @cached_property
    def flags(self) -> Flags:
        """Feature flags, answered from a local copy."""
        from statekit.flags.faces import Flags

        return self._once("flags", lambda: Flags(self._replica("flags"), self.hooks, self.store.clock))

    @cached_property
    def pools(self) -> Pools:
        """Clients of third parties, bounded per process and for the whole fleet."""
        from statekit.pools.faces import Pools

        return self._once("pools", lambda: Pools(self.store))

    def ping(self, budget: float | None = None) -> float:
        """Ask the store for a sign of life, for `budget` seconds at most; returns the seconds it took.

        Raises `StoreUnavailable`.
        """
        start = perf_counter()
        self.store.run(command("PING", read_only=True), budget)
        return perf_counter() - start

    def run(self, op: Op[T], budget: float | None = None) -> T:
        """Run an operation; with `statekit.together`, several primitives share their round trips.

        The operations are what each primitive's gerund returns:
        ``kit.run(together(store.opening(cookie), login.hitting(ip)))`` is one round trip. Each may take
        `budget` seconds, by default what the kit's `Budget` allows an operation.
        """
        return self.store.run(op, budget)

    def rate_limiter(
        self,
        name: str,
        *limits: LimitLike,
        algorithm: str = "sliding-log",
        on_outage: str = "allow",
        shadow: bool = False,
        workers: Workers | None = None,
        local_refusals: bool = True,
        lease: bool = False,
    ) -> RateLimiter:
        """Hold callers to limits, such as ``"5/minute"``, counted in the store for all processes together.

        `algorithm`: "sliding-log" (exact), "sliding-counter", "gcra" or "fixed-window". `on_outage`: what to
        answer with the store down, "allow", "deny", or "local": this process's share, the limits divided by
        `workers`, by default as many as live. `shadow`: decide and count, never refuse. `local_refusals`: whether
        a caller who was refused is refused again without asking the store, until a permit can exist. `lease`:
        whether this process takes slices of the limit in advance and spends them without asking; the limit holds
        as strictly. Raises `UsageError` for anything malformed.
        """
        from statekit.ratelimit.faces import RateLimiter

        limiter = RateLimiter(
            self.store,
            name,
            *limits,
            algorithm=algorithm,
            on_outage=on_outage,
            shadow=shadow,
            workers=workers,
            local_refusals=local_refusals,
            lease=lease,
        )
        if lease:
            leased: WeakSet[Any] = self._once("leased", WeakSet)
            leased.add(limiter)
        return limiter

    def hit_all(self, pairs: Pairs) -> Decision:
        """Hit several limiters at once, ``[(by_ip, ip), (by_user, uid, 3)]``: all are charged, or none.

        One round trip; on a cluster a refusal may take a second one, see docs/rate-limits.md. Raises `UsageError`
        for a malformed pair.
        """
        return self.store.run(self.hitting_all(pairs), self.store.budget.decision)

    def in_flight(self, name: str, limit: int, *, lease: Duration = 30, on_outage: str = "allow") -> InFlight:
        """Bound how many run at once, for each key, over all processes: ``with kit.in_flight("reports", 10).hold(key)``.

        A slot is a lease of `lease` seconds, renewed in the background: what a killed process held is free
        after that. `on_outage`: with the store down, "allow" or "deny". Raises `UsageError` for a limit that is
        not a whole number from 0 and for a lease below half a second.
        """
        from statekit.inflight.faces import InFlight
        from statekit.inflight.keeper import Keeper

        keeper = self._once("in_flight", lambda: Keeper(self.store))
        return InFlight(self.store, keeper, name, limit, lease=lease, on_outage=on_outage)

    def sessions(  # noqa: PLR0913 - one visible signature for all that an app may choose
        self,
        idle: Duration = 7200,
        absolute: Duration = 43200,
        *,
        touch_after: float = 0.25,
        grace: Duration = 10,
        max_bytes: int = 65536,
        on_outage: str = "raise",
        last_seen_for: Duration = 60,
        encryption: Encryption | None = None,
        cookie: CookiePolicy | None = None,
    ) -> Sessions:
        """Sessions that end after `idle` without use, and after `absolute` whatever happens.

        `touch_after`: the share of `idle` that must have gone before a mere read is written down. `grace`:
        how long a renewed session's old id still shows the view it had. `max_bytes`: the size budget of one
        session. `on_outage`: what a session shows that cannot be read: nothing ("raise"), an empty one
        ("anonymous"), or what this process saw last, `last_seen_for` ago at most ("last-seen"). `encryption`: an
        `Encryption`, so that values do not lie open in the store. Raises `UsageError` for rules that contradict
        each other.
        """
        from statekit.sessions.cookie import STANDARD
        from statekit.sessions.faces import Sessions
        from statekit.sessions.model import Rules

        rules = Rules(idle, absolute, touch_after, grace, max_bytes, on_outage, last_seen_for)
        return Sessions(self.store, rules, cookie or STANDARD, encryption)

    def close(self) -> None:
        """Stop background work, give back what is held, and close connections the kit opened itself."""
        with suppress(StoreError):
            self.store.run(self._giving_back())
        if "in_flight" in self._made:
            self._made["in_flight"].close()
        if "pools" in self._made:
            self.pools.close()
        for replica in self._replicas():
            replica.close()
        self.store.close()

    def __enter__(self) -> Self:
        self.flags.load()
        for replica in self._replicas():
            replica.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
