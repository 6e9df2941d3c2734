"""Decisions: the answer of a limiter with everything needed to explain it, from one atomic read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from statekit.errors import UsageError
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.rule import Hit

__all__ = ["Decision", "HeaderStyle", "LimitState"]


class HeaderStyle(StrEnum):
    """Which response header fields describe a decision."""

    IETF = "ietf"
    """``RateLimit-Policy`` and ``RateLimit``, as draft-ietf-httpapi-ratelimit-headers-10 writes them."""
    LEGACY = "legacy"
    """``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (seconds since 1970)."""


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit of one caller, as the decision left it. Times in seconds from the decision."""

    limiter: str
    key: str
    policy: str
    """The name of this limit in headers: the limiter's, with the window where it has several limits."""
    limit: Limit
    remaining: int
    """Units left; exact for the sliding log, GCRA and the fixed window."""
    retry_after: float | None
    """Until the cost asked for would pass: 0.0 if it does now, None if it never will."""
    more_after: float
    """Until one more unit comes free; 0.0 if none is used."""
    reset_after: float
    """Until nothing is used any more."""
    shadow: bool
    """Its limiter is being tried out: it refuses nothing."""

    @property
    def refused(self) -> bool:
        """Whether this limit had no room for the cost."""
        return self.retry_after != 0.0


@dataclass(frozen=True, slots=True, init=False)
class Decision:
    """What a limiter decided, and why. True in a condition if the call may go on.

    ``limit``, ``remaining`` and ``reset_after`` speak of one limit, the tightest: of those that refused the
    one to be waited for longest, otherwise the one with the fewest units left. ``limits`` has them all.
    """

    allowed: bool
    hits: tuple[Hit, ...]
    """What was asked for."""
    figures: tuple[int, ...]
    """What the script answered; spelt out by `limits`, when somebody reads it."""
    degraded: bool = False
    """The store could not be asked: this is the answer declared as ``on_outage``."""
    local: bool = False
    """This process answered by itself from what the store had told it before: no round trip, still exact."""
    aged_us: int = 0
    """Microseconds since the store gave the figures."""

    def __init__(
        self,
        allowed: bool,
        hits: tuple[Hit, ...],
        figures: tuple[int, ...],
        degraded: bool = False,
        local: bool = False,
        aged_us: int = 0,
    ) -> None:
        # By hand, for it runs once a hit: what a frozen class makes of itself takes twice the time.
        _allowed(self, allowed)
        _hits(self, hits)
        _figures(self, figures)
        _degraded(self, degraded)
        _local(self, local)
        _aged_us(self, aged_us)

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        told = ("allowed", "remaining", "retry_after", "reset_after", "violated", "degraded")
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in told)
        return f"<Decision {self.limiter!r} {self.limit}: {said}>"

    @property
    def limits(self) -> tuple[LimitState, ...]:
        """Where each limit stands, in the order given."""
        return tuple(self._state(*place) for place in self._places())

    def _places(self) -> Iterator[tuple[int, Hit, int]]:
        """Each limit: where its four figures begin, the hit it belongs to, which of its limits it is."""
        at = 2
        for hit in self.hits:
            for index in range(len(hit.rule.limits)):
                yield at, hit, index
                at += 4

    def _state(self, at: int, hit: Hit, index: int) -> LimitState:
        rule, aged = hit.rule, self.aged_us
        left, retry, more, reset = self.figures[at : at + 4]
        times = None if retry < 0 else _left(retry, aged), _left(more, aged), _left(reset, aged)
        limit, policy = rule.limits[index], rule.policies[index]
        return LimitState(rule.name, hit.key, policy, limit, left, *times, rule.shadow)

    def _tightest_at(self) -> int:
        """Where the figures of the tightest limit begin."""
        figures, aged = self.figures, self.aged_us
        if len(figures) == 6:
            return 2
        places: Sequence[int] = range(2, len(figures), 4)
        if not self.allowed:
            places = [at for at, hit, _ in self._places() if not hit.rule.shadow]
        refused = [at for at in places if not 0 <= figures[at + 1] <= aged]
        if refused:
            return max(refused, key=lambda at: math.inf if figures[at + 1] < 0 else figures[at + 1])
        return min(places, key=lambda at: (figures[at], -figures[at + 3]))

    @property
    def at(self) -> float:
        """When it was decided, by the store's clock, in seconds since 1970; 0.0 if the store was not asked."""
        return (self.figures[1] + self.aged_us) / 1e6

    @property
    def would_refuse(self) -> bool:
        """Whether a limiter in shadow mode let this pass that would refuse it otherwise."""
        return self.allowed and any(self.figures[3::4])

    @property
    def tightest(self) -> LimitState:
        """The limit that binds first."""
        at = self._tightest_at()
        return next(self._state(*place) for place in self._places() if place[0] == at)

    @property
    def limit(self) -> Limit:
        """The tightest limit."""
        return self.tightest.limit

    @property
    def limiter(self) -> str:
        """The name of the limiter the tightest limit belongs to."""
        return self.tightest.limiter

    @property
    def key(self) -> str:
        """The caller the tightest limit was applied to."""
        return self.tightest.key

    @property
    def remaining(self) -> int:
        """Units left before the tightest limit refuses."""
        return self.figures[self._tightest_at()]

    @property
    def retry_after(self) -> float | None:
        """Seconds until this same call would pass if nobody else calls; 0.0 if allowed, None if never."""
        return 0.0 if self.allowed else self.tightest.retry_after

    @property
    def reset_after(self) -> float:
        """Seconds until the tightest limit is entirely unused."""
        return self.tightest.reset_after

    @property
    def violated(self) -> tuple[Limit, ...]:
        """The limits that had no room, in the order given; in shadow mode those that would have refused."""
        return tuple(state.limit for state in self.limits if state.refused)

    def headers(self, style: HeaderStyle | str = HeaderStyle.IETF) -> dict[str, str]:
        """Write the decision as response header fields; on a refusal with ``Retry-After`` in whole seconds.

        ``"ietf"``: one policy a limit. ``"legacy"``: the tightest limit. A degraded decision names only its
        policies, as nothing is known about what is left. Raises `UsageError` for another style.
        """
        write = _STYLES.get(style)
        if write is None:
            raise UsageError(f"headers({style!r}): the styles are 'ietf' and 'legacy'")
        fields = write(self)
        if not self.allowed and (wait := self.retry_after) is not None:
            fields["Retry-After"] = str(max(1, math.ceil(wait)))
        return fields


_allowed, _hits, _figures, _degraded, _local, _aged_us = (
    Decision.__dict__[name].__set__ for name in Decision.__slots__
)


def _left(span: int, aged: int) -> float:
    return max(0, span - aged) / 1e6


def _ietf(decision: Decision) -> dict[str, str]:
    """Written from the figures as they came: this runs once a request."""
    lowest: dict[str, tuple[int, int, str]] = {}
    at, figures = 2, decision.figures
    for hit in decision.hits:
        for name, policy in hit.rule.fields:
            known = lowest.get(name)
            if known is None or figures[at] < known[0]:  # several keys may meet under one policy
                lowest[name] = figures[at], figures[at + 2], policy
            at += 4
    fields = {"RateLimit-Policy": ", ".join([policy for _, _, policy in lowest.values()])}
    if not decision.degraded:
        aged = decision.aged_us
        fields["RateLimit"] = ", ".join(
            [f"{name};r={left};t={math.ceil(_left(more, aged))}" for name, (left, more, _) in lowest.items()]
        )
    return fields


def _legacy(decision: Decision) -> dict[str, str]:
    tightest = decision.tightest
    fields = {"X-RateLimit-Limit": str(tightest.limit.count)}
    if not decision.degraded:
        fields["X-RateLimit-Remaining"] = str(tightest.remaining)
        fields["X-RateLimit-Reset"] = str(math.ceil(decision.at + tightest.reset_after))
    return fields


_STYLES: dict[str, Callable[[Decision], dict[str, str]]] = {"ietf": _ietf, "legacy": _legacy}
