"""From rounds to what is reported: medians, paired ratios with their quartiles, promises kept or not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from benchmarks.bench.model import AtMost, Faster, Promise

__all__ = ["judged", "paired_ratios", "spread"]


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, middle, q3 = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": q1, "q3": q3}


def paired_ratios(
    mine: Sequence[float], theirs: Sequence[float], above: Sequence[float] | None = None
) -> list[float]:
    """The ratio of each round; of what both are above a third, if there is one. Single values pair with any."""
    rounds = max(len(mine), len(theirs), len(above or ()))
    a, b, base = (_stretched(values, rounds) for values in (mine, theirs, above or [0.0]))
    return [_ratio(x - z, y - z) for x, y, z in zip(a, b, base, strict=True)]


def _stretched(values: Sequence[float], rounds: int) -> Sequence[float]:
    if len(values) == rounds:
        return values
    return [median(values)] * rounds  # measured in other rounds: only its median can be compared


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else (0.0 if a <= 0 else float("inf"))


Rounds = Mapping[str, Sequence[float]]


def judged(promise: Promise, rounds: Rounds, p50: Rounds, failed: Mapping[str, str]) -> dict[str, Any]:
    """Hold one promise against what was measured: kept True or False, or None where nobody can say."""
    told: dict[str, Any] = {
        "who": promise.who,
        "text": str(promise),
        "bound": promise.bound,
        "of": promise.of,
    }
    told["direction"] = "at most" if isinstance(promise, AtMost) else "at least"
    if promise.who in failed:
        return told | {"measured": None, "kept": False, "why": f"{promise.who}: {failed[promise.who]}"}
    series = p50 if promise.p50 else rounds
    missing = [name for name in (promise.who, promise.of, promise.above) if name and name not in series]
    if missing:
        return told | {"measured": None, "kept": None, "why": f"no figure of {', '.join(missing)}"}
    figures = spread(_figures(promise, series))
    return told | {"measured": figures["median"], **figures, "kept": promise.kept(figures["median"])}


def _figures(promise: Promise, series: Rounds) -> Sequence[float]:
    mine, above = series[promise.who], series[promise.above] if promise.above else None
    if promise.of is None:
        return mine
    if isinstance(promise, Faster):
        return paired_ratios(series[promise.of], mine, above)
    return paired_ratios(mine, series[promise.of], above)
