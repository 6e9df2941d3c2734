"""Domain Clarity: whether a package is about one thing, and whether the rest of the project respects that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from statekit.audit.engine import Analysis
from statekit.audit.project import FunctionIn, Var
from statekit.audit.score.groups import Group
from statekit.audit.score.model import Part
from statekit.audit.score.traffic import Traffic
from statekit.audit.score.words import listed
from statekit.audit.words import words_of

__all__ = ["Clarity"]

_PLAIN = """
get set add del put new all any for and the from with not has is are can this that self cls init
main run test tests name names value values data item items list dict key keys type types str int
obj object args kwargs func call make create update delete remove load save read write open close
start stop build parse check info error errors exception base default handle handler handlers api
"""
PLAIN = frozenset(_PLAIN.split())
"""Words any package may use: they say nothing about what it is about."""
OWN = 0.5
"""A word is a package's own if so much of all its uses are there, and 1.25 times what its size would explain."""
ENOUGH = 10
"""Calls and imports; where there are fewer, as many are added that count half."""
NAMED = 4
"""Words and private names that are shown."""
VERSION = re.compile(r"v\d+$")


class Clarity:
    """Derives the parts of the factor for one group after the other."""

    def __init__(self, analysis: Analysis, traffic: Traffic, groups: Sequence[Group]) -> None:
        self.analysis = analysis
        self.traffic = traffic
        self._names = {group: _names(group) for group in groups}
        self._uses = {group: Counter(_words(names)) for group, names in self._names.items()}
        self._everywhere = sum(self._uses.values(), Counter[str]())
        self._routes = {group: list(self._segments(group)) for group in groups}
        self._segment_uses = Counter(one for found in self._routes.values() for one in found)

    def parts(self, group: Group) -> tuple[Part, ...]:
        made = (self._stays(group), self._door(group), self._vocabulary(group), self._prefix(group))
        return tuple(one for one in made if one is not None)

    # -- boundaries ----------------------------------------------------------------------------------------

    def _stays(self, group: Group) -> Part | None:
        inside, leaving = self.traffic.inside[group], self.traffic.leaving[group]
        whole = inside + leaving
        if not whole:
            return None
        unseen = max(0, ENOUGH - whole)
        few = f", few: {unseen} more taken as half" if unseen else ""
        share = (inside + unseen / 2) / (whole + unseen)
        return Part("stays inside", share, 3, f"{inside} of {whole} calls and imports{few}")

    def _door(self, group: Group) -> Part | None:
        defined = sum(1 for _ in group.functions()) + sum(
            len(one.classes) + len(one.vars) for one in group.modules
        )
        if not defined:
            return None
        reached = self.traffic.reached.get(group, {})
        private = [one for one in reached if _private(one)]
        named = listed(sorted(map(_last, private)), NAMED)
        past = f", {len(private)} of them private ({named})" if private else ""
        closed = max(0.0, 1 - (len(reached) + len(private)) / defined)
        return Part("narrow door", closed, 3, f"outsiders use {len(reached)} of its {defined} names{past}")

    # -- names -----------------------------------------------------------------------------------------------

    def _vocabulary(self, group: Group) -> Part | None:
        names = self._names[group]
        if not names:
            return None
        own = self._own_words(group)
        carrying = sum(1 for name in names if own & set(words_of(name)))
        uses = self._uses[group]
        shown = sorted(own, key=lambda word: (-uses[word], word))
        said = f"{carrying} of {len(names)} names carry a word of its own"
        said += f" ({listed(shown, NAMED)})" if shown else ""
        return Part("own words", carrying / len(names), 2, said)

    def _own_words(self, group: Group) -> set[str]:
        uses = self._uses[group]
        whole = sum(self._everywhere.values()) or 1
        expected = max(1, sum(uses.values())) / whole
        own = set()
        for word, count in uses.items():
            share = count / self._everywhere[word]
            if count > 1 and share >= max(OWN, 1.25 * expected):
                own.add(word)
        return own

    # -- routes ----------------------------------------------------------------------------------------------

    def _prefix(self, group: Group) -> Part | None:
        found = Counter(self._routes[group])
        if not found:
            return None
        segment, count = min(found.items(), key=lambda one: (-one[1], one[0]))
        whole, everywhere = sum(found.values()), self._segment_uses[segment]
        share = count / whole * count / everywhere
        others = f", {everywhere - count} elsewhere" if everywhere > count else ""
        return Part("own routes", share, 2, f"{count} of {whole} routes below /{segment}{others}")

    def _segments(self, group: Group) -> Iterator[str]:
        for function in group.functions():
            if function in self.analysis.reach.handlers:
                yield from _first(self._path(function))

    def _path(self, function: FunctionIn) -> str:
        """The path a handler is bound to, with its router's prefix where that stands in the router's own call."""
        for decorator in function.facts.decorators:
            router, _, last = decorator.text.rpartition(".")
            if (
                last in self.analysis.reach.catalogue.route_decorators
                and decorator.parts
                and decorator.parts[0].text.startswith("/")
            ):
                return self._router_prefix(function, router) + decorator.parts[0].text
        return ""

    def _router_prefix(self, function: FunctionIn, router: str) -> str:
        found = self.analysis.project.named(function.module, router) if router else None
        if not isinstance(found, Var):
            return ""
        named = dict(found.bindings[0].value.named)
        given = named.get("prefix") or named.get("url_prefix")
        return given.text if given and given.kind == "const" else ""


def _first(path: str) -> Iterable[str]:
    """The first part of a path that says what it is about."""
    for part in path.split("/"):
        if part in {"", "api", "rest"} or VERSION.match(part):
            continue
        return () if part[0] in "{<:" else (part,)
    return ()


def _names(group: Group) -> list[str]:
    functions = [one.name for one in group.functions() if not one.last.startswith("__")]
    return functions + [name for module in group.modules for name in module.classes]


def _words(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (word for word in words_of(name) if len(word) > 2 and word not in PLAIN)


def _private(thing: object) -> bool:
    last = _last(thing)
    return last.startswith("_") and not last.startswith("__")


def _last(thing: object) -> str:
    return str(getattr(thing, "name", "")).rpartition(".")[2]
