"""A process that holds one of everything, and runs out of memory: see test_workers_memory.py.

    python hungry_process.py URL NAMESPACE PORT

Prints a line of JSON when it holds it all, then lets its memory be bounded and eats it, using every primitive with
what is left. Prints what came of that, gives the memory back, shows that all works again, and waits to be killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from statekit import Flag, StateKit, TenantSettings
from statekit.errors import StatekitError
from statekit.store import Budget

ROOM = 16 << 20
SECONDS = 6.0
PIECE = 66_000
"""A little more than what is read from a socket at a time."""
BITES = (1 << 20, PIECE, 1 << 12, 400, 200, 100, 50, 25, 1)


class Settings(TenantSettings):
    plan: str = "free"


class Worker:
    def __init__(self, url: str, namespace: str, port: str) -> None:
        kit = self.kit = StateKit.connect(url, namespace, budget=Budget(5, 10, 5), snapshot_dir=None)
        self.leased = kit.rate_limiter("leased", "100 per 8 seconds", lease=True)
        self.exact = kit.rate_limiter("exact", "100000/hour", algorithm="gcra")
        self.sessions = kit.sessions()
        self.tenants = kit.tenants(Settings)
        self.reports = kit.in_flight("reports", 3, lease=3)
        where = ("127.0.0.1", int(port))
        kit.pools.register("billing", open=lambda: socket.create_connection(where), per_process=3, fleet=3)
        self.kept: list[Any] = []

    def hold_everything(self) -> dict[str, Any]:
        """Two slots, two clients, a slice of a limit, and units set aside."""
        self.kept += [self.reports.acquire("acme"), self.reports.acquire("acme")]
        for _ in range(2):
            loan = self.kit.pools.checkout("billing", timeout=30)
            loan.__enter__()
            self.kept.append(loan)
        self.kept.append(self.kit.rate_limiter("reserved", "10 per 15 seconds").reserve("ann", 8, ttl=2))
        spent = sum(bool(self.leased.hit("ann")) for _ in range(30))
        session = self.sessions.open(None)
        session["n"] = 1
        self.sessions.save(session)
        self.cookie = session.id
        self.kit.flags.set("new", Flag())
        self.tenants.update("acme", {"plan": "pro"})
        return {"spent": spent, "cookie": self.cookie, "held": [bool(one) for one in self.kept[:2]]}

    def calls(self) -> tuple[Callable[[], bool], ...]:
        """Each is true if its answer is right."""
        return (
            lambda: self.exact.hit("ann").allowed,
            lambda: self.sessions.open(self.cookie)["n"] == 1,
            lambda: self.kit.flags.enabled("new"),
            lambda: self.tenants.get("acme").plan == "pro",
            lambda: self.reports.count("acme") == 2,
            lambda: self.exact.peek("ann").allowed,
        )

    def starve(self) -> Counter[str]:
        """Eat all there is, and ask with a little more of it left each time: so each call fails at every place."""
        seen = Counter({"right": 0, "wrong": 0, "no memory": 0})
        eaten: dict[int, list[bytearray]] = {bite: [] for bite in BITES}
        _bounded(_size() + ROOM)
        end = time.monotonic() + SECONDS
        rounds = itertools.cycle(itertools.product(range(200), self.calls()))
        while time.monotonic() < end:
            with contextlib.suppress(MemoryError):  # of this loop's own
                left, call = next(rounds)
                eat(eaten)
                del eaten[1][:left]
                del eaten[PIECE][: left % 20]
                seen[_outcome(call)] += 1
        eaten.clear()
        _bounded(resource.RLIM_INFINITY)
        return seen


def eat(eaten: dict[int, list[bytearray]]) -> None:
    """Take all memory, in smaller and smaller bites."""
    for bite, pieces in eaten.items():
        try:
            while True:
                pieces.append(bytearray(bite))
        except MemoryError:
            continue


def _outcome(call: Callable[[], bool]) -> str:
    try:
        return "right" if call() else "wrong"
    except (MemoryError, SystemError):  # the interpreter itself loses an error now and then
        return "no memory"
    except StatekitError as error:
        return "no memory" if isinstance(error.__cause__, MemoryError) else type(error).__name__


def _size() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _bounded(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def main(url: str, namespace: str, port: str) -> None:
    worker = Worker(url, namespace, port)
    print(json.dumps(worker.hold_everything()), flush=True)
    seen = worker.starve()
    again = [_outcome(call) for call in worker.calls()]
    print(json.dumps({"seen": seen, "again": again}), flush=True)
    signal.pause()


main(*sys.argv[1:])
