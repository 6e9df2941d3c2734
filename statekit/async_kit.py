"""The kit for asyncio: same as `statekit.kit`, with faces that are awaited."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from statekit.errors import StoreError
from statekit.kit import Kit, twins
from statekit.store.connect import carried_async, connected_async
from statekit.store.durations import Duration
from statekit.store.memory import AsyncMemoryTransport
from statekit.store.op import Op, command
from statekit.store.outage import Budget
from statekit.store.store import AsyncStore, Clock

if TYPE_CHECKING:
    from statekit.flags.faces import AsyncFlags
    from statekit.inflight.faces import AsyncInFlight
    from statekit.pools.faces import AsyncPools
    from statekit.ratelimit.decision import Decision
    from statekit.ratelimit.faces import AsyncRateLimiter, Pairs
    from statekit.ratelimit.limits import LimitLike
    from statekit.ratelimit.rule import Workers
    from statekit.replica.faces import AsyncReplica
    from statekit.replica.file import Directory
    from statekit.sessions.cookie import CookiePolicy
    from statekit.sessions.encryption import Encryption
    from statekit.sessions.faces import AsyncSessions
    from statekit.tenants.faces import AsyncTenants
    from statekit.tenants.layers import Overrides
    from statekit.tenants.settings import TenantSettings

__all__ = ["AsyncStateKit"]

T = TypeVar("T")
M = TypeVar("M", bound="TenantSettings")


class AsyncStateKit(Kit[AsyncStore]):
    """Same as `StateKit`, for asyncio."""

    def __init__(
        self,
        client: Any,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        replicas: int = 0,
    ) -> None:
        store = AsyncStore(carried_async(client), namespace, budget=budget, clock=clock, replicas=replicas)
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
        """Same as `StateKit.connect`, for asyncio."""
        store = AsyncStore(
            connected_async(url, budget), namespace, budget=budget, clock=clock, replicas=replicas
        )
        return cls._over(store, snapshot_dir)

    @classmethod
    def in_memory(
        cls, namespace: str = "statekit", *, clock: Clock | None = None, draft_copies: bool = True
    ) -> Self:
        """Same as `StateKit.in_memory`, for asyncio."""
        kit = cls._over(AsyncStore(AsyncMemoryTransport(twins()), namespace, clock=clock))
        kit.draft_copies = draft_copies
        return kit

    def _replica(self, name: str) -> AsyncReplica:
        from statekit.replica.faces import AsyncReplica

        return self._once(f"replica:{name}", lambda: AsyncReplica(self.store, name, self._snapshots()))

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
        from statekit.tenants.core import registry_replica
        from statekit.tenants.faces import AsyncTenants
        from statekit.tenants.layers import Layers

        return AsyncTenants(
            self._replica(registry_replica(name)),
            self.hooks,
            Layers(settings, defaults),
            group_by=group_by,
            strict=strict,
            draft_copies=self.draft_copies,
        )

    @cached_property
    def flags(self) -> AsyncFlags:
        """Same as `StateKit.flags`, for asyncio."""
        from statekit.flags.faces import AsyncFlags

        return self._once("flags", lambda: AsyncFlags(self._replica("flags"), self.hooks, self.store.clock))

    @cached_property
    def pools(self) -> AsyncPools:
        """Same as `StateKit.pools`, for asyncio."""
        from statekit.pools.faces import AsyncPools

        return self._once("pools", lambda: AsyncPools(self.store))

    async def ping(self, budget: float | None = None) -> float:
        """Same as `StateKit.ping`, for asyncio."""
        start = perf_counter()
        await self.store.run(command("PING", read_only=True), budget)
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
        workers: Workers | None = None,
        local_refusals: bool = True,
        lease: bool = False,
    ) -> AsyncRateLimiter:
        """Same as `StateKit.rate_limiter`, for asyncio."""
        from statekit.ratelimit.faces import AsyncRateLimiter

        limiter = AsyncRateLimiter(
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

    async def hit_all(self, pairs: Pairs) -> Decision:
        """Same as `StateKit.hit_all`, for asyncio."""
        return await self.store.run(self.hitting_all(pairs), self.store.budget.decision)

    def in_flight(
        self, name: str, limit: int, *, lease: Duration = 30, on_outage: str = "allow"
    ) -> AsyncInFlight:
        """Same as `StateKit.in_flight`, for asyncio."""
        from statekit.inflight.faces import AsyncInFlight
        from statekit.inflight.keeper import AsyncKeeper

        keeper = self._once("in_flight", lambda: AsyncKeeper(self.store))
        return AsyncInFlight(self.store, keeper, name, limit, lease=lease, on_outage=on_outage)

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
    ) -> AsyncSessions:
        """Same as `StateKit.sessions`, for asyncio."""
        from statekit.sessions.cookie import STANDARD
        from statekit.sessions.faces import AsyncSessions
        from statekit.sessions.model import Rules

        rules = Rules(idle, absolute, touch_after, grace, max_bytes, on_outage, last_seen_for)
        return AsyncSessions(self.store, rules, cookie or STANDARD, encryption)

    async def close(self) -> None:
        """Same as `StateKit.close`, for asyncio."""
        with suppress(StoreError):
            await self.store.run(self._giving_back())
        if "in_flight" in self._made:
            await self._made["in_flight"].close()
        if "pools" in self._made:
            await self.pools.close()
        for replica in self._replicas():
            await replica.close()
        await self.store.close()

    async def __aenter__(self) -> Self:
        await self.flags.load()
        for replica in self._replicas():
            await replica.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
