"""What a value is by nature: a container, a client with sockets, a lock, a constant."""

from __future__ import annotations

from enum import StrEnum

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Value
from statekit.audit.places import Places
from statekit.audit.project import ClassIn, FunctionIn, Project

__all__ = ["Nature", "Natures"]


class Nature(StrEnum):
    """What is bound."""

    CONSTANT = "constant"
    NONE = "none"
    CONTAINER = "container"
    CLIENT = "client"
    EXECUTOR = "executor"
    SCHEDULER = "scheduler"
    THREAD = "thread"
    TASK = "task"
    PROCESS = "process"
    LOCK = "lock"
    QUEUE = "queue"
    EVENT = "event"
    SIGNAL = "signal"
    COUNTER = "counter"
    CACHE = "cache"
    LOCAL = "context local"
    HARMLESS = "harmless"
    LIMITER = "rate limiter"
    METRIC = "metric"
    BACKEND = "shared backend"
    OBJECT = "object of the project"
    UNKNOWN = "unknown"


LISTS: tuple[tuple[str, Nature], ...] = (
    ("context_locals", Nature.LOCAL),
    ("metrics", Nature.METRIC),
    ("shared", Nature.BACKEND),
    ("limiters", Nature.LIMITER),
    ("schedulers", Nature.SCHEDULER),
    ("executors", Nature.EXECUTOR),
    ("threads", Nature.THREAD),
    ("tasks", Nature.TASK),
    ("processes", Nature.PROCESS),
    ("queues", Nature.QUEUE),
    ("locks", Nature.LOCK),
    ("events", Nature.EVENT),
    ("signals", Nature.SIGNAL),
    ("counters", Nature.COUNTER),
    ("caches", Nature.CACHE),
    ("containers", Nature.CONTAINER),
    ("clients", Nature.CLIENT),
    ("harmless", Nature.HARMLESS),
)
PLAIN = {
    **dict.fromkeys(("dict", "list", "set", "comprehension"), Nature.CONTAINER),
    **dict.fromkeys(("none", "unset"), Nature.NONE),
    **dict.fromkeys(("const", "tuple", "text", "lambda"), Nature.CONSTANT),
}
"""What literals are."""


class Natures:
    """Tells the nature of a value, through the project's own functions that return one."""

    def __init__(self, project: Project, places: Places, catalogue: Catalogue) -> None:
        self.project = project
        self.places = places
        self.catalogue = catalogue
        self._known: dict[str, Nature] = {}

    def of(self, function: FunctionIn, value: Value | None, deep: int = 4) -> set[Nature]:
        """All it may be: alternatives give several."""
        if value is None or deep <= 0:
            return {Nature.UNKNOWN}
        if value.kind == "either":
            return set().union(*(self.of(function, one, deep - 1) for one in value.parts))
        if value.kind == "call":
            return self._called(function, value, deep)
        return (
            self._named(function, value) if value.kind == "chain" else {PLAIN.get(value.kind, Nature.UNKNOWN)}
        )

    def _called(self, function: FunctionIn, value: Value, deep: int) -> set[Nature]:
        dotted = self.project.dotted(function.module, value.text)
        if dotted.rpartition(".")[2] == "cast" and value.parts:
            return self.of(function, value.parts[-1], deep - 1)
        if dotted.rpartition(".")[2] == "defaultdict" and value.parts and value.parts[0].kind == "chain":
            made = self.named(self.project.dotted(function.module, value.parts[0].text))
            return {Nature.CONTAINER, made} - {Nature.UNKNOWN}
        field = self._field(value, dotted)
        if field is not None:
            return self.of(function, field, deep - 1)
        place = self.places.of(function, value.text)
        if place and isinstance(place.what, FunctionIn):
            return self._returned(place.what, deep)
        if place and isinstance(place.what, ClassIn):
            return self._object(place.what)
        return {self.named(dotted)}

    @staticmethod
    def _field(value: Value, dotted: str) -> Value | None:
        """``field(default_factory=dict)`` and ``Field(default_factory=…)`` give what the factory gives."""
        if dotted.rpartition(".")[2] not in {"field", "Field", "attrib", "ib", "PrivateAttr", "Factory"}:
            return None
        named = dict(value.named)
        factory = named.get("default_factory") or named.get("factory")
        if factory:
            return Value("call", factory.text) if factory.kind == "chain" else Value("other")
        return named.get("default") or Value("none")

    def _object(self, owner: ClassIn) -> set[Nature]:
        for base in owner.outside:
            nature = self.named(base)
            if nature in {Nature.CONTAINER, Nature.THREAD, Nature.LOCAL, Nature.QUEUE, Nature.CACHE}:
                return {nature, Nature.OBJECT}
        return {Nature.OBJECT}

    def _returned(self, function: FunctionIn, deep: int) -> set[Nature]:
        found = [self.of(function, one, deep - 1) for one in function.facts.returns[:4]]
        return set().union(*found) - {Nature.NONE} or {Nature.UNKNOWN}

    def named(self, dotted: str) -> Nature:
        """The nature of what a constructor of that dotted name makes."""
        if dotted not in self._known:
            self._known[dotted] = self._look_up(dotted)
        return self._known[dotted]

    def _look_up(self, dotted: str) -> Nature:
        for key, nature in LISTS:
            if dotted in getattr(self.catalogue, key):
                return nature
        last = dotted.rpartition(".")[2]
        if (
            "." in dotted
            and last.endswith(("Client", "ConnectionPool", "Connector"))
            and not last.startswith("Test")
        ):
            return Nature.CLIENT
        return Nature.UNKNOWN

    def _named(self, function: FunctionIn, value: Value) -> set[Nature]:
        if value.text.startswith("caches[") or "core.cache" in self.project.dotted(
            function.module, value.text
        ):
            return {Nature.BACKEND}
        place = self.places.of(function, value.text)
        if place and place.kind in {"function", "class", "module"}:
            return {Nature.CONSTANT}
        return {Nature.UNKNOWN}
