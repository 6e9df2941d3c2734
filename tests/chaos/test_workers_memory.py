"""A worker runs out of memory: its calls fail or are right, it works again with memory (if the interpreter survives), and
what it held comes back.

The kernel's killer ends a process with SIGKILL, which is what is sent here: a limit on the address space gives the
shortage without endangering the machine.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statekit import StateKit
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.third_party import Stub

PROCESS = Path(__file__).with_name("hungry_process.py")


@pytest.fixture
def hungry(valkey_url: str, namespace: str, stub: Stub) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), valkey_url, namespace, str(stub.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def works_again(seen: dict[str, int], again: list[str]) -> None:
    print(f"\n{seen}")
    assert seen["no memory"] > 0, "it was starved"
    assert not seen["wrong"]
    assert again == ["right"] * 6, "with memory all works again"


def test_a_worker_without_memory_answers_right_or_not_at_all_and_leaves_nothing_behind(
    hungry: subprocess.Popen[str], valkey_url: str, namespace: str, stub: Stub
) -> None:
    assert hungry.stdout
    held = json.loads(hungry.stdout.readline())
    assert held["held"] == [True, True]
    told = hungry.stdout.readline()
    survived = bool(told)
    if survived:
        works_again(**json.loads(told))
    else:  # the interpreter itself does not get over every shortage
        _, said = hungry.communicate(timeout=60)
        fell = hungry.returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
        assert fell or said.rstrip().endswith("MemoryError"), said

    with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        reports = kit.in_flight("reports", 3, lease=3)
        if survived:
            assert reports.count("acme") == 2, "its leases were renewed all the time"
            assert not kit.rate_limiter("reserved", "10 per 15 seconds").hit("ann", 3)
        hungry.kill()  # as the kernel would
        hungry.wait()
        assert kit.sessions().open(held["cookie"])["n"] == 1

        wait_until(lambda: reports.count("acme") == 0, 30, "its slots")
        wait_until(lambda: kit.rate_limiter("reserved", "10 per 15 seconds").hit("ann", 10), 30, "its units")
        limiter = kit.rate_limiter("leased", "100 per 8 seconds", lease=True)
        wait_until(lambda: limiter.peek("ann", 100).allowed, 60, "its slice")
        kit.pools.register("billing", open=object, per_process=3, fleet=3)
        loans = [kit.pools.checkout("billing", timeout=30) for _ in range(3)]
        assert all(loan.__enter__() for loan in loans), "its clients"
        for loan in loans:
            loan.__exit__(None, None, None)
        wait_until(lambda: len(kit.flags.workers()) == 1, 30, "its sign of life")
    wait_until(lambda: stub.live == 0, 30)
