"""What each function changes and whom it looks at: all that can be told of it without knowing when it runs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from statekit.audit.facts import Write
from statekit.audit.places import Place, Places
from statekit.audit.project import FunctionIn, Module, Project
from statekit.audit.reading.chains import root_of

__all__ = ["Touch", "Touches"]

INNER = re.compile(r"\.|\(")
"""What a chain has that leads beyond a variable and its elements."""


class Touch(NamedTuple):
    """A write, and what is changed by it."""

    function: FunctionIn
    place: Place
    write: Write


class Touches:
    """All writes of a project with their places, and all who look at a name."""

    def __init__(self, project: Project, places: Places) -> None:
        self._project = project
        self._places = places
        self._mutating = dict(self._parameter_changes())
        self.all = [touch for function in project.functions() for touch in self._of(function)]
        self.readers: dict[str, dict[Module, set[FunctionIn]]] = defaultdict(lambda: defaultdict(set))
        """Functions that look at a name, by the name and their module."""
        named = self._looked_for()
        for function in project.functions():
            for root in named.intersection(map(root_of, (*function.facts.reads, *function.facts.calls))):
                self.readers[root][function.module].add(function)

    def _looked_for(self) -> set[str]:
        """Names whose readers somebody may ask for: of variables, and of functions that are decorated."""
        variables = {name for module in self._project.modules for name in module.vars}
        return variables | {one.last for one in self._project.functions() if one.facts.decorators}

    def _parameter_changes(self) -> Iterator[tuple[FunctionIn, dict[str, Write]]]:
        """Functions that change what they are given."""
        for function in self._project.functions():
            inside = (one for one in function.facts.writes if one.op != "=" and not INNER.search(one.target))
            own = {root_of(one.target): one for one in inside}
            given = {name: own[name] for name, _ in function.facts.params if name in own}
            if given:
                yield function, given

    def _of(self, function: FunctionIn) -> Iterator[Touch]:
        for write in function.facts.writes:
            place = self._places.of(function, write.target)
            if place is not None:
                yield Touch(function, place, write)
        for callee, argument, chain in function.facts.passed:
            yield from self._handed(function, callee, argument, chain)

    def _handed(self, function: FunctionIn, callee: str, argument: str, chain: str) -> Iterator[Touch]:
        """A helper that changes its parameter changes what it is given."""
        place = self._places.of(function, callee) if argument.isdigit() or argument.isidentifier() else None
        if place is None or not isinstance(place.what, FunctionIn) or place.what not in self._mutating:
            return
        helper = place.what
        names = list(helper.params)
        at = int(argument) if argument.isdigit() else -1
        name = argument if at < 0 else names[at] if at < len(names) else ""
        write = self._mutating[helper].get(name)
        target = self._places.of(function, chain) if write else None
        if write and target:
            line = function.facts.calls.get(callee, write.line)
            yield Touch(function, target, write._replace(target=chain, line=line))
