"""The in-flight scripts against their twins and against a model, on real servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statekit.inflight.core import ACQUIRE, RELEASE, RENEW, VIEW
from statekit.inflight.memory import TWINS
from statekit.store.memory import Data
from statekit.store.op import Script

START = 1_700_000_000_000_000
SECOND = 1_000_000
LEASES = (4 * SECOND, 10 * SECOND)
CHANNEL = "freed"


@pytest.fixture
def server(server_url: str) -> Any:
    with redis.Redis.from_url(server_url) as client:
        yield client


def on_server(server: Any, script: Script, key: str, args: Sequence[Any]) -> Any:
    return server.eval(script.source, 1, key, *args)


times = st.sampled_from([0, 0, 0, 1, SECOND, 2 * SECOND, 4 * SECOND, 4 * SECOND, 15 * SECOND])
leases = st.sampled_from(LEASES)
some = st.lists(st.integers(0, 7), min_size=1, max_size=3)
acquisitions = st.tuples(
    st.just("acquire"), times, st.integers(0, 4), leases, st.sampled_from([0, 2 * SECOND])
)
renewals = st.tuples(st.just("renew"), times, some, leases)
releases = st.tuples(st.just("release"), times, some, st.booleans())
set_back = st.tuples(st.just("set back"), st.sampled_from([SECOND, 3600 * SECOND]))
SETTINGS: Any = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=80, **SETTINGS)
@given(
    st.lists(
        st.one_of(acquisitions, acquisitions, acquisitions, renewals, releases, set_back),
        min_size=6,
        max_size=30,
    )
)
def test_lua_and_twin_agree(server: Any, namespace: str, steps: list[Any]) -> None:
    """Whatever is asked, in whatever order, with a clock that stands, jumps or is set back."""
    data, key, now, members = Data(), f"sk1:{namespace}:flight:{{x}}", START, []
    server.delete(key)

    def both(script: Script, *args: Any) -> Any:
        theirs = on_server(server, script, key, args)
        assert TWINS[script.name](data, [key], list(args)) == theirs
        stored = {member.decode(): int(end) for member, end in server.zscan_iter(key)}
        assert (data.get(key) or {}) == stored
        assert not stored or 0 < server.pttl(key) <= (3600 * SECOND + 2 * max(LEASES)) // 1000
        return theirs

    for number, (verb, passed, *rest) in enumerate(steps):
        match verb, rest:
            case "acquire", (limit, lease, announce):
                now += passed
                reply = both(ACQUIRE, limit, lease, f"w {number}", announce, now)
                if reply[0] == b"held":
                    members.append(f"{reply[1]} w {number}")
            case "renew", (which, lease):
                now += passed
                both(RENEW, lease, now, *_chosen(members, which))
            case "release", (which, unsure):
                now += passed
                chosen = _chosen(members, which)
                if unsure:
                    chosen = [f"0 {member.partition(' ')[2]}" for member in chosen]
                both(RELEASE, CHANNEL, now, *chosen)
            case "set back", _:
                now -= passed
        both(VIEW, 1, now)
        both(VIEW, 0, now)


def _chosen(members: list[str], which: list[int]) -> list[str]:
    return [members[one % len(members)] if members else "1 w 99" for one in which]


@settings(max_examples=80, **SETTINGS)
@given(
    limit=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["acquire", "acquire", "renew", "release"]), times, st.integers(0, 9)),
        min_size=6,
        max_size=40,
    ),
)
def test_live_leases_never_pass_the_limit(server: Any, namespace: str, limit: int, steps: list[Any]) -> None:
    """Against a model: fence -> end of its lease. Whoever lost a slot may renew and release as it likes."""
    key, now, lease = f"sk1:{namespace}:flight:{{y}}", START, LEASES[0]
    server.delete(key)
    model: dict[str, int] = {}
    known: list[str] = []
    for number, (verb, passed, which) in enumerate(steps):
        now += passed
        live = {member for member, end in model.items() if end > now}
        if verb == "acquire":
            outcome, figure, other = on_server(server, ACQUIRE, key, (limit, lease, f"w {number}", 0, now))
            assert (outcome == b"held") == (len(live) < limit)
            if outcome == b"held":
                assert other == len(live) + 1
                assert not known or figure > int(known[-1].split()[0])
                known.append(f"{figure} w {number}")
                model[known[-1]] = now + lease
            else:
                assert other == sorted(model[one] for one in live)[len(live) - limit] - now
        elif known:
            member = known[which % len(known)]
            script, args = (RENEW, (lease, now)) if verb == "renew" else (RELEASE, (CHANNEL, now))
            assert on_server(server, script, key, (*args, member)) == [int(member in live)]
            if verb == "release":
                model.pop(member, None)
            elif member in live:
                model[member] = now + lease
        live = {member for member, end in model.items() if end > now}
        assert len(live) <= limit
        assert on_server(server, VIEW, key, (0, now)) == [len(live)]


def test_a_clock_set_back_does_not_keep_the_slots_of_the_dead(server: Any, namespace: str) -> None:
    key, lease = f"sk1:{namespace}:flight:{{z}}", LEASES[0]
    for number in range(2):
        assert on_server(server, ACQUIRE, key, (2, lease, f"dead {number}", 0, START))[0] == b"held"
    now = START - 3600 * SECOND
    outcome, taken, wait = on_server(server, ACQUIRE, key, (2, lease, "w 1", 0, now))
    assert (outcome, taken, wait) == (b"full", 2, lease), "one lease, not an hour"
    now += lease
    first = on_server(server, ACQUIRE, key, (2, lease, "w 2", 0, now))
    assert (first[0], first[2]) == (b"held", 1)
    assert first[1] > START, "fences go on growing"
    assert on_server(server, RENEW, key, (lease, now, f"{first[1]} w 2")) == [1]


def test_a_free_slot_is_announced_if_somebody_waits(server: Any, namespace: str) -> None:
    key, channel, lease = f"sk1:{namespace}:flight:{{v}}", f"sk1:{namespace}:flight:{{v}}:freed", LEASES[0]
    with server.pubsub() as news:
        news.subscribe(channel)
        assert news.get_message(timeout=10)

        def slot(number: int) -> str:
            fence = on_server(server, ACQUIRE, key, (1, lease, f"w {number}", 0, START))[1]
            return f"{fence} w {number}"

        assert on_server(server, RELEASE, key, (channel, START, slot(1))) == [1]
        second = slot(2)
        assert on_server(server, ACQUIRE, key, (1, lease, "w 3", 0, START))[0] == b"full"
        assert on_server(server, RELEASE, key, (channel, START, second)) == [1]
        third = slot(4)
        assert on_server(server, ACQUIRE, key, (1, lease, "w 5", 2 * SECOND, START))[0] == b"full"
        assert on_server(server, RELEASE, key, (channel, START + SECOND, "1 w 9")) == [0]
        server.publish(channel, "nothing yet")
        assert on_server(server, RELEASE, key, (channel, START + SECOND, third)) == [1]
        sixth = slot(6)
        assert on_server(server, RELEASE, key, (channel, START + 3 * SECOND, sixth)) == [1], "too long ago"
        server.publish(channel, "end")
        told = []
        while not told or told[-1] != b"end":
            message = news.get_message(timeout=10)
            told.append(message["data"])
    assert told == [b"nothing yet", key.encode(), b"end"]


def test_the_server_s_clock_is_used_unless_one_is_given(server: Any, namespace: str) -> None:
    key, lease = f"sk1:{namespace}:flight:{{u}}", LEASES[1]
    outcome, fence, _ = on_server(server, ACQUIRE, key, (1, lease, "w 1", 0, ""))
    seconds, micros = server.time()
    assert outcome == b"held"
    assert abs(seconds * SECOND + micros - fence) < 60 * SECOND
    assert on_server(server, RENEW, key, (lease, "", f"{fence} w 1")) == [1]
    taken, member, end = on_server(server, VIEW, key, (1, ""))
    assert (taken, member) == (1, f"{fence} w 1".encode())
    assert fence + lease <= end < fence + lease + 60 * SECOND
    assert 0 < server.pttl(key) <= 2 * lease // 1000
    assert on_server(server, RELEASE, key, (CHANNEL, "", "0 w 1")) == [1]
