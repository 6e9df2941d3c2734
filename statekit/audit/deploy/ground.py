"""What the rules about Python look at: the files worth a closer look, and the whole project where that is needed."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from statekit.audit.deploy.gate import speaks
from statekit.audit.deploy.look import Called, Module, Setting, look
from statekit.audit.deploy.names import offstage
from statekit.audit.deploy.options import PRODUCTION, branch_of, local_ones, options
from statekit.audit.deploy.running import Running
from statekit.audit.facts import FileFacts, Function

__all__ = ["Ground", "developing"]

DEV_OWNER = re.compile(r"(^|\.|_)\w*?(Test|Testing|Dev|Develop|Development|Local|Debug|CI)\w*$")


class Ground:
    """A project as the rules of this room see it."""

    def __init__(self, root: Path, files: Iterable[FileFacts], running: Running) -> None:
        self.files = [one for one in files if not one.error]
        self.running = running
        spoken = (one for one in self.files if not offstage(one.path) and speaks(one))
        self.modules = [found for found in (look(root, one) for one in spoken) if found]

    @cached_property
    def _functions(self) -> dict[str, list[tuple[str, Function]]]:
        found: dict[str, list[tuple[str, Function]]] = {}
        for facts in self.files:
            for one in facts.functions:
                found.setdefault(one.name.rpartition(".")[2], []).append((facts.path, one))
        return found

    def function(self, module: Module, dotted: str) -> Function | None:
        """The project's own function that a call means, if it can be told."""
        where, _, last = dotted.rpartition(".")
        found = self._functions.get(last, [])
        here = [one for path, one in found if path == module.path]
        if here:
            return here[0]
        stem = where.rpartition(".")[2]
        there = [
            one for path, one in found if path.removesuffix("/__init__.py").removesuffix(".py").endswith(stem)
        ]
        return there[0] if stem and len(there) == 1 else found[0][1] if len(found) == 1 and where else None

    @cached_property
    def class_names(self) -> frozenset[str]:
        """Names of the project's own classes."""
        return frozenset(one.name for facts in self.files for one in facts.classes)

    @cached_property
    def _own(self) -> frozenset[str]:
        """The project's own modules: their first folders, and every pair of names in a row."""
        found: set[str] = set()
        for one in self.files:
            parts = one.path.removesuffix(".py").removesuffix("/__init__").split("/")
            found.update(parts[:2])
            found.update(map(".".join, pairwise(parts)))
        return frozenset(found)

    def class_bases(self, path: str, name: str) -> tuple[str, ...]:
        """What a class of a file says it builds on."""
        facts = next((one for one in self.files if one.path == path), None)
        return next((one.bases for one in facts.classes if one.name == name), ()) if facts else ()

    def foreign(self, dotted: str) -> bool:
        """Whether a dotted name is that of somebody else's package."""
        head = dotted.partition(".")[0]
        start = ".".join(dotted.split(".")[:2])
        return bool(head) and "." in dotted and head not in self._own and start not in self._own

    def settings(self, *names: str) -> Iterator[tuple[Module, Setting]]:
        """All settings of some names that production sees."""
        wanted = {one.upper() for one in names}
        for module in self.modules:
            for one in module.settings:
                if one.name.upper() in wanted and not developing(one):
                    yield module, one

    def imports(self, *roots: str) -> bool:
        """Whether any file of the project imports one of these packages."""
        return any(origin.partition(".")[0] in roots for one in self.files for origin in one.imports.values())

    def overruled(self, setting: Setting, is_local: Callable[[ast.expr], bool], path: str) -> bool:
        """Whether what is meant for production sets the same name to something that is shared."""
        if _productive(path, setting):
            return False
        for module, other in self.settings(setting.name):
            if other is not setting and _productive(module.path, other):
                found = options(module, other.value, other)
                if found and not local_ones(found, is_local):
                    return True
        return False


def developing(setting: Setting | Called) -> bool:
    """Whether only a developer's or a test's run sees this."""
    return (bool(setting.under) and branch_of(setting.under) == "dev") or (
        not setting.local and _of_a_developer(setting.owner)
    )


@cache
def _of_a_developer(owner: str) -> bool:
    return bool(DEV_OWNER.search(owner))


def _productive(path: str, setting: Setting) -> bool:
    return bool(
        PRODUCTION.search(re.sub(r"[/._-]", " ", path))
        or PRODUCTION.search(re.sub("([a-z])([A-Z])", r"\1 \2", setting.owner))
    )
