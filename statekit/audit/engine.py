"""The analysis from end to end: facts of all files in, a verdict on every candidate out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from statekit.audit.candidates import Candidates
from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import FileFacts
from statekit.audit.judge import Judge, Verdict
from statekit.audit.judging.case import Tools
from statekit.audit.natures import Natures
from statekit.audit.own_kit import kept_by_kits
from statekit.audit.places import Places
from statekit.audit.portions import Shared
from statekit.audit.project import Project, Var
from statekit.audit.purity import Purity
from statekit.audit.reach import Reach
from statekit.audit.states import States
from statekit.audit.touches import Touches

__all__ = ["Analysis", "judged"]


class Analysis:
    """A project put together from the facts of its files, and what was decided about each candidate.

    Everything is kept, for those who ask further: who reaches what, who shares what with whom.
    """

    def __init__(
        self,
        files: Iterable[FileFacts],
        catalogue: Catalogue | None = None,
        shared: Shared | None = None,
    ) -> None:
        known = catalogue or Catalogue()
        self.project = Project(files)
        self.places = Places(self.project)
        touches = Touches(self.project, self.places)  # while a fork looks for links: see portions.py
        self.reach = Reach(self.project, self.places, known, shared)
        self.states = States(self.project, self.places, touches, self.reach, known)
        self.natures = Natures(self.project, self.places, known)
        self.purity = Purity(self.project, self.places, known, self.reach)
        tools = Tools(self.project, self.states, self.natures, self.purity, self.reach, known)
        judge = Judge(tools)
        every = [judge.verdict(state) for state in Candidates(self.states).all()]
        self.verdicts: list[Verdict] = [one for one in every if not one.state.inside]
        self.parts: dict[Var, list[Verdict]] = _by_holder(every)
        """Of the objects that variables hold: what they keep in their attributes."""
        self.verdicts.extend(kept_by_kits(self.project, self.reach))


def _by_holder(verdicts: list[Verdict]) -> dict[Var, list[Verdict]]:
    """Attributes that are state, by the variable they are told as a part of: one that is state itself."""
    holders = {one.state.var for one in verdicts if one.category is not None and one.state.var}
    found: dict[Var, list[Verdict]] = defaultdict(list)
    for one in verdicts:
        holder = next((var for var in one.state.inside if var in holders), None)
        if one.category is not None and holder is not None:
            found[holder].append(one)
    return found


def judged(files: Iterable[FileFacts], catalogue: Catalogue | None = None) -> list[Verdict]:
    """Every candidate of a project with what was decided about it."""
    return Analysis(files, catalogue).verdicts
