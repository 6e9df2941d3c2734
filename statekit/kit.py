"""The kit: one object that knows the store and hands out the primitives.

No logic lives here. `StateKit` and `AsyncStateKit` differ in the faces they hand out.
"""

from __future__ import annotations

from functools import cached_property
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from statekit.pools.faces import AsyncPools, Pools
from statekit.pools.memory import TWINS as POOLS
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.faces import AsyncRateLimiter, Pairs, RateLimiter, Workers, hitting_all
from statekit.ratelimit.limits import LimitLike
from statekit.ratelimit.memory import TWINS as LIMITS
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

__all__ = ["AsyncStateKit", "StateKit"]

S = TypeVar("S", Store, AsyncStore)
T = TypeVar("T")


def _twins() -> dict[str, Any]:
    return {**LIMITS, **POOLS, **SESSIONS}


class _Kit(Generic[S]):
    """What both kits share."""

    store: S

    @classmethod
    def _over(cls, store: S) -> Self:
        kit = cls.__new__(cls)
        kit.store = store
        return kit

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
    ) -> Self:
        """Connect by URL; without one, ``$STATEKIT_URL``, else the embedded server of this project."""
        return cls._over(Store(connected(url, budget), namespace, budget=budget, clock=clock))

    @classmethod
    def in_memory(cls, namespace: str = "statekit", *, clock: Clock | None = None) -> Self:
        """The per-process twin: everything works as on a server, except that nothing is shared."""
        return cls._over(Store(MemoryTransport(_twins()), namespace, clock=clock))

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
        self.store.close()

    def __enter__(self) -> Self:
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
    ) -> Self:
        """Same as `StateKit.connect`, for asyncio."""
        return cls._over(AsyncStore(connected_async(url, budget), namespace, budget=budget, clock=clock))

    @classmethod
    def in_memory(cls, namespace: str = "statekit", *, clock: Clock | None = None) -> Self:
        """Same as `StateKit.in_memory`, for asyncio."""
        return cls._over(AsyncStore(AsyncMemoryTransport(_twins()), namespace, clock=clock))

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
        await self.store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
