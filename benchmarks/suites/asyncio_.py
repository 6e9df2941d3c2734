"""asyncio: fifty callers at once, and five thousand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, Self, TypeAlias

from benchmarks.bench import AtMost, Check, Comparison, Contender, Faster, Figure, Figures, Lab, case
from benchmarks.suites.floors import INCR
from benchmarks.suites.limiters import plus_redis

MILLION = 1_000_000
Hit: TypeAlias = Callable[[str], Awaitable[bool]]


# -- who takes part --------------------------------------------------------------------------------------


def statekit(lab: Lab, count: int = MILLION) -> Hit:
    hit = lab.async_kit().rate_limiter(lab.name("limiter"), f"{count}/hour").hit

    async def passed(key: str) -> bool:
        return (await hit(key)).allowed

    return passed


def limits(lab: Lab, client: str = "coredis", count: int = MILLION, *, told: bool = False) -> Hit:
    """https://limits.readthedocs.io/en/stable/async.html; coredis is its default client, redispy the other one."""
    from limits import RateLimitItemPerHour
    from limits.aio.strategies import MovingWindowRateLimiter
    from limits.storage import storage_from_string

    storage = storage_from_string(f"async+{plus_redis(lab.url)}", implementation=client)
    limiter = MovingWindowRateLimiter(storage)
    item = RateLimitItemPerHour(count, namespace=lab.name("limits"))

    async def passed(key: str) -> bool:
        return await limiter.hit(item, key)

    async def explained(key: str) -> bool:
        allowed = await limiter.hit(item, key)
        await limiter.get_window_stats(item, key)
        return allowed

    return explained if told else passed


def throttled(lab: Lab, count: int = MILLION) -> Hit:
    from throttled.asyncio import RedisStore, Throttled, per_hour

    limiter = Throttled(
        using="gcra",
        quota=per_hour(count, burst=count),
        store=RedisStore(server=lab.url),
        key_prefix=lab.name("throttled"),
    )

    async def passed(key: str) -> bool:
        return not (await limiter.limit(key)).limited

    return passed


def evalsha(lab: Lab) -> Hit:
    """redis-py's own way: a connection for each caller that waits."""
    client, key = lab.async_client(), lab.name("floor")
    sha = lab.client().script_load(INCR)

    async def passed(who: str) -> bool:
        return bool(await client.evalsha(sha, 1, key + who))

    return passed


def at_once(hit: Hit, callers: int) -> Callable[[], Awaitable[Any]]:
    """That many callers, each with a key of its own, all at once."""
    keys = [f"user-{number}" for number in range(callers)]

    async def all_of_them() -> Any:
        return await asyncio.gather(*map(hit, keys))

    return all_of_them


def exact(lab: Lab, who: str, make: Callable[..., Hit]) -> Check:
    """Fifty callers on one key, eight times: exactly the limit passes."""

    async def passed() -> int:
        hit, total = make(lab, count=100), 0
        for _ in range(8):
            total += sum(await asyncio.gather(*(hit("k") for _ in range(50))))
        return total

    def wrong() -> str | None:
        through = lab.run(passed())
        return None if through == 100 else f"let {through} of 400 through where 100 were allowed"

    return Check(who, "admits exactly 100 of 400 hits made by 50 callers at once", wrong)


# -- cases -----------------------------------------------------------------------------------------------


@case("asyncio/fifty", "What does a decision cost when fifty callers ask at once?")
def fifty(lab: Lab) -> Iterator[Comparison]:
    def contender(name: str, hit: Hit, **options: Any) -> Contender:
        return Contender(name, at_once(hit, 50), calls=50, **options)

    yield Comparison(
        "50 callers at once, a key each; time for one decision",
        [
            contender("statekit", statekit(lab)),
            contender(
                "limits.aio", limits(lab, told=True), note="coredis, its default; hit + get_window_stats"
            ),
            contender("limits.aio, hit alone", limits(lab)),
            contender(
                "limits.aio on redis-py", limits(lab, "redispy", told=True), note="hit + get_window_stats"
            ),
            contender("limits.aio on redis-py, hit alone", limits(lab, "redispy")),
            contender("throttled-py, GCRA", throttled(lab)),
            contender("redis-py, EVALSHA INCR", evalsha(lab), floor=True),
        ],
        promises=[
            Faster("statekit", 3, than="limits.aio"),
            Faster("statekit", 3, than="limits.aio, hit alone"),
        ],
        checks=[
            exact(lab, "statekit", statekit),
            exact(lab, "limits.aio", limits),
            exact(lab, "limits.aio, hit alone", limits),
            exact(lab, "throttled-py, GCRA", throttled),
        ],
    )


@case("asyncio/one", "What does a decision cost when a single caller asks?")
def one(lab: Lab) -> Iterator[Comparison]:
    def contender(name: str, hit: Hit, **options: Any) -> Contender:
        async def single() -> Any:
            return await hit("k")

        return Contender(name, single, **options)

    yield Comparison(
        "one caller, one key",
        [
            contender("statekit", statekit(lab)),
            contender(
                "limits.aio", limits(lab, told=True), note="coredis, its default; hit + get_window_stats"
            ),
            contender("limits.aio, hit alone", limits(lab)),
            contender("limits.aio on redis-py, hit alone", limits(lab, "redispy")),
            contender("throttled-py, GCRA", throttled(lab)),
            contender("redis-py, EVALSHA INCR", evalsha(lab), floor=True),
        ],
    )


@case("asyncio/five-thousand", "What happens when five thousand callers ask at once?")
def five_thousand(lab: Lab) -> Iterator[Figures]:
    callers = 5000
    seen = {
        "statekit": rush(lab, statekit(lab), callers),
        "limits.aio": rush(lab, limits(lab), callers),
        "limits.aio on redis-py": rush(lab, limits(lab, "redispy"), callers),
        "redis-py, EVALSHA INCR": rush(lab, evalsha(lab), callers),
    }
    floor = {"redis-py, EVALSHA INCR"}
    label = f"{callers:,} callers at once"
    yield Figures(
        f"{label}: connections",
        "connections",
        [Figure(name, one["connections"], floor=name in floor) for name, one in seen.items()],
        promises=[AtMost("statekit", 4)],
    )
    yield Figures(
        f"{label}: calls that ended in an error",
        "errors",
        [Figure(name, one["errors"], floor=name in floor, note=one["first"]) for name, one in seen.items()],
        promises=[AtMost("statekit", 0)],
    )
    yield Figures(
        f"{label}: until the last has its answer",
        "s",
        [Figure(name, one["seconds"], floor=name in floor) for name, one in seen.items()],
    )


def rush(lab: Lab, hit: Hit, callers: int) -> dict[str, Any]:
    """Let all call at once; how many connections there were, how many errors, and how long it took."""

    async def asked() -> tuple[list[Any], float]:
        start = perf_counter()
        calls = (hit(f"user-{number}") for number in range(callers))
        return await asyncio.gather(*calls, return_exceptions=True), perf_counter() - start

    with Connections(lab) as connections:
        answers, seconds = lab.run(asked())
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    first = f"{type(errors[0]).__name__}: {errors[0]}"[:120] if errors else ""
    return {"connections": connections.most, "errors": len(errors), "first": first, "seconds": seconds}


class Connections:
    """Counts, by CLIENT LIST, the most connections that were there at once beyond those before."""

    def __init__(self, lab: Lab) -> None:
        self.client = lab.client()
        self.most = 0
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._watched)

    def _watched(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, len(self.client.client_list()) - self._before)

    def __enter__(self) -> Self:
        self.client.ping()
        self._before = len(self.client.client_list())
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()
        self.most = max(self.most, len(self.client.client_list()) - self._before)
