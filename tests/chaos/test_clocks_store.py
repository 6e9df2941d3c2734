"""The store's own clock jumps by an hour, ahead and back, while processes use it: on a real server, under libfaketime.

On Valkey; Redis 6.2 gives the same answers, and Redis 7.0 as Debian builds it does not start under libfaketime.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.test_clocks import ALGORITHMS, HOUR, Clock, library
from tests.concurrency.test_pools import Fleet, viewer
from tests.releases.members import Member
from tests.servers import Server, binary, wait_until
from tests.third_party import Stub

__all__ = ["library"]
JUMPS = {"ahead": (HOUR,), "back": (-HOUR,), "ahead and back": (HOUR, 0)}


class Store(Server):
    """A server whose clock is told what to say."""

    clock: Clock


@pytest.fixture(scope="module")
def store(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    clock = Clock(library, folder / "clock")
    wanted = " ".join(f"{name}='{value}'" for name, value in clock.environment.items())
    program = folder / "server"
    program.write_text(f'#!/bin/sh\nexport {wanted}\nexec "{binary("valkey")}" "$@"\n')
    program.chmod(0o755)
    with Store(program) as running:
        running.clock = clock
        yield running


@pytest.fixture(params=JUMPS)
def jump(request: pytest.FixtureRequest, store: Store) -> Iterator[Any]:
    """Set the clock, for good or there and back; right again after the test."""

    def now() -> None:
        for seconds in JUMPS[request.param]:
            store.clock.set(seconds)
            wait_until(lambda seconds=seconds: _off(store) == seconds, 10, "its clock does not jump")

    yield now
    store.clock.set(0)
    wait_until(lambda: _off(store) == 0, 10)


def _off(store: Store) -> int:
    seconds, _ = store.ask("TIME")
    return round((int(seconds) - time.time()) / 60) * 60


@pytest.fixture
def two(store: Store, namespace: str) -> Iterator[tuple[Member, Member]]:
    both = Member(store.url, namespace), Member(store.url, namespace)
    yield both
    for one in both:
        one.end()


def test_nobody_is_locked_out_by_a_jump(two: tuple[Member, Member], jump: Any) -> None:
    """A hit passes again within two windows, and no more than the limit with it."""
    for algorithm in ALGORITHMS:
        for one in two:
            one("limiter", algorithm, "5/2 seconds", algorithm=algorithm)
            one("hit", algorithm, 5)
    jump()
    for algorithm in ALGORITHMS:
        for one in two:
            wait_until(lambda one=one, name=algorithm: one("hit", name, 1)[0], 30, f"{algorithm} locks out")


def test_a_slot_is_never_held_twice_without_its_holder_being_told(
    two: tuple[Member, Member], jump: Any
) -> None:
    one, other = two
    fence = one("hold", 1)
    assert fence
    jump()
    if newer := other("hold", 1):
        assert newer > fence
        wait_until(lambda: one("lost"), 60, "its holder is not told")
    else:
        assert not one("lost")
        assert one("release_hold")
        assert other("hold", 1) > fence


def test_sessions_and_writes_go_on(two: tuple[Member, Member], jump: Any) -> None:
    one, other = two
    cookie, _ = one("session_write", None, cart=[1])
    for member in two:
        member("flag", "new")
    assert one("set_flag", "new", rollout=100)[1:] == [2, 2]
    jump()
    assert other("session_read", cookie)["values"] == {"cart": [1]}, "it had two hours"
    assert other("session_write", cookie, city="Ulm")[1] == "saved"
    wait_until(lambda: one("set_flag", "new", rollout=0)[1:] == [2, 2], 60, "a reader is not heard of")
    assert not any(other("flag", "new")["on"])
    assert one("session_read", cookie)["values"] == {"cart": [1], "city": "Ulm"}


def test_a_pool_s_budget_holds_in_a_jump(store: Store, namespace: str, jump: Any) -> None:
    """Of those who have joined: for who has not, a leap is like a store that comes back empty (docs/guarantees.md)."""
    stub = Stub()
    fleet = Fleet(store.url, namespace, stub)
    try:
        for _ in range(3):
            fleet.start(threads=3, hold=0.002, per_process=3, fleet=4)
        with viewer(fleet, per_process=3, fleet=4) as kit:
            wait_until(lambda: sorted(p.share for p in kit.pools.fleet("billing").processes) == [1, 1, 2], 60)
        wait_until(lambda: stub.live == 4, 60)
        jump()
        time.sleep(2)  # nothing to wait for: in all this time it must hold
        assert stub.most == 4
        assert all(one["calls"] > 0 for one in fleet.finish())
        assert stub.most == 4
    finally:
        for process in fleet.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        stub.close()
