"""Decisions: the answer of a limiter with everything needed to explain it, from one atomic read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
        states, start, aged = [], 2, self.aged_us
        for hit in self.hits:
            rule = hit.rule
            for limit, policy in zip(rule.limits, rule.policies, strict=True):
                left, retry, more, reset = self.figures[start : start + 4]
                wait = None if retry < 0 else _left(retry, aged)
                times = wait, _left(more, aged), _left(reset, aged)
                states.append(LimitState(rule.name, hit.key, policy, limit, left, *times, rule.shadow))
                start += 4
        return tuple(states)

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
        states = self.limits
        return _tightest(states if self.allowed else [state for state in states if not state.shadow])

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
        return self.tightest.remaining

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
        if style not in tuple(HeaderStyle):
            raise UsageError(f"headers({style!r}): the styles are 'ietf' and 'legacy'")
        fields = _ietf(self) if style == HeaderStyle.IETF else _legacy(self)
        if not self.allowed and self.retry_after is not None:
            fields["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return fields


_allowed, _hits, _figures, _degraded, _local, _aged_us = (
    Decision.__dict__[name].__set__ for name in Decision.__slots__
)


def _left(span: int, aged: int) -> float:
    return max(0, span - aged) / 1e6


def _tightest(states: Sequence[LimitState]) -> LimitState:
    refused = [state for state in states if state.refused]
    if refused:
        return max(refused, key=lambda state: math.inf if state.retry_after is None else state.retry_after)
    return min(states, key=lambda state: (state.remaining, -state.reset_after))


def _ietf(decision: Decision) -> dict[str, str]:
    states: dict[str, LimitState] = {}
    for state in decision.limits:  # a policy is listed once, also where several keys met in one decision
        known = states.setdefault(state.policy, state)
        if state.remaining < known.remaining:
            states[state.policy] = state
    fields = {"RateLimit-Policy": _listed(states.values(), _policy)}
    if not decision.degraded:
        fields["RateLimit"] = _listed(states.values(), _standing)
    return fields


def _listed(states: Iterable[LimitState], item: Callable[[LimitState], str]) -> str:
    return ", ".join(_quoted(state.policy) + item(state) for state in states)


def _policy(state: LimitState) -> str:
    return f";q={state.limit.count};w={max(1, math.ceil(state.limit.window_us / 1_000_000))}"


def _standing(state: LimitState) -> str:
    return f";r={state.remaining};t={math.ceil(state.more_after)}"


def _quoted(name: str) -> str:
    r"""A string of structured fields (RFC 9651): printable ASCII, with ``"`` and ``\\`` escaped."""
    plain = name.encode("ascii", "backslashreplace").decode()
    plain = "".join(sign if " " <= sign <= "~" else f"\\x{ord(sign):02x}" for sign in plain)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _legacy(decision: Decision) -> dict[str, str]:
    tightest = decision.tightest
    fields = {"X-RateLimit-Limit": str(tightest.limit.count)}
    if not decision.degraded:
        fields["X-RateLimit-Remaining"] = str(tightest.remaining)
        fields["X-RateLimit-Reset"] = str(math.ceil(decision.at + tightest.reset_after))
    return fields
