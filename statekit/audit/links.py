"""Who calls, wraps, names or hands on whom. Looked for in one function after the other, none of which depends on another.

So they can be shared out in portions: to look through all of them is the longest part of an analysis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from statekit.audit.catalogue import Catalogue
from statekit.audit.parts import COMMON, LIFESPAN, MAKERS, VAGUE, VERBS
from statekit.audit.places import Places
from statekit.audit.project import ClassIn, FunctionIn, Project
from statekit.audit.reading.chains import last_of

__all__ = ["Linker", "Links", "Said", "Ways"]

Ways = dict[FunctionIn, dict[FunctionIn, None]]
"""To whom each function leads, in the order in which that stands in it."""


class Said(NamedTuple):
    """What one function says of the part of another, or of a class."""

    part: str
    """maker · decorating · starter · handler · routes · registered"""
    whose: FunctionIn | ClassIn
    why: str = ""


class Links:
    """What some functions do to others."""

    __slots__ = ("calls", "edges", "said")

    def __init__(self) -> None:
        self.edges: Ways = defaultdict(dict)
        self.calls: Ways = defaultdict(dict)
        """Of the edges those that are calls: what is only named or given away runs later, if ever."""
        self.said: list[Said] = []

    def edge(self, function: FunctionIn, found: FunctionIn) -> None:
        if found is not function:
            self.edges[function][found] = None

    def call(self, function: FunctionIn, found: FunctionIn) -> None:
        self.edge(function, found)
        self.calls[function][found] = None


class Linker:
    """Looks for the links of functions."""

    def __init__(self, project: Project, places: Places, catalogue: Catalogue) -> None:
        self.project = project
        self.places = places
        self.catalogue = catalogue
        self.functions = list(project.functions())
        self._last = {one.last for one in self.functions}
        self._named = self._last | {last_of(one.name) for one in project.classes()}
        self._links = Links()

    def of(self, functions: Iterable[FunctionIn]) -> Links:
        """What these do to others."""
        self._links = Links()
        for function in functions:
            self._connect(function)
        return self._links

    def _connect(self, function: FunctionIn) -> None:
        facts = function.facts
        for chain in facts.calls:
            last = last_of(chain)
            if last in self._named or last == "cls":
                for found in self._called(function, chain, last):
                    self._links.call(function, found)
            if last in MAKERS:
                self._say("maker", function)
        for decorator in facts.decorators:
            self._wrapped(function, decorator.text)
        for chain in facts.reads:
            if last_of(chain) in self._last:
                self._edge_to(function, chain)
        for callee, argument, chain in facts.passed:
            self._handed(function, callee, argument, chain)

    def _say(self, part: str, whose: FunctionIn | ClassIn, why: str = "") -> None:
        self._links.said.append(Said(part, whose, why))

    def _wrapped(self, function: FunctionIn, decorator: str) -> None:
        """What a decorator of the project puts around a function runs with it."""
        place = self.places.of(function, decorator) if last_of(decorator) in self._last else None
        if place and isinstance(place.what, FunctionIn):
            self._say("decorating", place.what)
            inside = place.what.name + "."
            for name, inner in place.what.module.functions.items():
                if name.startswith(inside):
                    self._links.edge(function, inner)

    def _edge_to(self, function: FunctionIn, chain: str) -> None:
        place = self.places.of(function, chain)
        if place and isinstance(place.what, FunctionIn):
            self._links.edge(function, place.what)

    def _called(self, function: FunctionIn, chain: str, last: str) -> Iterable[FunctionIn]:
        place = self.places.of(function, chain)
        if place is None or place.kind in {"attribute", "outside", "app"}:
            known = place is not None and place.kind == "outside" and "()." not in chain
            return () if "." not in chain or last in VAGUE or known else self._by_name(last)
        if isinstance(place.what, FunctionIn):
            return place.what, *_overriding(place.what)
        if isinstance(place.what, ClassIn):
            made = ("__init__", "__new__", "__post_init__")
            return filter(
                None, map(place.what.method, made if place.kind != "object" else (*made, "__call__"))
            )
        return ()

    def _by_name(self, name: str) -> Iterable[FunctionIn]:
        found = self.project.methods.get(name, ())
        return found if len(found) <= COMMON else ()

    # -- what is given away ----------------------------------------------------------------------------------

    def _handed(self, function: FunctionIn, callee: str, argument: str, chain: str) -> None:
        bare = chain.removesuffix("()")
        if chain.endswith(".as_view()"):
            bare = chain.removesuffix(".as_view()")
        elif last_of(bare) not in self._named:
            return
        place = self.places.of(function, bare)
        if place is None:
            return
        if isinstance(place.what, FunctionIn):
            self._callback(function, place.what, callee, argument, chain)
        elif place.kind == "class" and isinstance(place.what, ClassIn):
            self._registered(place.what, callee)

    def _registered(self, given: ClassIn, callee: str) -> None:
        """A class given to a router: the methods that frameworks know serve, all of them where there are none."""
        last = last_of(callee)
        if last not in self.catalogue.routers:
            return
        self._say("registered", given)
        made = ("__init__",) if last in {"Depends", "Security"} else ()
        serving = VERBS & set(given.methods) or set(given.methods)
        for method in given.methods.values():
            if method.last in serving and method.last not in {"__init__", "__new__"} - set(made):
                self._say("handler", method, f"given to {callee}")

    def _callback(
        self, function: FunctionIn, given: FunctionIn, callee: str, argument: str, chain: str
    ) -> None:
        known = self.catalogue
        last = callee.rpartition(".")[2]
        if (
            last == "add_event_handler"
            or LIFESPAN.search(callee)
            or argument in {"lifespan", "on_startup", "on_shutdown"}
        ):
            self._say("starter", given)
        elif last in known.spawners:
            self._say("handler", given, f"started by {last}")
        elif chain.endswith("()"):
            self._links.edge(function, given)
        elif last in known.routers or callee in known.routers:
            self._say("handler", given, f"given to {last}")
            if _bare_self(chain):
                self._say("routes", given)
        else:
            self._links.edge(function, given)


def _overriding(method: FunctionIn) -> Iterator[FunctionIn]:
    owner = method.module.classes.get(method.facts.within)
    for derived in owner.derived[:20] if owner else ():
        if method.last in derived.methods:
            yield derived.methods[method.last]


def _bare_self(chain: str) -> bool:
    """Whether a chain names a method of the own object."""
    return chain.startswith("self.") and chain.count(".") == 1 and chain[-1] != ")"
