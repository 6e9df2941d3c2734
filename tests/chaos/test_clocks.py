"""Clocks that are wrong: of processes, by an hour and more, and of the store, which jumps while it runs.

libfaketime answers whoever asks for the time of day; clocks that only measure how long something takes are not touched,
as it is when somebody sets the clock of a machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.releases.members import Member
from tests.servers import wait_until
from tests.third_party import Stub

ALGORITHMS = ("sliding-log", "sliding-counter", "gcra", "fixed-window")
HOUR = 3600


class Clock:
    """The time of day as some processes see it."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """Let it be wrong by so many seconds from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


class Wrong(Member):
    """A process that sees such a clock."""

    def __init__(self, url: str, namespace: str, clock: Clock) -> None:
        super().__init__(url, namespace, {**os.environ, **clock.environment})
        self.jump = clock.set


@pytest.fixture(scope="module")
def library() -> Path:
    faked = pytest.importorskip("libfaketime", reason="libfaketime is not installed")
    return next(Path(faked.__file__).parent.rglob("libfaketime.so*"))


@pytest.fixture(scope="module")
def fleet(servers: Any, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """One whose clock is right, one an hour ahead, one an hour behind, and one whose clock jumps in each test."""
    folder, url, namespace = tmp_path_factory.mktemp("clocks"), servers["valkey"].url, f"clocks-{os.getpid()}"
    clocks = [Clock(library, folder / name) for name in ("ahead", "behind", "jumping")]
    processes = [Member(url, namespace), *(Wrong(url, namespace, clock) for clock in clocks)]
    clocks[0].set(HOUR)
    clocks[1].set(-HOUR)
    yield processes
    for one in processes:
        one.end()


def all_clocks_of(fleet: list[Any]) -> Iterator[int]:
    """The jumping clock is right, an hour ahead, two behind that, and right again."""
    for seconds in (0, HOUR, -HOUR, 0):
        fleet[3].jump(seconds)
        yield seconds


def test_their_clocks_are_wrong(fleet: list[Any]) -> None:
    for jump in all_clocks_of(fleet):
        off = [round((one("clock") - time.time()) / HOUR) * HOUR for one in fleet]
        assert off == [0, HOUR, -HOUR, jump]


@pytest.mark.parametrize("lease", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_limit_counts_alike_for_all(fleet: list[Any], algorithm: str, lease: bool) -> None:
    name = f"{algorithm}-{lease}"
    for one in fleet:
        one("limiter", name, "60/day", algorithm=algorithm, lease=lease)
    allowed = sum(one("hit", name, 3)[0] for _ in all_clocks_of(fleet) for one in fleet)
    assert allowed == 48
    while got := sum(one("hit", name, 2)[0] for one in fleet):
        allowed += got
    assert allowed == 60
    assert fleet[1]("reset", name)
    for one in fleet:
        wait_until(lambda one=one: one("hit", name, 1)[0] == 1, 30, "it is refused by a clock of its own")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nobody_is_locked_out_for_longer_than_a_window(fleet: list[Any], algorithm: str) -> None:
    for one in fleet:
        one("limiter", f"short-{algorithm}", "4/second", algorithm=algorithm)
    for _ in all_clocks_of(fleet):
        for one in fleet:
            wait_until(
                lambda one=one: one("hit", f"short-{algorithm}", 1)[0] == 1,
                30,
                "it waits for a clock of its own",
            )


def test_sessions_are_the_same_for_all(fleet: list[Any]) -> None:
    for _ in all_clocks_of(fleet):
        for one in fleet:
            cookie, outcome = one("session_write", None, cart=[1])
            assert outcome == "created"
            renewed, handle = one("sign_in", cookie, "user:7")
            for other in fleet:
                assert other("session_read", renewed)["principal"] == "user:7"
                assert handle in other("sessions_of", "user:7")
    assert fleet[2]("revoke_all", "user:7") == 16


def test_flags_switch_for_all_at_the_moment_the_store_says(fleet: list[Any]) -> None:
    now = datetime.now(UTC)
    before, after = (now + timedelta(minutes=minutes) for minutes in (-30, 30))
    for name, times in {
        "began": {"starts": before.isoformat()},
        "begins": {"starts": after.isoformat()},
        "ended": {"ends": before.isoformat()},
        "ends": {"ends": after.isoformat()},
    }.items():
        for one in fleet:
            one("flag", name)
        assert fleet[0]("set_flag", name, enabled=True, **times)[1:] == [4, 4]
    for _ in all_clocks_of(fleet):
        for one in fleet:
            shown = {name: all(one("flag", name)["on"]) for name in ("began", "begins", "ended", "ends")}
            assert shown == {"began": True, "begins": False, "ended": False, "ends": True}


def test_writes_of_flags_and_tenants_reach_all(fleet: list[Any]) -> None:
    for one in fleet:
        one("flag", "new")
        one("tenant", "acme")
    for number, _ in enumerate(all_clocks_of(fleet)):
        for rps, one in enumerate(fleet):
            assert one("set_flag", "new", rollout=number)[1:] == [4, 4]
            assert one("update", "acme", {"quotas": {"rps": rps}})[1:] == [4, 4]
            assert [other("tenant", "acme")["quotas"]["rps"] for other in fleet] == [rps] * 4


def test_a_slot_is_held_once_and_kept(fleet: list[Any]) -> None:
    fences = []
    for _ in all_clocks_of(fleet):
        for one in fleet:
            fences.append(one("hold", 1))
            assert [other("hold", 1) for other in fleet if other is not one] == [0, 0, 0]
            assert not one("lost")
            assert one("release_hold")
    assert fences == sorted(set(fences)) != [0]


def test_a_slot_outlives_a_jump_of_its_holder_s_clock(fleet: list[Any]) -> None:
    jumping = fleet[3]
    assert jumping("hold", 1)
    for _ in all_clocks_of(fleet):
        assert not jumping("lost")
        assert fleet[0]("hold", 1) == 0
    assert jumping("release_hold")


def test_a_pool_s_budget_holds(fleet: list[Any]) -> None:
    stub = Stub()
    try:
        for _ in all_clocks_of(fleet):
            for one in fleet:
                assert one("borrow", stub.port, 5, per_process=2, fleet=3)[0] == 5
        assert sum(fleet[0]("shares")) <= 3
        assert stub.most <= 3
    finally:
        stub.close()
