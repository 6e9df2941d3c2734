"""Shared State Coupling: which package holds which state, and how."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from statekit.audit.engine import Analysis
from statekit.audit.judge import Verdict
from statekit.audit.model import Category, Confidence
from statekit.audit.places import Attribute
from statekit.audit.project import ClassIn, FunctionIn, Module
from statekit.audit.score.groups import Group
from statekit.audit.score.model import Grip, Hold, SharedState
from statekit.audit.score.traffic import Traffic
from statekit.audit.suppress import addressed

__all__ = ["WEIGHTS", "shared_states"]

WEIGHTS = {
    Category.SESSION_STORE: 3.0,
    Category.EVENT_BUS: 3.0,
    Category.CONNECTION_MANAGER: 3.0,
    Category.LOCK: 3.0,
    Category.RATE_LIMITER: 2.0,
    Category.TENANT_CONFIG: 2.0,
    Category.BACKGROUND_WORKER: 2.0,
    Category.OTHER_SINGLETON: 2.0,
    Category.FLAG_CACHE: 1.0,
    Category.MEMO_CACHE: 1.0,
    Category.COUNTER: 1.0,
    Category.CLIENT_POOL: 0.5,
}
"""How hard it is to part what two packages share: a client each may open for itself, a session both must see."""
SHOWN = 4
"""Functions named for one hold."""
ORDER = list(Grip)
_NAMES = re.compile(r"[A-Za-z_]\w*")


def shared_states(analysis: Analysis, traffic: Traffic) -> list[SharedState]:
    """Every state the audit is fairly sure of, with all packages that hold it, in the order of the code.

    One that a comment accepts or suppresses each process may have for itself: parting it costs nothing.
    """
    verdicts = [
        one for one in analysis.verdicts if one.category in WEIGHTS and one.confidence is not Confidence.LOW
    ]
    agreed = _agreed(one.state.module for one in verdicts)
    verdicts = [one for one in verdicts if (one.state.module, one.state.line) not in agreed]
    readers = _Readers(analysis, verdicts)
    found = [_Holding(one, traffic, readers).state() for one in verdicts]
    ordered = sorted((one for one in found if one.holds), key=lambda one: (one.path, one.line, one.name))
    return list({one.name: one for one in reversed(ordered)}.values())[::-1]


def _agreed(modules: Iterable[Module]) -> set[tuple[Module, int]]:
    """Lines of which a comment with a reason says that each process may have its own."""
    return {
        (module, line)
        for module in dict.fromkeys(modules)
        for one in addressed(module.facts)
        if not one.wrong
        for line in (one.line, one.line + one.alone)
    }


class _Readers:
    """Who looks at attributes and at what hangs on the app: the analysis keeps that for variables only."""

    def __init__(self, analysis: Analysis, verdicts: Iterable[Verdict]) -> None:
        self._places = analysis.places
        self._of: dict[object, set[FunctionIn]] = defaultdict(set)
        wanted = {
            one.state.name for one in verdicts if one.state.shape in {"attribute", "class_attribute", "app"}
        }
        for function in analysis.project.functions() if wanted else ():
            for chain in (*function.facts.reads, *function.facts.calls):
                if "." in chain:
                    for name in sorted(wanted.intersection(_NAMES.findall(chain))):
                        self._note(function, chain[: _end(chain, name)])

    def _note(self, function: FunctionIn, chain: str) -> None:
        place = self._places.of(function, chain)
        if place is not None and isinstance(place.what, Attribute):
            self._of[place.what].add(function)
        elif place is not None and place.kind == "app":
            self._of[str(place.what)].add(function)

    def of(self, verdict: Verdict) -> set[FunctionIn]:
        state = verdict.state
        found = set(state.readers)
        if state.shape == "app":
            found |= {one for spelt in state.under for one in self._of.get(spelt, ())}
        elif state.shape in {"attribute", "class_attribute"}:
            owner = state.module.classes.get(state.owner)
            found |= {one for kind in _family(owner) for one in self._of.get(Attribute(kind, state.name), ())}
        return found


class _Holding:
    """Sorts the functions that have to do with one state by package and by grip."""

    def __init__(self, verdict: Verdict, traffic: Traffic, readers: _Readers) -> None:
        self.verdict = verdict
        self.traffic = traffic
        self.readers = readers.of(verdict)
        self.grips: dict[FunctionIn, Grip] = {}
        self._direct()
        self._by_calls()

    def state(self) -> SharedState:
        state, category = self.verdict.state, self.verdict.category
        assert category is not None
        of_a_class = state.shape in {"attribute", "class_attribute"} and state.owner
        return SharedState(
            name=state.qualified,
            category=category,
            confidence=self.verdict.confidence,
            path=state.module.path,
            line=state.line,
            weight=WEIGHTS[category],
            object=".".join((*state.module.dotted, state.owner)) if of_a_class else "",
            holds=tuple(self._holds()),
        )

    def _direct(self) -> None:
        state = self.verdict.state
        inner = {one.function for one in state.changes if one.attribute}
        for change in state.changes:
            if change.at_run_time and not (change.attribute and self._of_its_class(change.function)):
                self.grips[change.function] = Grip.WRITES
        if state.function is not None:  # what a decorator keeps is written by calling the function
            self.grips[state.function] = Grip.WRITES
        for function in self.readers:
            if function.name[0] != "<" and not self._of_its_class(function):
                changes = bool(inner & self.traffic.targets.get(function, set()))
                self.grips.setdefault(function, Grip.WRITES if changes else Grip.READS)

    def _of_its_class(self, function: FunctionIn) -> bool:
        """Methods of the object that is the state: they go where the state goes."""
        holds = self.verdict.state.holds
        owner = function.module.classes.get(function.facts.within)
        return holds is not None and owner is not None and (owner in holds.line() or holds in owner.line())

    def _by_calls(self) -> None:
        """Packages that call a function with a hold have one themselves, a looser one."""
        for function, grip in list(self.grips.items()):
            looser = Grip.WRITES_BY_CALLS if grip is Grip.WRITES else Grip.READS_BY_CALLS
            for caller in self.traffic.callers.get(function, ()):
                if caller.name[0] != "<":
                    known = self.grips.get(caller, looser)
                    self.grips[caller] = min(known, looser, key=ORDER.index)

    def _holds(self) -> Iterator[Hold]:
        found: dict[Group, dict[FunctionIn, Grip]] = defaultdict(dict)
        for function, grip in self.grips.items():
            group = self.traffic.home.get(function.module)
            if group is not None:
                found[group][function] = grip
        home = self.traffic.home.get(self.verdict.state.module)
        if home is not None:
            found.setdefault(home, {})
        for group in sorted(found, key=lambda one: one.name):
            yield _hold(group, found[group])


def _hold(group: Group, grips: dict[FunctionIn, Grip]) -> Hold:
    grip = min(grips.values(), key=ORDER.index, default=Grip.BINDS)
    functions = sorted(
        (one for one in grips if grips[one] is grip), key=lambda one: (one.module.path, one.facts.line)
    )
    spelt = tuple(f"{one.module.path}:{one.facts.line} {one.name}" for one in functions[:SHOWN])
    return Hold(group.name, grip, spelt, len(functions))


def _family(owner: ClassIn | None) -> list[ClassIn]:
    return [*owner.line(), *owner.derived] if owner else []


def _end(chain: str, name: str) -> int:
    """Where a name ends in a chain, as a whole part of it."""
    found = re.search(rf"\b{name}\b", chain)
    return found.end() if found else len(chain)
