"""Rate limits: how often a caller may do something, counted once for all processes.

Keys       ``limit:{<limiter>:<key>}:<algorithm>``, a string each, one a limiter and caller; it lives until
           nothing is used any more (the log: until its newest entry leaves the longest window).
Scripts    ``ratelimit.hit`` decides all limits of all pairs of a call in one run; ``DEL`` resets.
Guarantee  Several limits, several limiters: all or nothing, in one round trip. A refusal consumes nothing.
           The sliding log admits at most `count` units in any half-open window ``(t-W, t]``, exactly;
           so do GCRA its burst and rate, and the fixed window per aligned window. The clock is the store's.
Not        guaranteed: fairness among waiters; entries a primary had not replicated when it failed; more than
           one slot of a cluster in one call of `hit_all`.
Store down ``on_outage``: "allow", "deny", or "local" (each process admits its share of the limit). Such a
           decision has ``degraded`` set and is reported to the hooks. `reset` raises.

Memory of the sliding log: 8 bytes a hit, whatever it costs, in a ring that grows by at most a quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from statekit.errors import StoreError, StoreRejected, UsageError
from statekit.ratelimit.decision import Decision, LimitState
from statekit.ratelimit.limits import Limit, LimitLike
from statekit.store.keys import Keys, encoded
from statekit.store.op import Arg, Call, Op, Reply, Script, ask, command

__all__ = ["HIT", "Algorithm", "Hit", "OnOutage", "Outage", "Rule", "deciding", "pause", "resetting"]

HIT = Script.load(__package__, "hit")
KIND = "limit"
OUTAGE_RETRY = 1.0
"""Seconds a caller refused for an outage is told to wait: the breaker asks the store again well before."""
MISUSE = ("CROSSSLOT", "ERR", "NOPERM", "WRONGTYPE")
"""Rejections that do not pass by themselves: raised, for answering them with a policy would hide them."""


class Algorithm(StrEnum):
    """How used units are counted, and forgotten."""

    SLIDING_LOG = "sliding-log"
    """Every hit is remembered for the window: exact at every moment. 8 bytes a hit."""
    SLIDING_COUNTER = "sliding-counter"
    """Two counters; the window before counts by the share that still overlaps, as if its hits were even."""
    GCRA = "gcra"
    """A bucket of `count` units that refills evenly over the window: a burst, then a steady rate."""
    FIXED_WINDOW = "fixed-window"
    """A counter that starts again at each whole window since 1970: up to twice the count around a border."""


class OnOutage(StrEnum):
    """The answer while the store cannot be asked."""

    ALLOW = "allow"
    DENY = "deny"
    LOCAL = "local"
    """Count in this process alone, against the limit divided by the number of live workers."""


_WIRE = {
    Algorithm.SLIDING_LOG: "log",
    Algorithm.SLIDING_COUNTER: "counter",
    Algorithm.GCRA: "gcra",
    Algorithm.FIXED_WINDOW: "fixed",
}
_CHOICES = ", ".join(repr(str(one)) for one in Algorithm)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a limiter is: its name, its limits and how they count. Validated when made."""

    name: str
    limits: tuple[Limit, ...]
    algorithm: Algorithm
    on_outage: OnOutage
    shadow: bool
    tag: str
    policies: tuple[str, ...]
    terms: str
    """The last words of a script's argument: how the log is laid out, then the limits."""

    @classmethod
    def of(
        cls, name: str, limits: Sequence[LimitLike], algorithm: str, on_outage: str, *, shadow: bool
    ) -> Rule:
        """Check everything a limiter is made of. Raises `UsageError`, naming the value and the cure."""
        if not limits:
            raise UsageError(f"rate_limiter({name!r}) has no limit: add one, such as '5/minute'")
        read = tuple(Limit.parse(limit) for limit in limits)
        windows = [limit.window_us for limit in read]
        if len(set(windows)) < len(windows):
            raise UsageError(
                f"rate_limiter({name!r}): two of {', '.join(map(str, read))} have the same window; keep the smaller"
            )
        return cls(
            name,
            read,
            _chosen(Algorithm, algorithm, "algorithm"),
            _chosen(OnOutage, on_outage, "on_outage"),
            bool(shadow),
            encoded(name, "name"),
            (name,) if len(read) == 1 else tuple(f"{name}-{limit.window:g}s" for limit in read),
            _terms(read),
        )

    def key(self, keys: Keys, key: str, algorithm: Algorithm | None = None) -> str:
        """Where the state of one caller lies; another algorithm has another key, never another type."""
        return keys.of(KIND, self.tag, encoded(key), suffix=_WIRE[algorithm or self.algorithm])

    def spec(self, need: int, take: int, *, shares: int = 1) -> str:
        """What the script is told; `shares` divides the limits, for a process that counts alone."""
        terms = self.terms if shares == 1 else _terms(tuple(_share(limit, shares) for limit in self.limits))
        return f"{_WIRE[self.algorithm]} {need} {take} {self.shadow:d} {terms}"


def _chosen(choices: Any, value: str, name: str) -> Any:
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(repr(str(one)) for one in choices)
        raise UsageError(f"{name}={value!r} is unknown: choose one of {known}") from None


def _terms(limits: Sequence[Limit]) -> str:
    bits, shift = layout(limits)
    return f"{bits} {shift} " + " ".join(f"{limit.count} {limit.window_us}" for limit in limits)


def _share(limit: Limit, shares: int) -> Limit:
    return Limit(min(limit.count, max(1, limit.count // shares)), limit.window)


def layout(limits: Sequence[Limit]) -> tuple[int, int]:
    """Divide the 64 bits of an entry: how many count units, and how coarse a tick the rest must count.

    The units must tell 0 to the largest count apart and the ticks the ages up to the longest window. What is
    spare is shared out, so that most changes of a limit fit the old layout. Where nothing is spare (above
    2**64 units times microseconds: nine million a month), a tick becomes 2, 4, 8 … microseconds.
    """
    units = max(limit.count for limit in limits).bit_length()
    ticks = (max(limit.window_us for limit in limits) - 1).bit_length()
    shift = max(0, units + ticks - 64)
    spare = 64 - units - (ticks - shift)
    return min(32, max(11, units + spare // 2)), shift


# -- the operations --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """One limiter applied to one caller: units that must be free, and units to charge."""

    rule: Rule
    key: str
    need: int
    take: int

    @classmethod
    def of(cls, rule: Rule, key: str, cost: int, *, charge: bool = True) -> Hit:
        """Check a cost. A cost of 0, or `charge` false, asks without charging whether a hit would pass."""
        if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
            raise UsageError(f"cost={cost!r}: give a whole number of units, 0 or more")
        return cls(rule, key, max(1, cost), cost if charge else 0)


@dataclass(frozen=True, slots=True)
class Outage:
    """What a limiter's operations need to answer without the store."""

    local: Callable[[Call], Reply]
    """Runs the script in this process alone."""
    shares: Callable[[], int]
    """Into how many parts a limit is divided: the live workers this process knows of, itself included."""
    report: Callable[[str, Exception], None]


Answer: TypeAlias = Callable[[StoreError], Decision]


def deciding(keys: Keys, hits: Sequence[Hit], now: int | str, outage: Outage) -> Op[Decision]:
    """Decide one or several hits at once: all pass and are charged, or none is. One round trip."""
    names = [hit.rule.key(keys, hit.key) for hit in hits]
    if len(names) > 1:
        hits, names = _merged(hits, names)
    call = HIT.call(names, [now, *(hit.rule.spec(hit.need, hit.take) for hit in hits)])
    return _decided(call, hits, outage)


def _decided(call: Call, hits: Sequence[Hit], outage: Outage) -> Op[Decision]:
    try:
        reply = yield from ask(call)
    except StoreError as error:
        if isinstance(error, StoreRejected) and str(error).startswith(MISUSE):
            raise
        outage.report(", ".join(hit.rule.name for hit in hits), error)
        return _substitute(call, hits, outage)
    return _read(hits, reply)


def _merged(hits: Sequence[Hit], names: Sequence[str]) -> tuple[list[Hit], list[str]]:
    """Add up hits of one limiter on one key: the script opens each state once."""
    merged: dict[str, Hit] = {}
    for hit, name in zip(hits, names, strict=True):
        first = merged.get(name)
        if first is None:
            merged[name] = hit
        elif first.rule == hit.rule:
            need = first.take + hit.take
            merged[name] = Hit(hit.rule, hit.key, max(1, need), need)
        else:
            raise UsageError(f"two limiters named {hit.rule.name!r} with different limits met in one call")
    return list(merged.values()), list(merged)


def _read(hits: Sequence[Hit], reply: Sequence[int], *, degraded: bool = False) -> Decision:
    states: list[LimitState] = []
    start = 2
    for hit in hits:
        rule = hit.rule
        for limit, policy in zip(rule.limits, rule.policies, strict=True):
            left, retry, more, reset = reply[start : start + 4]
            start += 4
            wait = None if retry < 0 else retry / 1e6
            states.append(LimitState(rule.name, hit.key, policy, limit, left, wait, more / 1e6, reset / 1e6))
    allowed = bool(reply[0])
    would_refuse = allowed and any(state.retry_after != 0.0 for state in states)
    return Decision(allowed, tuple(states), reply[1] / 1e6, degraded, would_refuse)


def _substitute(call: Call, hits: Sequence[Hit], outage: Outage) -> Decision:
    """Answer without the store: denied if one limiter says so, else counted here where one says so."""
    policies = {hit.rule.on_outage for hit in hits if not hit.rule.shadow}
    if OnOutage.DENY in policies:
        return _blind(hits, allowed=False)
    local = [index for index, hit in enumerate(hits) if hit.rule.on_outage is OnOutage.LOCAL]
    if not local:
        return _blind(hits, allowed=True)
    counted = [hits[index] for index in local]
    shares = max(1, outage.shares())
    args: list[Arg] = [hit.rule.spec(hit.need, hit.take, shares=shares) for hit in counted]
    names = [str(call.args[index]) for index in local]
    return _read(counted, outage.local(HIT.call(names, ["", *args])), degraded=True)


def _blind(hits: Sequence[Hit], *, allowed: bool) -> Decision:
    """An answer about limits whose use is unknown."""
    wait = 0.0 if allowed else OUTAGE_RETRY
    states = tuple(
        LimitState(hit.rule.name, hit.key, policy, limit, limit.count if allowed else 0, wait, wait, wait)
        for hit in hits
        for limit, policy in zip(hit.rule.limits, hit.rule.policies, strict=True)
    )
    return Decision(allowed, states, 0.0, degraded=True)


def resetting(keys: Keys, rule: Rule, key: str) -> Op[bool]:
    """Forget what a caller used, also what another algorithm of this limiter counted."""
    names = [rule.key(keys, key, algorithm) for algorithm in Algorithm]
    return bool((yield from command("DEL", *names)))


def pause(decision: Decision, left: float, jitter: float) -> float | None:
    """How long a waiter sleeps before it tries again; None if it should give up.

    It sleeps exactly until its units are free, plus up to a hundredth (at most 5 ms), so that waiters of one
    moment do not come back in step.
    """
    wait = decision.retry_after
    if decision.allowed or wait is None or wait > left:
        return None
    return min(left, wait + min(0.005, wait / 100) * jitter)
