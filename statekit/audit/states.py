"""Everything that may live as long as its process, with all that is done to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Value, Write
from statekit.audit.lives import BUILDERS, Lives
from statekit.audit.places import Attribute, Place, Places
from statekit.audit.project import ClassIn, FunctionIn, Module, Project, Var
from statekit.audit.reach import Phase, Reach
from statekit.audit.reading.chains import last_of
from statekit.audit.touches import Touches

__all__ = ["BUILDERS", "PLAIN", "Change", "State", "States"]


PLAIN = {"=", "[]=", "+=", "del", "[]", "next"}
"""Writes that are not calls of a method."""
DATACLASSES = {"dataclass", "define", "s", "attrs", "frozen", "mutable"}


class Change(NamedTuple):
    """A write, the function that makes it, and when that runs."""

    function: FunctionIn
    write: Write
    phase: Phase
    attribute: str = ""
    """The attribute of the object that is changed, where the state is an object."""

    @property
    def at_run_time(self) -> bool:
        return self.phase in {Phase.RUNTIME, Phase.UNKNOWN}


@dataclass(slots=True, eq=False)
class State:
    """One candidate."""

    shape: str
    """container · rebind · instance · class_attribute · attribute · app · closure · decorator"""
    module: Module
    line: int
    name: str
    owner: str = ""
    """Class or function it belongs to."""
    values: list[tuple[FunctionIn, Value]] = field(default_factory=list)
    annotation: str = ""
    under: tuple[str, ...] = ()
    changes: list[Change] = field(default_factory=list)
    look: Callable[[], set[FunctionIn]] = set
    """Finds the functions that look at it."""
    holds: ClassIn | None = None
    """The project's class it is an object of."""
    function: FunctionIn | None = None
    """The function that is decorated."""
    var: Var | None = None
    """The variable of a module it is the value of."""
    inside: tuple[Var, ...] = ()
    """The variables of modules that hold the object it is an attribute of: it is told as a part of one of them."""

    @property
    def readers(self) -> set[FunctionIn]:
        """The functions that look at it."""
        return self.look()

    @property
    def qualified(self) -> str:
        return ".".join(filter(None, (*self.module.dotted, self.owner, self.name)))


class States:
    """All writes of a project, by what they change."""

    def __init__(
        self, project: Project, places: Places, touches: Touches, reach: Reach, catalogue: Catalogue
    ) -> None:
        self.project = project
        self.places = places
        self.reach = reach
        self.catalogue = catalogue
        self.of_var: dict[Var, list[Change]] = defaultdict(list)
        self.of_attribute: dict[Attribute, list[Change]] = defaultdict(list)
        self.of_app: dict[str, list[Change]] = defaultdict(list)
        self.of_closure: dict[tuple[Module, str], list[Change]] = defaultdict(list)
        for function, place, write in touches.all:
            self._put(place, Change(function, write, reach.phase(function)))
        kept = {name: [(c.function, c.write) for c in changes] for name, changes in self.of_app.items()}
        self.lasting = Lives(project, places, reach, catalogue).lasting(kept)
        """Classes with objects that live as long as the process, and what holds them."""
        self._describing: dict[ClassIn, bool] = {}
        self.readers_of = touches.readers
        """Functions that look at a name, by the name and their module."""

    # -- collecting -----------------------------------------------------------------------------------------

    def _put(self, place: Place, change: Change) -> None:
        what = place.what
        if isinstance(what, Var):
            if change.write.op in PLAIN or not self.places.type_of(what):  # else it is a method of its own
                self.of_var[what].append(change)
        elif isinstance(what, Attribute) and not place.fresh:
            self.of_attribute[what].append(change)
            if isinstance(place.via, Var):
                self.of_var[place.via].append(Change(change.function, change.write, change.phase, what.name))
        elif place.kind == "app":
            where, key = str(what), change.write.key
            named = where.endswith(":") and key.startswith("'")
            self.of_app[where + key.strip("'") if named else where].append(change)
        elif place.kind == "closure":
            self.of_closure[change.function.module, str(what)].append(change)

    # -- questions ---------------------------------------------------------------------------------------------

    @cached_property
    def _holders(self) -> dict[ClassIn, list[Var]]:
        found: dict[ClassIn, list[Var]] = defaultdict(list)
        for var in (var for module in self.project.modules for var in module.vars.values()):
            held = self.places.type_of(var)
            for one in held.line() if held else ():
                found[one].append(var)
        return found

    def holders(self, owner: ClassIn) -> tuple[Var, ...]:
        """The variables of modules that hold an object of a class, or of one that inherits from it."""
        return tuple(self._holders.get(owner, ()))

    def held_in(self, owner: ClassIn) -> int:
        """How many variables of modules hold an object of just this class."""
        return self._held_counts[owner]

    @cached_property
    def _held_counts(self) -> Counter[ClassIn]:
        everyone = (var for module in self.project.modules for var in module.vars.values())
        return Counter(filter(None, map(self.places.type_of, everyone)))

    def asked_to(self, var: Var, methods: set[str]) -> bool:
        """Whether somebody calls one of these methods on a variable's object, or hands the object on."""
        given = any(part.kind == "call" for one in var.bindings for part in one.value.parts)
        return given or "" in self._asked[var] or bool(self._asked[var] & methods)

    @cached_property
    def _asked(self) -> dict[Var, set[str]]:
        """For each variable the methods called on it; '' where it is handed on."""
        asked: dict[Var, set[str]] = defaultdict(set)
        names, methods = self._names_of_objects(), self.project.methods
        for function in self.project.functions():
            for chain in function.facts.calls:
                held, _, last = chain.rpartition(".")
                if last in methods and held.rpartition(".")[2] in names:
                    place = self.places.of(function, held)
                    if place and isinstance(place.what, Var):
                        asked[place.what].add(last)
            for _, _, chain in function.facts.passed:
                place = self.places.of(function, chain) if last_of(chain) in names else None
                if place and isinstance(place.what, Var):
                    asked[place.what].add("")
        return asked

    def _names_of_objects(self) -> set[str]:
        """What variables are called that hold an object of the project: only of those somebody asks."""
        held = {
            name
            for module in self.project.modules
            for name, var in module.vars.items()
            if self.places.type_of(var)
        }
        imports = (one for module in self.project.modules for one in module.facts.imports.items())
        return held | {alias for alias, origin in imports if last_of(origin) in held}

    def readers(self, var: Var) -> set[FunctionIn]:
        """Functions that look at a variable by its name, in its module and where it was imported."""
        known = self.readers_of.get(var.name, {})
        found = set(known.get(var.module, ()))
        for module in self._importers.get(var.name, ()):
            if module in known and module is not var.module and self.project.named(module, var.name) is var:
                found |= known[module]
        return found

    @cached_property
    def _importers(self) -> dict[str, list[Module]]:
        found: dict[str, list[Module]] = defaultdict(list)
        for module in self.project.modules:
            for name in module.facts.imports:
                found[name].append(module)
        return found

    def describes(self, owner: ClassIn) -> bool:
        """Whether the body of a class says what each of its objects has: a model, a form, a dataclass."""
        if owner not in self._describing:
            self._describing[owner] = self._describes(owner)
        return self._describing[owner]

    def _describes(self, owner: ClassIn) -> bool:
        if any(one.text.rpartition(".")[2] in DATACLASSES for one in owner.facts.decorators):
            return owner not in self.lasting
        known = self.catalogue.model_bases
        return any(base in known or base.rpartition(".")[2] in known for base in owner.outside)

    def inner_changes(self, owner: ClassIn) -> Iterator[Change]:
        """What the methods of a class change of their object, but for building it."""
        for one in owner.line():
            for attribute, changes in self.attributes_of(one):
                for change in changes:
                    if change.function.last not in BUILDERS:
                        yield Change(change.function, change.write, change.phase, attribute)

    @cached_property
    def _by_owner(self) -> dict[ClassIn, list[Attribute]]:
        found: dict[ClassIn, list[Attribute]] = defaultdict(list)
        for attribute in self.of_attribute:
            found[attribute.owner].append(attribute)
        return found

    def attributes_of(self, owner: ClassIn) -> Iterator[tuple[str, list[Change]]]:
        """The attributes of a class that are changed, with their changes."""
        for attribute in self._by_owner.get(owner, ()):
            yield attribute.name, self.of_attribute[attribute]
