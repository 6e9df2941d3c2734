"""Candidates: everything that may live as long as its process, with all that is done to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Value, Write
from statekit.audit.places import Attribute, Place, Places
from statekit.audit.project import ClassIn, FunctionIn, Module, Project, Var
from statekit.audit.reach import Phase, Reach
from statekit.audit.reading.chains import root_of
from statekit.audit.words import words_of

__all__ = ["Change", "State", "States"]

BUILDERS = {"__init__", "__new__", "__post_init__", "__set_name__", "__init_subclass__", "__call__.<meta>", "setUp", "__setstate__", "__attrs_post_init__", "model_post_init"}
STAYING = set(
    "manager store storage registry service server pool cache broker hub tracker executor dispatcher monitor scheduler queue limiter backend engine layer bot runner controller coordinator provider daemon gateway bus supervisor throttler collector inserter buffer".split()
)
"""Last words of names of classes of which a process has one object."""


@dataclass(frozen=True, slots=True)
class Change:
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

    @property
    def readers(self) -> set[FunctionIn]:
        """The functions that look at it."""
        return self.look()

    @property
    def qualified(self) -> str:
        return ".".join(filter(None, (*self.module.dotted, self.owner, self.name)))


class States:
    """Collects all writes of a project and hands out the candidates."""

    def __init__(self, project: Project, places: Places, reach: Reach, catalogue: Catalogue) -> None:
        self.project = project
        self.places = places
        self.reach = reach
        self.catalogue = catalogue
        self.of_var: dict[Var, list[Change]] = defaultdict(list)
        self.of_attribute: dict[Attribute, list[Change]] = defaultdict(list)
        self.of_app: dict[str, list[Change]] = defaultdict(list)
        self.of_closure: dict[tuple[Module, str], list[Change]] = defaultdict(list)
        self._mutating = self._parameter_changes()
        for function in project.functions():
            self._collect(function)
        self.lasting = self._lasting()
        """Classes with objects that live as long as the process, and what holds them."""
        self.readers_of: dict[str, dict[Module, set[FunctionIn]]] = defaultdict(lambda: defaultdict(set))
        """Functions that look at a name, by the name and their module."""
        self._importers: dict[str, list[Module]] = defaultdict(list)
        for module in project.modules:
            for name in module.facts.imports:
                self._importers[name].append(module)
        for function in project.functions():
            for root in {root_of(chain) for chain in (*function.facts.reads, *function.facts.calls)}:
                self.readers_of[root][function.module].add(function)

    # -- collecting -----------------------------------------------------------------------------------------

    def _parameter_changes(self) -> dict[FunctionIn, dict[str, Write]]:
        """Functions that change what they are given."""
        found: dict[FunctionIn, dict[str, Write]] = {}
        for function in self.project.functions():
            names = [name for name, _ in function.facts.params]
            own = {root_of(one.target): one for one in function.facts.writes if one.op != "=" and "." not in one.target}
            given = {name: own[name] for name in names if name in own}
            if given:
                found[function] = given
        return found

    def _collect(self, function: FunctionIn) -> None:
        phase = self.reach.phase(function)
        for write in function.facts.writes:
            place = self.places.of(function, write.target)
            if place is not None:
                self._put(place, Change(function, write, phase))
        for callee, argument, chain in function.facts.passed:
            self._handed(function, callee, argument, chain, phase)

    def _handed(self, function: FunctionIn, callee: str, argument: str, chain: str, phase: Phase) -> None:
        """A helper that changes its parameter changes what it is given."""
        place = self.places.of(function, callee) if argument.isdigit() or argument.isidentifier() else None
        if place is None or not isinstance(place.what, FunctionIn) or place.what not in self._mutating:
            return
        helper = place.what
        names = [name for name, _ in helper.facts.params]
        name = argument if not argument.isdigit() else (names[int(argument)] if int(argument) < len(names) else "")
        write = self._mutating[helper].get(name)
        target = self.places.of(function, chain) if write else None
        if write and target:
            line = function.facts.calls.get(callee, write.line)
            self._put(target, Change(function, write._replace(target=chain, line=line), phase))

    def _put(self, place: Place, change: Change) -> None:
        what = place.what
        if isinstance(what, Var):
            self.of_var[what].append(change)
        elif isinstance(what, Attribute) and not place.fresh:
            self.of_attribute[what].append(change)
            if isinstance(place.via, Var):
                self.of_var[place.via].append(Change(change.function, change.write, change.phase, what.name))
        elif place.kind == "app":
            where = str(what)
            key = change.write.key
            self.of_app[where + key.strip("'") if where.endswith(":") and key.startswith("'") else where].append(change)
        elif place.kind == "closure":
            self.of_closure[change.function.module, str(what)].append(change)

    # -- what lasts -------------------------------------------------------------------------------------------

    def _lasting(self) -> dict[ClassIn, str]:
        found: dict[ClassIn, str] = {}
        for module in self.project.modules:
            for var in module.vars.values():
                owner = self.places.type_of(var)
                if owner:
                    found.setdefault(owner, f"module:{var.name}")
        for one in self.project.classes():
            self._by_nature(one, found)
        for function in self.project.functions():
            self._by_cached_getter(function, found)
            if function in self.reach.startup and function not in self.reach.runtime:
                self._made_at_startup(function, found)
        for name, changes in self.of_app.items():
            for change in changes:
                owner = change.write.value and self.places.class_of(change.function, change.write.value)
                if owner:
                    found.setdefault(owner, f"app:{name}")
        self._of_unknown_life(found)
        return self._held_by(found)

    def _by_nature(self, one: ClassIn, found: dict[ClassIn, str]) -> None:
        if one in self.reach.registered:
            found.setdefault(one, "registered")
        if any(base in self.catalogue.singleton_bases or base.endswith("Middleware") for base in one.outside):
            found.setdefault(one, "framework")
        singleton = {"_instance", "__instance", "instance", "_instances", "_singleton", "_inst"} & set(one.body)
        meta = any("ingleton" in value.text for _, value in one.facts.keywords)
        if singleton or meta or any("singleton" in value.text.lower() for value in one.facts.decorators):
            found.setdefault(one, "singleton")
        for attribute in one.body:
            held = self.places.type_of_attribute(Attribute(one, attribute))
            if held:
                found.setdefault(held, f"class:{one.name}.{attribute}")

    def _by_cached_getter(self, function: FunctionIn, found: dict[ClassIn, str]) -> None:
        cached = any(one.text in self.catalogue.cache_decorators for one in function.facts.decorators)
        if cached:
            for value in function.facts.returns:
                owner = self.places.class_of(function, value)
                if owner:
                    found.setdefault(owner, f"cached:{function.name}")

    def _of_unknown_life(self, found: dict[ClassIn, str]) -> None:
        """Classes whose name says that one object is meant to stay, and that no request is seen to make."""
        made: dict[ClassIn, set[str]] = defaultdict(set)
        for function in self.project.functions():
            for chain in function.facts.calls:
                if chain.rpartition(".")[2].rstrip("_")[:1].isupper() or chain.endswith("cls"):
                    place = self.places.of(function, chain)
                    if place and place.kind == "class" and isinstance(place.what, ClassIn):
                        made[place.what].add("request" if function in self.reach.runtime and function.last not in BUILDERS else "else")
        for one in self.project.classes():
            words = words_of(one.name)
            if words and words[-1] in STAYING and one not in found and "request" not in made[one]:
                found[one] = "unknown"

    def _made_at_startup(self, function: FunctionIn, found: dict[ClassIn, str]) -> None:
        for chain in function.facts.calls:
            place = self.places.of(function, chain)
            if place and place.kind == "class" and isinstance(place.what, ClassIn):
                found.setdefault(place.what, f"startup:{function.name}")

    def _held_by(self, found: dict[ClassIn, str]) -> dict[ClassIn, str]:
        """What a lasting object keeps in its attributes lasts too."""
        todo = list(found)
        while todo:
            one = todo.pop()
            for ancestor in one.line():
                found.setdefault(ancestor, found[one])
            for (owner, name), writes in (each for ancestor in one.line() for each in self.assigned_of(ancestor)):
                for function, write in writes:
                    held = write.value and self.places.class_of(function, write.value)
                    if held and held not in found and function.last in BUILDERS:
                        found[held] = f"attribute:{owner.name}.{name}"
                        todo.append(held)
        return found

    # -- candidates -------------------------------------------------------------------------------------------

    def candidates(self) -> Iterator[State]:
        for module in self.project.modules:
            if module.facts.error:
                continue
            for var in module.vars.values():
                yield self._of_var(var)
            for one in module.classes.values():
                yield from self._of_class(one)
            for function in module.functions.values():
                yield from self._of_function(function)
        yield from self._of_apps()

    def _of_var(self, var: Var) -> State:
        outside = var.module.functions["<module>"]
        values = [(outside, one.value) for one in var.bindings]
        rebinds = [(change.function, change.write.value) for change in self.of_var.get(var, ()) if change.write.op == "=" and not change.attribute and change.write.value]
        first = var.bindings[0]
        holds = self.places.type_of(var)
        state = State(
            "instance" if holds else "container", var.module, first.line, var.name,
            values=[*values, *rebinds], annotation=first.annotation, under=tuple(one.under for one in var.bindings if one.under),
            changes=list(self.of_var.get(var, ())), holds=holds, var=var,
        )  # fmt: skip
        state.look = lambda: self._readers(var)
        state.changes += self._by_reading(state)
        if holds:
            state.changes.extend(self.inner_changes(holds))
        return state

    def held_in(self, owner: ClassIn) -> int:
        """How many variables of modules hold an object of a class."""
        if not hasattr(self, "_held_counts"):
            holding = (self.places.type_of(var) for module in self.project.modules for var in module.vars.values())
            self._held_counts = Counter(filter(None, holding))
        return self._held_counts[owner]

    def asked_to(self, var: Var, methods: set[str]) -> bool:
        """Whether somebody calls one of these methods on a variable's object, or hands the object on."""
        if not hasattr(self, "_asked"):
            self._asked = self._all_asked()
        given = any(one.value.kind == "call" and one.value.parts for one in var.bindings)
        return given or "" in self._asked[var] or bool(self._asked[var] & methods)

    def _all_asked(self) -> dict[Var, set[str]]:
        """For each variable the methods called on it; '' where it is handed on."""
        asked: dict[Var, set[str]] = defaultdict(set)
        names = {name for module in self.project.modules for name in module.vars}
        for function in self.project.functions():
            for chain in function.facts.calls:
                held, _, last = chain.rpartition(".")
                if last in self.project.methods and held.rpartition(".")[2] in names:
                    place = self.places.of(function, held)
                    if place and isinstance(place.what, Var):
                        asked[place.what].add(last)
            for _, _, chain in function.facts.passed:
                place = self.places.of(function, chain) if chain.rpartition(".")[2] in names else None
                if place and isinstance(place.what, Var):
                    asked[place.what].add("")
        return asked

    def _by_reading(self, state: State) -> Iterator[Change]:
        """A `defaultdict` grows when it is looked at."""
        if any(value.kind == "call" and value.text.rpartition(".")[2] == "defaultdict" for _, value in state.values):
            looked = f"{state.name}[]"
            for function in state.readers:
                if any(chain.startswith(looked) for chain in function.facts.reads):
                    yield Change(function, Write(state.name, "[]", function.facts.line), self.reach.phase(function))

    def _readers(self, var: Var) -> set[FunctionIn]:
        """Functions that look at a variable by its name, in its module and where it was imported."""
        known = self.readers_of.get(var.name, {})
        found = set(known.get(var.module, ()))
        for module in self._importers.get(var.name, ()):
            if module in known and module is not var.module and self.project.named(module, var.name) is var:
                found |= known[module]
        return found

    def inner_changes(self, owner: ClassIn) -> Iterator[Change]:
        """What the methods of a class change of their object, but for building it."""
        for one in owner.line():
            for attribute, changes in self._attributes_of(one):
                for change in changes:
                    if change.function.last not in BUILDERS:
                        yield Change(change.function, change.write, change.phase, attribute)

    def _attributes_of(self, owner: ClassIn) -> Iterator[tuple[str, list[Change]]]:
        if not hasattr(self, "_by_owner"):
            self._by_owner: dict[ClassIn, list[Attribute]] = defaultdict(list)
            for attribute in self.of_attribute:
                self._by_owner[attribute.owner].append(attribute)
        for attribute in self._by_owner.get(owner, ()):
            yield attribute.name, self.of_attribute[attribute]

    def assigned_of(self, owner: ClassIn) -> Iterator[tuple[tuple[ClassIn, str], list[tuple[FunctionIn, Write]]]]:
        """What methods of a class set the attributes of their object to."""
        if not hasattr(self, "_assigned_by"):
            self._assigned_by: dict[ClassIn, list[tuple[ClassIn, str]]] = defaultdict(list)
            for key in self.places.assigned:
                self._assigned_by[key[0]].append(key)
        for key in self._assigned_by.get(owner, ()):
            yield key, self.places.assigned[key]

    def _of_class(self, one: ClassIn) -> Iterator[State]:
        outside = one.module.functions["<module>"]
        mine = {name: changes for name, changes in self._attributes_of(one)}
        for name, bindings in one.body.items():
            changes = mine.get(name, [])
            own = any(f.last in BUILDERS for f, _ in self.places.assigned.get((one, name), ()))
            shared = [c for c in changes if self._of_the_class(one, c, own)]
            if shared and self.lasting.get(one, "").startswith("module:") and all(c.write.target.startswith("self.") for c in shared) and _is_dataclass(one):
                continue  # its object is reported as the variable it is in
            yield State(
                "class_attribute", one.module, bindings[0].line, name, one.name,
                values=[(outside, b.value) for b in bindings], annotation=bindings[0].annotation, changes=shared,
                holds=self.places.type_of_attribute(Attribute(one, name)),
            )  # fmt: skip
        if not self.lasting.get(one, "module:").startswith("module:"):  # those are reported as the variable they are in
            yield from self._of_object(one, mine)

    def _of_the_class(self, one: ClassIn, change: Change, own: bool) -> bool:
        """Whether a write changes what all objects share, not an attribute an object has of its own."""
        target = change.write.target
        if not target.startswith("self."):
            return True
        number = all(binding.value.kind == "const" for binding in one.body.get(target[5:].partition("[")[0], ()))
        if change.write.op == "+=" and number and one not in self.lasting:
            return False
        return not own and (change.write.op != "=" or target.count(".") > 1 or one in self.lasting)

    def _of_object(self, one: ClassIn, mine: dict[str, list[Change]]) -> Iterator[State]:
        """Attributes of an object that lasts and is not the value of a module's variable."""
        for name in dict.fromkeys([*(name for (_, name), _ in self.assigned_of(one)), *mine]):
            made = self.places.assigned.get((one, name), [])
            built = [(f, w) for f, w in made if f.last in BUILDERS] or made
            body = one.body.get(name)
            if not built and not body:
                continue
            line = built[0][1].line if built else body[0].line
            values = [(f, w.value) for f, w in made if w.value]
            if body and not built:
                continue
            changes = [c for c in mine.get(name, []) if c.function.last not in BUILDERS]
            yield State(
                "attribute", one.module, line, name, one.name, values=values, changes=changes,
                holds=self.places.type_of_attribute(Attribute(one, name)),
            )  # fmt: skip

    def _of_function(self, function: FunctionIn) -> Iterator[State]:
        facts = function.facts
        for name, line, value in facts.holds:
            changes = [c for c in self.of_closure.get((function.module, f"{facts.name}::{name}"), ())]
            if changes:
                yield State("closure", function.module, line, name, facts.name, values=[(function, value)], changes=changes)
        for made, line, name, ran in facts.spawns:
            if "." not in name and name not in function.module.vars:
                yield State("spawn", function.module, line, name or made.rpartition(".")[2], facts.name, annotation=ran, function=function)
        if facts.decorators:
            yield State("decorator", function.module, facts.line, function.last, facts.within, function=function)

    def _of_apps(self) -> Iterator[State]:
        for spelt, changes in self.of_app.items():
            first = min(changes, key=lambda c: (c.phase is Phase.RUNTIME, c.function.module.path, c.write.line))
            name = spelt.partition(":")[2] or first.write.key.strip("'")
            if not name:
                continue
            values = [(c.function, c.write.value) for c in changes if c.write.value and c.write.op in {"=", "[]="}]
            holds = next(filter(None, (self.places.class_of(f, v) for f, v in values)), None)
            state = State("app", first.function.module, first.write.line, name, values=values, changes=changes, holds=holds)
            state.under = (spelt,)
            yield state


def _is_dataclass(one: ClassIn) -> bool:
    return any(value.text.rpartition(".")[2] in {"dataclass", "define", "attrs", "s", "mutable"} for value in one.facts.decorators)
