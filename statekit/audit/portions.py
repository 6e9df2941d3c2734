"""The functions of a project in portions: this process and a fork of it take one after the other, until none is left.

Each makes a project of its own from the same facts, and the fork gives numbers for what both have: who waits for it
has less to read than to find out, and no page of memory is copied that need not be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import FileFacts
from statekit.audit.links import Linker, Links, Said, Ways
from statekit.audit.places import Places
from statekit.audit.project import ClassIn, FunctionIn, Project
from statekit.audit.worker import take

__all__ = ["Portions", "Record", "Shared", "found_in", "links_of"]

Record = tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]], tuple[tuple[str, int, str], ...]]
"""Links as they travel, with numbers for functions and classes."""
Things = Sequence[FunctionIn | ClassIn]
"""What the numbers stand for."""


class Portions:
    """The numbers of those that nobody has taken."""

    MANY = 64

    def __init__(self) -> None:
        self._tokens, numbers = os.pipe()
        os.write(numbers, bytes(range(self.MANY)))
        os.close(numbers)

    def close(self) -> None:
        os.close(self._tokens)

    def left(self) -> Iterator[int]:
        while (number := take(self._tokens)) is not None:
            yield number

    @classmethod
    def of(cls, linker: Linker, number: int) -> Links:
        """What is found in one portion."""
        size = -(-len(linker.functions) // cls.MANY)
        return linker.of(linker.functions[number * size : (number + 1) * size])


class Shared(NamedTuple):
    """Portions, and what gives the answer of the one who takes them too."""

    portions: Portions
    theirs: Callable[[], dict[int, Record]]


def found_in(portions: Portions, files: Iterable[FileFacts], catalogue: Catalogue) -> dict[int, Record]:
    """Take portions until none is left: what the fork does."""
    taken = portions.left()
    first = next(taken, None)
    if first is None:
        return {}  # no project is needed for that
    project = Project(files)
    linker = Linker(project, Places(project), catalogue)
    numbers = {one: number for number, one in enumerate(_things(linker))}
    return {number: _record(Portions.of(linker, number), numbers) for number in chain((first,), taken)}


def links_of(linker: Linker, shared: Shared | None) -> Iterator[Links]:
    """The links of all functions in their order, whoever found them."""
    if shared is None:
        yield linker.of(linker.functions)
        return
    mine = {number: Portions.of(linker, number) for number in shared.portions.left()}
    theirs, things = shared.theirs(), _things(linker)
    for number in range(Portions.MANY):
        if number in mine:
            yield mine[number]
        else:
            record = theirs.get(number)
            yield _links(record, linker.functions, things) if record else Portions.of(linker, number)


def _things(linker: Linker) -> Things:
    return [*linker.functions, *linker.project.classes()]


def _record(links: Links, numbers: dict[FunctionIn | ClassIn, int]) -> Record:
    def ways(of: Ways) -> dict[int, tuple[int, ...]]:
        return {numbers[one]: tuple([numbers[to] for to in found]) for one, found in of.items()}

    said = tuple([(one.part, numbers[one.whose], one.why) for one in links.said])
    return ways(links.edges), ways(links.calls), said


def _links(record: Record, functions: Sequence[FunctionIn], things: Things) -> Links:
    """The same, back from its record."""

    def ways(of: dict[int, tuple[int, ...]]) -> Ways:
        return {functions[one]: dict.fromkeys([functions[to] for to in found]) for one, found in of.items()}

    links = Links()
    links.edges, links.calls = ways(record[0]), ways(record[1])
    links.said = [Said(part, things[whose], why) for part, whose, why in record[2]]
    return links
