"""What the tests of the limiters' scripts share: how a script is asked, how its answer reads, what is tried."""

from __future__ import annotations

import struct

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from statekit.ratelimit.limits import LARGEST, Limit
from statekit.ratelimit.rule import layout

START = 1_893_456_000_000_000
MICRO = 1e-6
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

counts = st.integers(0, 12) | st.sampled_from([100, 1000, 10**6, LARGEST])
windows = st.integers(1, 60) | st.sampled_from([1000, 10**6, 86400 * 10**6, 10 * 365 * 86400 * 10**6])
limit_sets = st.lists(
    st.builds(lambda count, window: Limit(count, window * MICRO), counts, windows),
    min_size=1,
    max_size=3,
    unique_by=lambda limit: limit.window_us,
)
moves = st.integers(0, 8) | st.integers(-20, 80) | st.sampled_from([1000, 10**6, -(10**6), 86400 * 10**6])
costs = st.integers(1, 4) | st.sampled_from([1, 1, 1, 500, 10**6])


def spec(algorithm, limits, need, take=None, shadow=0):
    """What one key is held to, as the scripts read it."""
    bits, shift = layout(limits)
    terms = " ".join(f"{limit.count} {limit.window_us}" for limit in limits)
    return f"{algorithm} {need} {need if take is None else take} {shadow} {bits} {shift} {terms}"


def numbers(reply):
    return list(struct.unpack(f">{len(reply) // 8}q", reply))
