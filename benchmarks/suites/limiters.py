"""The limiters that are compared, each set up as its own documentation says, and what all of them are checked for.

A limiter is made for a count and a span of seconds; ``hit`` makes a function that says yes or no, ``told`` one whose
answer carries what is left and when to try again as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from benchmarks.bench import Check, Lab
from benchmarks.bench.proofs import hammered, within

__all__ = ["HOUR", "Hit", "Limits", "Pyrate", "Statekit", "Throttled", "exact", "never_more", "no_more"]

HOUR = 3600
Hit: TypeAlias = Callable[[], bool]


class Statekit:
    """A decision of statekit carries everything, so `hit` differs from `told` by one attribute."""

    def __init__(
        self, lab: Lab, algorithm: str = "sliding-log", *, memory: bool = False, **options: Any
    ) -> None:
        self.lab, self.options = lab, {"algorithm": algorithm} | options
        self.kit = lab.memory_kit() if memory else lab.kit()

    def told(self, count: int, seconds: int = 60, key: str = "k") -> Callable[[], Any]:
        hit = self.kit.rate_limiter(
            self.lab.name("limiter"), f"{count}/{seconds} seconds", **self.options
        ).hit
        return lambda: hit(key)

    def hit(self, count: int, seconds: int = 60, key: str = "k") -> Hit:
        told = self.told(count, seconds, key)
        return lambda: told().allowed


class Limits:
    """https://limits.readthedocs.io/en/stable/quickstart.html: a strategy over a storage; headers need window stats."""

    def __init__(self, lab: Lab, strategy: str = "MovingWindow", *, memory: bool = False) -> None:
        from limits import storage, strategies

        self.lab = lab
        self.storage = storage.storage_from_string("memory://" if memory else plus_redis(lab.url))
        self.limiter = getattr(strategies, f"{strategy}RateLimiter")(self.storage)

    def item(self, count: int, seconds: int = 60, name: str = "") -> Any:
        from limits import RateLimitItemPerSecond

        return RateLimitItemPerSecond(count, seconds, namespace=name or self.lab.name("limits"))

    def hit(self, count: int, seconds: int = 60, key: str = "k") -> Hit:
        item, hit = self.item(count, seconds), self.limiter.hit
        return lambda: hit(item, key)

    def told(self, count: int, seconds: int = 60, key: str = "k") -> Callable[[], Any]:
        item, hit, stats = self.item(count, seconds), self.limiter.hit, self.limiter.get_window_stats
        return lambda: (hit(item, key), stats(item, key))


class Throttled:
    """https://github.com/ZhuoZhuoCrayon/throttled-py#readme: one object a limit; the answer carries the figures."""

    def __init__(self, lab: Lab, using: str = "gcra", *, memory: bool = False) -> None:
        from throttled import MemoryStore, RedisStore

        self.lab, self.using = lab, using
        self.store = MemoryStore() if memory else RedisStore(server=lab.url)

    def told(self, count: int, seconds: int = 60, key: str = "k", burst: int = 0) -> Callable[[], Any]:
        from throttled import Throttled as Limiter
        from throttled import per_duration

        quota = per_duration(timedelta(seconds=seconds), count, burst=burst or count)
        name = self.lab.name("throttled")
        limit = Limiter(using=self.using, quota=quota, store=self.store, key_prefix=name).limit
        return lambda: limit(key)

    def hit(self, count: int, seconds: int = 60, key: str = "k", burst: int = 0) -> Hit:
        told = self.told(count, seconds, key, burst)
        return lambda: not told().limited


class Pyrate:
    """https://pyratelimiter.readthedocs.io: a bucket is one key; it says yes or no and nothing else."""

    def __init__(self, lab: Lab, bucket: str = "redis", *, name: str = "") -> None:
        self.lab, self.bucket, self.name = lab, bucket, name

    def hit(self, count: int, seconds: int = 60, key: str = "k") -> Hit:
        from pyrate_limiter import Limiter, Rate

        limiter = Limiter(self._bucket([Rate(count, 1000 * seconds)]))
        self.lab.later(limiter.close)
        acquire = limiter.try_acquire
        return lambda: bool(acquire(key, blocking=False))

    def _bucket(self, rates: list[Any]) -> Any:
        from pyrate_limiter import GCRA, InMemoryBucket, RedisBucket, RedisStateStore, StateBucket

        name = self.name or self.lab.name("pyrate")
        if self.bucket == "memory":
            return InMemoryBucket(rates)
        if self.bucket == "gcra":
            return StateBucket(rates, GCRA(), RedisStateStore(self.lab.client(), name))
        return RedisBucket.init(rates, self.lab.client(), name)


def plus_redis(url: str) -> str:
    """How limits spells the URL of a server."""
    return f"redis+{url}" if url.startswith("unix:") else url


# -- what is checked -------------------------------------------------------------------------------------


def exact(who: str, make: Callable[..., Hit], limit: int = 100, *, fatal: bool = True) -> Check:
    """Eight threads make four times as many hits as may pass in an hour: exactly the limit passes."""

    def wrong() -> str | None:
        passed = admitted(make(limit, HOUR), 4 * limit)
        return None if passed == limit else f"let {passed} of {4 * limit} through where {limit} were allowed"

    return Check(who, f"admits exactly {limit} of {4 * limit} hits made by 8 threads", wrong, fatal=fatal)


def no_more(who: str, make: Callable[..., Hit], limit: int = 100) -> Check:
    """Same as `exact`, for a limiter that also refuses a caller while another thread is deciding."""

    def wrong() -> str | None:
        passed = admitted(make(limit, HOUR), 4 * limit)
        return None if passed <= limit else f"let {passed} of {4 * limit} through where {limit} were allowed"

    return Check(who, f"admits at most {limit} of {4 * limit} hits made by 8 threads", wrong)


def never_more(who: str, make: Callable[..., Hit], lab: Lab, limit: int = 50, *, fatal: bool = True) -> Check:
    """A caller who never stops for more than two windows: no window of a second lets more than the limit through."""

    def wrong() -> str | None:
        return within(hammered(make(limit, 1), 1.3 if lab.quick else 2.3), 1.0, limit)

    return Check(who, f"never lets more than {limit} through in any second", wrong, fatal=fatal)


def admitted(hit: Hit, calls: int, threads: int = 8) -> int:
    """How many of `calls` hits, made by several threads, were let through."""
    counts = [0] * threads

    def hammer(index: int) -> None:
        counts[index] = sum(bool(hit()) for _ in range(calls // threads))

    workers = [threading.Thread(target=hammer, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts)
