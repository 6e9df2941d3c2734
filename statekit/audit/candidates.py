"""Candidates: each name that something may be kept under, put together from its bindings and its writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statekit.audit.facts import Binding, Write
from statekit.audit.lives import BUILDERS
from statekit.audit.places import Attribute
from statekit.audit.project import ClassIn, FunctionIn, Var
from statekit.audit.reach import Phase
from statekit.audit.states import PLAIN, Change, State, States

__all__ = ["Candidates"]

SETTLED = {"const", "tuple", "text", "lambda", "dict", "list", "set", "comprehension", "none", "unset"}
"""Values that are constants where nobody writes to them."""
FRESH = {"dict", "list", "set", "comprehension"}
"""Values that an object is given of its own."""


class Candidates:
    """Hands out the candidates of a project."""

    def __init__(self, states: States) -> None:
        self.states = states

    def all(self) -> Iterator[State]:
        """Each candidate once, file by file."""
        for module in self.states.project.modules:
            if module.facts.error:
                continue
            for var in module.vars.values():
                if var in self.states.of_var or any(one.value.kind not in SETTLED for one in var.bindings):
                    yield self._of_var(var)
            for one in module.classes.values():
                yield from self._of_class(one)
            for function in module.functions.values():
                yield from self._of_function(function)
        yield from self._of_apps()

    def _of_var(self, var: Var) -> State:
        outside = var.module.functions["<module>"]
        values = [(outside, one.value) for one in var.bindings]
        rebinds = [
            (change.function, change.write.value)
            for change in self.states.of_var.get(var, ())
            if change.write.op == "=" and not change.attribute and change.write.value
        ]
        first = var.bindings[0]
        holds = self.states.places.type_of(var)
        state = State(
            "instance" if holds else "container", var.module, first.line, var.name,
            values=[*values, *rebinds], annotation=first.annotation, under=tuple(one.under for one in var.bindings if one.under),
            changes=list(self.states.of_var.get(var, ())), holds=holds, var=var,
        )  # fmt: skip
        state.look = lambda: self.states.readers(var)
        state.changes += self._by_reading(state)
        if holds:
            state.changes.extend(self.states.inner_changes(holds))
        return state

    def _by_reading(self, state: State) -> Iterator[Change]:
        """A `defaultdict` grows when it is looked at."""
        if any(
            value.kind == "call" and value.text.rpartition(".")[2] == "defaultdict"
            for _, value in state.values
        ):
            looked = f"{state.name}[]"
            for function in state.readers:
                if any(chain.startswith(looked) for chain in function.facts.reads):
                    yield Change(
                        function,
                        Write(state.name, "[]", function.facts.line),
                        self.states.reach.phase(function),
                    )

    def _of_class(self, one: ClassIn) -> Iterator[State]:
        outside = one.module.functions["<module>"]
        mine = dict(self.states.attributes_of(one))
        lasting = one in self.states.lasting
        for name, bindings in one.body.items():
            changes = mine.get(name, [])
            holds = self.states.places.type_of_attribute(Attribute(one, name))
            if not changes and holds is not one and self._stays(one, bindings, holds):
                continue
            own = any(
                f.last in BUILDERS or (not lasting and w.value and w.value.kind in FRESH)
                for f, w in self.states.places.assigned.get((one, name), ())
            )
            shared = [c for c in changes if self._of_the_class(one, c, own)]
            own_only = bool(shared) and all(c.write.target.startswith("self.") for c in shared)
            inside = self._holders(one) if own_only and _is_dataclass(one) else ()
            if (
                holds is one
            ):  # a singleton that keeps itself; what `__init__` binds is reported where that does
                bound = {attribute for attribute, _ in self.states.places.assigned_of(one)}
                shared += [
                    c for c in self.states.inner_changes(one) if c.attribute not in {*bound, *one.body}
                ]
            yield State(
                "class_attribute", one.module, bindings[0].line, name, one.name,
                values=[(outside, b.value) for b in bindings], annotation=bindings[0].annotation, changes=shared, holds=holds,
                inside=inside,
            )  # fmt: skip
        if one in self.states.lasting:
            yield from self._of_object(one, mine)

    def _stays(self, one: ClassIn, bindings: Sequence[Binding], holds: ClassIn | None) -> bool:
        """Whether what nobody changes needs no look: a constant, or what a model says of each object."""
        settled = holds is None and all(binding.value.kind in SETTLED for binding in bindings)
        return settled or self.states.describes(one)

    def _of_the_class(self, one: ClassIn, change: Change, own: bool) -> bool:
        """Whether a write changes what all objects share, not an attribute an object has of its own."""
        target = change.write.target
        if not target.startswith("self."):
            return True
        number = all(
            binding.value.kind == "const" for binding in one.body.get(target[5:].partition("[")[0], ())
        )
        if change.write.op == "+=" and number and one not in self.states.lasting:
            return False
        return not own and (change.write.op != "=" or target.count(".") > 1 or one in self.states.lasting)

    def _of_object(self, one: ClassIn, mine: dict[str, list[Change]]) -> Iterator[State]:
        """Attributes of an object that lasts."""
        if one in self.states.reach.serving:
            return  # an object for each request
        inside = self._holders(one)
        for name in dict.fromkeys([*(name for name, _ in self.states.places.assigned_of(one)), *mine]):
            made = self.states.places.assigned.get((one, name), [])
            built = [(f, w) for f, w in made if f.last in BUILDERS] or made
            if not built:
                continue  # bound in the body of the class, and judged there
            line = built[0][1].line
            values = [(f, w.value) for f, w in made if w.value]
            changes = [c for c in mine.get(name, []) if c.function.last not in BUILDERS]
            yield State(
                "attribute", one.module, line, name, one.name, values=values, changes=changes,
                holds=self.states.places.type_of_attribute(Attribute(one, name)), inside=inside,
            )  # fmt: skip

    def _holders(self, one: ClassIn) -> tuple[Var, ...]:
        """The variables an object is reported as, if it is one of a module."""
        of_module = self.states.lasting.get(one, "").startswith("module:")
        return self.states.holders(one) if of_module else ()

    def _of_function(self, function: FunctionIn) -> Iterator[State]:
        facts = function.facts
        for name, line, value in facts.holds:
            changes = list(self.states.of_closure.get((function.module, f"{facts.name}::{name}"), ()))
            if changes and function not in self.states.reach.runtime:  # else it ends with the request
                yield State(
                    "closure",
                    function.module,
                    line,
                    name,
                    facts.name,
                    values=[(function, value)],
                    changes=changes,
                )
        for made, line, name, ran in facts.spawns:
            if "." not in name and name not in function.module.vars and not self._own_kind(function, made):
                yield State(
                    "spawn",
                    function.module,
                    line,
                    name or made.rpartition(".")[2],
                    facts.name,
                    annotation=ran,
                    function=function,
                )
        if facts.decorators:
            yield State(
                "decorator", function.module, facts.line, function.last, facts.within, function=function
            )

    def _own_kind(self, function: FunctionIn, made: str) -> bool:
        """Whether what is called like a thread is a class of the project that is none."""
        place = self.states.places.of(function, made)
        if place is None or not isinstance(place.what, ClassIn):
            return False
        return not any(
            base.rpartition(".")[2] in {"Thread", "Process", "Timer"} for base in place.what.outside
        )

    def _of_apps(self) -> Iterator[State]:
        for spelt, every in self.states.of_app.items():
            changes = every
            first = min(
                changes, key=lambda c: (c.phase is Phase.RUNTIME, c.function.module.path, c.write.line)
            )
            name = spelt.partition(":")[2] or first.write.key.strip("'")
            if not name:
                continue
            values = [
                (c.function, c.write.value) for c in changes if c.write.value and c.write.op in {"=", "[]="}
            ]
            holds = next(filter(None, (self.states.places.class_of(f, v) for f, v in values)), None)
            if holds:  # what its methods change is reported where they do
                changes = [c for c in every if c.write.op in PLAIN]
            state = State(
                "app",
                first.function.module,
                first.write.line,
                name,
                values=values,
                changes=changes,
                holds=holds,
            )
            state.under = (spelt,)
            yield state


def _is_dataclass(one: ClassIn) -> bool:
    return any(
        value.text.rpartition(".")[2] in {"dataclass", "define", "attrs", "s", "mutable"}
        for value in one.facts.decorators
    )
