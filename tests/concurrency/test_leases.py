"""Several processes on one hot key of a leased limiter: never above the limit in any window, and nearly all of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from array import array
from bisect import bisect_left
from pathlib import Path
from threading import Thread
from time import sleep

import redis

from statekit import AsyncStateKit, StateKit
from tests.conftest import PATIENT
from tests.servers import at_length

PROGRAM = Path(__file__).with_name("lease_process.py")
PROCESSES = 4


class Fleet:
    """Processes that hit together; what each was allowed lies in a file of its own."""

    def __init__(self, url, namespace, limit, seconds, folder, environments=(None,) * PROCESSES):
        self.files = [folder / f"{number}.pairs" for number in range(PROCESSES)]
        for file in self.files:
            file.touch()
        self.processes = [
            subprocess.Popen(
                [sys.executable, PROGRAM, url, namespace, limit, str(seconds), str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for file, environment in zip(self.files, environments, strict=True)
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"

    def start(self):
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def ended(self):
        """What the processes say of themselves; a killed one says nothing."""
        answers = [process.communicate(timeout=90)[0] for process in self.processes]
        return [json.loads(answer) for answer in answers if answer]

    def allowed(self):
        """Moments before and after each allowed hit of all processes, in nanoseconds."""
        pairs = []
        for file in self.files:
            noted = array("q")
            noted.frombytes(file.read_bytes())
            pairs += [pair for pair in zip(noted[::2], noted[1::2], strict=True) if pair[1]]
        return sorted(pairs)


def most_in_a_window(pairs, window):
    """How many were certainly decided within one span shorter than `window`, wherever it begins."""
    befores = [before for before, _ in pairs]
    afters = sorted(after for _, after in pairs)
    return max(
        bisect_left(afters, before + window) - index
        for index, before in enumerate(befores)
        if not index or befores[index - 1] != before
    )


def most_allowed(pairs, seconds):
    # A thousandth less: the clocks that count are the server's for the limit and this test's for the proof.
    return most_in_a_window(pairs, int(seconds * 0.999e9))


@at_length
def test_the_fleet_is_never_allowed_more_than_the_limit_and_uses_it(server_url, namespace, tmp_path):
    fleet = Fleet(server_url, namespace, "20000/second", 2.2, tmp_path)
    fleet.start()
    told = fleet.ended()
    pairs = fleet.allowed()
    assert len(pairs) == sum(one["allowed"] for one in told)
    assert most_allowed(pairs, 1) <= 20_000
    assert sum(one["local"] for one in told) > 10 * sum(one["hits"] - one["local"] for one in told)
    assert len(pairs) > 30_000, "of 40,000 to 60,000 in two to three windows"


def test_a_killed_process_takes_nothing_with_it_for_longer_than_a_window(valkey_url, namespace, tmp_path):
    """Its slice counts until its deadline and one window longer; the others never get more than the rest."""
    fleet = Fleet(valkey_url, namespace, "5000/second", 3.5, tmp_path)
    fleet.start()
    sleep(1.2)
    fleet.processes[0].kill()
    fleet.ended()
    pairs = fleet.allowed()
    assert most_allowed(pairs, 1) <= 5_000
    last = pairs[-1][1]
    assert sum(before > last - 10**9 for before, _ in pairs) > 4_000, "the survivors have the limit again"
    client = redis.Redis.from_url(valkey_url)
    assert all(client.pttl(key) > 0 for key in client.scan_iter(f"sk1:{namespace}:*"))


def test_what_proves_a_violation_is_not_blind():
    inside = [(number * 100, number * 100 + 10) for number in range(10)]
    assert most_in_a_window(inside, 911) == 10
    assert most_in_a_window(inside, 910) == 9
    assert most_in_a_window([(0, 10**6)], 500) == 0


def test_threads_share_a_slice_and_are_allowed_exactly_the_limit(valkey_url, namespace):
    """Two processes' kits, eight threads each: whoever finds a slice used up goes on without waiting."""
    kits = [StateKit.connect(valkey_url, namespace, budget=PATIENT) for _ in range(2)]
    limiters = [kit.rate_limiter("bulk", "20000/hour", lease=True, on_outage="deny") for kit in kits]
    counts = []

    def hit(limiter):
        decisions = [limiter.hit("hot") for _ in range(1500)]
        counts.append((sum(map(bool, decisions)), sum(d.local and d.allowed for d in decisions)))

    threads = [Thread(target=hit, args=(limiters[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rest = sum(drained(limiter) for limiter in limiters)
    for kit in kits:
        kit.close()
    assert sum(allowed for allowed, _ in counts) + rest == 20_000
    assert sum(local for _, local in counts) > 10_000


def drained(limiter):
    """How many hits a process is still allowed."""
    allowed = 0
    while limiter.hit("hot").allowed:
        allowed += 1
    return allowed


def test_tasks_share_a_slice_and_are_allowed_exactly_the_limit(valkey_url, namespace):
    """Those that come while a slice is being asked for are decided in the same round trip, one by one."""

    async def run():
        async with AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
            bulk = kit.rate_limiter("bulk", "5000/hour", lease=True, on_outage="deny")

            async def hit():
                decisions = []
                for _ in range(60):
                    decisions.append(await bulk.hit("hot"))
                    await asyncio.sleep(0)
                return decisions

            done = await asyncio.gather(*(hit() for _ in range(100)))
            return [decision for decisions in done for decision in decisions]

    decisions = asyncio.run(run())
    assert sum(map(bool, decisions)) == 5_000
    assert sum(d.local and d.allowed for d in decisions) > 1_000
