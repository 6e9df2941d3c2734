"""Conditions on attributes: a small closed set of operators, each compiled to one function.

An attribute that is not given fails every condition, except ``ne``, ``not_in`` and ``exists: false``. Values of
different types are never equal and never in an order: a condition on them does not hold, and does not raise.
There is no regular expression on purpose: one a visitor can slow down would be evaluated in every request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from statekit.errors import UsageError

__all__ = ["Attributes", "Test", "checked_conditions", "test_of"]

Attributes: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Attributes], bool]

_MISSING: Any = type("Missing", (), {"__repr__": lambda _self: "<not given>"})()


def _same(given: Any, wanted: Any) -> bool:
    """Equality that keeps True and 1 apart."""
    return bool(given == wanted) and (type(given) is bool) == (type(wanted) is bool)


def _among(wanted: Any) -> Callable[[Any], bool]:
    """Membership, by hash where all can be hashed."""
    plain = frozenset((type(one) is bool, one) for one in wanted)

    def among(given: Any) -> bool:
        try:
            return (type(given) is bool, given) in plain
        except TypeError:  # an attribute that is a list: equal to nothing that may stand in a condition
            return False

    return among


def _not_among(wanted: Any) -> Callable[[Any], bool]:
    among = _among(wanted)
    return lambda given: not among(given)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Callable[[Any], bool]]:
    def made(wanted: Any) -> Callable[[Any], bool]:
        numbers = isinstance(wanted, int | float)

        def ordered(given: Any) -> bool:
            if isinstance(given, int | float) is not numbers or type(given) is bool:
                return False
            return isinstance(given, int | float | str) and compare(given, wanted)

        return ordered

    return made


def _contains(wanted: Any) -> Callable[[Any], bool]:
    def contains(given: Any) -> bool:
        try:
            return wanted in given
        except (TypeError, ValueError):  # ValueError: a number that is no byte, asked of bytes
            return False

    return contains


_OPERATORS: dict[str, Callable[[Any], Callable[[Any], bool]]] = {
    "eq": lambda wanted: lambda given: _same(given, wanted),
    "ne": lambda wanted: lambda given: not _same(given, wanted),
    "in": _among,
    "not_in": _not_among,
    "lt": _ordered(lambda given, wanted: given < wanted),
    "le": _ordered(lambda given, wanted: given <= wanted),
    "gt": _ordered(lambda given, wanted: given > wanted),
    "ge": _ordered(lambda given, wanted: given >= wanted),
    "contains": _contains,
    "starts_with": lambda wanted: lambda given: isinstance(given, str) and given.startswith(wanted),
    "ends_with": lambda wanted: lambda given: isinstance(given, str) and given.endswith(wanted),
    "exists": lambda wanted: lambda given: (given is not _MISSING) is wanted,
}
_OF_MISSING = frozenset({"ne", "not_in", "exists"})
"""What may hold of an attribute that is not given."""
_PLAIN = (str, int, float, bool)


def checked_conditions(when: Any) -> dict[str, dict[str, Any]]:
    """Check what a rule says, and write it out: ``"pro"`` becomes ``{"eq": "pro"}``, a list ``{"in": [...]}``."""
    if not isinstance(when, Mapping) or not when:
        raise UsageError(f"when={when!r}: give a mapping of at least one attribute to what it must be")
    return {_attribute(name): _tests(name, said) for name, said in when.items()}


def _attribute(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise UsageError(f"an attribute is named {name!r}: give a text that is not empty")
    return name


def _tests(name: str, said: Any) -> dict[str, Any]:
    if isinstance(said, list | tuple | set | frozenset):
        said = {"in": list(said)}
    elif not isinstance(said, Mapping):
        said = {"eq": said}
    if not said:
        raise UsageError(f"the condition on {name!r} is empty: give it an operator")
    return {operator: _operand(name, operator, wanted) for operator, wanted in said.items()}


def _operand(name: str, operator: str, wanted: Any) -> Any:
    where = f"when[{name!r}][{operator!r}]"
    if operator not in _OPERATORS:
        raise UsageError(f"{where}: no such operator; there are {', '.join(_OPERATORS)}")
    if operator in ("in", "not_in"):
        if isinstance(wanted, str) or not all(isinstance(one, _PLAIN) for one in wanted):
            raise UsageError(f"{where}={wanted!r}: give a list of texts, numbers or booleans")
        return list(wanted)
    if operator == "exists" and not isinstance(wanted, bool):
        raise UsageError(f"{where}={wanted!r}: give True or False")
    if operator in ("starts_with", "ends_with") and not isinstance(wanted, str):
        raise UsageError(f"{where}={wanted!r}: give text")
    if operator in ("lt", "le", "gt", "ge") and (
        isinstance(wanted, bool) or not isinstance(wanted, str | int | float)
    ):
        raise UsageError(f"{where}={wanted!r}: give a number or text")
    if not isinstance(wanted, _PLAIN):
        raise UsageError(f"{where}={wanted!r}: give text, a number or a boolean")
    return wanted


def test_of(when: Mapping[str, Mapping[str, Any]]) -> Test:
    """Compile conditions to one function of the attributes; `statekit.flags.forks` has a faster one of most."""
    tests = [
        _single(name, operator, wanted) for name, said in when.items() for operator, wanted in said.items()
    ]
    if len(tests) == 1:
        return tests[0]
    return lambda attributes: all(test(attributes) for test in tests)


def _single(name: str, operator: str, wanted: Any) -> Test:
    holds = _OPERATORS[operator](wanted)
    if operator in _OF_MISSING:
        return lambda attributes: holds(attributes.get(name, _MISSING))

    def single(attributes: Attributes) -> bool:
        given = attributes.get(name, _MISSING)
        return given is not _MISSING and holds(given)

    return single
