"""Flags compiled to closures: once when a document changes, not interpreted at each call.

Every answer a flag can give is an `Outcome` made in advance; deciding is choosing one of them. `enabled`,
`value` and `explain` all read the same outcome, so an explanation cannot differ from the answer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from mmh3 import mmh3_32_uintdigest as murmur

from statekit.flags.buckets import BUCKETS, threshold
from statekit.flags.core import Flag, Kind, Rule, Variant, kind_of
from statekit.flags.forks import first_match

__all__ = ["Decide", "Outcome", "Reason", "compiled"]


class Reason(StrEnum):
    """Why a flag answered what it answered."""

    STATIC = "static"
    """On for everyone."""
    RULE = "rule"
    """A rule matched; `rule` is its index."""
    ROLLOUT = "rollout"
    """The actor's bucket decided."""
    SPLIT = "split"
    """On, and the actor's bucket chose among the variants."""
    NO_ACTOR = "no-actor"
    """A percentage needs an actor, and none was given: off."""
    DISABLED = "disabled"
    NOT_STARTED = "not-started"
    ENDED = "ended"
    PREREQUISITE = "prerequisite"
    """A flag this one depends on is not as it must be."""
    UNKNOWN = "unknown"
    """No such flag here: the default given by the caller."""
    INVALID = "invalid"
    """The document does not make a flag, and no earlier one is known."""
    OVERRIDE = "override"
    """Set by ``override`` in this context."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer a flag can give."""

    on: bool
    enabled: bool
    value: Any
    kind: Kind
    variant: str | None
    reason: Reason
    rule: int | None = None
    silent: bool = field(init=False)
    """Whether the flag has nothing to say, so that a value asked for is the caller's default."""
    shared: bool = field(init=False)
    """Whether the value could be changed by whoever gets it, who is therefore given a copy."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "silent", not self.on and self.kind is not Kind.BOOLEAN)
        object.__setattr__(self, "shared", self.kind is Kind.OBJECT)


Decide: TypeAlias = Callable[[Any, dict[str, Any]], Outcome]
"""From an actor (or None) and attributes to an outcome; may add the actor to the attributes."""
Lookup: TypeAlias = Callable[[str], Decide | None]
Clock: TypeAlias = Callable[[], int]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEEPEST = 16
"""Prerequisites of prerequisites; deeper is taken for a circle."""


def compiled(name: str, flag: Flag, lookup: Lookup, clock: Clock) -> Decide:
    """Compile a flag; `lookup` finds the flags it depends on, `clock` tells microseconds since 1970."""
    maker = _Maker(name, flag)
    if not flag.enabled:
        return _always(maker.off(Reason.DISABLED))
    decide = maker.ruled()
    if flag.prerequisites:
        decide = _provided(flag, lookup, maker.off(Reason.PREREQUISITE), decide)
    if flag.starts is not None or flag.ends is not None:
        decide = maker.scheduled(clock, decide)
    return decide


class _Maker:
    """Makes the outcomes and the closures of one flag."""

    def __init__(self, name: str, flag: Flag) -> None:
        self.flag = flag
        self.kind = flag.kind
        self.salt = flag.salt or name

    def off(self, reason: Reason, rule: int | None = None) -> Outcome:
        value = False if self.kind is Kind.BOOLEAN else None
        return Outcome(
            on=False, enabled=False, value=value, kind=self.kind, variant=None, reason=reason, rule=rule
        )

    def on(self, value: Any, variant: str | None, reason: Reason, rule: int | None = None) -> Outcome:
        if self.kind is Kind.FLOAT:
            value = float(value)
        enabled = value is not False
        return Outcome(True, enabled, value, self.kind, variant, reason, rule)  # noqa: FBT003

    def ruled(self) -> Decide:
        """Rules first, then the flag's own rollout."""
        otherwise = self.limited(self.flag.rollout, None, None)
        if not self.flag.rules:
            return otherwise
        rules = [(rule.when, self.served(rule, index)) for index, rule in enumerate(self.flag.rules)]
        decide = first_match(rules, otherwise)
        return _with_actor(decide) if any("actor" in rule.when for rule in self.flag.rules) else decide

    def served(self, rule: Rule, index: int) -> Decide:
        if rule.serve is False:
            return _always(self.off(Reason.RULE, index))
        return self.limited(rule.rollout, rule.serve, index)

    def limited(self, rollout: float, serve: Any, rule: int | None) -> Decide:
        """What is served, to those inside a percentage; the others get the flag off."""
        inside = self.chosen(serve, rule, Reason.STATIC if rollout == 100 else Reason.ROLLOUT)
        outside = self.off(Reason.ROLLOUT, rule)
        if rollout == 100:
            return inside if callable(inside) else _always(inside)
        if rollout == 0:
            return _always(outside)
        return _rolled((self.salt, threshold(rollout)), inside, outside, self.off(Reason.NO_ACTOR, rule))

    def chosen(self, serve: Any, rule: int | None, reason: Reason) -> Outcome | Decide:
        flag = self.flag
        reason = reason if rule is None else Reason.RULE
        if not flag.variants:
            value = next((one for one in (serve, flag.default) if one is not None), True)
            return self.on(value, None, reason, rule)
        variant = serve if serve is not None else flag.default
        if variant is None:
            return self.split(rule)
        return self.on(flag.variants[variant].value, variant, reason, rule)

    def split(self, rule: int | None) -> Outcome | Decide:
        """Share the actors out among the variants, by weight, in the order they are written."""
        variants: dict[str, Variant] = {n: one for n, one in self.flag.variants.items() if one.weight}
        outcomes = [self.on(one.value, n, Reason.SPLIT, rule) for n, one in variants.items()]
        if len(outcomes) == 1:
            return outcomes[0]
        bounds = _bounds([one.weight for one in variants.values()])
        return _split(self.salt, bounds, outcomes, self.off(Reason.NO_ACTOR, rule))

    def scheduled(self, clock: Clock, decide: Decide) -> Decide:
        starts, ends = _micros(self.flag.starts, 0), _micros(self.flag.ends, math.inf)
        early, late = self.off(Reason.NOT_STARTED), self.off(Reason.ENDED)

        def scheduled(actor: Any, attributes: dict[str, Any]) -> Outcome:
            now = clock()
            if starts <= now < ends:
                return decide(actor, attributes)
            return early if now < starts else late

        return scheduled


def _micros(moment: Any, otherwise: float) -> float:
    return otherwise if moment is None else (moment - EPOCH) // timedelta(microseconds=1)


def _bounds(weights: list[float]) -> list[int]:
    """The first bucket past each variant but the last."""
    total, so_far, bounds = sum(weights), 0.0, []
    for weight in weights[:-1]:
        so_far += weight
        bounds.append(round(so_far / total * BUCKETS))
    return bounds


def _always(outcome: Outcome) -> Decide:
    return lambda _actor, _attributes: outcome


def _with_actor(decide: Decide) -> Decide:
    """Let conditions speak of the actor as of an attribute."""

    def with_actor(actor: Any, attributes: dict[str, Any]) -> Outcome:
        if actor is not None:
            attributes["actor"] = actor
        return decide(actor, attributes)

    return with_actor


def _rolled(share: tuple[str, int], inside: Outcome | Decide, outside: Outcome, nobody: Outcome) -> Decide:
    """Inside a percentage or not; the hash is `buckets.bucket`, written out for speed."""
    salt, limit = share
    prefix = f"{salt}:"
    chosen = inside if callable(inside) else None

    def rolled(actor: Any, attributes: dict[str, Any]) -> Outcome:
        if actor is None:
            return nobody
        try:
            key = f"{prefix}{actor}".encode()  # never text: mmh3 crashes the process on a lone surrogate
        except UnicodeEncodeError:
            key = f"{prefix}{actor}".encode("utf-8", "surrogatepass")
        if murmur(key) % BUCKETS >= limit:
            return outside
        return inside if chosen is None else chosen(actor, attributes)  # type: ignore[return-value]

    return rolled


def _split(salt: str, bounds: list[int], outcomes: list[Outcome], nobody: Outcome) -> Decide:
    """One of several by the actor's bucket; the hash is `buckets.variant_bucket`, written out for speed."""
    prefix = f"{salt}:variant:"

    def split(actor: Any, _attributes: dict[str, Any]) -> Outcome:
        if actor is None:
            return nobody
        try:
            key = f"{prefix}{actor}".encode()  # never text, as above
        except UnicodeEncodeError:
            key = f"{prefix}{actor}".encode("utf-8", "surrogatepass")
        return outcomes[bisect_right(bounds, murmur(key) % BUCKETS)]

    return split


def _provided(flag: Flag, lookup: Lookup, off: Outcome, decide: Decide) -> Decide:
    """Only if every prerequisite is on (or off, or on with a certain variant) for the same actor."""
    wanted = dict(flag.prerequisites).items()  # type: ignore[arg-type]
    states = tuple((name, state) for name, state in wanted if isinstance(state, bool))
    variants = tuple((name, state) for name, state in wanted if isinstance(state, str))

    def provided(actor: Any, attributes: dict[str, Any]) -> Outcome:
        depth = attributes.get(_DEPTH, 0)
        if depth >= DEEPEST:
            return off
        attributes[_DEPTH] = depth + 1
        for name, state in states:
            other = lookup(name)
            if other is None or other(actor, attributes).enabled is not state:
                return off
        for name, variant in variants:
            other = lookup(name)
            if other is None or other(actor, attributes).variant != variant:
                return off
        attributes[_DEPTH] = depth
        return decide(actor, attributes)

    return provided


_DEPTH: Any = object()
"""Where the attributes of one evaluation count how deep it has gone; no attribute can have this name."""


def override_outcome(value: Any) -> Outcome:
    """The outcome of an override."""
    kind = kind_of(value, "override")
    return Outcome(on=True, enabled=bool(value), value=value, kind=kind, variant=None, reason=Reason.OVERRIDE)
