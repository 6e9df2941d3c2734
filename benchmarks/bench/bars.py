"""A chart of one comparison: a bar a contender, its quartiles as a whisker, the value in words beside it. Inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from benchmarks.bench.text import figure

__all__ = ["bars"]

WIDTH, LEFT, RIGHT, ROW, THICK = 900, 290, 190, 28, 16
WIDE = 25
"""Where the largest value is more than this many times the smallest, the scale is logarithmic."""


def bars(part: dict[str, Any]) -> str:
    """Draw it."""
    rows = [one for one in part["series"] if one["role"] != "absent"]
    values = [one["median"] for one in rows if one.get("median", 0) > 0]
    scale = Scale(values)
    height = ROW * len(rows) + 26
    drawn = "".join(_row(one, ROW * n, part["unit"], scale) for n, one in enumerate(rows))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(part["label"])}">'
        f"{drawn}{_axis(part, height, scale)}</svg>"
    )


class Scale:
    """Where a value lies between the left and the right edge."""

    def __init__(self, values: Sequence[float]) -> None:
        self.highest = max(values, default=1.0)
        lowest = min(values, default=1.0)
        self.log = self.highest / lowest > WIDE
        self.lowest = 10 ** math.floor(math.log10(lowest) - 0.3) if self.log else 0.0

    def x(self, value: float) -> float:
        if self.log:
            share = math.log(max(value, self.lowest) / self.lowest) / math.log(self.highest / self.lowest)
        else:
            share = value / self.highest
        return LEFT + max(0.0, min(1.02, share)) * (WIDTH - LEFT - RIGHT)


def _row(one: dict[str, Any], top: float, unit: str, scale: Scale) -> str:
    middle = top + ROW / 2
    name = f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(one["name"])}</text>'
    if "failed" in one:
        return f'{name}<text class="failed" x="{LEFT}" y="{middle + 4}">no figure: {escape(one["failed"][:90])}</text>'
    end, q1, q3 = (scale.x(one[key]) for key in ("median", "q1", "q3"))
    bar = f'<rect class="{one["role"]}" x="{LEFT}" y="{middle - THICK / 2}" width="{end - LEFT:.1f}" height="{THICK}" rx="2"/>'
    whisker = (
        f'<line class="whisker" x1="{q1:.1f}" x2="{q3:.1f}" y1="{middle}" y2="{middle}"/>' if q1 != q3 else ""
    )
    value = f'<text x="{max(end, q3) + 8:.1f}" y="{middle + 4}">{escape(figure(one, unit))}</text>'
    return name + bar + whisker + value


def _axis(part: dict[str, Any], height: float, scale: Scale) -> str:
    better = "longer is better" if part["more_is_better"] else "shorter is better"
    kind = "logarithmic scale: every step to the right is a multiple" if scale.log else "linear scale"
    return (
        f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="0" y2="{height - 24}"/>'
        f'<text class="soft" x="{LEFT}" y="{height - 6}">{better} · {kind}</text>'
    )
