"""The picture for a newcomer: how many times as long the others take for the same work.

Each bar is the median, over the rounds of one run, of the peer's time over statekit's. Where both are measured on
top of a bare request, that is taken off both. Left of the line statekit is slower: such bars are drawn like the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["drawn"]

FASTER, SLOWER, SOFT = "#1a7f4b", "#c0262d", "#66727f"


class Row(NamedTuple):
    """Some work, the case that measured it, and what is taken off both sides."""

    work: str
    case: str
    part: int
    peers: tuple[str, ...]
    bare: str = ""
    ours: str = "statekit"


ROWS = (
    Row("one exact decision of a limit", "ratelimit/one-decision", 0, ("limits", "limits, hit alone")),
    Row(
        "the same, nothing shared",
        "ratelimit/in-memory",
        0,
        ("limits", "throttled-py, GCRA"),
        ours="statekit in memory",
    ),
    Row("a leased limit, 4 processes", "leases/decisions", 0, ("limits",), ours="statekit, leased"),
    Row("a caller who was refused", "ratelimit/flood", 0, ("limits", "throttled-py, GCRA")),
    Row("a decision, 50 callers on asyncio", "asyncio/fifty", 0, ("limits.aio", "limits.aio, hit alone")),
    Row("three limits, in Flask", "ratelimit/three-limits", 0, ("Flask-Limiter",), "bare Flask request"),
    Row(
        "session and two limits, in Flask",
        "flask/request",
        0,
        ("Flask-Limiter + Flask-Session",),
        "bare request",
    ),
    Row("session and limit, in FastAPI", "asgi/request", 0, ("starsessions + slowapi",), "bare request"),
    Row("a session, opened and read", "sessions/cost", 0, ("Flask-Session",)),
    Row("a session, changed and saved", "sessions/cost", 1, ("Flask-Session",)),
    Row("the same on asyncio", "sessions/asyncio", 1, ("starsessions",)),
    Row("a boolean flag", "flags/answer", 0, ("GrowthBook", "LaunchDarkly", "Unleash")),
    Row("a flag with five rules", "flags/answer", 1, ("GrowthBook", "LaunchDarkly", "Unleash")),
    Row("borrowing a pooled client", "pools/checkout", 0, ("SQLAlchemy QueuePool", "psycopg_pool")),
    Row("reading a tenant's setting", "tenants/read", 0, ("dynaconf, settings at hand",)),
)


def drawn(report: dict[str, Any], path: Path) -> bool:
    """Draw what a report has of these; False if it has nothing."""
    bars = [bar for row in ROWS for bar in _bars(report, row)][::-1]
    if not bars:
        return False
    figure = Figure(figsize=(9.5, 0.9 + 0.3 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for at, (_, times) in enumerate(bars):
        axes.plot(
            [1, times], [at, at], color=FASTER if times >= 1 else SLOWER, linewidth=9, solid_capstyle="butt"
        )
        axes.annotate(f"{times:.3g}x", (max(times, 1), at), (6, -3), textcoords="offset points", fontsize=8)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=8.5)
    axes.axvline(1.0, color="#1c2733", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("time of the others, in times of statekit's", fontsize=9, color=SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e3e8ee")
    axes.set_axisbelow(True)
    axes.margins(x=0.12, y=0.02)
    figure.savefig(path, dpi=110)
    return True


def _bars(report: dict[str, Any], row: Row) -> Iterator[tuple[str, float]]:
    parts = [result["results"] for result in report["results"] if result["name"] == row.case]
    if not parts:
        return
    part = parts[0][row.part]
    series = {one["name"]: one.get("values", ()) for one in part["series"]}
    bare = series.get(row.bare, ()) if row.bare else [0.0] * len(series.get(row.ours, ()))
    for peer in row.peers:
        rounds = list(zip(series.get(row.ours, ()), series.get(peer, ()), bare, strict=False))
        if rounds:
            times = median((theirs - off) / (ours - off) for ours, theirs, off in rounds)
            yield f"{row.work}: {peer}", 1 / times if part["more_is_better"] else times
