"""The overview: every promise as one point, on the side of the line where it was kept or on the other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["drawn"]

GOOD, BAD, SOFT = "#1a7f4b", "#c0262d", "#66727f"


def drawn(report: dict[str, Any], path: Path) -> bool:
    """Draw the promises of a report into a PNG; False if there is none to draw."""
    rows = [(result["name"], promise) for result in report["results"] for promise in _promises(result)]
    if not rows:
        return False
    figure = Figure(figsize=(10, 1.2 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for at, (_, promise) in enumerate(reversed(rows)):
        _point(axes, at, promise)
    axes.axvline(1.0, color="#1c2733", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(range(len(rows)), [_label(name, promise) for name, promise in reversed(rows)], fontsize=8)
    axes.set_xlabel("share of what was allowed (1 = exactly as promised; left of the line: kept)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e3e8ee")
    figure.savefig(path, dpi=130)
    return True


def _promises(result: dict[str, Any]) -> list[dict[str, Any]]:
    found = [promise for part in result["results"] for promise in part["promises"]]
    return [promise for promise in found if promise["measured"] is not None]


def _label(name: str, promise: dict[str, Any]) -> str:
    return f"{name}: {promise['who']}, {promise['text']}" if promise["of"] else f"{name}: {promise['who']}"


def _point(axes: Any, at: int, promise: dict[str, Any]) -> None:
    low, middle, high = sorted(_share(promise, promise[key]) for key in ("q1", "measured", "q3"))
    colour = GOOD if promise["kept"] else BAD
    axes.plot([low, high], [at, at], color=colour, linewidth=2.5, alpha=0.4, solid_capstyle="round")
    axes.plot([middle], [at], "o", color=colour, markersize=5)


def _share(promise: dict[str, Any], measured: float) -> float:
    """What part of the allowance was used; below one is better, whichever way the promise points."""
    mine, allowed = (
        (measured, promise["bound"]) if promise["direction"] == "at most" else (promise["bound"], measured)
    )
    share = mine / allowed if allowed else (math.inf if mine else 1.0)
    return min(100.0, max(0.001, share))
