"""Whether what a function answers depends on more than its arguments and what was shipped with it."""

from __future__ import annotations

from statekit.audit.catalogue import Catalogue
from statekit.audit.places import Places
from statekit.audit.project import FunctionIn, Project
from statekit.audit.reach import Reach
from statekit.audit.reading.chains import root_of
from statekit.audit.words import words_of

__all__ = ["Purity"]

DEEP = 3
SHIPPED = {"__file__", "files", "resources", "pkgutil", "importlib", "inspect", "STATIC_DIR", "TEMPLATE_DIR"}
"""Names that show that what is read came with the code."""


ABOUT_CODE = (
    "staticfiles",
    "finders",
    "pkg_resources",
    "entry_points",
    "get_model",
    "django.forms",
    "django.apps",
    "._meta",
    "importlib",
    "translation",
    "get_template",
)
"""What looks at the code, its templates and its shipped files: the same in each process."""


PURE = ("re.", "os.path.join", "logging.", "logger.", "math.", "json.", "inspect.", "importlib.", "typing.")
OF_CONTAINERS_TOO = {
    "write", "remove", "replace", "copy", "create", "insert", "send", "run", "call", "save", "move", "put", "fetch", "store", "flush",
}  # fmt: skip
"""Names of effects that containers, texts and signals have too."""
OUTSIDE = {
    "open", "f", "fh", "fp", "file", "session", "db", "self", "subprocess", "client", "os", "shutil", "asyncio", "requests", "httpx",
}  # fmt: skip
READING = {"open", "read_text", "read_bytes", "exists", "isfile", "glob", "listdir", "iterdir"}


class Purity:
    """Looks into a function and into those of the project it calls."""

    def __init__(self, project: Project, places: Places, catalogue: Catalogue, reach: Reach) -> None:
        self.project = project
        self.places = places
        self.catalogue = catalogue
        self.reach = reach
        self._known: dict[FunctionIn, str] = {}
        self._looked: dict[FunctionIn, tuple[str, list[FunctionIn]]] = {}

    def outside_of(self, function: FunctionIn) -> str:
        """What else the answer depends on (the call that shows it); '' where nothing was seen."""
        if function not in self._known:
            self._known[function] = self._search(function)
        return self._known[function]

    def _search(self, function: FunctionIn) -> str:
        """Nearest first, a few calls deep: what is found does not depend on who asked before."""
        level, seen = [function], {function}
        for _ in range(DEEP):
            found = next(filter(None, (self._own(one)[0] for one in level)), "")
            if found:
                return found
            called = [one for each in level for one in self._own(each)[1] if one not in seen]
            level = list(dict.fromkeys(called))
            seen.update(level)
        return ""

    def _own(self, function: FunctionIn) -> tuple[str, list[FunctionIn]]:
        """What a function shows itself, and the functions of the project it calls."""
        if function not in self._looked:
            self._looked[function] = self._look(function)
        return self._looked[function]

    def _look(self, function: FunctionIn) -> tuple[str, list[FunctionIn]]:
        facts = function.facts
        shipped = "static" in function.last or any(
            root_of(one) in SHIPPED or "static" in one.lower() for one in (*facts.reads, *facts.calls)
        )
        outside, called = "SQL" if "sql" in facts.marks else "", []
        for chain in facts.calls:
            place = self.places.of(function, chain)
            if place and isinstance(place.what, FunctionIn):
                called.append(place.what)
            elif not outside and not (place and place.kind in {"class", "module"}):
                outside = self._call(function, chain, shipped)
        return outside, called

    def _call(self, function: FunctionIn, chain: str, shipped: bool) -> str:
        dotted = self.project.dotted(function.module, chain)
        if dotted.startswith(PURE) or any(word in dotted for word in ABOUT_CODE):
            return ""
        return dotted if self._by_name(function, chain, dotted, shipped) else ""

    def _by_name(self, function: FunctionIn, chain: str, dotted: str, shipped: bool) -> bool:
        """Whether the names in a call say that it reaches outside."""
        last = dotted.rpartition(".")[2]
        if last in self.catalogue.impure and ("." in chain or last in {"open", "urlopen"}):
            return not (shipped and last in READING)
        words = dotted.lower().replace("()", "").replace("[]", "").split(".")[:-1]
        if {"query", "objects"} & set(words):
            return True
        held = self.places.of(function, chain.rpartition(".")[0]) if "." in chain else None
        if (
            held
            and held.kind in {"class", "attribute"}
            and held.via is None
            and not chain.startswith("self.")
        ):
            return False  # a method of a constant of one of the project's classes
        return any(word.lstrip("_") in self.catalogue.impure_roots for word in words)

    def effect_in(self, function: FunctionIn, calls: tuple[str, ...], deep: int = 2) -> str:
        """A call among these that changes something outside the process; '' where none was seen."""
        for chain in calls:
            place = self.places.of(function, chain)
            if place and isinstance(place.what, FunctionIn):
                found = (
                    self.effect_in(place.what, tuple(place.what.facts.calls), deep - 1) if deep > 0 else ""
                )
                if found or "sql" in place.what.facts.marks:
                    return found or "SQL"
                continue
            dotted = self.project.dotted(function.module, chain)
            if dotted.rpartition(".")[2] in self.catalogue.effects and self._reaches_out(chain, dotted):
                return dotted
        return ""

    def _reaches_out(self, chain: str, dotted: str) -> bool:
        """Whether a call named like one with an effect is made to something that can have one."""
        *held, last = dotted.split(".")
        if not held or held[0] in {"logger", "logging", "log"}:
            return False
        if last not in OF_CONTAINERS_TOO:
            return True
        if root_of(chain) == "self" and len(held) == 2:
            return any(word in self.catalogue.impure_roots for word in words_of(held[1]))
        return root_of(chain) in OUTSIDE
