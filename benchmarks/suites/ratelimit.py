"""Rate limits: statekit's limiters beside those of limits, throttled-py and pyrate-limiter, and Flask-Limiter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.bench import AtMost, Check, Comparison, Contender, Lab, case
from benchmarks.suites.floors import evalsha

MILLION = 1_000_000


def admitted(hit: Callable[[], bool], calls: int, threads: int = 8) -> int:
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


def exact(who: str, make: Callable[[int], Callable[[], bool]], limit: int = 100) -> Check:
    """Eight threads make four times as many hits as a limit a minute allows: exactly the limit may pass."""

    def wrong() -> str | None:
        passed = admitted(make(limit), 4 * limit)
        return None if passed == limit else f"let {passed} of {4 * limit} through where {limit} were allowed"

    return Check(who, f"admits exactly {limit} of {4 * limit} hits made by 8 threads", wrong)


# -- the peers, each set up as its own documentation says -------------------------------------------------


class Limits:
    """https://limits.readthedocs.io: moving window over Redis; figures for headers need `get_window_stats`."""

    def __init__(self, lab: Lab, strategy: str = "MovingWindowRateLimiter", *, memory: bool = False) -> None:
        from limits import storage, strategies

        uri = "memory://" if memory else f"redis+{lab.url}" if lab.url.startswith("unix") else lab.url
        self.lab = lab
        self.limiter = getattr(strategies, strategy)(storage.storage_from_string(uri))

    def limit(self, count: int, seconds: int = 60) -> Any:
        from limits import RateLimitItemPerSecond

        return RateLimitItemPerSecond(count, seconds, namespace=self.lab.name("limits"))

    def hit(self, count: int, key: str = "k") -> Callable[[], bool]:
        """The decision alone."""
        item, hit = self.limit(count), self.limiter.hit
        return lambda: hit(item, key)

    def told(self, count: int, key: str = "k") -> Callable[[], Any]:
        """The decision with what is left and when the window resets, which is what `Decision` carries."""
        item, hit, stats = self.limit(count), self.limiter.hit, self.limiter.get_window_stats
        return lambda: (hit(item, key), stats(item, key))


class Throttled:
    """https://throttled-py.readthedocs.io: GCRA is its most exact algorithm; `limit` returns the figures too."""

    def __init__(self, lab: Lab, using: str = "gcra", *, memory: bool = False) -> None:
        from throttled import MemoryStore, RedisStore

        self.lab, self.using = lab, using
        self.store = MemoryStore() if memory else RedisStore(server=lab.url)

    def told(self, count: int, key: str = "k") -> Callable[[], Any]:
        from throttled import Throttled, per_min

        limit = Throttled(
            using=self.using,
            quota=per_min(count, burst=count),
            store=self.store,
            key_prefix=self.lab.name("throttled"),
        ).limit
        return lambda: limit(key)

    def hit(self, count: int, key: str = "k") -> Callable[[], bool]:
        told = self.told(count, key)
        return lambda: not told().limited


class Pyrate:
    """https://pyratelimiter.readthedocs.io: a bucket is one key; `try_acquire` tells yes or no and nothing else."""

    def __init__(self, lab: Lab, *, memory: bool = False) -> None:
        self.lab, self.memory = lab, memory

    def hit(self, count: int, key: str = "k") -> Callable[[], bool]:
        from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, RedisBucket

        rates = [Rate(count, Duration.MINUTE)]
        bucket = (
            InMemoryBucket(rates)
            if self.memory
            else RedisBucket.init(rates, self.lab.client(), self.lab.name("pyrate"))
        )
        acquire = Limiter(bucket).try_acquire
        return lambda: bool(acquire(key, blocking=False))


# -- cases -----------------------------------------------------------------------------------------------


def ours(
    lab: Lab, algorithm: str = "sliding-log", *, memory: bool = False
) -> Callable[[int], Callable[[], Any]]:
    """A limiter of statekit; its decision carries everything."""
    kit = lab.memory_kit() if memory else lab.kit()

    def made(count: int) -> Callable[[], Any]:
        hit = kit.rate_limiter(lab.name("login"), f"{count}/minute", algorithm=algorithm).hit
        return lambda: hit("k")

    return made


def let(make: Callable[[int], Callable[[], Any]]) -> Callable[[int], Callable[[], bool]]:
    """A limiter that returns decisions, as one that returns yes or no."""

    def made(count: int) -> Callable[[], bool]:
        hit = make(count)
        return lambda: hit().allowed

    return made


@case(
    "ratelimit/one-decision",
    "What does one exact sliding-window decision cost, with remaining and retry_after?",
)
def one_decision(lab: Lab) -> Iterator[Comparison]:
    limits, throttled, pyrate, mine = Limits(lab), Throttled(lab), Pyrate(lab), ours(lab)
    yield Comparison(
        "one limit, one key, admitted",
        [
            Contender("statekit", mine(MILLION)),
            Contender("limits", limits.told(MILLION), note="moving window, hit + get_window_stats"),
            Contender(
                "limits, hit alone", limits.hit(MILLION), note="knows neither what is left nor when to retry"
            ),
            Contender("throttled-py", throttled.told(MILLION), note="GCRA"),
            Contender("pyrate-limiter", pyrate.hit(MILLION), note="RedisBucket: yes or no, nothing else"),
            Contender("EVALSHA INCR", evalsha(lab), floor=True),
        ],
        promises=[
            AtMost("statekit", 1.25, of="EVALSHA INCR", p50=True),
            AtMost("statekit", 0.6, of="limits", p50=True),
        ],
        checks=[
            exact("statekit", let(mine)),
            exact("limits", limits.hit),
            exact("limits, hit alone", limits.hit),
            exact("throttled-py", throttled.hit),
            exact("pyrate-limiter", pyrate.hit),
        ],
    )
