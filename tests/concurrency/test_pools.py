"""Real processes and threads on one budget, counted by the third party they connect to."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import PoolExhausted
from tests.servers import wait_until
from tests.third_party import Stub

PROCESS = Path(__file__).with_name("pool_process.py")


class Fleet:
    """Processes of pool_process.py, ended with the test."""

    def __init__(self, url: str, namespace: str, stub: Stub) -> None:
        self.job = {"url": url, "namespace": namespace, "port": stub.port}
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, threads: int, hold: float, **bounds: Any) -> subprocess.Popen[str]:
        job = {**self.job, "threads": threads, "hold": hold, "bounds": bounds}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, str(PROCESS), json.dumps(job)], **pipes)
        self.processes.append(process)
        return process

    def finish(self) -> list[dict[str, int]]:
        for process in self.processes:
            process.stdin.close()
        results = [json.loads(process.stdout.read().splitlines()[-1]) for process in self.processes]
        assert [process.wait(60) for process in self.processes] == [0] * len(self.processes)
        return results


@pytest.fixture
def fleet(valkey_url: str, namespace: str, stub: Stub) -> Iterator[Fleet]:
    one = Fleet(valkey_url, namespace, stub)
    yield one
    for process in one.processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def viewer(running: Fleet, **bounds: Any) -> StateKit:
    """A kit that looks on, without borrowing."""
    kit = StateKit.connect(running.job["url"], running.job["namespace"])
    kit.pools.register("billing", open=lambda: None, **bounds)
    return kit


def test_six_processes_of_four_threads_never_pass_twelve(fleet: Fleet, stub: Stub) -> None:
    for _ in range(6):
        fleet.start(threads=4, hold=0.002, per_process=4, fleet=12)
    for process in fleet.processes:
        assert process.stdout.readline() == "ready\n"
    wait_until(lambda: stub.live == 12, 60)
    with viewer(fleet, per_process=4, fleet=12) as kit:
        wait_until(lambda: [p.share for p in kit.pools.fleet("billing").processes] == [2] * 6, 60)
    results = fleet.finish()
    assert all(result["calls"] > 0 for result in results)
    assert stub.most == 12
    wait_until(lambda: stub.live == 0, 60)


def test_fewer_connections_than_processes_go_round(fleet: Fleet, stub: Stub) -> None:
    for _ in range(3):
        fleet.start(threads=2, hold=0.002, per_process=1, fleet=1)
    for process in fleet.processes:
        assert process.stdout.readline() == "ready\n"
    with viewer(fleet, per_process=1, fleet=1) as kit:
        holding: set[str] = set()
        wait_until(
            lambda: (
                holding.update(p.worker for p in kit.pools.fleet("billing").processes if p.in_use)
                or len(holding) == 3
            ),
            60,
        )
    fleet.finish()
    assert stub.most == 1


def test_a_killed_process_s_connections_go_to_the_others(fleet: Fleet, stub: Stub) -> None:
    bounds = {"per_process": 4, "fleet": 12, "lease": 2}
    victim = fleet.start(threads=4, hold=120, **bounds)
    assert victim.stdout.readline() == "ready\n"
    wait_until(lambda: stub.live == 4, 60)
    fleet.processes.remove(victim)
    for _ in range(3):
        fleet.start(threads=4, hold=0.05, **bounds)
    wait_until(lambda: stub.live == 12, 60)
    assert stub.total == 12, "nobody has taken from the victim what it uses"
    victim.kill()
    wait_until(lambda: stub.live == 8, 60)
    wait_until(lambda: stub.live == 12, 60)
    fleet.finish()
    assert stub.most == 12
    victim.wait(), victim.stdin.close(), victim.stdout.close()


def test_a_process_that_was_frozen_gives_up_what_is_no_longer_its_own(fleet: Fleet, stub: Stub) -> None:
    bounds = {"per_process": 2, "fleet": 2, "lease": 1}
    frozen = fleet.start(threads=2, hold=0.01, **bounds)
    wait_until(lambda: stub.live == 2, 60)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        fleet.start(threads=2, hold=0.01, **bounds)
        wait_until(
            lambda: stub.total == 4, 60
        )  # granted after the lease: the stub holds four now, as documented
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    wait_until(lambda: stub.live <= 2, 60)
    total, most = stub.total, stub.most
    with viewer(fleet, per_process=2, fleet=2) as kit:
        wait_until(lambda: [p.share for p in kit.pools.fleet("billing").processes] == [1, 1], 60)
    assert most == 4
    assert stub.live <= 2, total
    fleet.finish()


@pytest.mark.parametrize("threads", [16])
def test_threads_of_one_process_share_without_loss(valkey_url: str, namespace: str, threads: int) -> None:
    kit = StateKit.connect(valkey_url, namespace)
    in_use: set[int] = set()
    numbers = iter(range(10**6))
    kit.pools.register(
        "p", open=lambda: next(numbers), close=lambda _: None, per_process=3, fleet=3, lifetime=0.05
    )
    wrong: list[str] = []

    def work(luck: random.Random) -> None:
        for _ in range(150):
            try:
                with kit.pools.checkout("p", timeout=60) as client:
                    if client in in_use or len(in_use) >= 3:
                        wrong.append(f"{client} among {in_use}")
                    in_use.add(client)
                    try:
                        if luck.random() < 0.05:
                            raise ConnectionResetError
                    finally:
                        in_use.remove(client)
            except ConnectionResetError:
                pass

    workers = [threading.Thread(target=work, args=(random.Random(seed),)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    stats = kit.pools.stats()["p"]
    kit.close()
    assert wrong == []
    assert (stats.in_use, stats.waiting, stats.timeouts_total) == (0, 0, 0)
    assert stats.checkouts_total == threads * 150


async def test_cancelled_tasks_lose_no_room(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace)
    live = 0

    async def connect() -> object:
        nonlocal live
        await asyncio.sleep(0.0005)
        live += 1
        return object()

    async def disconnect(_: object) -> None:
        nonlocal live
        live -= 1
        await asyncio.sleep(0)

    pool = kit.pools.register("p", open=connect, close=disconnect, per_process=2, fleet=2, timeout=60)
    luck = random.Random(7)

    async def work() -> None:
        async with pool.checkout():
            assert live <= 2
            await asyncio.sleep(0.001)

    for _ in range(30):
        tasks = [asyncio.create_task(work()) for _ in range(10)]
        await asyncio.sleep(luck.random() * 0.01)
        for task in luck.sample(tasks, 6):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stats = pool.stats()
        assert (stats.in_use, stats.waiting) == (0, 0)
    async with pool.checkout(), pool.checkout():
        with pytest.raises(PoolExhausted):
            await pool.checkout(timeout=0).__aenter__()
    await kit.close()
    assert live == 0


def test_a_client_is_left_behind_on_another_event_loop(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace)
    loops: list[Any] = []

    async def connect() -> Any:
        loops.append(asyncio.get_running_loop())
        return loops[-1]

    kit.pools.register("p", open=connect, close=lambda _: None, per_process=2, fleet=4)

    async def once() -> None:
        async with kit.pools.checkout("p") as client:
            assert client is asyncio.get_running_loop()

    async def twice() -> None:
        await once()
        await once()
        await kit.close()

    asyncio.run(once())
    asyncio.run(twice())
    assert len(loops) == 2


FORK = """
import os, sys
from statekit.kit import StateKit
kit = StateKit.connect(sys.argv[1], sys.argv[2])
kit.pools.register("p", open=lambda: [os.getpid()], close=lambda c: c.append("closed"), per_process=2, fleet=4)
with kit.pools.checkout("p") as mine:
    pass
child = os.fork()
if child == 0:
    with kit.pools.checkout("p", timeout=30) as other:
        assert other == [os.getpid()], other
    assert len(kit.pools.fleet("p").processes) == 2
    kit.close()
    assert mine == [os.getppid()], mine
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with kit.pools.checkout("p") as again:
    assert again is mine
assert kit.pools.fleet("p").granted == 1
kit.close()
assert mine == [os.getpid(), "closed"]
print("fine")
"""


def test_a_forked_child_leaves_its_parent_s_clients_alone(valkey_url: str, namespace: str) -> None:
    done = subprocess.run(  # noqa: PLW1510 - the message is in what it printed
        [sys.executable, "-c", FORK, valkey_url, namespace], capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "fine\n", done.stderr
