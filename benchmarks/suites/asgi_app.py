"""A FastAPI request under uvicorn, two hundred visitors at once: what a session and a limit add, and who stalls."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import AtMost, Check, Figure, Figures, Lab, case
from benchmarks.suites.apps.visitors import Load, Visitors, ask

VISITORS = 200
GENTLE = 300.0
"""Requests a second that the slowest shop answers with ease."""
SCARCE = 20
PEERS, BARE = "starsessions + slowapi", "bare request"
EXPECTED = b'{"items":["apple","pear"]}'
PATIENCE = 30.0


@dataclass(slots=True)
class Shop:
    """One app under uvicorn, one process; and what was seen of it, a value a round."""

    name: str
    build: str
    note: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    visitors: Visitors | None = None
    spans: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    busy: list[dict[str, float]] = field(default_factory=list)
    calm: list[dict[str, float]] = field(default_factory=list)
    wrong: int = 0

    def figure(self, values: Any) -> Figure:
        failed = f"{self.wrong} answers were wrong" if self.wrong else ""
        kind = {"floor": self.name == BARE, "twin": "memory" in self.name}
        return Figure(self.name, values, failed=failed, note=self.note, **kind)


@case("asgi/request", "What do a session and a limit add to a FastAPI request, 200 at a time?", seconds=300)
def request(lab: Lab) -> Iterator[Figures]:
    shops = [
        Shop("statekit", "statekit"),
        Shop(PEERS, "peers", "moving window, with headers"),
        Shop(f"{PEERS}, fixed window", "fixed", "slowapi's default"),
        Shop("fastapi-redis-sdk", "sdk", "fixed window"),
        Shop("statekit in memory", "memory"),
        Shop(BARE, "bare"),
    ]
    lab.run(_opened(lab, shops))
    seconds = 0.4 if lab.quick else 1.0
    for _ in lab.turns(11, quick=3):
        for shop in random.sample(shops, len(shops)):
            lab.run(_saturated(shop, seconds))
    for _ in lab.turns(3, quick=1):
        for shop in random.sample(shops, len(shops)):
            lab.run(_strolling(shop, 2 * seconds))
    added = AtMost("statekit", 0.4, of=PEERS, above=BARE)
    yield Figures(
        "a request, saturated",
        "µs",
        [shop.figure(shop.spans) for shop in shops],
        promises=[added],
        checks=[
            Check(shop.name, f"lets {SCARCE} of {3 * SCARCE} through at once", _limits(lab, shop))
            for shop in shops[:4]
        ],
        note="Seconds over answers while 200 connections each send their next request as soon as they are answered.",
    )
    yield Figures(
        "processor time of a request",
        "µs",
        [shop.figure(shop.cpu) for shop in shops],
        note="Of the app's process alone: waiting for the store, which stops the loop in slowapi, is not in it.",
    )
    yield Figures("99th percentile, saturated", "ms", [shop.figure(shop.p99) for shop in shops])
    yield from _stalls(shops)


def _stalls(shops: list[Shop]) -> Iterator[Figures]:
    def worst(seen: list[dict[str, float]], key: str) -> float:
        return max(one[key] for one in seen)

    yield Figures(
        "longest stall of the event loop, saturated",
        "ms",
        [shop.figure(worst(shop.busy, "step")) for shop in shops],
        promises=[AtMost("statekit", 20)],
        note="The longest single callback: for so long nobody else in the process could do anything.",
    )
    yield Figures(
        "most processor time of one callback, saturated",
        "ms",
        [shop.figure(worst(shop.busy, "work")) for shop in shops],
        note="The same without what the machine did meanwhile, and without waiting for the store.",
    )
    yield Figures(
        f"latest a task of 1 ms came round, {GENTLE:g} requests a second",
        "ms",
        [shop.figure(worst(shop.calm, "max")) for shop in shops],
        promises=[AtMost("statekit", 20)],
    )
    for label, key in (("99.9th percentile", "p999"), ("latest", "max")):
        yield Figures(
            f"{label} a task of 1 ms came round, saturated",
            "ms",
            [shop.figure(median(one[key] for one in shop.busy)) for shop in shops],
            note="Mostly the queue: one turn of the loop serves all connections that have sent something. "
            "Compare with the bare app.",
        )


# -- the shops ---------------------------------------------------------------------------------------------


async def _opened(lab: Lab, shops: list[Shop]) -> None:
    """Start all servers, let the visitors in, and warm up."""
    for shop in shops:
        _start(lab, shop)
    for shop in shops:
        await _up(shop)
        shop.visitors = Visitors(shop.port, VISITORS, "/cart", EXPECTED)
        await shop.visitors.arrive()
        await shop.visitors.visit(0.3)
        lab.later(shop.visitors.leave)


def _start(lab: Lab, shop: Shop) -> None:
    """One worker; asyncio and h11 for everybody, as they are there wherever uvicorn is. https://www.uvicorn.org"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shop.port = free.getsockname()[1]
    options = ["--port", str(shop.port), "--loop", "asyncio", "--http", "h11", "--timeout-keep-alive", "600"]
    options += ["--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.suites.apps.shop_asgi:served", "--factory", *options],
        env=os.environ | {"BENCH_SHOP": shop.build, "BENCH_URL": lab.url},
        cwd=Path(__file__).parents[2],
    )
    shop.process = process

    def stop() -> None:
        process.terminate()
        process.wait(10)

    lab.later(stop)


async def _up(shop: Shop) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            await ask(shop.port, "/stalls")
        except OSError:
            if shop.process and shop.process.poll() is not None:
                raise RuntimeError(f"the shop {shop.build!r} does not start; see above") from None
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def _saturated(shop: Shop, seconds: float) -> None:
    assert shop.visitors
    assert shop.process
    await ask(shop.port, "/stalls")
    before = _processor(shop.process.pid)
    load = await shop.visitors.visit(seconds)
    shop.cpu.append((_processor(shop.process.pid) - before) / load.answered * 1e6)
    shop.spans.append(load.seconds / load.answered * 1e6)
    shop.p99.append(_p99(load))
    shop.busy.append(await ask(shop.port, "/stalls"))
    shop.wrong += load.wrong


async def _strolling(shop: Shop, seconds: float) -> None:
    assert shop.visitors
    await ask(shop.port, "/stalls")
    load = await shop.visitors.visit(seconds, rate=GENTLE)
    shop.calm.append(await ask(shop.port, "/stalls"))
    shop.wrong += load.wrong


def _processor(pid: int) -> float:
    """Processor seconds a process has used."""
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _p99(load: Load) -> float:
    return sorted(load.times)[int(0.99 * (load.answered - 1))] * 1000


def _limits(lab: Lab, shop: Shop) -> Callable[[], str | None]:
    def fn() -> str | None:
        assert shop.visitors
        statuses = lab.run(shop.visitors.at_once("/scarce", 3 * SCARCE))
        if sorted(statuses) == [200] * SCARCE + [429] * 2 * SCARCE:
            return None
        return f"answered 200 to {statuses.count(200)} and 429 to {statuses.count(429)}"

    return fn
