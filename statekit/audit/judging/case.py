"""One candidate before the judge, with everything that can be asked about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from statekit.audit.catalogue import Catalogue
from statekit.audit.model import Category, Confidence
from statekit.audit.natures import Nature, Natures
from statekit.audit.project import ClassIn, Project
from statekit.audit.purity import Purity
from statekit.audit.reach import Reach
from statekit.audit.states import Change, State, States
from statekit.audit.words import words_of

__all__ = ["Case", "Tools", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one candidate. Cleared where `category` is None."""

    state: State
    category: Category | None
    confidence: Confidence = Confidence.LOW
    reason: str = ""
    """The step of the decision list that decided."""
    changes: tuple[Change, ...] = ()
    natures: frozenset[Nature] = frozenset()


@dataclass(frozen=True, slots=True)
class Tools:
    """What knows about the project."""

    project: Project
    states: States
    natures: Natures
    purity: Purity
    reach: Reach
    catalogue: Catalogue


class Case:
    """A candidate and the tools to look into it."""

    def __init__(self, state: State, tools: Tools) -> None:
        self.state = state
        self.tools = tools

    def clear(self, reason: str) -> Verdict:
        return Verdict(self.state, None, Confidence.LOW, reason, (), self.natures)

    def found(
        self, category: Category, confidence: Confidence, reason: str, changes: Iterable[Change] | None = None
    ) -> Verdict:
        said = changes if changes is not None else [c for c in self.state.changes if c.at_run_time]
        return Verdict(self.state, category, confidence, reason, tuple(said), self.natures)

    @cached_property
    def natures(self) -> frozenset[Nature]:
        """The natures of all it is ever set to."""
        found: set[Nature] = set()
        for function, value in self.state.values:
            found |= self.tools.natures.of(function, value)
        if self.state.holds:
            found.add(Nature.OBJECT)
        return frozenset(found)

    def put_in(self, run: Iterable[Change]) -> set[Nature]:
        """The natures of what is put into it."""
        natures = self.tools.natures
        return {nature for c in run if c.write.value for nature in natures.of(c.function, c.write.value)}

    @cached_property
    def words(self) -> set[str]:
        """The words of its name."""
        return set(words_of(self.state.name))

    @cached_property
    def owner(self) -> ClassIn | None:
        """The class in whose body, or by whose methods, it is bound."""
        return self.state.module.classes.get(self.state.owner)

    def keeps_client(self, owner: ClassIn) -> bool:
        """Whether objects of a class have a client among their attributes."""
        places, natures = self.tools.states.places, self.tools.natures
        writes = (write for one in owner.line() for _, found in places.assigned_of(one) for write in found)
        return any(Nature.CLIENT in natures.of(function, write.value) for function, write in writes)
