"""Where packages and states stand in the picture: near to what they belong to, links crossing little."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statekit.audit.model import Category
from statekit.audit.score.model import Score, SharedState

__all__ = ["Arrangement", "arranged"]

PACKAGES, STATES = 40, 60
"""More than these are not drawn."""
ROW, HEAD, GAP = 21, 27, 9
"""Pixels: a row, the heading of a category, the space between categories."""
SWEEPS = 6

Order = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What is drawn, and where: the height of each package and state, and of each category's heading."""

    packages: dict[str, float]
    states: dict[str, float]
    headings: dict[Category, float]
    drawn: tuple[SharedState, ...]
    height: float
    left_out: tuple[int, int]
    """Packages and states that found no room."""


def arranged(score: Score) -> Arrangement:
    """The dearest shared states and the packages that hold them, in an order in which links cross little."""
    shared = sorted(score.shared, key=lambda one: (-_worth(one), one.name))
    drawn, packages = _fitting(shared)
    groups, order = _ordered(drawn, packages)
    states, headings, height = _states(groups)
    placed = _packages(order, drawn, states, height)
    everyone = {hold.package for one in shared for hold in one.holds}
    left_out = (len(everyone) - len(packages), len(shared) - len(drawn))
    bottom = max([height, *(y + ROW / 2 for y in placed.values())])
    return Arrangement(placed, states, headings, tuple(drawn), bottom, left_out)


def _worth(one: SharedState) -> float:
    return sum(one.cost(hold.package) for hold in one.holds)


def _fitting(shared: Sequence[SharedState]) -> tuple[list[SharedState], set[str]]:
    """As many of the dearest states as there is room for, and for all who hold them."""
    drawn: list[SharedState] = []
    packages: set[str] = set()
    for one in shared:
        wanted = packages | {hold.package for hold in one.holds}
        if len(drawn) < STATES and (len(wanted) <= PACKAGES or not drawn):
            drawn.append(one)
            packages = wanted
    return drawn, packages


# -- order -------------------------------------------------------------------------------------------------


def _ordered(drawn: Sequence[SharedState], packages: set[str]) -> tuple[list[list[SharedState]], list[str]]:
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


def _groups(drawn: Sequence[SharedState]) -> list[list[SharedState]]:
    found: dict[Category, list[SharedState]] = defaultdict(list)
    for one in drawn:
        found[one.category].append(one)
    return list(found.values())


def _middle(state: SharedState, at: Order) -> float:
    return sum(at[one.package] for one in state.holds) / len(state.holds)


def _mean_row(package: str, drawn: Sequence[SharedState], rows: Order) -> float:
    held = [rows[one.name] for one in drawn if any(hold.package == package for hold in one.holds)]
    return sum(held) / len(held)


# -- heights -----------------------------------------------------------------------------------------------


def _states(groups: Sequence[Sequence[SharedState]]) -> tuple[dict[str, float], dict[Category, float], float]:
    states: dict[str, float] = {}
    headings: dict[Category, float] = {}
    y = 0.0
    for group in groups:
        headings[group[0].category] = y + HEAD / 2
        y += HEAD
        for one in group:
            states[one.name] = y + ROW / 2
            y += ROW
        y += GAP
    return states, headings, max(0.0, y - GAP)


def _packages(
    order: Sequence[str], drawn: Sequence[SharedState], states: Order, height: float
) -> dict[str, float]:
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
