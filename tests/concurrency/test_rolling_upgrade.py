"""The release before and the present one side by side on one server: neither notices the other.

Each test runs in both directions: what the one writes the other reads, changes and ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.concurrency.test_leases import Fleet, most_allowed
from tests.releases.members import BEFORE, Member, release
from tests.servers import at_length, wait_until
from tests.third_party import Stub

ALGORITHMS = ("sliding-log", "sliding-counter", "gcra", "fixed-window")


@pytest.fixture(scope="module")
def pairs(servers: Any) -> Iterator[Any]:
    """Processes of both releases on a server; they serve all tests of it."""
    running: dict[str, tuple[Member, Member]] = {}

    def pair(url: str) -> tuple[Member, Member]:
        if url not in running:
            namespace = f"rolling-{os.getpid()}"
            running[url] = (Member(url, namespace, release(BEFORE)), Member(url, namespace))
        return running[url]

    yield pair
    for members in running.values():
        for member in members:
            member.end()


@pytest.fixture(params=["before-to-present", "present-to-before"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def two(pairs: Any, server_url: str, way: str) -> tuple[Member, Member]:
    """The two releases, in the order in which one acts and the other finds."""
    before, present = pairs(server_url)
    return (before, present) if way.startswith("before") else (present, before)


def test_they_are_two_releases(two: tuple[Member, Member], way: str) -> None:
    assert ["0.1.0" in one("release") for one in two] == (
        [True, False] if way.startswith("before") else [False, True]
    )


def test_sessions(two: tuple[Member, Member], way: str) -> None:
    one, other = two
    cookie, outcome = one("session_write", None, cart=[1, 2], name="Ann")
    assert outcome == "created"
    assert other("session_read", cookie) == {
        "values": {"cart": [1, 2], "name": "Ann"},
        "principal": None,
        "new": False,
    }
    assert other("session_write", cookie, city="Ulm")[1] == "saved"
    renewed, handle = other("sign_in", cookie, way)
    assert one("session_read", renewed) == {
        "values": {"cart": [1, 2], "name": "Ann", "city": "Ulm"},
        "principal": way,
        "new": False,
    }
    assert one("session_read", cookie)["principal"] is None, "the old id shows what it showed"
    assert one("session_write", cookie, city="Rom")[1] == "superseded"
    second, second_handle = one("sign_in", one("session_write", None, cart=[])[0], way)
    assert one("sessions_of", way) == other("sessions_of", way) == sorted([handle, second_handle])
    assert one("revoke", handle) is True
    assert other("session_read", renewed)["new"]
    assert other("session_write", renewed, city="Rom")[1] == "created", "under an id of its own"
    assert other("revoke_all", way) == 1
    assert one("session_read", second)["new"]
    assert one("sessions_of", way) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_limits(two: tuple[Member, Member], way: str, algorithm: str) -> None:
    one, other = two
    name = f"{way}-{algorithm}"
    for member in two:
        member("limiter", name, "20/day", "15 per 2 days", algorithm=algorithm)
    assert one("hit", name, 4) == [4, 11]
    assert other("hit", name, 4) == [4, 7]
    assert one("hit", name, 1, cost=5) == [1, 2]
    assert other("hit", name, 5)[0] == 2
    assert one("hit", name, 5)[0] == 0, "a limit used up by the other"
    assert other("reset", name) is True
    wait_until(lambda: one("hit", name, 1)[0] == 1, 30, "the end of a refusal was not heard")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_units_set_aside(two: tuple[Member, Member], way: str, algorithm: str) -> None:
    one, other = two
    name = f"aside-{way}-{algorithm}"
    for member in two:
        member("limiter", name, "10/day", algorithm=algorithm)
    assert one("reserve", name, 8)
    assert other("hit", name, 1) == [1, 1]
    assert other("hit", name, 1, cost=2)[0] == 0
    assert one("settle", 3)
    wait_until(lambda: other("hit", name, 1, cost=2)[0] == 1, 30, "the end of a refusal was not heard")
    assert one("hit", name, 10)[0] == 4


@pytest.mark.parametrize("lease", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_limit_hit_by_both_at_once_is_exact(
    two: tuple[Member, Member], way: str, algorithm: str, lease: bool
) -> None:
    name = f"hot-{way}-{algorithm}-{lease}"
    for member in two:
        member("limiter", name, "700/day", algorithm=algorithm, lease=lease)
    with ThreadPoolExecutor(2) as pool:
        allowed = sum(got for got, _ in pool.map(lambda member: member("hit", name, 300), two))
    while got := sum(member("hit", name, 20)[0] for member in two):
        allowed += got
    assert allowed == 700


@at_length
def test_leased_slices_of_both_never_add_up_to_more_than_the_limit(
    server_url: str, namespace: str, tmp_path: Path
) -> None:
    paths = [release(BEFORE), release(None)] * 2
    fleet = Fleet(server_url, namespace, "20000/second", 2.2, tmp_path, environments=paths)
    fleet.start()
    told = fleet.ended()
    pairs = fleet.allowed()
    assert len(pairs) == sum(one["allowed"] for one in told)
    assert all(one["local"] for one in told)
    assert most_allowed(pairs, 1) <= 20_000
    assert len(pairs) > 20_000


def test_flags(two: tuple[Member, Member], way: str) -> None:
    one, other = two
    other("flag", way)
    version, workers, acknowledged = one("set_flag", way, rollout=30, owner="ann")
    assert (workers, acknowledged) == (2, 2)
    seen = other("flag", way)
    assert seen["version"] == version
    assert 10 < sum(seen["on"]) < 50
    assert one("flag", way) == seen, "the same visitors"
    again, workers, acknowledged = other("set_flag", way, rollout=100)
    assert (again, workers, acknowledged) == (version + 1, 2, 2)
    assert all(one("flag", way)["on"])
    undone = one("undo_flag", again)
    wait_until(lambda: other("flag", way)["version"] == undone, 30)
    assert other("flag", way)["on"] == seen["on"]
    assert one("flag", way) == other("flag", way)


def test_the_last_flag_is_deleted_by_either(two: tuple[Member, Member], way: str) -> None:
    """A data set without documents is no data set that lost them."""
    one, other = two
    for writer, deleter in ((one, other), (other, one), (one, one)):
        for name in writer("flag_names"):
            writer("delete_flag", name)
        writer("set_flag", way, rollout=100)
        assert other("flag_names") == one("flag_names") == [way]
        assert deleter("delete_flag", way)[1:] == [2, 2]
        assert other("flag_names") == one("flag_names") == []
        assert not any(other("flag", way)["on"])


def test_tenants(two: tuple[Member, Member], way: str) -> None:
    one, other = two
    other("tenant", way)
    version, workers, acknowledged = one("update", way, {"plan": "pro", "quotas": {"rps": 50}})
    assert (workers, acknowledged) == (2, 2)
    assert other("tenant", way) == {"plan": "pro", "quotas": {"rps": 50, "burst": 20}}
    assert other("update", way, {"quotas": {"burst": 99}}, if_version=version)[1:] == [2, 2]
    assert one("tenant", way) == {"plan": "pro", "quotas": {"rps": 50, "burst": 99}}
    with pytest.raises(RuntimeError, match="VersionConflict"):
        one("update", way, {"plan": "max"}, if_version=version)


def test_slots_in_flight(two: tuple[Member, Member]) -> None:
    one, other = two
    assert (fence := one("hold", 1)) > 0
    assert other("hold", 1) == 0
    assert other("in_flight") == 1
    assert one("release_hold")
    assert other("hold", 1) > fence
    assert one("in_flight") == 1
    assert other("release_hold")
    assert one("in_flight") == 0


@at_length
def test_a_pool_s_budget_is_never_passed(server_url: str, namespace: str) -> None:
    stub = Stub()
    members = [Member(server_url, namespace, release(path)) for path in (BEFORE, None)]
    try:
        for first, second in (members, members[::-1]):
            first("borrow", stub.port, 20, per_process=2, fleet=3)
            assert second("borrow", stub.port, 20, per_process=2, fleet=3)[0] == 20
            assert first("shares") == second("shares")
            assert sum(first("shares")) <= 3
        assert stub.most <= 3
    finally:
        for member in members:
            member.end()
        stub.close()
