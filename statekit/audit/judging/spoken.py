"""All names that have to do with a candidate, each with what it weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from statekit.audit.judging.case import Case
from statekit.audit.judging.changes import texts
from statekit.audit.project import FunctionIn
from statekit.audit.states import Change

__all__ = ["names", "surroundings", "users"]


def names(case: Case, run: list[Change]) -> Iterator[tuple[str, float]]:
    """Names of the thing itself and of what is done with it, the nearest with most weight."""
    state = case.state
    yield state.name, 2.0
    for name, _ in Counter(c.attribute for c in run if c.attribute).most_common(4):
        yield name, 1.2
    if state.holds:
        yield state.holds.name.rpartition(".")[2], 1.4
        methods = {name for one in state.holds.line() for name in one.methods}
        yield from _shared({name for name in methods if not name.startswith("__")}, 1.5)
    yield from ((c.function.last, 0.25) for c in run[:6])
    yield state.module.facts.notes.get(state.line, ""), 0.7
    yield state.annotation, 0.4
    yield from _shared({one for _, value in state.values for one in texts(value)}, 0.8)
    yield from _shared({one for c in run if c.write.value for one in texts(c.write.value)}, 0.8)
    yield from _shared({hint for c in run for hint in c.function.params.values()}, 0.6)
    yield from _shared(_fields(case, run), 2.0)


def surroundings(case: Case) -> Iterator[tuple[str, float]]:
    """Names of where it is."""
    state = case.state
    if state.owner and state.shape in {"attribute", "class_attribute"}:
        yield state.owner.rpartition(".")[2], 1.0
    yield from zip(reversed(state.module.dotted), (0.5, 0.4), strict=False)


def users(case: Case, run: list[Change]) -> set[FunctionIn]:
    """The functions that look at it or write it."""
    return {*case.state.readers, *(c.function for c in run)}


def _fields(case: Case, run: list[Change]) -> set[str]:
    """The attributes of what is kept that somebody looks at."""
    heads = tuple({c.write.target.rstrip("[]") + "[]." for c in run})
    looked = {chain for one in users(case, run) for chain in one.facts.reads if chain.startswith(heads)}
    return {chain.partition("[].")[2].partition(".")[0].rstrip("[]") for chain in looked}


def _shared(told: Iterable[str], weight: float) -> Iterator[tuple[str, float]]:
    """Names that have a weight together."""
    several = [name.rpartition(".")[2] for name in sorted(told) if name]
    return ((name, weight / len(several)) for name in several)
