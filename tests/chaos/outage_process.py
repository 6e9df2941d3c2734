"""One process with limiters of each policy, which does what it is told, line by line.

    python outage_process.py URL NAMESPACE blocking|asyncio

    hit POLICY KEY TIMES   ask that often, by several callers at once; the answer tells how it went
    workers                how many it knows of
    fork                   go on as a child of this process

Each answer is a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from statekit import AsyncStateKit, StateKit
from statekit.store import Budget, roster

BUDGET = Budget(decision=0.5, operation=1, connect=1)
LIMITS = {"allow": "100/hour", "deny": "100/hour", "local": "100/hour"}
CALLERS = 4

roster.EVERY = 0.1  # type: ignore[misc] - signs come quickly; they last as long as ever


class Station:
    """A kit and its limiters; `hit` is asked by several callers at once."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.limiters = {name: kit.rate_limiter(name, one, on_outage=name) for name, one in LIMITS.items()}
        self.limiters["few"] = kit.rate_limiter("few", "2/hour", on_outage="local")
        self.slowest = 0.0

    def hit(self, name: str, key: str) -> Any:
        start = perf_counter()
        decision = self.limiters[name].hit(key)
        self.slowest = max(self.slowest, perf_counter() - start)
        return decision

    async def ahit(self, name: str, key: str) -> Any:
        start = perf_counter()
        decision = await self.limiters[name].hit(key)
        self.slowest = max(self.slowest, perf_counter() - start)
        return decision

    def told(self, decisions: list[Any]) -> dict[str, Any]:
        slowest, self.slowest = self.slowest, 0.0
        return {
            "allowed": sum(one.allowed for one in decisions),
            "degraded": sum(one.degraded for one in decisions),
            "waits": sorted({one.retry_after for one in decisions if not one.allowed})[-1:],
            "slowest": slowest,
        }

    def answer(self, words: list[str]) -> Any:
        if words[0] == "workers":
            return self.limiters["local"].workers
        _, name, key, times = words
        with ThreadPoolExecutor(CALLERS) as crew:
            return self.told(list(crew.map(self.hit, [name] * int(times), [key] * int(times))))

    async def aanswer(self, words: list[str]) -> Any:
        if words[0] == "workers":
            return self.limiters["local"].workers
        _, name, key, times = words
        return self.told(await asyncio.gather(*(self.ahit(name, key) for _ in range(int(times)))))


def blocking(url: str, namespace: str) -> None:
    station = Station(StateKit.connect(url, namespace, budget=BUDGET, snapshot_dir=None))
    say("ready")
    for line in iter(sys.stdin.readline, ""):
        if line == "fork\n":
            if os.fork():
                os.wait()
                return
            say("forked")
        else:
            say(station.answer(line.split()))


async def tasks(url: str, namespace: str) -> None:
    station = Station(AsyncStateKit.connect(url, namespace, budget=BUDGET, snapshot_dir=None))
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(await station.aanswer(line.split()))


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _, url, namespace, colour = sys.argv
    if colour == "blocking":
        blocking(url, namespace)
    else:
        asyncio.run(tasks(url, namespace))
