"""The kit: one object that knows the store and hands out the primitives.

No logic lives here. `StateKit` and `AsyncStateKit` differ in the faces they hand out.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from statekit.flags.faces import AsyncFlags, Flags
from statekit.pools.faces import AsyncPools, Pools
from statekit.pools.memory import TWINS as POOLS
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.faces import AsyncRateLimiter, Pairs, RateLimiter, Workers, hitting_all
from statekit.ratelimit.limits import LimitLike
from statekit.ratelimit.memory import TWINS as LIMITS
from statekit.replica.faces import AsyncReplica, Replica
from statekit.replica.file import Directory, snapshot_directory
from statekit.replica.memory import TWINS as REPLICA
from statekit.sessions.cookie import STANDARD, CookiePolicy
from statekit.sessions.faces import AsyncSessions, Sessions
from statekit.sessions.memory import TWINS as SESSIONS
from statekit.sessions.model import Rules
from statekit.store.connect import carried, carried_async, connected, connected_async
from statekit.store.durations import Duration
from statekit.store.hooks import Hooks
from statekit.store.memory import AsyncMemoryTransport, MemoryTransport
from statekit.store.op import Op, command
from statekit.store.outage import Budget
from statekit.store.store import AsyncStore, Clock, Store
from statekit.tenants.faces import AsyncTenants, Tenants
from statekit.tenants.layers import Layers, Overrides
from statekit.tenants.settings import TenantSettings

__all__ = ["AsyncStateKit", "StateKit"]

S = TypeVar("S", Store, AsyncStore)
T = TypeVar("T")
M = TypeVar("M", bound=TenantSettings)


def _twins() -> dict[str, Any]:
    return {**LIMITS, **POOLS, **REPLICA, **SESSIONS}


class _Kit(Generic[S]):
    """What both kits share."""

    store: S
    snapshot_dir: Directory = "auto"
    """Where the last-known-good copies of flags and tenants are kept on this host: ``"auto"`` is
    ``$XDG_STATE_HOME/statekit`` or this user's own directory among the temporary files; None: nowhere."""
    draft_copies: bool = True

    @classmethod
    def _over(cls, store: S, snapshot_dir: Directory = "auto") -> Self:
        kit = cls.__new__(cls)
        kit.store = store
        kit.snapshot_dir = snapshot_dir
        return kit

    def _snapshots(self) -> Path | None:
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
        return hitting_all(pairs)

    def describe(self) -> str:
        """Say in one line what this kit talks to; no credentials."""
        return f"{type(self).__name__}(namespace={self.namespace!r}) -> {self.store.transport.describe()!s}"

    __repr__ = describe


class StateKit(_Kit[Store]):
    """Shared state for blocking code; thread-safe, fork-safe, one a process is enough."""

    def __init__(
        self,
        client: Any,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
    ) -> None:
        self.store = Store(carried(client), namespace, budget=budget, clock=clock)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        snapshot_dir: Directory = "auto",
    ) -> Self:
        """Connect by URL; without one, ``$STATEKIT_URL``, else the embedded server of this project."""
        store = Store(connected(url, budget), namespace, budget=budget, clock=clock)
        return cls._over(store, snapshot_dir)

    @classmethod
    def in_memory(
        cls, namespace: str = "statekit", *, clock: Clock | None = None, draft_copies: bool = True
    ) -> Self:
        """The per-process twin: everything works as on a server, except that nothing is shared.

        ``draft_copies=False`` makes ``tenants.draft`` hand out the process's own live settings, as a dict of
        configurations in a module does: the leak between requests that the demo measures. For nothing else.
        """
        kit = cls._over(Store(MemoryTransport(_twins()), namespace, clock=clock))
        kit.draft_copies = draft_copies
        return kit

    @cached_property
    def _replicas(self) -> dict[str, Replica]:
        return {}

    def _replica(self, name: str) -> Replica:
        return self._replicas.setdefault(name, Replica(self.store, name, self._snapshots()))

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
        return Tenants(
            self._replica(f"tenants:{name}"),
            self.hooks,
            Layers(settings, defaults),
            group_by=group_by,
            strict=strict,
            draft_copies=self.draft_copies,
        )

    @cached_property
    def flags(self) -> Flags:
        """Feature flags, answered from a local copy."""
        return Flags(self._replica("flags"), self.hooks, self.store.clock)

    @cached_property
    def pools(self) -> Pools:
        """Clients of third parties, bounded per process and for the whole fleet."""
        return Pools(self.store)

    def ping(self) -> float:
        """Ask the store for a sign of life; returns the seconds it took. Raises `StoreUnavailable`."""
        start = perf_counter()
        self.store.run(command("PING", read_only=True))
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
        workers: Workers = 1,
    ) -> RateLimiter:
        """Hold callers to limits, such as ``"5/minute"``, counted in the store for all processes together.

        `algorithm`: "sliding-log" (exact), "sliding-counter", "gcra" or "fixed-window". `on_outage`: what to
        answer with the store down, "allow", "deny", or "local": this process's share, the limits divided by
        `workers`. `shadow`: decide and count, never refuse. Raises `UsageError` for anything malformed.
        """
        return RateLimiter(
            self.store,
            name,
            *limits,
            algorithm=algorithm,
            on_outage=on_outage,
            shadow=shadow,
            workers=workers,
        )

    def hit_all(self, pairs: Pairs) -> Decision:
        """Hit several limiters at once, ``[(by_ip, ip), (by_user, uid, 3)]``: all are charged, or none.

        One round trip. On a cluster the keys must share a slot. Raises `UsageError` for a malformed pair.
        """
        return self.store.run(hitting_all(pairs), self.store.budget.decision)

    def sessions(
        self,
        idle: Duration = 7200,
        absolute: Duration = 43200,
        *,
        touch_after: float = 0.25,
        grace: Duration = 10,
        max_bytes: int = 65536,
        on_outage: str = "raise",
        cookie: CookiePolicy = STANDARD,
    ) -> Sessions:
        """Sessions that end after `idle` without use, and after `absolute` whatever happens.

        `touch_after`: the share of `idle` that must have gone before a mere read is written down. `grace`:
        how long a renewed session's old id still shows the view it had. `max_bytes`: the size budget of one
        session. `on_outage`: "raise" or "anonymous". Raises `UsageError` for rules that contradict each other.
        """
        rules = Rules(idle, absolute, touch_after, grace, max_bytes, on_outage)
        return Sessions(self.store, rules, cookie)

    def close(self) -> None:
        """Stop background work and close connections the kit opened itself."""
        if "pools" in self.__dict__:
            self.pools.close()
        for replica in self._replicas.values():
            replica.close()
        self.store.close()

    def __enter__(self) -> Self:
        self.flags.load()
        for replica in self._replicas.values():
            replica.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStateKit(_Kit[AsyncStore]):
    """Same as `StateKit`, for asyncio."""

    def __init__(
        self,
        client: Any,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
    ) -> None:
        self.store = AsyncStore(carried_async(client), namespace, budget=budget, clock=clock)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        snapshot_dir: Directory = "auto",
    ) -> Self:
        """Same as `StateKit.connect`, for asyncio."""
        store = AsyncStore(connected_async(url, budget), namespace, budget=budget, clock=clock)
        return cls._over(store, snapshot_dir)

    @classmethod
    def in_memory(
        cls, namespace: str = "statekit", *, clock: Clock | None = None, draft_copies: bool = True
    ) -> Self:
        """Same as `StateKit.in_memory`, for asyncio."""
        kit = cls._over(AsyncStore(AsyncMemoryTransport(_twins()), namespace, clock=clock))
        kit.draft_copies = draft_copies
        return kit

    @cached_property
    def _replicas(self) -> dict[str, AsyncReplica]:
        return {}

    def _replica(self, name: str) -> AsyncReplica:
        return self._replicas.setdefault(name, AsyncReplica(self.store, name, self._snapshots()))

    def tenants(
        self,
        settings: type[M],
        *,
        name: str = "tenants",
        defaults: M | Overrides | None = None,
        group_by: str | None = None,
        strict: bool = False,
    ) -> AsyncTenants[M]:
        """Same as `StateKit.tenants`, for asyncio."""
        return AsyncTenants(
            self._replica(f"tenants:{name}"),
            self.hooks,
            Layers(settings, defaults),
            group_by=group_by,
            strict=strict,
            draft_copies=self.draft_copies,
        )

    @cached_property
    def flags(self) -> AsyncFlags:
        """Same as `StateKit.flags`, for asyncio."""
        return AsyncFlags(self._replica("flags"), self.hooks, self.store.clock)

    @cached_property
    def pools(self) -> AsyncPools:
        """Same as `StateKit.pools`, for asyncio."""
        return AsyncPools(self.store)

    async def ping(self) -> float:
        """Same as `StateKit.ping`, for asyncio."""
        start = perf_counter()
        await self.store.run(command("PING", read_only=True))
        return perf_counter() - start

    async def run(self, op: Op[T], budget: float | None = None) -> T:
        """Same as `StateKit.run`, for asyncio."""
        return await self.store.run(op, budget)

    def rate_limiter(
        self,
        name: str,
        *limits: LimitLike,
        algorithm: str = "sliding-log",
        on_outage: str = "allow",
        shadow: bool = False,
        workers: Workers = 1,
    ) -> AsyncRateLimiter:
        """Same as `StateKit.rate_limiter`, for asyncio."""
        return AsyncRateLimiter(
            self.store,
            name,
            *limits,
            algorithm=algorithm,
            on_outage=on_outage,
            shadow=shadow,
            workers=workers,
        )

    async def hit_all(self, pairs: Pairs) -> Decision:
        """Same as `StateKit.hit_all`, for asyncio."""
        return await self.store.run(hitting_all(pairs), self.store.budget.decision)

    def sessions(
        self,
        idle: Duration = 7200,
        absolute: Duration = 43200,
        *,
        touch_after: float = 0.25,
        grace: Duration = 10,
        max_bytes: int = 65536,
        on_outage: str = "raise",
        cookie: CookiePolicy = STANDARD,
    ) -> AsyncSessions:
        """Same as `StateKit.sessions`, for asyncio."""
        rules = Rules(idle, absolute, touch_after, grace, max_bytes, on_outage)
        return AsyncSessions(self.store, rules, cookie)

    async def close(self) -> None:
        """Same as `StateKit.close`, for asyncio."""
        if "pools" in self.__dict__:
            await self.pools.close()
        for replica in self._replicas.values():
            await replica.close()
        await self.store.close()

    async def __aenter__(self) -> Self:
        await self.flags.load()
        for replica in self._replicas.values():
            await replica.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
