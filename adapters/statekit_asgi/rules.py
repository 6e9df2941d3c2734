"""Plans: the rules of one endpoint, made ready for its requests once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

from statekit import AsyncRateLimiter
from statekit.web import Rule
from statekit_asgi.scope import Scope

__all__ = ["Charge", "Plan", "Ready"]

Charge: TypeAlias = tuple[AsyncRateLimiter, str, int]
Build: TypeAlias = Callable[[Rule, tuple[Any, ...]], AsyncRateLimiter]


class Ready:
    """One rule with its limiters made, as far as they are the same for all requests."""

    __slots__ = ("_build", "_cost", "_key", "_limiters", "at_once", "rule")

    def __init__(self, rule: Rule, build: Build) -> None:
        self.rule = rule
        self._build = build
        self._key = rule.key
        self._cost = rule.cost
        computed = any(callable(spec) for spec in rule.specs)
        self._limiters = () if computed else tuple(rule.limiters(rule.specs, build))
        self.at_once = not computed and not iscoroutinefunction(rule.key) and isinstance(rule.cost, int)
        """Whether charging needs nothing that may have to be waited for."""

    def charges(self, scope: Scope) -> list[Charge]:
        """What a request asks of which limiter, if that can be said `at_once`."""
        key, cost = self._key(scope), self._cost
        return [(limiter, key, cost) for limiter in self._limiters]  # type: ignore[misc]

    async def worked_out(self, scope: Scope) -> list[Charge]:
        """Same as `charges`, where functions of the app are asked, which may be coroutine functions."""
        key = await _said(self._key, scope)
        cost = await _said(self._cost, scope)
        limiters: Iterable[AsyncRateLimiter] = self._limiters
        if not limiters:
            limiters = self.rule.limiters([await _said(spec, scope) for spec in self.rule.specs], self._build)
        return [(limiter, key, cost) for limiter in limiters]


async def _said(spec: Any, scope: Scope) -> Any:
    said = spec(scope) if callable(spec) else spec
    return await said if isawaitable(said) else said


class Plan:
    """What is known of an endpoint before it runs: its rules, and whether it has declared to use its session."""

    __slots__ = ("decided", "on_outage", "rules", "session")

    def __init__(
        self,
        rules: Iterable[Rule],
        build: Build,
        decided: Iterable[object] = (),
        *,
        session: bool = False,
        on_outage: str | None = None,
    ) -> None:
        self.rules = tuple(Ready(rule, build) for rule in rules)
        self.decided = frozenset(decided)
        """What an endpoint may ask for again and finds decided: the marks and dependencies it is made of."""
        self.session = session
        self.on_outage = on_outage
        """What its session shows if the store cannot be asked."""

    def due(self, method: str) -> Iterator[Ready]:
        """The rules that count a request of this method."""
        return (ready for ready in self.rules if ready.rule.applies(method))
