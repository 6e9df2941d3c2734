"""Rules: what ``limit(…)`` says, kept as a mark on a function until a request asks for it.

Rule 1: a mark lies in the function's ``__dict__``, which `functools.wraps` copies: decorators above keep it.
Rule 2: the name of a limit is the same in every process and release: the view's dotted name and who is
        counted, never a number of the limit, so that a changed limit keeps what was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from statekit.errors import UsageError
from statekit.kit import StateKit
from statekit.ratelimit.faces import AsyncRateLimiter, RateLimiter
from statekit.ratelimit.limits import Limit
from statekit.sessions.model import Outage
from statekit.web.callers import caller_name

__all__ = ["Marks", "Rule", "builder", "default_rules", "label", "mark", "marks"]

MARK = "__statekit_limits__"
BUILT = 256
"""Limiters kept of rules whose limits are computed at each request."""
Build = Callable[["Rule", tuple[Any, ...]], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One ``limit(…)``: which limits, who is counted, what a request costs, when it applies.

    What `key`, `cost` and a computed limit are called with is the adapter's business.
    """

    name: str
    specs: tuple[Any, ...]
    key: Callable[..., Any]
    cost: int | Callable[..., Any] = 1
    methods: frozenset[str] | None = None
    """None: all but OPTIONS, which browsers send on their own."""
    late: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.specs:
            raise UsageError('a limit needs at least one rate, for example limit("5/minute")')
        fixed = [spec for spec in self.specs if not shared(spec) and not callable(spec)]
        _trial().rate_limiter(self.name, *(fixed or ("1/second",)), **self.options)

    def applies(self, method: str) -> bool:
        """Whether a request with this method is counted."""
        return method != "OPTIONS" if self.methods is None else method in self.methods

    def limiters(self, said: Sequence[Any], build: Build) -> Iterator[Any]:
        """The limiters of one request: those given, and one built of the rates; `said` is `specs`, worked out."""
        rates: list[str | Limit] = []
        for spec in said:
            if shared(spec):
                yield spec
            elif isinstance(spec, str | Limit):
                rates.append(spec)
            else:
                rates.extend(spec)
        if rates:
            yield build(self, tuple(rates))


def shared(spec: object) -> bool:
    """Whether a limit is given as a limiter that other code may use too."""
    return isinstance(spec, RateLimiter | AsyncRateLimiter)


@lru_cache(maxsize=1)
def _trial() -> StateKit:
    """A kit to make limiters on that are thrown away: what is malformed is told where it is written."""
    return StateKit.in_memory()


def builder(kit: Any) -> Build:
    """Make limiters of a kit, of either colour, each once."""

    @lru_cache(maxsize=BUILT)
    def build(rule: Rule, rates: tuple[Any, ...]) -> Any:
        return kit.rate_limiter(rule.name, *rates, **rule.options)

    return build


def default_rules(limits: Sequence[Any], who: Callable[..., Any]) -> tuple[Rule, ...]:
    """The rule behind ``default_limits=[…]``: one count a caller for the whole app."""
    if not limits:
        return ()
    if isinstance(limits, str) or not isinstance(limits, Iterable):
        raise UsageError(f"default_limits={limits!r}: give a list, such as ['1000/hour']")
    return (Rule("default", tuple(limits), who),)


# -- marks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Marks:
    """What was said about a view, or a group of views."""

    rules: tuple[Rule, ...] = ()
    exempt: bool = False
    session_outage: Outage | None = None
    """What its session shows if the store cannot be asked."""

    def __or__(self, other: Marks) -> Marks:
        outage = other.session_outage or self.session_outage
        return Marks((*self.rules, *other.rules), self.exempt or other.exempt, outage)


NOTHING = Marks()


def marks(view: object) -> Marks:
    """What was said about a view; its rules innermost first."""
    return getattr(view, MARK, NOTHING)


def mark(view: object, said: Marks) -> None:
    """Say something about a view."""
    setattr(view, MARK, marks(view) | said)


def label(view: Any, key: Callable[..., Any], taken: Iterable[Rule] = ()) -> str:
    """Name a limit after what it limits and who is counted; one more of the same kind gets a number."""
    place = f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"
    name = f"{place}/{caller_name(key)}".replace(".<locals>", "")
    same = sum(rule.name.partition("#")[0] == name for rule in taken)
    return f"{name}#{same + 1}" if same else name
