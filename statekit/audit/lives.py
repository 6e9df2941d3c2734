"""How long objects live: which classes have objects that last as long as their process, and what holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Write
from statekit.audit.places import Attribute, Places
from statekit.audit.project import ClassIn, FunctionIn, Project
from statekit.audit.reach import Reach
from statekit.audit.words import words_of

__all__ = ["BUILDERS", "Lives"]

BUILDERS = {
    "__init__", "__new__", "__post_init__", "__set_name__", "__init_subclass__", "setUp", "__setstate__", "__attrs_post_init__", "model_post_init",
}  # fmt: skip
"""Methods that make an object what it is at first."""
SINGLETONS = {"_instance", "__instance", "instance", "_instances", "_singleton", "_inst"}
STAYING = frozenset(
    [
        "manager",
        "store",
        "storage",
        "registry",
        "service",
        "server",
        "pool",
        "cache",
        "broker",
        "hub",
        "tracker",
        "executor",
        "dispatcher",
        "monitor",
        "scheduler",
        "queue",
        "limiter",
        "backend",
        "engine",
        "layer",
        "bot",
        "runner",
        "controller",
        "coordinator",
        "provider",
        "daemon",
        "gateway",
        "bus",
        "supervisor",
        "throttler",
        "collector",
        "inserter",
        "buffer",
    ]
)
"""Last words of names of classes of which a process has one object."""


class Lives:
    """Looks for what holds an object of a class."""

    def __init__(self, project: Project, places: Places, reach: Reach, catalogue: Catalogue) -> None:
        self.project = project
        self.places = places
        self.reach = reach
        self.catalogue = catalogue

    def lasting(self, kept: Mapping[str, Sequence[tuple[FunctionIn, Write]]]) -> dict[ClassIn, str]:
        """The classes, each with what holds its object; `kept`: what is put on applications."""
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
            if function in self.reach.early and function not in self.reach.runtime:
                self._made_at_startup(function, found)
        self._kept_by_apps(kept, found)
        for one in self.reach.routing - self.reach.serving:
            found.setdefault(one, "routes")
        self._of_unknown_life(found)
        return self._held_by(found)

    def _kept_by_apps(
        self, kept: Mapping[str, Sequence[tuple[FunctionIn, Write]]], found: dict[ClassIn, str]
    ) -> None:
        for name, writes in kept.items():
            for function, write in writes:
                owner = write.value and self.places.class_of(function, write.value)
                if owner:
                    found.setdefault(owner, f"app:{name}")

    def _by_nature(self, one: ClassIn, found: dict[ClassIn, str]) -> None:
        if one in self.reach.registered:
            found.setdefault(one, "registered")
        if any(base in self.catalogue.singleton_bases or base.endswith("Middleware") for base in one.outside):
            found.setdefault(one, "framework")
        singleton = SINGLETONS & set(one.body)
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
        asked = set(self._made_by_requests())
        for one in self.project.classes():
            words = words_of(one.name)
            if words and words[-1] in STAYING and one not in found and one not in asked:
                found[one] = "unknown"

    def _made_by_requests(self) -> Iterator[ClassIn]:
        for function in self.project.functions():
            if function in self.reach.runtime and function.last not in BUILDERS:
                for chain in function.facts.calls:
                    last = chain.rpartition(".")[2]
                    named = last.lstrip("_")[:1].isupper() or last == "cls"
                    place = self.places.of(function, chain) if named else None
                    if place and place.kind == "class" and isinstance(place.what, ClassIn):
                        yield place.what

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
            for name, writes in (each for base in one.line() for each in self.places.assigned_of(base)):
                for function, write in writes:
                    held = write.value and self.places.class_of(function, write.value)
                    if held and held not in found and (function.last in BUILDERS or _lazily(function, write)):
                        found[held] = f"attribute:{one.name}.{name}"
                        todo.append(held)
        return found


def _lazily(function: FunctionIn, write: Write) -> bool:
    """Whether it is made where there was none before."""
    return write.op == "=" and write.target in function.facts.tests
