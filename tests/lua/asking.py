"""What the tests of the limiters' scripts share: how a script is asked, how its answer reads, what is tried."""

from __future__ import annotations

import struct

from hypothesis import HealthCheck, settings

from statekit.ratelimit.rule import layout

START = 1_893_456_000_000_000
MICRO = 1e-6
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def spec(algorithm, limits, need, take=None, shadow=0):
    """What one key is held to, as the scripts read it."""
    bits, shift = layout(limits)
    terms = " ".join(f"{limit.count} {limit.window_us}" for limit in limits)
    return f"{algorithm} {need} {need if take is None else take} {shadow} {bits} {shift} {terms}"


def numbers(reply):
    return list(struct.unpack(f">{len(reply) // 8}q", reply))
