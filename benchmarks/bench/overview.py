"""The overview: every promise as one point, on the side of the line where it was kept or on the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.bench.text import allowed, measured

__all__ = ["drawn"]

LONGEST = 110

GOOD, BAD, SOFT = "#1a7f4b", "#c0262d", "#66727f"


def drawn(report: dict[str, Any], path: Path) -> bool:
    """Draw the promises of a report into a PNG; False if there is none to draw."""
    rows = [(_label(result, part, promise), part, promise) for result, part, promise in _promises(report)][
        ::-1
    ]
    if not rows:
        return False
    figure = Figure(figsize=(13, 1.1 + 0.27 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for at, (_, part, promise) in enumerate(rows):
        _point(axes, at, promise, measured(promise, part["unit"]))
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
    _dressed(axes, len(rows))
    figure.savefig(path, dpi=110)
    return True


def _promises(report: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    for result in report["results"]:
        for part in result["results"]:
            for promise in part["promises"]:
                if promise["measured"] is not None:
                    yield result, part, promise


def _label(result: dict[str, Any], part: dict[str, Any], promise: dict[str, Any]) -> str:
    what = "" if promise["of"] else f", {part['label']}"
    label = f"{result['name']}{what}: {promise['who']} {allowed(promise, part['unit'])}"
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def _dressed(axes: Any, rows: int) -> None:
    axes.axvline(1.0, color="#1c2733", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_ylim(-0.7, rows - 0.3)
    axes.set_xlabel("share of what was allowed; left of the line: promise kept", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e3e8ee")


def _point(axes: Any, at: int, promise: dict[str, Any], value: str) -> None:
    low, middle, high = sorted(_share(promise, promise[key]) for key in ("q1", "measured", "q3"))
    colour = GOOD if promise["kept"] else BAD
    axes.plot([low, high], [at, at], color=colour, linewidth=2.5, alpha=0.4, solid_capstyle="round")
    axes.plot([middle], [at], "o", color=colour, markersize=5)
    axes.annotate(value, (high, at), (6, -3), textcoords="offset points", fontsize=7, color=SOFT)


def _share(promise: dict[str, Any], measured: float) -> float:
    """What part of the allowance was used; below one is better, whichever way the promise points."""
    mine, allowed = (
        (measured, promise["bound"]) if promise["direction"] == "at most" else (promise["bound"], measured)
    )
    share = mine / allowed if allowed else (math.inf if mine else 1.0)
    return min(100.0, max(0.001, share))
