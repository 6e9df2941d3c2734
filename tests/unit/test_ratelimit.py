"""Limits as text, layouts, header fields: the pure parts of rate limits."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statekit.errors import UsageError
from statekit.kit import StateKit
from statekit.ratelimit import Limit
from statekit.ratelimit.core import HIT, pause
from statekit.ratelimit.rule import layout
from statekit.testing import FrozenClock, store_down


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("5/minute", Limit(5, 60)),
        ("5/minutes", Limit(5, 60)),
        (" 100 / hour ", Limit.per_hour(100)),
        ("10 per day", Limit.per_day(10)),
        ("10 per 5 minutes", Limit(10, 300)),
        ("3/15 s", Limit(3, 15)),
        ("7/2weeks", Limit(7, timedelta(weeks=2))),
        ("0/SECOND", Limit.per_second(0)),
        ("5/h", Limit(5, timedelta(hours=1))),
    ],
)
def test_limits_are_read(text, limit):
    assert Limit.parse(text) == limit
    assert Limit.parse(str(limit)) == limit
    assert Limit.parse(limit) is limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "/minute",
        "5/",
        "5/fortnight",
        "-5/minute",
        "5.5/minute",
        "5/0 minutes",
        "5/minute;2/hour",
        "five/minute",
        "5//minute",
        "5/minute\n1/s",
        "٣/minute",
        "9" * 30 + "/s",
        "1/9999999 weeks",
        "5\0/minute",
    ],
)
def test_malformed_limits_are_named_and_cured(text):
    with pytest.raises(UsageError) as caught:
        Limit.parse(text)
    assert "minute" in str(caught.value) or "window" in str(caught.value)


@pytest.mark.parametrize("value", [None, 5, ("5", 60), b"5/minute", 5.0])
def test_limits_of_other_types_are_refused(value):
    with pytest.raises(UsageError, match="5/minute"):
        Limit.parse(value)


@pytest.mark.parametrize(
    ("count", "window"), [(-1, 60), (1.5, 60), (True, 60), ("5", 60), (4_000_000_001, 1), (5, 0), (5, -1)]
)
def test_limits_that_mean_nothing_are_refused(count, window):
    with pytest.raises(UsageError):
        Limit(count, window)


def test_a_limit_says_itself():
    assert str(Limit(5, 60)) == "5/minute"
    assert str(Limit(100, 900)) == "100/15 minutes"
    assert str(Limit(1, 0.25)) == "1/0.25 s"
    assert hash(Limit(5, 60)) == hash(Limit(5, timedelta(minutes=1)))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("n",), {}, "no limit"),
        (("n", "5/minute", "6/60 seconds"), {}, "same window"),
        (("n", "5/minute"), {"algorithm": "leaky"}, "sliding-log"),
        (("n", "5/minute"), {"on_outage": "shrug"}, "local"),
        ((7, "5/minute"), {}, "name=7"),
        (("n", "5/minute"), {"workers": 0}, "workers=0"),
    ],
)
def test_limiters_that_mean_nothing_are_refused(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        StateKit.in_memory().rate_limiter(*arguments, **options)


@given(
    st.lists(st.builds(Limit, st.integers(0, 4_000_000_000), st.floats(1e-6, 3e8)), min_size=1, max_size=3)
)
def test_every_limit_fits_its_layout(limits):
    """Units up to the largest count, and ages up to the longest window, can be told apart."""
    bits, shift = layout(limits)
    assert 11 <= bits <= 32
    assert 2**bits > max(limit.count for limit in limits)
    assert 2 ** (64 - bits) >= math.ceil(max(limit.window_us for limit in limits) / 2**shift)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("login", '"login"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("é", '"\\\\xe9"'),
        ("a\nb", '"a\\\\x0ab"'),
        ("", '""'),
    ],
)
def test_policy_names_are_quoted(name, quoted):
    decision = StateKit.in_memory().rate_limiter(name, "5/minute").hit("k")
    assert decision.headers("ietf") == {
        "RateLimit-Policy": f"{quoted};q=5;w=60",
        "RateLimit": f"{quoted};r=4;t=60",
    }


def test_windows_below_a_second_are_announced_as_one():
    decision = StateKit.in_memory().rate_limiter("fast", Limit(5, 0.2)).hit("k")
    assert decision.headers()["RateLimit-Policy"] == '"fast";q=5;w=1'


def test_retry_after_is_never_earlier_than_the_next_unit():
    limiter = StateKit.in_memory().rate_limiter("n", "3/minute")
    limiter.hit("k", 3)
    headers = limiter.hit("k", 2).headers()
    assert int(headers["Retry-After"]) >= int(re.search(r"t=(\d+)", headers["RateLimit"])[1])


def test_a_waiter_sleeps_just_long_enough():
    limiter = StateKit.in_memory().rate_limiter("n", "1/second")
    assert pause(limiter.hit("k"), left=9.0, jitter=1.0) is None
    refused = limiter.hit("k")
    assert pause(refused, left=0.01, jitter=1.0) is None
    assert refused.retry_after <= pause(refused, left=9.0, jitter=1.0) <= refused.retry_after + 0.005
    assert pause(limiter.hit("k", 2), left=9.0, jitter=0.0) is None


def test_the_script_is_whole():
    assert "include" not in HIT.source
    assert HIT.source.isascii()


def test_the_page_about_rate_limits_runs():
    page = (Path(__file__).parents[2] / "docs" / "rate-limits.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), "docs/rate-limits.md", "exec"), {})


@pytest.mark.parametrize(
    ("algorithm", "next_after", "most"),
    [("sliding-log", 60, 100), ("sliding-counter", 10.6, 183), ("gcra", 0.6, 199), ("fixed-window", 10, 200)],
)
def test_the_table_of_the_page_is_true(algorithm, next_after, most):
    """100 calls at 12:00:50, and then as many as are let through in the rest of the minute."""
    clock = FrozenClock()
    limiter = StateKit.in_memory(clock=clock).rate_limiter("api", "100/minute", algorithm=algorithm)
    clock.advance(50)
    assert limiter.hit("k", 100).allowed
    start = clock.now_us
    waits = []
    passed = 100
    while clock.now_us - start < 60_000_000:
        decision = limiter.hit("k")
        passed += decision.allowed
        waits.append(decision.retry_after)
        clock.advance(decision.retry_after)
    assert waits[0] == next_after
    assert passed == most


def test_counts_of_an_outage_take_bounded_memory(monkeypatch):
    """An attack with ever new keys pushes out its own; who was counted lately stays counted."""
    monkeypatch.setattr("statekit.ratelimit.local.MOST", 100)
    kit = StateKit.in_memory()
    limiter = kit.rate_limiter("api", "3/hour", on_outage="local")
    with store_down(kit):
        for number in range(1000):
            assert limiter.hit(f"new-{number}").allowed
            if number % 50 == 0:
                limiter.hit("old")
        assert not limiter.hit("new-999", 3).allowed
        assert limiter.hit("new-0", 3).allowed, "forgotten"
