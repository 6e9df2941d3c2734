"""What both colours of pools and their registry share: construction, naming, local views. No I/O."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from types import MappingProxyType
from typing import Any, Generic, TypedDict, TypeVar

from statekit.errors import UnknownPool, UsageError
from statekit.pools.core import FleetView, PoolConfig, PoolStats, viewing
from statekit.pools.ledger import Ledger
from statekit.pools.loan import Entry
from statekit.pools.local import LocalPool
from statekit.store.durations import LONGEST, Duration, seconds
from statekit.store.keys import encoded
from statekit.store.op import Op
from statekit.store.store import AsyncStore, Store

__all__ = ["BasePool", "BaseRegistry", "Bounds", "Broken"]

NUMBERS = frozenset((int, float))
C = TypeVar("C")
S = TypeVar("S", Store, AsyncStore)
P = TypeVar("P", bound="BasePool[Any, Any]")
Broken = Callable[[BaseException], bool]
_dice = random.SystemRandom()  # not the global generator: an app may have seeded it


class Bounds(TypedDict, total=False):
    """What `register` takes beside the callables; the meaning is that of `PoolConfig`'s fields."""

    per_process: int
    fleet: int | None
    timeout: Duration
    idle: Duration | None
    lifetime: Duration | None
    ping_after: Duration
    leak_after: Duration | None
    lease: Duration
    on_outage: str


class BasePool(Generic[C, S]):
    """What both colours of a pool share."""

    _signal: Callable[[], Any]

    def __init__(
        self,
        store: S,
        config: PoolConfig,
        open: Callable[[], Any],  # noqa: A002 - the promised name
        close: Callable[[C], Any] | None,
        ping: Callable[[C], Any] | None,
        broken: Broken | None,
    ) -> None:
        for name, given in (("open", open), ("close", close), ("ping", ping), ("broken", broken)):
            if not callable(given) and (given is not None or name == "open"):
                raise UsageError(f"pool {config.name!r}: {name}={given!r} cannot be called: give a function")
        self.config = config
        self._store: S = store
        self._open, self._close, self._ping = open, close or _close_itself, ping
        self._broken = broken or (_cut_off if ping is not None else _any)
        self._key = store.keys.of("pool", encoded(config.name, "pool name"))
        self._left: list[Ledger] = []
        self._beating = False
        self._begin()

    def _begin(self) -> None:
        self._ledger = Ledger(self.config, threading.Lock(), monotonic, _jitter, pings=self._ping is not None)
        self._local = LocalPool(
            self._ledger,
            self._key,
            lambda: self._store.worker,
            self._store.now,
            self._signal,
            self._name_of,
            self._store.hooks.emit,
        )

    def _leave_behind(self) -> None:
        """Forget all clients without closing them: they belong to the parent process, or to another loop.

        They are kept, unused: dropping the last reference would let some clients say goodbye to the server
        over a socket the parent still uses.
        """
        self._left.append(self._ledger)
        self._begin()

    @staticmethod
    def _name_of(holder: Any) -> str:
        raise NotImplementedError

    def _is_mine(self, message: bytes) -> bool:
        return self._store.worker.encode() in message.split()

    def _came_back(self, entry: Entry, error: BaseException | None, *, dropped: bool) -> bool:
        """Take back a client whose block raised, or that its user gave up; true if it has to be closed now."""
        drop = dropped or (error is not None and self._broken(error))
        return self._ledger.put(entry, drop, suspect=True)

    def _bounded(self, timeout: Duration) -> float:
        """Check the timeout a checkout was given, before it matters: most checkouts never wait."""
        if type(timeout) in NUMBERS and 0 <= timeout <= LONGEST:  # type: ignore[operator]
            return timeout  # type: ignore[return-value]
        return seconds(timeout, "timeout", zero=True)

    def _seconds(self, timeout: Duration | None) -> float:
        return seconds(self.config.timeout if timeout is None else timeout, "timeout", zero=True)

    def stats(self) -> PoolStats:
        """This process's view of the pool, now; local, no I/O."""
        return self._ledger.stats(self._name_of)

    def viewing(self) -> Op[FleetView]:
        """The operation of `fleet`, without this process's own report before it."""
        return viewing(self._key, self.config, self._store.now())

    @property
    def _patience(self) -> float:
        """Seconds a report may take: a store that hangs must be noticed while the lease still holds."""
        return min(self._store.budget.operation, self.config.lease_seconds / 3)

    @property
    def _beat_seconds(self) -> float:
        if self.config.fleet is not None:
            return self.config.tick
        limits = (self.config.idle, self.config.lifetime, self.config.leak_after)
        return max(0.1, min(5.0, *(float(limit) / 4 for limit in limits if limit is not None)))  # type: ignore[arg-type]


def _close_itself(client: Any) -> Any:
    """Close a client that knows how; one that does not is let go."""
    close = getattr(client, "aclose", None) or getattr(client, "close", None)
    return close() if close is not None else None


def _cut_off(error: BaseException) -> bool:
    """Whether an error leaves a connection unusable: the peer is gone, or an exchange was cut in the middle."""
    return isinstance(error, ConnectionError | EOFError) or not isinstance(error, Exception)


def _any(error: BaseException) -> bool:  # noqa: ARG001 - a predicate like the one above
    """Whether to trust a client after an error when nobody can ask it how it is: no."""
    return True


def _jitter() -> float:
    return _dice.uniform(0.9, 1.0)


class BaseRegistry(Generic[P, S]):
    """What both colours of the registry share: pools by name."""

    def __init__(self, store: S) -> None:
        self._store: S = store
        self._pools: dict[str, P] = {}

    def __getitem__(self, name: str) -> P:
        """The pool registered under a name. Raises `UnknownPool`."""
        try:
            return self._pools[name]
        except KeyError:
            known = ", ".join(map(repr, sorted(self._pools))) or "none"
            raise UnknownPool(
                f"no pool {name!r} is registered (known: {known}); call pools.register({name!r}, open=…) first"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._pools))

    def __contains__(self, name: object) -> bool:
        return name in self._pools

    def __len__(self) -> int:
        return len(self._pools)

    def stats(self) -> Mapping[str, PoolStats]:
        """This process's view of each pool, by name; local, no I/O."""
        return MappingProxyType({name: self._pools[name].stats() for name in self})

    def viewing(self, name: str) -> Op[FleetView]:
        """The operation of `fleet`, to share a round trip with others; without this process's own report."""
        return self[name].viewing()

    def _add(self, name: str, pool: P) -> P:
        if name in self._pools:
            raise UsageError(
                f"pool {name!r} is registered already: register it once, where the app is set up"
            )
        self._pools[name] = pool
        return pool
