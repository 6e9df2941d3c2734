"""The figures of the report, computed from what the load generator saw. Pure: records in, numbers out.

How each is computed, and what it can and cannot prove, stands in ``docs/demo.md``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.fleet.sightings import Sighting
from statekit.prove.measures import percentile, worst_window

__all__ = ["Span", "Write", "converged", "figures", "percentile", "worst_window", "writes"]

LIMIT, WINDOW = 100, 60.0
BUDGET = 12
THIRD_PARTY = "third party"
PAID = "GET /upstream"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which one pod was being replaced."""

    pod: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Write:
    """One write of the flag, and how long old answers went on; None: some worker never stopped giving them."""

    sent: float
    seconds: float | None


def writes(sightings: Iterable[Sighting]) -> list[Write]:
    """Each write of the flag that was answered, with the time until the last old answer arrived."""
    relevant = [s for s in sightings if "wrote" in s.fact or s.fact.get("read") is not None]
    starts = [s for s in relevant if "wrote" in s.fact]
    reads = sorted((s for s in relevant if "read" in s.fact), key=lambda s: s.received)
    arrivals = [s.received for s in reads]
    found = []
    for write, following in pairwise(starts):
        if write.status == 200:
            window = reads[bisect_left(arrivals, write.sent) : bisect_left(arrivals, following.sent)]
            found.append(Write(write.sent, converged(write, window, following.sent)))
    return found


def converged(write: Sighting, answers: Sequence[Sighting], until: float) -> float | None:
    """Seconds from the sending of a write to the arrival of the last old answer, before the next one at `until`.

    A read sent before the write may rightly see the old value, however late its answer comes.
    None when a worker went on: its last answer was old, and was asked for in the second half of that time. (A
    worker drained right after a write may be seen once, early, and not again; that is no refusal to learn.)
    """
    old = [a for a in answers if a.fact["read"] != write.fact["wrote"] and a.sent >= write.sent]
    last = {(answer.pod, answer.pid): answer for answer in answers}
    late = (write.sent + until) / 2
    if any(answer.sent > late and answer.fact["read"] != write.fact["wrote"] for answer in last.values()):
        return None
    return max(answer.received for answer in old) - write.sent if old else 0.0


def figures(sightings: Sequence[Sighting], restarts: Sequence[Span] = ()) -> dict[str, Any]:
    """All figures of one variant, under the names of the report."""
    requests = [s for s in sightings if s.name != THIRD_PARTY]
    return {
        **_traffic(requests, restarts),
        **_permits(requests),
        **_sessions(requests),
        **_flags(requests),
        **_upstream(sightings),
        **_tenants(requests),
    }


def _traffic(requests: Sequence[Sighting], restarts: Sequence[Span]) -> dict[str, Any]:
    failed = [s for s in requests if s.failed]
    own = [s.took * 1000 for s in requests if s.name != PAID and not s.failed]
    seconds = max((s.received for s in requests), default=0) - min((s.sent for s in requests), default=0)
    return {
        "requests": len(requests),
        "requests_failed": len(failed),
        "requests_failed_in_restart": sum(any(_within(s, span) for span in restarts) for s in failed),
        "restarts": len(restarts),
        "seconds": round(seconds, 1),
        "rps": round(len(requests) / seconds, 1) if seconds else 0.0,
        "p50_ms": _rounded(percentile(own, 0.50)),
        "p95_ms": _rounded(percentile(own, 0.95)),
        "p99_ms": _rounded(percentile(own, 0.99)),
    }


def _within(sighting: Sighting, span: Span) -> bool:
    return sighting.received >= span.began and sighting.sent <= span.ended


def _permits(requests: Sequence[Sighting]) -> dict[str, Any]:
    calls = [s for s in requests if s.name == "GET /limited"]
    permits = [s for s in calls if s.status == 200]
    return {
        "permits_worst_window": worst_window(permits),
        "permit_limit": LIMIT,
        "permits_asked": len(calls),
    }


def _sessions(requests: Sequence[Sighting]) -> dict[str, Any]:
    events = Counter(s.fact["event"] for s in requests if "event" in s.fact)
    return {
        "sessions_opened": events["opened"],
        "sessions_lost": events["lost"],
        "session_checks": events["held"] + events["lost"],
    }


def _flags(requests: Sequence[Sighting]) -> dict[str, Any]:
    seconds = [math.inf if write.seconds is None else write.seconds for write in writes(requests)]
    return {
        "flag_writes": len(seconds),
        "flag_convergence_p50_ms": _finite(percentile(seconds, 0.50)),
        "flag_convergence_p99_ms": _finite(percentile(seconds, 0.99)),
        "flag_reads": sum("read" in s.fact for s in requests),
    }


def _upstream(sightings: Sequence[Sighting]) -> dict[str, Any]:
    samples = [s.fact for s in sightings if s.name == THIRD_PARTY]
    calls = [s for s in sightings if s.name == PAID and s.status == 200]
    return {
        "upstream_connections_max": max((sample["max"] for sample in samples), default=0),
        "upstream_budget": BUDGET,
        "upstream_calls": len(calls),
        "upstream_samples": len(samples),
        "upstream_p95_ms": _rounded(percentile([s.took * 1000 for s in calls], 0.95)),
    }


def _tenants(requests: Sequence[Sighting]) -> dict[str, Any]:
    checked = [s for s in requests if "leak" in s.fact]
    return {
        "tenant_quotes": sum(s.name.startswith("POST") for s in checked),
        "tenant_leaks": sum(s.fact["leak"] for s in checked),
        "tenant_stale": sum(s.fact["stale"] and not s.fact["leak"] for s in checked),
        "tenant_checks": len(checked),
    }


def _finite(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else round(seconds * 1000, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
