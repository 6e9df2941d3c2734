"""What a chain leads to: which variable, which attribute of which class, which function."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from statekit.audit.facts import Value, Write
from statekit.audit.project import ClassIn, FunctionIn, Module, Outside, Project, Var
from statekit.audit.reading.chains import parts_of, root_of

__all__ = ["Attribute", "Place", "Places"]

OF_THE_APP = re.compile(
    r"^(?:.*[.:])?(?:(?:app|application|_app|current_app|fastapi_app|asgi_app|flask_app|server_app)"
    r"|(?:FastAPI|Flask|Starlette|Quart|Sanic|Application|Litestar|_get_current_object)\(\))"
    r"(?P<where>\.state\.|\.config\.|\.config\[\]|\.extensions\.|\.settings\.|\.extensions\[\]|\.settings\[\]|\[\]|\.)(?P<name>\w*)"
)
OWN_TO_APPS = {
    "router",
    "state",
    "config",
    "extensions",
    "conf",
    "routes",
    "url_map",
    "view_functions",
    "jinja_env",
    "json",
    "logger",
    "name",
}
"""Attributes a framework's application has of itself."""
DEEP = 6
OWN = {"self", "cls"}
NEW = {"cls", "self.__new__", "object.__new__"}
"""Calls in a class that make an object of it."""


class Attribute(NamedTuple):
    """An attribute of the objects of a class, or of the class itself."""

    owner: ClassIn
    name: str


class Place(NamedTuple):
    """Where a chain leads."""

    kind: str
    """var · attribute · object · function · class · module · outside · app · closure"""
    what: Var | Attribute | ClassIn | FunctionIn | Module | str
    via: Var | Attribute | None = None
    """The longer-lived thing it was reached through."""
    inside: int = 0
    """How many elements deep."""
    fresh: bool = False
    """Made by the call in the chain itself: nobody else's yet."""


UNASKED = Place("", "")


class Places:
    """Follows chains through a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.assigned: dict[tuple[ClassIn, str], list[tuple[FunctionIn, Write]]] = defaultdict(list)
        """What methods set attributes of their own object to."""
        self._on_class: dict[tuple[ClassIn, str], list[tuple[FunctionIn, Write]]] = defaultdict(list)
        self.rebound: dict[Var, list[tuple[FunctionIn, Write]]] = defaultdict(list)
        """What functions set variables of their own module to."""
        self._types: dict[object, ClassIn | None] = {}
        self._found: dict[tuple[Module, str], dict[str | tuple[str, int], Place | None]] = defaultdict(dict)
        self._named: dict[tuple[Module, str], Place | None] = {}
        for function in project.functions():
            self._note(function)
        self._settle()

    def _settle(self) -> None:
        """Look at every type once, in the order of the code: so none depends on who asks first."""
        for module in self.project.modules:
            for var in module.vars.values():
                self.type_of(var)
            for one in module.classes.values():
                for name in one.body:
                    self.type_of_attribute(Attribute(one, name))
        for owner, name in (*self.assigned, *self._on_class):
            self.type_of_attribute(Attribute(owner, name))

    def _note(self, function: FunctionIn) -> None:
        owner = function.module.classes.get(function.facts.within)
        for write in function.facts.writes:
            if write.op != "=":
                continue
            target = write.target
            if owner and target.startswith("cls.") and target.count(".") == 1 and "[" not in target:
                self._on_class[owner, target[4:]].append((function, write))
            elif owner and target.startswith("self.") and target.count(".") == 1 and "[" not in target:
                self.assigned[owner, target[5:]].append((function, write))
            elif target in function.module.vars:
                self.rebound[function.module.vars[target]].append((function, write))

    @cached_property
    def _assigned_by(self) -> dict[ClassIn, list[str]]:
        found: dict[ClassIn, list[str]] = defaultdict(list)
        for owner, name in self.assigned:
            found[owner].append(name)
        return found

    def assigned_of(self, owner: ClassIn) -> Iterator[tuple[str, list[tuple[FunctionIn, Write]]]]:
        """What methods of a class set the attributes of their object to."""
        for name in self._assigned_by.get(owner, ()):
            yield name, self.assigned[owner, name]

    # -- following a chain ---------------------------------------------------------------------------------

    def of(self, function: FunctionIn, chain: str, deep: int = DEEP) -> Place | None:
        """What the chain leads to, seen from a function; None if that cannot be told."""
        if deep <= 0:
            return None
        # Each depth has answers of its own: so none depends on who asked first, and none is looked for twice.
        root = root_of(chain)
        given = function.name if root in function.params else function.facts.within if root in OWN else ""
        known = self._found[
            function.module, given
        ]  # small and near: the functions of a module come one by one
        key = chain if deep == DEEP else (chain, deep)
        found = known.get(key, UNASKED)
        if found is UNASKED:
            found = known[key] = self._follow(function, chain, deep)
        return found

    def _follow(self, function: FunctionIn, chain: str, deep: int) -> Place | None:
        parts = parts_of(chain)
        place = self._root(function, parts[0], deep)
        if chain.startswith("self.settings."):
            return Place("app", "settings:" + parts[2].strip(".") if len(parts) > 2 else "settings:")
        if chain.startswith(
            "self.settings[]"
        ):  # Tornado's handlers see the application's settings as their own
            return Place("app", "settings[]:")
        app = OF_THE_APP.match(chain) if "app" in chain or "()" in chain else None
        own = self._on_an_application(app["name"]) if app and app["where"] == "." else None
        if own and app:
            for part in parts_of("x" + chain[app.end() :])[1:]:
                own = self._step(own, part, deep) if own else None
            return own
        of_the_framework = app and app["where"] == "." and app["name"] in OWN_TO_APPS
        if app and not of_the_framework and not self._of_the_project(place):
            return Place("app", app["where"].strip(".") + ":" + app["name"])
        for part in parts[1:]:
            if place is None:
                return None
            place = self._step(place, part, deep)
        return place

    def _on_an_application(self, name: str) -> Place | None:
        """The attribute of the project's own class of applications, where it has one of that name."""
        for owner in self._applications:
            if (owner, name) in self.assigned:
                return Place("attribute", Attribute(owner, name))
        return None

    @cached_property
    def _applications(self) -> list[ClassIn]:
        ends = {"Application", "Flask", "FastAPI", "Starlette", "Quart", "Sanic"}
        return [
            one
            for one in self.project.classes()
            if any(base.rpartition(".")[2] in ends for base in one.outside)
        ]

    def _of_the_project(self, place: Place | None) -> bool:
        """Whether what is called `app` is a module, or an object of a class of the project."""
        if place is None or place.kind in {"outside", "function"}:
            return False
        return not isinstance(place.what, Var) or self.type_of(place.what) is not None

    def _root(self, function: FunctionIn, root: str, deep: int) -> Place | None:
        facts = function.facts
        if root in OWN and facts.within:
            owner = function.module.classes.get(facts.within)
            return Place("object" if root == "self" else "class", owner) if owner else None
        if "::" in root:
            return Place("closure", root)
        annotation = function.params.get(root)
        if annotation is not None:
            return self._of_annotation(function, annotation, deep)
        return self._of_named(function.module, root)

    def _of_annotation(self, function: FunctionIn, annotation: str, deep: int) -> Place | None:
        if annotation.endswith("()"):  # Depends(get_db): what that returns would be known only by running it
            return None
        owner = self.project.class_named(function.module, annotation) if annotation and deep else None
        return Place("object", owner) if owner else None

    def _of_named(self, module: Module, name: str) -> Place | None:
        found = self._named.get((module, name), UNASKED)
        if found is UNASKED:
            found = self._named[module, name] = self._named_place(module, name)
        return found

    def _named_place(self, module: Module, name: str) -> Place | None:
        found = self.project.named(module, name)
        if found is None:
            return None
        if isinstance(found, Var):
            return Place("var", found, found)
        if isinstance(found, ClassIn):
            return Place("class", found)
        if isinstance(found, FunctionIn):
            return Place("function", found)
        return Place("outside", found.dotted) if isinstance(found, Outside) else Place("module", found)

    def _step(self, place: Place, part: str, deep: int) -> Place | None:
        if part == "[]":
            return Place(place.kind, place.what, place.via, place.inside + 1, place.fresh)
        if part == "()":
            return self._called(place, deep)
        return self._attribute(place, part[1:], deep)

    def _attribute(self, place: Place, name: str, deep: int) -> Place | None:
        what = place.what
        if isinstance(what, Module):
            return self._of_named(what, name)
        if place.inside:
            return None  # what the elements are is not known
        if isinstance(what, Var):
            owner = self.type_of(what, deep)
            return self._member(owner, name, what, fresh=False) if owner else None
        if isinstance(what, ClassIn):
            return self._member(what, name, place.via, fresh=place.fresh)
        if isinstance(what, Attribute):
            owner = self.type_of_attribute(what, deep)
            return self._member(owner, name, place.via or what, fresh=False) if owner else None
        return Place("outside", f"{what}.{name}") if place.kind == "outside" else None

    def _member(self, owner: ClassIn, name: str, via: Var | Attribute | None, *, fresh: bool) -> Place:
        method = owner.method(name)
        if method:
            return Place("function", method, via, 0, fresh)
        holder = owner.holder_of(name)
        inner = owner.module.classes.get(f"{owner.name}.{name}")
        if inner:
            return Place("class", inner)
        home = holder or next((one for one in owner.line() if (one, name) in self.assigned), owner)
        return Place("attribute", Attribute(home, name), via, 0, fresh)

    def _called(self, place: Place, deep: int) -> Place | None:
        what = place.what
        if isinstance(what, ClassIn) and place.kind == "class":
            return Place("object", what, None, 0, fresh=True)
        if isinstance(what, FunctionIn):
            return self._returned(what, deep - 1)
        return Place("outside", f"{what}()") if place.kind == "outside" else None

    def _returned(self, function: FunctionIn, deep: int) -> Place | None:
        if deep <= 0:
            return None
        for value in function.facts.returns:
            if value.kind in {"chain", "call"}:
                chain = value.text + ("()" if value.kind == "call" else "")
                found = self.of(function, chain, deep)
                if found and found.kind in {"var", "attribute", "object"}:
                    return found._replace(fresh=found.fresh and not self._kept(function))
        return None

    @staticmethod
    def _kept(function: FunctionIn) -> bool:
        """Whether a decorator keeps what the function made: everyone is given the same object."""
        return any(
            "cache" in one.text or "singleton" in one.text or "memo" in one.text
            for one in function.facts.decorators
        )

    def _wrapped(self, function: FunctionIn, value: Value, deep: int) -> ClassIn | None:
        """What a factory of the project is given to close over: ``limited(Limiter())``."""
        place = self.of(function, value.text, deep)
        if place is None or not isinstance(place.what, FunctionIn):
            return None
        given = (self.class_of(function, one, deep - 1) for one in value.parts if one.kind == "call")
        return next(filter(None, given), None)

    # -- types -----------------------------------------------------------------------------------------------

    def type_of(self, var: Var, deep: int = DEEP) -> ClassIn | None:
        """The project's class whose object a variable holds."""
        if var not in self._types:
            self._types[var] = None  # it may be asked for again on the way
            self._types[var] = self._type_of(var, deep)
        return self._types[var]

    def _type_of(self, var: Var, deep: int) -> ClassIn | None:
        outside = var.module.functions["<module>"]
        for binding in var.bindings:
            found = self.class_of(outside, binding.value, deep)
            if found is None and binding.annotation:
                found = self.project.class_named(var.module, binding.annotation)
            if found:
                return found
        for function, write in self.rebound[var]:
            found = write.value and self.class_of(function, write.value, deep)
            if found:
                return found
        return None

    def type_of_attribute(self, attribute: Attribute, deep: int = DEEP) -> ClassIn | None:
        """The project's class whose object an attribute holds."""
        if attribute not in self._types:
            self._types[attribute] = None
            self._types[attribute] = self._type_of_attribute(attribute, deep)
        return self._types[attribute]

    def _type_of_attribute(self, attribute: Attribute, deep: int) -> ClassIn | None:
        owner = attribute.owner
        for binding in owner.body.get(attribute.name, ()):
            found = self.class_of(owner.module.functions["<module>"], binding.value, deep)
            found = found or (
                self.project.class_named(owner.module, binding.annotation) if binding.annotation else None
            )
            if found:
                return found
        key = (owner, attribute.name)
        for function, write in (*self.assigned.get(key, ()), *self._on_class.get(key, ())):
            found = write.value and self.class_of(function, write.value, deep)
            if found:
                return found
        return None

    def class_of(self, function: FunctionIn, value: Value, deep: int = DEEP) -> ClassIn | None:
        """The project's class an expression makes an object of."""
        if deep <= 0:
            return None
        if value.kind == "either":
            found = [one for part in value.parts if (one := self.class_of(function, part, deep - 1))]
            return min(
                found, key=lambda one: "redis" in one.name.lower(), default=None
            )  # what stays in memory
        if value.kind == "call" and value.text in NEW:
            return function.module.classes.get(function.facts.within)
        if value.kind == "call" and value.parts and deep == DEEP:
            return self.class_of(function, value, deep - 1) or self._wrapped(function, value, deep - 1)
        return self._class_at(function, value, deep - 1) if value.kind in {"call", "chain"} else None

    def _class_at(self, function: FunctionIn, value: Value, deep: int) -> ClassIn | None:
        place = self.of(function, value.text + ("()" if value.kind == "call" else ""), deep)
        if place is None or place.inside:
            return None
        if isinstance(place.what, Var):
            return self.type_of(place.what, deep)
        if isinstance(place.what, Attribute):
            return self.type_of_attribute(place.what, deep)
        return place.what if place.kind == "object" and isinstance(place.what, ClassIn) else None
