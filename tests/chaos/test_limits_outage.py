"""What limiters answer while the store is killed or stopped: as declared, marked, and in all no more than the limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.outage_process import BUDGET
from tests.servers import Server, binary, wait_until

PROGRAM = Path(__file__).with_name("outage_process.py")
COLOURS = ["blocking", "asyncio", "blocking", "asyncio"]
TIMES = 60


class Process:
    """One process of a fleet; it does what it is told, and answers."""

    def __init__(self, url: str, namespace: str, colour: str) -> None:
        command = [sys.executable, str(PROGRAM), url, namespace, colour]
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def answer(self):
        assert self._popen.stdout
        return json.loads(self._popen.stdout.readline())

    def ask(self, line: str):
        self.tell(line)
        return self.answer()

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()  # a forked child reads the end of its input, and ends


def ask(fleet, line):
    """Tell all, then hear all: they work at the same time."""
    for one in fleet:
        one.tell(line)
    return [one.answer() for one in fleet]


@pytest.fixture
def store() -> Iterator[Server]:
    server = Server(binary("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def join(store, namespace):
    """Start processes; all of them end with the test."""
    started: list[Process] = []

    def joined(*colours):
        fleet = [Process(store.url, namespace, colour) for colour in colours]
        started.extend(fleet)
        assert [one.answer() for one in fleet] == ["ready"] * len(fleet)
        return fleet

    yield joined
    for one in started:
        one.end()


def acquainted(fleet):
    """Let all begin, until they know of each other."""
    ask(fleet, "hit local warm 1")
    wait_until(lambda: ask(fleet, "workers") == [len(fleet)] * len(fleet), 60)


def out(store, way):
    store.kill() if way == "killed" else store.freeze()


def back(store, way):
    store.start() if way == "killed" else store.thaw()


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_each_policy_answers_as_declared_and_the_shares_add_up(store, join, way):
    """Four processes of both colours, four callers each: with a limit of 100 they admit 100 together."""
    fleet = join(*COLOURS)
    acquainted(fleet)
    out(store, way)
    told = {name: ask(fleet, f"hit {name} k {TIMES}") for name in ("allow", "deny", "local", "few")}
    assert all(one["degraded"] == TIMES for all_of_them in told.values() for one in all_of_them)
    slowest = max(one["slowest"] for all_of_them in told.values() for one in all_of_them)
    print(f"{way}: slowest answer {1000 * slowest:.0f} ms, budget {1000 * BUDGET.decision:.0f} ms")
    assert slowest < 2 * BUDGET.decision
    assert [one["allowed"] for one in told["allow"]] == [TIMES] * 4
    assert [(one["allowed"], one["waits"]) for one in told["deny"]] == [(0, [1.0])] * 4
    assert [one["allowed"] for one in told["local"]] == [25] * 4
    assert [one["allowed"] for one in told["few"]] == [1] * 4, "a share is a unit at least"
    assert all(3000 < one["waits"][0] <= 3600 for one in told["local"])

    back(store, way)
    wait_until(lambda: all(one["degraded"] == 0 for one in ask(fleet, "hit allow warm 1")), 30)
    told = {name: ask(fleet, f"hit {name} new {TIMES}") for name in ("allow", "deny", "local")}
    assert not any(one["degraded"] for all_of_them in told.values() for one in all_of_them)
    assert [sum(one["allowed"] for one in all_of_them) for all_of_them in told.values()] == [100] * 3


def test_who_begins_during_an_outage_takes_the_smallest_share(store, join):
    """Its parent's count, or that of whoever ran here before, may be wrong for it: a unit is never too much."""
    fleet = join("blocking", "asyncio")
    acquainted(fleet)
    store.kill()
    fleet += join("blocking", "asyncio")
    fleet[0].tell("fork")
    assert fleet[0].answer() == "forked"
    told = ask(fleet, f"hit local k {TIMES}")
    assert [one["allowed"] for one in told] == [1, 50, 1, 1]
    store.start()
    ask(fleet, "hit local warm 1")
    # the parent of the child has died out of the roster, or will
    wait_until(lambda: all((known or 0) >= 4 for known in ask(fleet, "workers")), 60)


def test_a_store_that_comes_back_empty_makes_no_share_too_large(store, join):
    """It is killed again at once, several times: whoever signs first is not taken for the only one."""
    fleet = join(*COLOURS)
    acquainted(fleet)
    total = 0
    for _ in range(5):
        store.kill()
        told = ask(fleet, f"hit local k {TIMES}")
        total += sum(one["allowed"] for one in told if one["degraded"] == TIMES)
        store.start()
        ask(fleet, "workers")
    assert total <= 100
