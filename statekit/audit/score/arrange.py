"""Where packages and states stand in the picture: near to what they belong to, links crossing little."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from statekit.audit.model import Category
from statekit.audit.score.model import Hold, Score, SharedState
from statekit.audit.score.words import listed, short_names

__all__ = ["Arrangement", "Row", "arranged"]

PACKAGES, ROWS = 40, 60
"""More than these are not drawn."""
ROW, HEAD, GAP = 21, 27, 9
"""Pixels: a row, the heading of a category, the space between categories."""
SWEEPS = 6
ALIKE = 3

Order = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One line on the right: a state, or attributes of one class that the same packages share."""

    label: str
    category: Category
    holds: tuple[Hold, ...]
    states: tuple[SharedState, ...]

    @property
    def name(self) -> str:
        return self.states[0].name

    def is_held_by(self, package: str) -> bool:
        return any(hold.package == package for hold in self.holds)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What is drawn, and where: the height of each package and row, and of each category's heading."""

    packages: dict[str, float]
    rows: dict[str, float]
    headings: dict[Category, float]
    drawn: tuple[Row, ...]
    height: float
    left_out: tuple[int, int]
    """Packages and states that found no room."""


def arranged(score: Score) -> Arrangement:
    """The dearest shared states and the packages that hold them, in an order in which links cross little."""
    everything = sorted(_rows(score), key=lambda one: (-_worth(one), one.name))
    drawn, packages = _fitting(everything)
    groups, order = _ordered(drawn, packages)
    rows, headings, height = _heights(groups, GAP)
    lacking = len(order) * ROW - height
    if lacking > 0 and len(groups) > 1:  # more packages than rows: the rows spread
        rows, headings, height = _heights(groups, GAP + lacking / (len(groups) - 1))
    placed = _packages(order, drawn, rows, height)
    everyone = {hold.package for one in score.shared for hold in one.holds}
    missing = len(score.shared) - sum(len(one.states) for one in drawn)
    bottom = max([height, *(y + ROW / 2 for y in placed.values())])
    return Arrangement(placed, rows, headings, tuple(drawn), bottom, (len(everyone) - len(packages), missing))


# -- what is drawn -----------------------------------------------------------------------------------------


def _rows(score: Score) -> Iterator[Row]:
    """Shared states; three or more attributes of a class that the same packages share make one row."""
    short = short_names(score)
    alike: dict[object, list[SharedState]] = defaultdict(list)
    for one in score.shared:
        holders = frozenset(hold.package for hold in one.holds)
        alike[(one.object or one.name, one.category, holders)].append(one)
    for states in alike.values():
        if len(states) >= ALIKE:
            owner = states[0].object.rpartition(".")[2]
            names = [one.name.rpartition(".")[2] for one in states]
            yield Row(f"{owner}: {listed(names, 2)}", states[0].category, _merged(states), tuple(states))
        else:
            yield from (Row(short[one.name], one.category, one.holds[:PACKAGES], (one,)) for one in states)


def _merged(states: Sequence[SharedState]) -> tuple[Hold, ...]:
    """The strongest grip each package has on any of them."""
    best: dict[str, Hold] = {}
    for hold in (hold for one in states for hold in one.holds):
        known = best.get(hold.package)
        if known is None or hold.grip.strength > known.grip.strength:
            best[hold.package] = hold
    return tuple(best.values())[:PACKAGES]


def _worth(one: Row) -> float:
    return sum(state.cost(hold.package) for state in one.states for hold in state.holds)


def _fitting(rows: Sequence[Row]) -> tuple[list[Row], set[str]]:
    """As many of the dearest rows as there is room for, and for all who hold them."""
    drawn: list[Row] = []
    packages: set[str] = set()
    for one in rows:
        wanted = packages | {hold.package for hold in one.holds}
        if len(drawn) < ROWS and len(wanted) <= PACKAGES:
            drawn.append(one)
            packages = wanted
    return drawn, packages


# -- order -------------------------------------------------------------------------------------------------


def _ordered(drawn: Sequence[Row], packages: set[str]) -> tuple[list[list[Row]], list[str]]:
    """States by category, and packages, each near the middle of what it is linked to."""
    order = sorted(packages)
    groups = _groups(drawn)
    for _ in range(SWEEPS):
        at = {name: float(index) for index, name in enumerate(order)}
        groups = [sorted(one, key=lambda state: (_middle(state, at), state.name)) for one in groups]
        groups.sort(key=lambda one: (sum(_middle(state, at) for state in one) / len(one), one[0].category))
        rows = {state.name: float(row) for row, state in enumerate(state for one in groups for state in one)}
        order = sorted(order, key=lambda name: (_mean_row(name, drawn, rows), name))
    return groups, order


def _groups(drawn: Sequence[Row]) -> list[list[Row]]:
    found: dict[Category, list[Row]] = defaultdict(list)
    for one in drawn:
        found[one.category].append(one)
    return list(found.values())


def _middle(state: Row, at: Order) -> float:
    return sum(at[one.package] for one in state.holds) / len(state.holds)


def _mean_row(package: str, drawn: Sequence[Row], rows: Order) -> float:
    held = [rows[one.name] for one in drawn if one.is_held_by(package)]
    return sum(held) / len(held)


# -- heights -----------------------------------------------------------------------------------------------


def _heights(
    groups: Sequence[Sequence[Row]], gap: float
) -> tuple[dict[str, float], dict[Category, float], float]:
    rows: dict[str, float] = {}
    headings: dict[Category, float] = {}
    y = 0.0
    for group in groups:
        headings[group[0].category] = y + HEAD / 2
        y += HEAD
        for one in group:
            rows[one.name] = y + ROW / 2
            y += ROW
        y += gap
    return rows, headings, max(0.0, y - gap)


def _packages(order: Sequence[str], drawn: Sequence[Row], states: Order, height: float) -> dict[str, float]:
    """Each beside the middle of its states, no two closer than a row, all within the picture if they fit."""
    step = min(max(ROW, height / max(1, len(order))), 2 * ROW)
    wished = [_mean_row(name, drawn, states) for name in order]
    placed: list[float] = []
    for wish in wished:
        placed.append(max(wish, placed[-1] + step) if placed else max(wish, ROW / 2))
    floor = max(height - ROW / 2, ROW / 2 + step * (len(order) - 1))
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], floor)
        floor = placed[index] - step
    return dict(zip(order, placed, strict=True))
