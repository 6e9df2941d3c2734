"""Rules as a chain of forks: each condition is one function that looks, and goes on to what follows.

What holds is said in `statekit.flags.conditions`; here it is only made fast. The commonest conditions are written
out, so that looking costs one call each and no loop; all others ask `conditions`. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import gt, le, lt
from typing import Any, TypeAlias, TypeVar

from statekit.flags.conditions import Test, test_of

__all__ = ["first_match"]

T = TypeVar("T")
Way: TypeAlias = Callable[[Any, dict[str, Any]], T]
"""From an actor (or None) and attributes to what is decided."""
Fork: TypeAlias = Callable[[str, Any, Way[Any], Way[Any]], Way[Any]]
"""Makes a condition on an attribute into the way to take if it holds, or else."""
Guard: TypeAlias = frozenset[str] | bool
"""The texts an attribute may be, or the truth value it must be."""
Guarded: TypeAlias = tuple[str, Guard, Way[T]]
"""An attribute, what it may be, and the way from there."""
Rules: TypeAlias = Sequence[tuple[Mapping[str, Mapping[str, Any]], Way[T]]]

LONGEST = 8
"""Rules in one chain, and conditions of one rule, that become calls inside calls; what is longer is a loop."""
NUMBERS = frozenset((int, float))


def first_match(rules: Rules[T], otherwise: Way[T]) -> Way[T]:
    """Decide by the first rule whose conditions all hold, else by `otherwise`."""
    if len(rules) <= LONGEST:
        return _chain(rules, otherwise)
    starts = range(0, len(rules), LONGEST)
    return _in_turn([_chain(rules[at : at + LONGEST], _no_match) for at in starts], otherwise)


def _no_match(_actor: Any, _attributes: dict[str, Any]) -> Any:
    return None


def _in_turn(chains: Sequence[Way[T]], otherwise: Way[T]) -> Way[T]:
    def in_turn(actor: Any, attributes: dict[str, Any]) -> T:
        for chain in chains:
            decided = chain(actor, attributes)
            if decided is not None:
                return decided
        return otherwise(actor, attributes)

    return in_turn


def _chain(rules: Rules[T], otherwise: Way[T]) -> Way[T]:
    """The rules one after the other; two that begin with a look at a text, or a text and a truth value, are one call."""
    ways = [otherwise]
    after: Guarded[T] | None = None
    for when, then in reversed(rules):
        conditions = [(name, *one) for name, said in when.items() for one in said.items()]
        way = _rule(conditions, then, ways[-1])
        name, guard = conditions[0][0], _guard(*conditions[0][1:])
        rest = _rule(conditions[1:], then, ways[-1])
        if isinstance(guard, frozenset) and after is not None:
            way = _either((name, guard, rest), after, ways[-2], way)
        ways.append(way)
        after = None if guard is None else (name, guard, rest)
    return ways[-1]


def _rule(conditions: Sequence[tuple[str, str, Any]], then: Way[T], otherwise: Way[T]) -> Way[T]:
    """All conditions of a rule, the first one looked at first."""
    if len(conditions) > LONGEST:
        tests = [test_of({name: {operator: wanted}}) for name, operator, wanted in conditions]
        return _asking(lambda attributes: all(test(attributes) for test in tests), then, otherwise)
    for name, operator, wanted in reversed(conditions):
        fork = _FORKS.get((operator, type(wanted)))
        if fork is None or (type(wanted) is list and not _texts(wanted)):
            then = _asking(test_of({name: {operator: wanted}}), then, otherwise)
        else:
            then = fork(name, wanted, then, otherwise)
    return then


def _texts(several: Sequence[Any]) -> bool:
    return all(type(one) is str for one in several)


def _guard(operator: str, wanted: Any) -> Guard | None:
    """What an attribute may be, if that is what a condition says."""
    if operator == "eq" and type(wanted) is str:
        return frozenset((wanted,))
    if operator == "eq" and type(wanted) is bool:
        return wanted
    return frozenset(wanted) if operator == "in" and wanted and _texts(wanted) else None


def _either(
    first: tuple[str, frozenset[str], Way[T]], second: Guarded[T], otherwise: Way[T], careful: Way[T]
) -> Way[T]:
    """Two rules at once; `careful` is the way for an attribute that cannot be looked up, such as a list."""
    one, ones, then = first
    other, others, then_other = second

    def texts(actor: Any, attributes: dict[str, Any]) -> T:
        try:
            if attributes.get(one) in ones:
                way = then
            elif attributes.get(other) in others:  # type: ignore[operator]
                way = then_other
            else:
                way = otherwise
        except TypeError:
            way = careful
        return way(actor, attributes)

    def text_or_truth(actor: Any, attributes: dict[str, Any]) -> T:
        try:
            if attributes.get(one) in ones:
                way = then
            elif attributes.get(other) is others:
                way = then_other
            else:
                way = otherwise
        except TypeError:
            way = careful
        return way(actor, attributes)

    return text_or_truth if isinstance(others, bool) else texts


def _asking(holds: Test, then: Way[T], otherwise: Way[T]) -> Way[T]:
    def asking(actor: Any, attributes: dict[str, Any]) -> T:
        return then(actor, attributes) if holds(attributes) else otherwise(actor, attributes)

    return asking


# -- the commonest conditions, written out -----------------------------------------------------------------


def _equal(name: str, wanted: str, then: Way[T], otherwise: Way[T]) -> Way[T]:
    def equal(actor: Any, attributes: dict[str, Any]) -> T:
        if attributes.get(name) == wanted:
            return then(actor, attributes)
        return otherwise(actor, attributes)

    return equal


def _different(name: str, wanted: str, then: Way[T], otherwise: Way[T]) -> Way[T]:
    return _equal(name, wanted, otherwise, then)


def _exactly(name: str, wanted: bool, then: Way[T], otherwise: Way[T]) -> Way[T]:
    def exactly(actor: Any, attributes: dict[str, Any]) -> T:
        if attributes.get(name) is wanted:
            return then(actor, attributes)
        return otherwise(actor, attributes)

    return exactly


def _among(name: str, wanted: list[str], then: Way[T], otherwise: Way[T]) -> Way[T]:
    several = frozenset(wanted)

    def among(actor: Any, attributes: dict[str, Any]) -> T:
        try:
            holds = attributes.get(name) in several
        except TypeError:  # an attribute that is a list
            holds = False
        return then(actor, attributes) if holds else otherwise(actor, attributes)

    return among


def _at_least(name: str, wanted: float, then: Way[T], otherwise: Way[T]) -> Way[T]:
    rare = test_of({name: {"ge": wanted}})

    def at_least(actor: Any, attributes: dict[str, Any]) -> T:
        given: Any = attributes.get(name)
        if given >= wanted if type(given) in NUMBERS else given is not None and rare(attributes):
            return then(actor, attributes)
        return otherwise(actor, attributes)

    return at_least


def _ordered(operator: str, compare: Callable[[Any, Any], bool]) -> Fork:
    def made(name: str, wanted: float, then: Way[T], otherwise: Way[T]) -> Way[T]:
        rare = test_of({name: {operator: wanted}})

        def ordered(actor: Any, attributes: dict[str, Any]) -> T:
            given = attributes.get(name)
            known = type(given) in NUMBERS
            if compare(given, wanted) if known else given is not None and rare(attributes):
                return then(actor, attributes)
            return otherwise(actor, attributes)

        return ordered

    return made


def _affix(operator: str) -> Fork:
    """A slice is compared in half the time that a call of ``startswith`` takes."""

    def made(name: str, wanted: str, then: Way[T], otherwise: Way[T]) -> Way[T]:
        part = slice(-len(wanted), None) if wanted and operator == "ends_with" else slice(len(wanted))
        rare = test_of({name: {operator: wanted}})

        def affix(actor: Any, attributes: dict[str, Any]) -> T:
            given = attributes.get(name)
            if given[part] == wanted if type(given) is str else given is not None and rare(attributes):
                return then(actor, attributes)
            return otherwise(actor, attributes)

        return affix

    return made


_ORDER: dict[str, Callable[[Any, Any], bool]] = {"gt": gt, "le": le, "lt": lt}
_FORKS: dict[tuple[str, type], Fork] = {
    ("eq", str): _equal,
    ("ne", str): _different,
    ("eq", bool): _exactly,
    ("in", list): _among,
    ("ge", int): _at_least,
    ("ge", float): _at_least,
    ("starts_with", str): _affix("starts_with"),
    ("ends_with", str): _affix("ends_with"),
    **{(name, kind): _ordered(name, compare) for name, compare in _ORDER.items() for kind in NUMBERS},
}
