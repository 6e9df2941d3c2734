"""Feature flags as documents: what a flag says, checked when it is made, and its JSON.

A flag is one document of the replica named ``flags`` (statekit/replica/core.py lists its keys, scripts and
guarantees). Evaluation is local, from the copy in the process; this file has no I/O and no clock.

How a flag is decided, first match wins:
    1. disabled, before `starts` or from `ends` on, or a prerequisite not met     -> off
    2. the first rule whose conditions all hold                                   -> what it serves, within its
                                                                                     rollout; else off
    3. the flag's rollout                                                         -> off for those outside
    4. on: the `default` variant; without one, variants are split by their weights
A boolean flag that is off is False. A flag of another type that is off answers the caller's default: the flag
has nothing to say, and the code does what it did before there was a flag.

Store down: the last known documents stay in force and `stale` says so; writes raise `StoreUnavailable`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from statekit.errors import DocumentInvalid, UsageError
from statekit.flags.conditions import checked_conditions

__all__ = ["Flag", "Kind", "Rule", "Value", "Variant", "kind_of"]

Value: TypeAlias = bool | str | int | float | dict[str, Any] | list[Any]
Moment: TypeAlias = datetime | str | int | float


class Kind(StrEnum):
    """The five types a flag can have."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


def kind_of(value: object, name: str = "value") -> Kind:
    """The type of a value; raises `UsageError` for what is not JSON."""
    kinds = {bool: Kind.BOOLEAN, str: Kind.STRING, int: Kind.INTEGER, float: Kind.FLOAT}
    kind = kinds.get(type(value))
    if kind is Kind.FLOAT and not math.isfinite(value):  # type: ignore[arg-type]
        raise UsageError(f"{name}={value!r} is not a finite number")
    if kind:
        return kind
    if isinstance(value, dict | list | tuple):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name}={value!r} is not JSON: {error}") from error
        _keyed_by_text(value, name)
        return Kind.OBJECT
    raise UsageError(
        f"{name}={value!r} is {type(value).__name__}: give a bool, str, int, float, or a dict or list of JSON"
    )


def _keyed_by_text(value: object, name: str) -> None:
    """Refuse what JSON would silently turn into text: another key comes back than went in."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError(f"{name} has the key {key!r}: keys of JSON are text, use {str(key)!r}")
            _keyed_by_text(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            _keyed_by_text(inner, name)


@dataclass(frozen=True, slots=True)
class Variant:
    """One value a flag can serve, and its share when actors are split among the variants."""

    value: Value
    weight: float = 1

    def __post_init__(self) -> None:
        kind_of(self.value, "a variant's value")
        _number(self.weight, "weight", 1e9)

    def document(self) -> dict[str, Any]:
        return {"value": self.value} | ({} if self.weight == 1 else {"weight": self.weight})


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom a flag serves differently, and what.

    `when` maps attributes to what they must be: ``{"plan": "pro", "seats": {"ge": 10}, "actor": ["u:1", "u:2"]}``;
    all must hold, a list means "one of". Operators: eq ne in not_in lt le gt ge contains starts_with ends_with
    exists. `serve` is the name of a variant, or a value of a flag without variants; False turns the flag off
    for whom it matches; None serves what the flag serves otherwise. `rollout` limits the rule to a percentage
    of those it matches; the rest of them get the flag off.
    """

    when: Mapping[str, Any]
    serve: Any = None
    rollout: float = 100
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", MappingProxyType(checked_conditions(self.when)))
        object.__setattr__(self, "rollout", _percent(self.rollout))

    def document(self) -> dict[str, Any]:
        said: dict[str, Any] = {"when": {name: dict(tests) for name, tests in self.when.items()}}
        for name, standard in (("serve", None), ("rollout", 100), ("note", "")):
            value = getattr(self, name)
            if value != standard or (type(value) is not type(standard) and name == "serve"):
                said[name] = value
        return said

    def __reduce__(self) -> tuple[Any, ...]:
        return Rule.of, (self.document(),)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Rule:
        """Read a rule; a member this release does not know is refused: a condition must not be overlooked."""
        unknown = said.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise UsageError(
                f"a rule holds {sorted(unknown)}: there are {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**said)


@dataclass(frozen=True, slots=True)
class Flag:
    """What one feature flag says. Immutable; checked when it is made.

    `rollout` is the percentage of actors it is on for (three decimals). `variants` maps names to values (or
    `Variant`s with weights), all of one type. `default` names the variant served to whom no rule serves
    another; in a flag without variants it is the value itself, and without either the flag is a boolean.
    `prerequisites` are flags that must be on (a list), or on with a certain variant (a mapping). `starts` and
    `ends` take a datetime with a time zone, ISO 8601 text, or seconds since 1970. `salt` replaces the flag's
    name in the bucket hash: two flags of one salt roll out to the same actors.

    Raises `UsageError`, naming the value and the cure.

    >>> Flag(rollout=25).kind
    <Kind.BOOLEAN: 'boolean'>
    >>> Flag(variants={"small": 20, "large": 50}, default="small", rules=[Rule({"plan": "pro"}, "large")]).kind
    <Kind.INTEGER: 'integer'>
    """

    enabled: bool = True
    rollout: float = 100
    variants: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    rules: Sequence[Rule] = ()
    prerequisites: Mapping[str, bool | str] | Sequence[str] = ()
    starts: Moment | None = None
    ends: Moment | None = None
    owner: str = ""
    salt: str = ""
    description: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Members of the document this release does not know, kept as they are."""

    def __post_init__(self) -> None:
        _flag_boolean(self.enabled)
        settled = {
            "rollout": _percent(self.rollout),
            "variants": MappingProxyType(_variants(self.variants)),
            "rules": _rules(self.rules),
            "prerequisites": MappingProxyType(_prerequisites(self.prerequisites)),
            "starts": _moment(self.starts, "starts"),
            "ends": _moment(self.ends, "ends"),
            "extra": MappingProxyType(dict(self.extra)),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        for name in ("owner", "salt", "description"):
            _text(getattr(self, name), name)
        self._consistent()

    def _consistent(self) -> None:
        if self.starts and self.ends and self.starts >= self.ends:  # type: ignore[operator]
            raise UsageError(f"starts={self.starts} is not before ends={self.ends}: swap them or drop one")
        named = isinstance(self.default, str) and self.default in self.variants
        if self.variants and self.default is not None and not named:
            raise UsageError(
                f"default={self.default!r} is no variant: name one of {', '.join(map(repr, self.variants))}"
            )
        kind = self.kind
        for index, rule in enumerate(self.rules):
            _servable(self, kind, rule.serve, f"rules[{index}].serve")

    @property
    def kind(self) -> Kind:
        """The type of the flag's values."""
        if self.variants:
            return _common([kind_of(one.value) for one in self.variants.values()])
        return Kind.BOOLEAN if self.default is None else kind_of(self.default, "default")

    def replace(self, **changes: Any) -> Flag:
        """The same flag with some fields changed: ``flag.replace(enabled=False)``."""
        return replace(self, **changes)

    def document(self) -> dict[str, Any]:
        """The flag as JSON; only what differs from the defaults."""
        said: dict[str, Any] = {**self.extra, "enabled": self.enabled}
        if self.rollout != 100:
            said["rollout"] = self.rollout
        if self.variants:
            said["variants"] = {name: one.document() for name, one in self.variants.items()}
        if self.default is not None:
            said["default"] = self.default
        if self.rules:
            said["rules"] = [rule.document() for rule in self.rules]
        if self.prerequisites:
            said["prerequisites"] = dict(self.prerequisites)  # type: ignore[arg-type]
        for name in ("starts", "ends"):
            if getattr(self, name) is not None:
                said[name] = getattr(self, name).isoformat()
        return said | {
            name: text for name in ("owner", "salt", "description") if (text := getattr(self, name))
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return Flag.of, (self.document(),)

    @classmethod
    def of(cls, said: Any) -> Flag:
        """Read a document; members this release does not know are kept in `extra`.

        Raises `DocumentInvalid` if it does not make a flag.
        """
        try:
            if not isinstance(said, Mapping):
                raise UsageError(f"{said!r} is no JSON object")  # noqa: TRY301 - same way out as the rest
            known = {name: said[name] for name in MEMBERS if name in said}
            known["variants"] = {name: Variant(**one) for name, one in said.get("variants", {}).items()}
            return cls(**known, extra={name: said[name] for name in said if name not in MEMBERS})
        except DocumentInvalid:
            raise
        except (UsageError, TypeError, KeyError, AttributeError) as error:
            raise DocumentInvalid(f"this is no flag: {error}") from error


MEMBERS = tuple(name for name in Flag.__dataclass_fields__ if name != "extra")


# -- the checks ------------------------------------------------------------------------------------------


def _flag_boolean(value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"enabled={value!r}: give True or False; a percentage goes into rollout=")


def _text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{name}={value!r} is {type(value).__name__}: give text")


def _number(value: object, name: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise UsageError(f"{name}={value!r}: give a number from 0 to {most:g}")
    return value


def _percent(value: object) -> float:
    return round(_number(value, "rollout", 100), 3)


def _variants(given: Mapping[str, Any]) -> dict[str, Variant]:
    if not isinstance(given, Mapping):
        raise UsageError(f"variants={given!r}: give a mapping of names to values")
    for name in given:
        _text(name, "a variant's name")
    made = {name: one if isinstance(one, Variant) else Variant(one) for name, one in given.items()}
    if made and not sum(one.weight for one in made.values()):
        raise UsageError("all weights are 0: give at least one variant a weight")
    return made


def _common(kinds: Sequence[Kind]) -> Kind:
    several = set(kinds)
    if several == {Kind.INTEGER, Kind.FLOAT}:
        return Kind.FLOAT
    if len(several) > 1:
        raise UsageError(f"variants of different types: {', '.join(sorted(several))}; use one type a flag")
    return kinds[0]


def _rules(given: Any) -> tuple[Rule, ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise UsageError(f"rules={given!r}: give a list of Rule({{attribute: value}}, serve)")
    return tuple(_rule(one) for one in given)


def _rule(given: Any) -> Rule:
    """A rule, also when it comes as its document."""
    if isinstance(given, Rule):
        return given
    if isinstance(given, Mapping) and "when" in given:
        return Rule.of(given)
    raise UsageError(f"rules holds {given!r}: give Rule({{attribute: value}}, serve)")


def _prerequisites(given: Mapping[str, Any] | Iterable[str]) -> dict[str, bool | str]:
    if isinstance(given, str):
        raise UsageError(f"prerequisites={given!r}: give a list, [{given!r}]")
    if not isinstance(given, Iterable):
        raise UsageError(f"prerequisites={given!r}: give a list of names of flags")
    made = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, True)
    for name, wanted in made.items():
        _text(name, "a prerequisite")
        if not isinstance(wanted, bool | str):
            raise UsageError(f"prerequisite {name!r}: {wanted!r} is neither True, False nor a variant's name")
    return made


MOMENTS = "give a datetime with a time zone, ISO 8601 text, or seconds since 1970"


def _moment(given: Moment | None, name: str) -> datetime | None:
    """A moment in UTC."""
    try:
        if isinstance(given, str):
            given = datetime.fromisoformat(given)
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = datetime.fromtimestamp(given, UTC)
        if given is None or (isinstance(given, datetime) and given.tzinfo is not None):
            return given and given.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{name}={given!r} is no moment ({error}): {MOMENTS}") from error
    if isinstance(given, datetime):
        raise UsageError(f"{name}={given} has no time zone: add one, e.g. .replace(tzinfo=UTC)")
    raise UsageError(f"{name}={given!r}: {MOMENTS}")


def _servable(flag: Flag, kind: Kind, serve: Any, where: str) -> None:
    if serve is None or serve is False:
        return
    if flag.variants:
        if serve not in flag.variants:
            names = ", ".join(map(repr, flag.variants))
            raise UsageError(f"{where}={serve!r} is no variant: name one of {names}, or False for off")
    elif kind_of(serve, where) is not kind and (kind, kind_of(serve)) != (Kind.FLOAT, Kind.INTEGER):
        raise UsageError(f"{where}={serve!r} is not of the flag's type, {kind}")
