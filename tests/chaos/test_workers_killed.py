"""Workers of real web servers killed under load: what they held comes back, and nobody else gets a wrong answer."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from statekit import Flag, StateKit, TenantSettings
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.third_party import Stub
from tests.webservers import WebServer

SERVED = {
    "gthread": ("preload_app:app", ("--preload", "--threads", "4")),
    "gevent": ("preload_app:app", ("-k", "gevent", "--preload", "-c", "gevent_conf.py")),
    "uvicorn": ("fast_app:app", ()),
}
KILLS = 2
VISITORS = 6


class Settings(TenantSettings):
    plan: str = "free"


class Visitor(threading.Thread):
    """Goes round all pages on a session of its own, and judges every answer; a broken connection is none."""

    def __init__(self, url: str, done: threading.Event) -> None:
        super().__init__()
        self.url, self.done = url, done
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.fences: list[int] = []
        self.tried = self.kept = 0
        """Increments sent, and the last one acknowledged."""

    def run(self) -> None:
        jar: dict[str, str] = {}
        for path in itertools.cycle(("/count", "/leased", "/hold", "/borrow", "/flag", "/tenant")):
            if self.done.is_set():
                return
            try:
                self._judge(path, self._ask(path, jar), jar)
            except requests.RequestException:
                self.seen["broken"] += 1
                time.sleep(0.02)

    def _ask(self, path: str, jar: dict[str, str]) -> requests.Response:
        self.tried += path == "/count"
        how = requests.post if path == "/count" else requests.get
        return how(self.url + path, cookies=jar, timeout=60)

    def _judge(self, path: str, answer: requests.Response, jar: dict[str, str]) -> None:
        self.seen[path] += 1
        if answer.status_code != 200:
            self.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            return
        told = answer.json()
        jar.update(answer.cookies.get_dict())
        if path == "/count":
            if not self.kept < told["n"] <= self.tried:
                self.wrong.append(f"{told} after {self.kept} of {self.tried}")
            self.kept = told["n"]
        if path == "/leased":
            self.seen["allowed"] += told["allowed"]
            self.seen["degraded"] += told["degraded"]
        if path == "/hold":
            self.fences.append(told["fence"])


@pytest.fixture(params=SERVED)
def served(
    request: pytest.FixtureRequest, valkey_url: str, namespace: str, tmp_path: Path
) -> Iterator[tuple[WebServer, Stub, Stub]]:
    """Two workers of each kind of server, and the third parties that count who borrows and who runs."""
    app, options = SERVED[request.param]
    pool, flight = Stub(), Stub()
    where = {"STATEKIT_URL": valkey_url, "NAMESPACE": namespace}
    where |= {"POOL_PORT": str(pool.port), "FLIGHT_PORT": str(flight.port)}
    try:
        with WebServer(app, options, where, tmp_path / "log", ready="/plain") as server:
            yield server, pool, flight
    finally:
        pool.close()
        flight.close()


def test_a_killed_worker_takes_nothing_with_it(
    served: tuple[WebServer, Stub, Stub], valkey_url: str, namespace: str
) -> None:
    server, pool, flight = served
    server.from_each("/flag")
    done = threading.Event()
    visitors = [Visitor(server.url, done) for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    killed = _kill_some(server)
    time.sleep(1)
    done.set()
    for visitor in visitors:
        visitor.join(120)
    seen = sum((visitor.seen for visitor in visitors), Counter[str]())
    print(f"\n{server.options}: {len(killed)} workers killed; {dict(seen)}")

    assert [wrong for visitor in visitors for wrong in visitor.wrong] == [], server.told()
    assert all(visitor.kept > 1 for visitor in visitors), "everybody was served"
    assert seen["allowed"] <= 300
    assert seen["degraded"] == 0
    fences = [fence for visitor in visitors for fence in visitor.fences]
    assert len(set(fences)) == len(fences)
    assert flight.most <= 3
    assert pool.most <= 3
    _all_comes_back(server, killed, valkey_url, namespace)


def _kill_some(server: WebServer) -> set[int]:
    """Kill a worker, wait for its replacement to serve, and again."""
    killed: set[int] = set()
    for _ in range(KILLS):
        time.sleep(1.5)
        victim = random.choice(sorted(server.pids()))
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        wait_until(lambda: len(server.pids() - killed) == server.workers, 60, "no worker takes its place")
    return killed


def _all_comes_back(server: WebServer, killed: set[int], valkey_url: str, namespace: str) -> None:
    """What the dead held is free after one lease; those who live are all there is, and hear of every change."""
    now: dict[int, Any] = server.from_each("/borrow")
    assert not killed & set(now)
    with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as operator:
        wait_until(lambda: operator.in_flight("reports", 3).count("acme") == 0, 30)
        operator.pools.register("billing", open=object, per_process=2, fleet=3)
        dead = tuple(f"-{pid}-" for pid in killed)

        def ghosts() -> list[str]:
            known = [one.worker for one in operator.pools.fleet("billing").processes]
            known += [one.name for one in operator.flags.workers()]
            return [name for name in known if any(pid in name for pid in dead)]

        wait_until(lambda: not ghosts(), 30, f"{ghosts()} still count")
        assert operator.flags.set("news", Flag(), wait=30).complete
        assert operator.tenants(Settings).update("acme", {"plan": "pro"}, wait=30).complete
    assert all(answer["on"] is True for answer in server.from_each("/flag").values())
    assert all(answer["plan"] == "pro" for answer in server.from_each("/tenant").values())
