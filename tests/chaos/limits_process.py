"""One process that hits several limiters at once, over slots of a cluster, and tells what each hit was allowed.

    python limits_process.py URL NAMESPACE ALGORITHM SECONDS threads|tasks

A first line says ready; a line of input starts it. It writes one line of JSON: for each allowed call the nanoseconds of
the monotonic clock before and after it, and the units by limiter and key; and how many calls were refused.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from time import monotonic_ns as now
from typing import Any

from statekit import AsyncStateKit, StateKit
from statekit.store import Budget

PATIENT = Budget(decision=60, operation=60, connect=60)
KEYS = ("a", "b", "c")
LIMITS = {"narrow": "30/second", "wide": "60/52 weeks", "busy": "900/52 weeks"}
CALLERS = 4


def limiters(kit: Any, algorithm: str) -> dict[str, Any]:
    """Three of them: refusals come from the first two, so the third is charged and refunded all the time."""
    options = {"algorithm": algorithm, "on_outage": "deny", "local_refusals": False}
    return {name: kit.rate_limiter(name, limit, **options) for name, limit in LIMITS.items()}


class Notes:
    """What one process was allowed."""

    def __init__(self) -> None:
        self.allowed: list[tuple[int, int, dict[str, int]]] = []
        self.refused = self.degraded = 0

    def take(self, before: int, decision: Any, wish: dict[str, int]) -> None:
        self.degraded += decision.degraded
        if decision.allowed:
            self.allowed.append((before, now(), wish))
        else:
            self.refused += 1


def wishes(seed: int) -> Iterator[tuple[dict[str, int], list[tuple[str, str, int]]]]:
    """What is asked for, call after call: two or three limiters, any keys, mostly a unit each."""
    rng = random.Random(seed)
    while True:
        chosen = rng.sample(list(LIMITS), rng.choice([2, 3]))
        parts = [(name, rng.choice(KEYS), rng.choice([1, 1, 1, 2])) for name in chosen]
        yield {f"{name}:{key}": cost for name, key, cost in parts}, parts


def threads(url: str, namespace: str, algorithm: str, seconds: float, notes: Notes) -> None:
    kit = StateKit.connect(url, namespace, budget=PATIENT)
    known = limiters(kit, algorithm)
    _begin(kit.ping)
    end = monotonic() + seconds

    def work(seed: int) -> None:
        for wish, parts in wishes(seed):
            if monotonic() > end:
                return
            before = now()
            decision = kit.hit_all([(known[name], key, cost) for name, key, cost in parts])
            notes.take(before, decision, wish)

    crew = [threading.Thread(target=work, args=(random.randrange(2**32),)) for _ in range(CALLERS)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    kit.close()


async def tasks(url: str, namespace: str, algorithm: str, seconds: float, notes: Notes) -> None:
    kit = AsyncStateKit.connect(url, namespace, budget=PATIENT)
    known = limiters(kit, algorithm)
    await kit.ping()
    _begin(lambda: None)
    end = monotonic() + seconds

    async def work(seed: int) -> None:
        for wish, parts in wishes(seed):
            if monotonic() > end:
                return
            before = now()
            decision = await kit.hit_all([(known[name], key, cost) for name, key, cost in parts])
            notes.take(before, decision, wish)

    await asyncio.gather(*(work(random.randrange(2**32)) for _ in range(CALLERS)))
    await kit.close()


def _begin(ready: Any) -> None:
    ready()
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    url, namespace, algorithm, seconds, colour = sys.argv[1:]
    notes = Notes()
    if colour == "threads":
        threads(url, namespace, algorithm, float(seconds), notes)
    else:
        asyncio.run(tasks(url, namespace, algorithm, float(seconds), notes))
    print(json.dumps({"allowed": notes.allowed, "refused": notes.refused, "degraded": notes.degraded}))


if __name__ == "__main__":
    main()
