"""From an analysis to the score: candidates, their factors, and the order to move them in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from statekit.audit.engine import Analysis
from statekit.audit.score.clarity import Clarity
from statekit.audit.score.groups import Group, cut
from statekit.audit.score.model import Candidate, Factor, Part, Score, SharedState
from statekit.audit.score.settings import Settings, settings_from
from statekit.audit.score.sharing import shared_states
from statekit.audit.score.traffic import Traffic
from statekit.audit.score.viability import Viability, handlers_of

__all__ = ["score"]

SMALL = 2
"""Functions; what has fewer is no candidate unless it is included by name."""


def score(analysis: Analysis, settings: Settings | Mapping[str, Any] | None = None) -> Score:
    """Score every candidate of a project, the readiest first.

    `settings` is the table ``[tool.statekit.audit.score]``, or what was read from it; `BadSetting` where it
    cannot be understood. The same code gives the same score, whatever order its files come in.
    """
    known = settings if isinstance(settings, Settings) else settings_from(settings)
    modules = sorted(analysis.project.modules, key=lambda one: one.path)
    return _Scoring(analysis, cut(modules, known.depth), known).result()


class _Scoring:
    def __init__(self, analysis: Analysis, groups: Sequence[Group], settings: Settings) -> None:
        self.analysis = analysis
        self.groups = groups
        self.settings = settings
        traffic = Traffic(analysis, groups)
        self.clarity = Clarity(analysis, traffic, groups)
        self.viability = Viability(analysis, traffic)
        self.states = shared_states(analysis, traffic)
        self.held: dict[str, list[SharedState]] = defaultdict(list)
        for state in self.states:
            for hold in state.holds:
                self.held[hold.package].append(state)

    def result(self) -> Score:
        excluded = [one for one in self.groups if self.settings.excludes(one.name)]
        rest = [one for one in self.groups if one not in excluded]
        candidates = [self._candidate(one) for one in rest if self._could_move(one)]
        return Score(
            candidates=tuple(sorted(candidates, key=lambda one: (-one.score, one.name))),
            states=tuple(self.states),
            passed_over=tuple(one.name for one in rest if not self._could_move(one)),
            excluded=tuple(one.name for one in excluded),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterable[str]:
        names = [one.name for one in self.groups]
        for glob in self.settings.unused(names):
            yield f"score settings: {glob!r} matches no package (there are {', '.join(names[:6])} ...)"
        left_out = sum(one.category is not None and one.confidence == "low" for one in self.analysis.verdicts)
        if left_out:
            yield f"states of low confidence left out: {left_out}"

    def _could_move(self, group: Group) -> bool:
        """What serves requests or holds state; the rest is a library that moves with whoever needs it."""
        if self.settings.includes(group.name):
            return True
        if group.name.endswith("__main__"):
            return False
        size = sum(1 for _ in group.functions())
        return size >= SMALL and bool(handlers_of(group, self.analysis) or self.held.get(group.name))

    # -- one candidate -------------------------------------------------------------------------------------

    def _candidate(self, group: Group) -> Candidate:
        costs = _costs(self.held.get(group.name, ()), group.name)
        shares = sorted(
            ((name, cost) for name, cost in costs.items() if cost), key=lambda one: (-one[1], one[0])
        )
        return Candidate(
            name=group.name,
            files=len(group.modules),
            functions=sum(1 for _ in group.functions()),
            handlers=handlers_of(group, self.analysis),
            clarity=self._mean(group.name, "clarity", self.clarity.parts(group)),
            viability=self._mean(group.name, "viability", self.viability.parts(group)),
            coupling=self._factor(group.name, "coupling", 1 + sum(costs.values()), ()),
            shares=tuple(shares),
            partners=self._partners(group.name),
            own=sum(not one.is_shared for one in self.held.get(group.name, ())),
        )

    def _mean(self, name: str, factor: str, parts: tuple[Part, ...]) -> Factor:
        """From 1 to 10: the weighted mean of the parts there are."""
        weights = sum(one.weight for one in parts)
        mean = sum(one.share * one.weight for one in parts) / weights if weights else 0.5
        return self._factor(name, factor, 1 + 9 * mean, parts)

    def _factor(self, name: str, factor: str, derived: float, parts: tuple[Part, ...]) -> Factor:
        derived = round(derived, 1)
        value, reason = self.settings.overridden(name, factor) or (derived, "")
        return Factor(value, derived, parts, reason)

    def _partners(self, name: str) -> tuple[str, ...]:
        """With whom it shares, weighed by what each shared state costs."""
        weighed: Counter[str] = Counter()
        for state in self.held.get(name, ()):
            for hold in state.holds:
                if hold.package != name:
                    weighed[hold.package] += state.cost(name)  # type: ignore[assignment]
        return tuple(sorted(weighed, key=lambda one: (-weighed[one], one)))


def _costs(states: Iterable[SharedState], package: str) -> dict[str, float]:
    """What each state adds to a package's coupling.

    Attributes of one class move together: the dearest counts in full, each further one a quarter.
    """
    costs: dict[str, float] = {}
    seen: set[str] = set()
    for state in sorted(states, key=lambda one: (-one.cost(package), one.name)):
        costs[state.name] = state.cost(package) / (4 if state.object in seen else 1)
        seen |= {state.object} - {""}
    return costs
