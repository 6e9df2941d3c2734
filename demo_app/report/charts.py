"""The charts of the report. One question each, drawn the same way for every variant, on one scale.

What went as it should is drawn in one calm colour; red is kept for what was lost, leaked or passed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from benchmarks.fleet.figures import PAID, THIRD_PARTY, WINDOW, percentile, writes
from benchmarks.fleet.sightings import Sighting
from demo_app.report.svg import BOTTOM, HEIGHT, TOP, Panel, ticks
from demo_app.trial import Outcome

__all__ = ["CHARTS", "Chart"]

LIFELINES = 110
"""Sessions drawn at most, evenly taken from all; more would be a solid block."""
QUICK_ENOUGH_MS = 50
NEVER_MS = 10_000


@dataclass(frozen=True, slots=True)
class Chart:
    """A question, what the picture shows, and who draws it."""

    question: str
    legend: str
    draw: Callable[[Outcome, dict[str, Any], Scale], str]


@dataclass(slots=True)
class Scale:
    """What the panels of all variants share, so that the eye may compare them."""

    seconds: float = 1.0
    permits: float = 1.0
    connections: float = 1.0
    leaks: float = 1.0
    milliseconds: float = 1.0
    by_second: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)

    @classmethod
    def over(cls, outcomes: Sequence[Outcome], figures: Sequence[dict[str, Any]]) -> Scale:
        """The scale that has room for all."""
        scale = cls(seconds=max(figure["seconds"] for figure in figures))
        scale.permits = 1.1 * max([110, *(figure["permits_worst_window"] for figure in figures)])
        scale.connections = 1.15 * max(
            max(f["upstream_connections_max"], f["upstream_budget"]) for f in figures
        )
        scale.leaks = 1.1 * max([10, *(figure["tenant_leaks"] for figure in figures)])
        scale.by_second = {outcome.state: latencies(outcome) for outcome in outcomes}
        worst = [row[2] for rows in scale.by_second.values() for row in rows]
        scale.milliseconds = 1.15 * max([20, *worst])
        return scale


def started(outcome: Outcome, scale: Scale, top: float, label: str, **rest: Any) -> Panel:
    """A panel with the restarts shaded."""
    panel = Panel(scale.seconds, top, f"{outcome.state}: {label}", **rest)
    for span in outcome.restarts:
        panel.band(span.began - outcome.began, span.ended - outcome.began, f"{span.pod} is being replaced")
    return panel


def permits(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    panel = started(
        outcome, scale, scale.permits, "calls let through in the last 60 seconds, against the limit"
    )
    points = in_window(outcome)
    limit = figures["permit_limit"]
    over = next((n for n, point in enumerate(points) if point[1] > limit), None)
    panel.area(points, "area" if over is None else "area bad", steps=True)
    panel.line(points[:over], steps=True)
    if over is not None:
        panel.line(points[over:], "line bad", steps=True)
    panel.rule(limit, f"limit {limit}")
    return panel.svg(ticks(scale.permits))


def in_window(outcome: Outcome) -> list[tuple[float, float]]:
    """How many permits lie in the sixty seconds before each moment something changes: sent and answered in it."""
    permits = [s for s in outcome.sightings if s.name == "GET /limited" and s.status == 200]
    ended = max(s.received for s in outcome.sightings)
    steps = sorted([(s.received, 1) for s in permits] + [(s.sent + WINDOW, -1) for s in permits])
    counts = accumulate((step for _, step in steps), initial=0)
    moments = [outcome.began, *(at for at, _ in steps)]
    points = [(at - outcome.began, float(n)) for at, n in zip(moments, counts, strict=True) if at <= ended]
    return [*points, (ended - outcome.began, points[-1][1])]


def sessions(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    panel = started(outcome, scale, 1.0, "each session from sign-in to its end")
    lives: dict[int, list[Sighting]] = defaultdict(list)
    for sighting in outcome.sightings:
        if "event" in sighting.fact:
            lives[sighting.fact["session"]].append(sighting)
    drawn = list(lives.values())[:: max(1, math.ceil(len(lives) / LIFELINES))]
    room = (HEIGHT - TOP - BOTTOM) / max(len(drawn), 1)
    for row, life in enumerate(drawn):
        y = TOP + room * (row + 0.5)
        first, last = life[0].received - outcome.began, life[-1].received - outcome.began
        lost = life[-1].fact["event"] == "lost"
        panel.stroke(
            panel.x(first), y, max(panel.x(last), panel.x(first) + 1.5), y, "life bad" if lost else "life"
        )
        if lost:
            panel.dot(
                last,
                1 - (y - TOP) / (HEIGHT - TOP - BOTTOM),
                "mark bad",
                f"lost {last - first:.1f} s after sign-in",
                1.7,
            )
    panel.text(4, TOP + 4, f"{figures['sessions_opened']}", "tick")
    return panel.svg()


def flags(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    del figures
    panel = started(
        outcome, scale, NEVER_MS * 1.6, "milliseconds until no pod answered the old value", log_from=1.0
    )
    for write in writes(outcome.sightings):
        second = write.sent - outcome.began
        taken = NEVER_MS if write.seconds is None else max(1.0, write.seconds * 1000)
        bad = write.seconds is None or taken > QUICK_ENOUGH_MS
        title = "never: old answers until the next write" if write.seconds is None else f"{taken:.1f} ms"
        panel.stroke(
            panel.x(second), panel.y(1.0), panel.x(second), panel.y(taken), "stem bad" if bad else "stem"
        )
        panel.dot(second, taken, "mark bad" if bad else "mark", title, 1.9)
    panel.rule(QUICK_ENOUGH_MS, f"{QUICK_ENOUGH_MS} ms")
    panel.text(34, panel.y(NEVER_MS) + 3.5, "never", anchor="end")
    return panel.svg([1, 10, 100, 1000])


def connections(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    panel = started(outcome, scale, scale.connections, "connections the third party held")
    samples = [s for s in outcome.sightings if s.name == THIRD_PARTY]
    points = [(s.received - outcome.began, float(s.fact["connections"])) for s in samples]
    budget = figures["upstream_budget"]
    over = figures["upstream_connections_max"] > budget
    panel.area(points, "area bad" if over else "area", steps=True)
    panel.line(points, "line bad" if over else "line", steps=True)
    panel.rule(budget, f"budget {budget}")
    return panel.svg(ticks(scale.connections))


def leaks(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    panel = started(outcome, scale, scale.leaks, "answers that showed a discount nobody stored")
    moments = sorted(s.received - outcome.began for s in outcome.sightings if s.fact.get("leak"))
    points = [
        (0.0, 0.0),
        *((at, float(n)) for n, at in enumerate(moments, 1)),
        (scale.seconds, float(len(moments))),
    ]
    kind = " bad" if figures["tenant_leaks"] else ""
    panel.area(points, "area" + kind, steps=True)
    panel.line(points, "line" + kind, steps=True)
    return panel.svg(ticks(scale.leaks))


def latency(outcome: Outcome, figures: dict[str, Any], scale: Scale) -> str:
    del figures
    panel = started(outcome, scale, scale.milliseconds, "response time, median and 99th percentile by second")
    rows = scale.by_second[outcome.state]
    panel.area([(second, p99) for second, _, p99 in rows])
    panel.line([(second, p99) for second, _, p99 in rows], "line thin")
    panel.line([(second, p50) for second, p50, _ in rows])
    for failed in (s for s in outcome.sightings if s.failed):
        panel.dot(
            failed.received - outcome.began, scale.milliseconds, "mark bad", f"{failed.name}: {failed.status}"
        )
    return panel.svg(ticks(scale.milliseconds))


def latencies(outcome: Outcome) -> list[tuple[float, float, float]]:
    """Second of the run, median, 99th percentile; calls to the third party are left out, its time is its own."""
    buckets: dict[int, list[float]] = defaultdict(list)
    for s in outcome.sightings:
        if s.name not in {THIRD_PARTY, PAID} and not s.failed:
            buckets[int(s.received - outcome.began)].append(s.took * 1000)
    return [
        (second + 0.5, percentile(took, 0.5) or 0.0, percentile(took, 0.99) or 0.0)
        for second, took in sorted(buckets.items())
    ]


CHARTS: dict[str, Chart] = {
    "permits": Chart(
        "How many calls did one API key get through?",
        "Calls answered 200 in the last 60 seconds. The limit is 100 in any 60 seconds; more are calls too many. "
        "In the full run shared state is driven for longer than a minute, to see the window slide.",
        permits,
    ),
    "sessions": Chart(
        "Who stayed signed in?",
        "One line a session, from sign-in until it ended or the run did. Red: a signed-in visitor was told to sign "
        "in, or found the cart without what had been put into it.",
        sessions,
    ),
    "flags": Chart(
        "How long did pods disagree about a flag?",
        "One stem a write: the time from sending it until the last old answer arrived, from any worker, to a read sent after it. Logarithmic.",
        flags,
    ),
    "connections": Chart(
        "How many connections did the third party hold?",
        "Counted by the third party itself, ten times a second. It granted this app twelve.",
        connections,
    ),
    "leaks": Chart(
        "Did one request's changes show up in another's?",
        "Quotes and settings that showed a discount nobody had stored, added up.",
        leaks,
    ),
    "latency": Chart(
        "How fast were the answers, and did a restart hurt?",
        "Median (bold) and 99th percentile by second, without calls to the third party. Shaded: a pod is being "
        "replaced. Red dots: requests that failed.",
        latency,
    ),
}
"""In the order of the page."""
