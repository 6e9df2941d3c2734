"""Rules: what ``@sk.limit(…)`` says, kept as a mark on the view function until a request asks for it.

Rule 1: a mark lies in the function's ``__dict__``, which `functools.wraps` copies: decorators above keep it.
Rule 2: the name of a limit is the same in every process and release: the view's dotted name and who is
        counted, never a number of the limit, so that a changed limit keeps what was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from flask import Blueprint, Flask, request

from statekit import Limit, RateLimiter, StateKit
from statekit.errors import UsageError
from statekit_flask.callers import Caller, caller_name

__all__ = [
    "Cost",
    "LimitSpec",
    "Marks",
    "Rule",
    "blueprint_marks",
    "builder",
    "mark",
    "marks",
    "named",
    "views",
]

LimitSpec: TypeAlias = str | Limit | RateLimiter | Callable[[], "str | Limit | Sequence[str | Limit]"]
Cost: TypeAlias = int | Callable[[], int]

MARK = "__statekit_limits__"
LIMITED = "__statekit_limited__"
"""On a function that was wrapped: it is not limited itself, what was made of it is."""
BLUEPRINTS = "statekit_blueprints"
BUILT = 256
"""Limiters kept of a rule whose limits are computed at each request."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One ``limit(…)``: which limits, who is counted, what a request costs, when it applies."""

    name: str
    specs: tuple[LimitSpec, ...]
    key: Caller
    cost: Cost = 1
    methods: frozenset[str] | None = None
    """None: all but OPTIONS, which browsers send on their own."""
    late: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.specs:
            raise UsageError('a limit needs at least one rate, for example limit("5/minute")')
        fixed = [spec for spec in self.specs if not isinstance(spec, RateLimiter) and not callable(spec)]
        _trial().rate_limiter(self.name, *(fixed or ("1/second",)), **self.options)

    def applies(self, method: str) -> bool:
        """Whether a request with this method is counted."""
        return method != "OPTIONS" if self.methods is None else method in self.methods

    def price(self) -> int:
        """What the current request costs."""
        return self.cost() if callable(self.cost) else self.cost

    def hits(self, build: Callable[..., RateLimiter]) -> Iterator[tuple[RateLimiter, str, int]]:
        """Say what the current request asks of which limiter."""
        key, price = self.key(), self.price()
        own = [spec for spec in self.specs if not isinstance(spec, RateLimiter)]
        for spec in self.specs:
            if isinstance(spec, RateLimiter):
                yield spec, key, price
        if own:
            yield build(self, tuple(_rates(own))), key, price


@lru_cache(maxsize=1)
def _trial() -> StateKit:
    """A kit to make limiters on that are thrown away: what is malformed is told where it is written."""
    return StateKit.in_memory()


def _rates(specs: Sequence[Any]) -> Iterator[str | Limit]:
    for spec in specs:
        said = spec() if callable(spec) else spec
        if isinstance(said, str | Limit):
            yield said
        else:
            yield from said


def builder(kit: StateKit) -> Callable[[Rule, tuple[str | Limit, ...]], RateLimiter]:
    """Make limiters of a kit, each once."""

    @lru_cache(maxsize=BUILT)
    def build(rule: Rule, rates: tuple[str | Limit, ...]) -> RateLimiter:
        return kit.rate_limiter(rule.name, *rates, **rule.options)

    return build


@dataclass(frozen=True, slots=True)
class Marks:
    """What was said about a view or a blueprint."""

    rules: tuple[Rule, ...] = ()
    exempt: bool = False

    def __or__(self, other: Marks) -> Marks:
        return Marks((*self.rules, *other.rules), self.exempt or other.exempt)


def marks(view: Any) -> Marks:
    """What was said about a view; its rules innermost first."""
    return getattr(view, MARK, Marks())


def mark(target: Any, said: Marks) -> None:
    """Say something about a view, or about a blueprint wherever it gets registered."""
    if isinstance(target, Blueprint):
        target.record(lambda setup: _mark_registered(setup, said))
    else:
        setattr(target, MARK, marks(target) | said)


def _mark_registered(setup: Any, said: Marks) -> None:
    name = f"{setup.name_prefix}.{setup.name}".lstrip(".")
    known = setup.app.extensions.setdefault(BLUEPRINTS, {})
    known[name] = known.get(name, Marks()) | said


def blueprint_marks(app: Flask) -> list[Marks]:
    """What was said about the blueprints the current request belongs to."""
    known = app.extensions.get(BLUEPRINTS)
    return [known[name] for name in request.blueprints if name in known] if known else []


def named(target: Any, key: Caller) -> str:
    """Name a limit after what it limits and who is counted; one more of the same kind gets a number."""
    if isinstance(target, Blueprint):
        return f"{target.import_name}.{target.name}/{caller_name(key)}"
    name = f"{target.__module__}.{target.__qualname__}/{caller_name(key)}".replace(".<locals>", "")
    same = sum(rule.name.partition("#")[0] == name for rule in marks(target).rules)
    return f"{name}#{same + 1}" if same else name


def views(app: Flask) -> Iterator[Any]:
    """The functions the current request will run: the endpoint's, and the method of a class-based view.

    Raises `UsageError` for decorators in the wrong order: a limit that is not in force must not look as if it were.
    """
    view = app.view_functions.get(request.endpoint or "")
    if view is not None:
        if getattr(view, LIMITED, False) and not marks(view).rules:
            raise UsageError(
                f"the limits of {view.__qualname__} are not in force at endpoint {request.endpoint!r}: put @sk.limit below "
                "@app.route, so that what is routed is the limited function"
            )
        yield view
        method = getattr(getattr(view, "view_class", None), request.method.lower(), None)
        if method is not None:
            yield method
