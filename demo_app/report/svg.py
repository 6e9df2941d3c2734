"""A panel to draw in: axes, ticks, marks, as inline SVG. Colours are left to the page, which knows day from night."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Panel", "ticks"]

WIDTH, HEIGHT = 360, 178
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 12, 24


@dataclass(slots=True)
class Panel:
    """One chart: x is seconds of the run, y whatever `top` says is the highest."""

    seconds: float
    top: float
    label: str
    unit: str = ""
    log_from: float = 0.0
    """When set, y is logarithmic and starts here."""
    _parts: list[str] = field(default_factory=list)

    def x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(second / self.seconds, 0.0), 1.0)

    def y(self, value: float) -> float:
        height = HEIGHT - TOP - BOTTOM
        if self.log_from:
            value = max(value, self.log_from)
            share = math.log(value / self.log_from) / math.log(self.top / self.log_from)
        else:
            share = value / self.top
        return TOP + height * (1 - min(share, 1.0))

    # -- marks ---------------------------------------------------------------------------------------------

    def band(self, began: float, ended: float, title: str) -> None:
        """Shade a stretch of time."""
        width = max(1.0, self.x(ended) - self.x(began))
        self._add("rect", "band", title, x=self.x(began), y=TOP, width=width, height=HEIGHT - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], kind: str = "line", *, steps: bool = False) -> None:
        """Join points, in order; as a staircase where a value holds until the next."""
        if points:
            self._add("path", kind, d=self._path(points, steps=steps))

    def area(self, points: Sequence[tuple[float, float]], kind: str = "area", *, steps: bool = False) -> None:
        """Fill the space below a line."""
        if points:
            floor = self.y(self.log_from)
            closing = f"L{self.x(points[-1][0]):.1f} {floor:.1f}L{self.x(points[0][0]):.1f} {floor:.1f}Z"
            self._add("path", kind, d=self._path(points, steps=steps) + closing)

    def rule(self, value: float, text: str) -> None:
        """Draw what must not be passed."""
        y = self.y(value)
        self._add("line", "rule", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        self.text(WIDTH - RIGHT, y - 4, text, "rule-text", "end")

    def dot(self, second: float, value: float, kind: str, title: str, radius: float = 2.6) -> None:
        self._add("circle", kind, title, cx=self.x(second), cy=self.y(value), r=radius)

    def stroke(self, x1: float, y1: float, x2: float, y2: float, kind: str, title: str = "") -> None:
        self._add("line", kind, title, x1=x1, y1=y1, x2=x2, y2=y2)

    def text(self, x: float, y: float, text: str, kind: str = "tick", anchor: str = "start") -> None:
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    # -- the whole -----------------------------------------------------------------------------------------

    def svg(self, values: Iterable[float] = ()) -> str:
        """The finished chart, with grid lines at `values`."""
        marks, self._parts = self._parts, []
        for value in values:
            self._add("line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=self.y(value), y2=self.y(value))
            self.text(LEFT - 6, self.y(value) + 3.5, f"{value:g}{self.unit}", anchor="end")
        for second in ticks(self.seconds, 4):
            self.text(self.x(second), HEIGHT - 7, f"{second:g} s", anchor="middle")
        body = "".join([*self._parts, *marks])
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.label)}">{body}</svg>'
        )

    def _path(self, points: Sequence[tuple[float, float]], *, steps: bool) -> str:
        placed = [(round(self.x(second), 1), round(self.y(value), 1)) for second, value in points]
        parts, last = [f"M{placed[0][0]} {placed[0][1]}"], placed[0]
        for x, y in placed[1:]:
            if (x, y) != last:
                parts.append(f"H{x}V{y}" if steps else f"L{x} {y}")
                last = (x, y)
        return "".join(parts)

    def _add(self, tag: str, kind: str, title: str = "", **attributes: float | str) -> None:
        given = " ".join(
            f'{name}="{value:.1f}"' if isinstance(value, float) else f'{name}="{value}"'
            for name, value in attributes.items()
        )
        inner = f"><title>{escape(title)}</title></{tag}>" if title else "/>"
        self._parts.append(f'<{tag} class="{kind}" {given}{inner}')


def ticks(top: float, about: int = 3) -> list[float]:
    """Round numbers from zero to `top`."""
    if top <= 0:
        return [0]
    rough = top / about
    magnitude = 10 ** math.floor(math.log10(rough))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough), default=rough)
    return [round(step * index, 6) for index in range(int(top / step) + 1)]
