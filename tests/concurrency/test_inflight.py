"""Real processes, threads and tasks on one limit, counted by a third party: never more at once."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.testing import OutageSimulator, recorded
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.third_party import Stub

PROCESS = Path(__file__).with_name("inflight_process.py")


@pytest.fixture
def kit(valkey_url: str, namespace: str) -> Iterator[StateKit]:
    kit = StateKit.connect(valkey_url, namespace, budget=PATIENT)
    yield kit
    kit.close()


@pytest.fixture
def start(valkey_url: str, namespace: str) -> Iterator[Callable[..., Any]]:
    """Start processes of inflight_process.py, which end with the test."""
    running: list[subprocess.Popen[str]] = []

    def started(**job: Any) -> subprocess.Popen[str]:
        job = {"url": valkey_url, "namespace": namespace, **job}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, str(PROCESS), json.dumps(job)], **pipes))
        return running[-1]

    yield started
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def finished(process: Any) -> list[int]:
    """Let a process end, and return what it counted."""
    process.stdin.close()
    counts = json.loads(process.stdout.read())
    assert process.wait(60) == 0
    return counts


def test_processes_and_threads_are_never_more_than_the_limit(kit: StateKit, start: Any, stub: Stub) -> None:
    """Also when one of them is killed: its slots are taken by the others, after their leases have run out."""
    processes = [start(limit=3, lease=3, threads=4, port=stub.port) for _ in range(4)]
    wait_until(lambda: stub.total > 100, 60)
    flight, dead = kit.in_flight("reports", 3), f"-{processes[0].pid}-"

    def caught() -> bool:
        os.kill(processes[0].pid, signal.SIGSTOP)
        holding = any(dead in holder.worker for holder in flight.holders("acme"))
        os.kill(processes[0].pid, signal.SIGKILL if holding else signal.SIGCONT)
        return holding

    wait_until(caught, 60)
    processes[0].wait()
    seen = stub.total
    wait_until(lambda: stub.total > seen + 100, 60)
    counts = [finished(process) for process in processes[1:]]
    assert all(blocks for each in counts for blocks in each), "every thread had its turns"
    assert stub.most == 3
    wait_until(lambda: flight.count("acme") == 0, 30, "the dead hold a slot for ever")


def test_a_killed_process_frees_its_slots_after_one_lease(kit: StateKit, start: Any) -> None:
    process = start(limit=3, lease=1.5, threads=3)
    fences = json.loads(process.stdout.readline())
    flight = kit.in_flight("reports", 3)
    assert not flight.acquire("acme")
    process.kill()
    process.wait()
    dead = flight.holders("acme")
    assert [holder.fence for holder in dead] == fences
    holds = [flight.acquire("acme", timeout=30) for _ in range(3)]
    ends = sorted(round(holder.until.timestamp() * 1e6) for holder in dead)
    assert all(hold.fence >= end for hold, end in zip(holds, ends, strict=True)), "and not a moment earlier"
    assert not flight.acquire("acme")
    assert [hold.lost for hold in holds] == [False] * 3
    assert all(hold.release() for hold in holds)


def test_a_frozen_process_finds_its_slot_lost(kit: StateKit, start: Any) -> None:
    process = start(limit=1, lease=1, threads=1)
    (fence,) = json.loads(process.stdout.readline())
    os.kill(process.pid, signal.SIGSTOP)
    flight = kit.in_flight("reports", 1)
    with flight.hold("acme", timeout=30) as hold:
        assert hold.fence > fence, "whoever checks fences refuses the other from now on"
        os.kill(process.pid, signal.SIGCONT)
        assert json.loads(process.stdout.readline()) == {"released": False, "lost": True}
        assert process.wait(60) == 0
        assert [holder.fence for holder in flight.holders("acme")] == [hold.fence]
    assert not hold.lost


def test_a_forked_child_leaves_its_parent_s_slots_alone(kit: StateKit) -> None:
    flight = kit.in_flight("reports", 2, lease=1.5)
    with flight.hold("acme") as hold:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                assert hold.lost, "it is the parent's"
                assert not hold.release()
                kit.run(kit._made["in_flight"].tending())
                with flight.hold("acme") as mine:
                    assert mine.in_flight == 2
                    until = flight.holders("acme")[1].until
                    wait_until(lambda: flight.holders("acme")[1].until > until, 30)
                kit.close()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [holder.fence for holder in flight.holders("acme")] == [hold.fence]
        assert not hold.lost
    assert flight.count("acme") == 0


def test_a_lease_that_cannot_be_renewed_is_lost_in_time(valkey_url: str, namespace: str) -> None:
    """While the store hangs nobody can say whether others have the slot by now."""
    with OutageSimulator(valkey_url) as outage:
        kit = StateKit.connect(outage.url, namespace)
        with kit.in_flight("reports", 1, lease=1).hold("acme") as hold:
            with outage.stalled():
                wait_until(lambda: hold.lost, 30)
            assert hold.lost, "once lost it stays lost"
        wait_until(lambda: kit.in_flight("reports", 1).count("acme") == 0, 30)
        kit.close()


def test_waiters_of_a_process_are_served_in_order(kit: StateKit) -> None:
    served: list[int] = []
    flight = kit.in_flight("reports", 1)
    lines = kit._made["in_flight"].lines

    def wait(number: int) -> None:
        with flight.hold("acme", timeout=60):
            served.append(number)

    threads = []
    with flight.hold("acme"):
        for number in range(8):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            wait_until(lambda expected=number + 1: sum(map(len, lines._lines.values())) == expected)
    for thread in threads:
        thread.join(60)
    assert served == list(range(8))
    assert not lines._lines


async def test_tasks_are_never_more_than_the_limit_and_ask_as_one(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    flight = kit.in_flight("reports", 5, lease=5)
    running = most = 0
    full = asyncio.Event()

    async def work() -> None:
        nonlocal running, most
        async with flight.hold("acme", timeout=60):
            running += 1
            most = max(most, running)
            if running == 5:
                full.set()
            await full.wait()
            await asyncio.sleep(0.001)
            running -= 1

    with recorded(kit) as trips:
        await asyncio.gather(*(work() for _ in range(100)))
    assert most == 5
    assert await flight.count("acme") == 0
    asked = sum(trip.commands.count("inflight.acquire") for trip in trips)
    assert asked <= 400, "each asks once, then one for all"
    await kit.close()


async def test_cancelled_tasks_leave_no_slot_behind(valkey_url: str, namespace: str) -> None:
    """Wherever they are cancelled: asking, waiting, inside the block, giving back."""
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    flight = kit.in_flight("reports", 4, lease=30)

    async def work() -> None:
        async with flight.hold("acme", timeout=60):
            await asyncio.sleep(0.003)

    for number in range(60):
        tasks = [asyncio.create_task(work()) for _ in range(8)]
        await asyncio.sleep(number * 0.0002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    del tasks
    gc.collect()  # what was cancelled may still be kept by its own traceback
    keeper = kit._made["in_flight"]
    await keeper.tend()
    assert await flight.count("acme") == 0
    assert not keeper._held
    assert not keeper.lines._lines
    await kit.close()
