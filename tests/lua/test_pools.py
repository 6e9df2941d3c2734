"""The scripts of the pools against their twins, and what a budget must never do, on real servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statekit.pools.core import RELEASE, RENEW, VIEW
from statekit.pools.memory import TWINS
from statekit.store.memory import Data
from statekit.store.op import Script

START = 1_700_000_000_000_000
LEASE = 6_000_000
SLICE = 1_000_000


@pytest.fixture
def server(server_url: str) -> Any:
    with redis.Redis.from_url(server_url) as client:
        yield client


def on_server(server: Any, script: Script, key: str, args: Sequence[Any]) -> Any:
    return server.eval(script.source, 1, key, *args)


workers = st.sampled_from(["a", "b", "c", "d"])
renewals = st.tuples(
    st.just("renew"),
    workers,
    st.integers(1, 3),  # how far the sequence advances
    st.integers(0, 5),  # keep
    st.integers(0, 5),  # in use
    st.integers(0, 3),  # waiting
    st.integers(0, 6),  # want
    st.integers(1, 6),  # budget
    st.sampled_from([0, 0, 0, 7]),  # an epoch from another life
    st.sampled_from(
        [0, 1, 400_000, 1_100_000, LEASE, -1, -2_000_000, -1000 * LEASE]
    ),  # time that passes, or goes back
)
releases = st.tuples(st.just("release"), workers, st.integers(0, 2))
views = st.tuples(st.just("view"))
overtaken = st.tuples(st.just("overtaken"), workers)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(renewals, renewals, renewals, releases, views, overtaken), max_size=25))
def test_lua_and_twin_agree(server: Any, namespace: str, steps: list[Any]) -> None:
    data, key, now = Data(), f"sk1:{namespace}:pool:{{x}}", START
    server.delete(key)
    seqs: dict[str, int] = {}

    def both(script: Script, args: Sequence[Any]) -> Any:
        theirs = on_server(server, script, key, args)
        assert TWINS[script.name](data, [key], list(args)) == theirs
        return theirs

    for step in steps:
        match step:
            case ("renew", worker, advance, keep, in_use, waiting, want, budget, epoch, passed):
                now += passed
                seqs[worker] = seqs.get(worker, 0) + advance
                numbers = (seqs[worker], epoch, keep, in_use, waiting, want, budget, LEASE, SLICE, now)
                reply = both(RENEW, (worker, *numbers))
                assert 0 < server.pttl(key) <= 2 * (LEASE + SLICE) // 1000, (
                    "a second the clock may go back unseen"
                )
                assert reply[1] - reply[2] <= max(keep, want)
            case ("release", worker, advance):
                seqs[worker] = seqs.get(worker, 0) + advance
                both(RELEASE, (worker, seqs[worker]))
            case ("overtaken", worker):
                both(RENEW, (worker, 0, 0, 9, 9, 9, 9, 9, LEASE, SLICE, now))
            case ("view",):
                both(VIEW, (now,))
        both(VIEW, (now,))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    budget=st.integers(1, 8),
    steps=st.lists(
        st.tuples(workers, st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 300_000, 2_500_000])),
        max_size=25,
    ),
)
def test_live_shares_never_pass_the_budget(
    server: Any, namespace: str, budget: int, steps: list[Any]
) -> None:
    """Whatever processes claim to keep, also ones that lie or come back after their lease."""
    key, now = f"sk1:{namespace}:pool:{{y}}", START
    server.delete(key)
    for seq, (worker, keep, want, passed) in enumerate(steps, 1):
        now += passed
        on_server(server, RENEW, key, (worker, seq, 0, keep, 0, 0, want, budget, LEASE, SLICE, now))
        records = on_server(server, VIEW, key, (now,))[3::2]
        assert sum(int(record.split()[0]) for record in records) <= budget


@pytest.mark.parametrize("back", [2, 60, 3600])
def test_a_clock_set_back_keeps_neither_the_share_of_the_dead_nor_everybody_waiting(
    server: Any, namespace: str, back: int
) -> None:
    """Also one that had leapt ahead, when the record began anew: nothing is granted until a moment far away."""
    key = f"sk1:{namespace}:pool:{{b}}"

    def renew(worker: str, seq: int, epoch: int, now: int) -> int:
        args = (worker, seq, epoch, 0, 0, 2, 2, 2, LEASE, SLICE, now)
        return int(on_server(server, RENEW, key, args)[1])

    ahead = START + back * 1_000_000
    renew("dead", 1, 0, ahead)
    assert renew("dead", 2, 0, ahead + LEASE // 2) == 2
    assert renew("a", 1, 7, ahead + LEASE // 2) == 0, "another epoch: nothing is granted for one lease"
    assert renew("a", 2, 7, START) == 0
    assert renew("a", 3, 7, START + LEASE // 2) == 0
    assert renew("b", 1, 8, START + LEASE // 2) == 0, "so does this one's, and the record began in the future"
    for seq, at, granted in ((4, 1.3, 0), (5, 1.6, 1)):
        now = START + round(at * LEASE)
        assert [renew("a", seq, 7, now), renew("b", seq, 8, now)] == [granted, granted]


def test_who_gives_back_does_not_get_it_again_before_others(server: Any, namespace: str) -> None:
    key = f"sk1:{namespace}:pool:{{z}}"

    def renew(worker: str, seq: int, keep: int, want: int, seconds: float) -> list[int]:
        now = START + round(seconds * 1_000_000)
        return on_server(server, RENEW, key, (worker, seq, 0, keep, keep, want, want, 1, LEASE, SLICE, now))[
            1:3
        ]

    assert renew("a", 1, 0, 4, 0.0) == [1, 0]
    assert renew("b", 1, 0, 4, 0.1) == [0, 0]
    assert renew("c", 1, 0, 4, 0.2) == [0, 0]
    assert renew("a", 2, 1, 4, 0.5) == [1, 0], "its slice is not over"
    assert renew("a", 3, 1, 4, 1.1) == [1, 1], "others have had none for longer"
    assert renew("a", 4, 0, 4, 1.2) == [0, 0]
    assert renew("c", 2, 0, 4, 1.3) == [0, 0], "b came first"
    assert renew("b", 2, 0, 4, 1.4) == [1, 0]
    assert renew("b", 3, 1, 4, 2.5) == [1, 1]
    assert renew("b", 4, 0, 4, 2.6) == [0, 0]
    assert renew("a", 5, 0, 4, 2.7) == [0, 0], "c has waited longer"
    assert renew("c", 3, 0, 4, 2.8) == [1, 0]


def test_many_processes_share_fairly(server: Any, namespace: str) -> None:
    key, shares = f"sk1:{namespace}:pool:{{w}}", dict.fromkeys("fedcba", 0)
    for seq in range(1, 8):
        for worker in shares:
            args = (worker, seq, 0, shares[worker], 0, 4, 4, 12, LEASE, SLICE, START + seq * 300_000)
            share, surplus = on_server(server, RENEW, key, args)[1:3]
            shares[worker] = share - surplus
    assert set(shares.values()) == {2}


def test_the_server_s_clock_is_used_unless_one_is_given(server: Any, namespace: str) -> None:
    key = f"sk1:{namespace}:pool:{{v}}"
    on_server(server, RENEW, key, ("a", 1, 0, 0, 0, 1, 1, 3, LEASE, SLICE, ""))
    now, _settling, _worker, record = on_server(server, VIEW, key, ("",))
    seconds, micros = server.time()
    assert abs(seconds * 1_000_000 + micros - now) < 60_000_000
    assert 0 < int(record.split()[5]) - now <= LEASE
