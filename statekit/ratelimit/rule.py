"""Rules: what a limiter is, checked once, and written as the script reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from statekit.errors import UsageError
from statekit.ratelimit.limits import Limit, LimitLike
from statekit.store.keys import Keys, encoded

__all__ = ["WIRE", "Algorithm", "Hit", "OnOutage", "Rule", "Workers", "layout"]

KIND = "limit"
Workers: TypeAlias = int | Callable[[], int]


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


WIRE = {
    Algorithm.SLIDING_LOG: "log",
    Algorithm.SLIDING_COUNTER: "counter",
    Algorithm.GCRA: "gcra",
    Algorithm.FIXED_WINDOW: "fixed",
}


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
    fields: tuple[tuple[str, str], ...]
    """Each limit in a response header: the name of its policy, and the whole policy."""
    wire: str
    """The algorithm, as the script and the keys call it."""
    terms: str
    """The last words of a script's argument: how the log is laid out, then the limits."""
    workers: Workers | None = field(default=None, compare=False)
    """How many processes share the limits in an outage; None: as many as live."""
    asks_who_lives: bool = False
    """Whether its answer in an outage depends on how many do."""

    @classmethod
    def of(
        cls,
        name: str,
        limits: Sequence[LimitLike],
        algorithm: str,
        on_outage: str,
        *,
        shadow: bool,
        workers: Workers | None = None,
    ) -> Rule:
        """Check everything a limiter is made of. Raises `UsageError`, naming the value and the cure."""
        if not isinstance(shadow, bool):
            raise UsageError(f"shadow={shadow!r}: give True (decide and count, never refuse) or False")
        if not limits:
            raise UsageError(f"rate_limiter({name!r}) has no limit: add one, such as '5/minute'")
        read = tuple(Limit.parse(limit) for limit in limits)
        windows = [limit.window_us for limit in read]
        if len(set(windows)) < len(windows):
            raise UsageError(
                f"rate_limiter({name!r}): two of {', '.join(map(str, read))} have the same window; keep the smaller"
            )
        chosen = _chosen(Algorithm, algorithm, "algorithm")
        tag, policy = encoded(name, "name"), _chosen(OnOutage, on_outage, "on_outage")
        policies = [name] if len(read) == 1 else [f"{name}-{limit.window:g}s" for limit in read]
        return cls(
            name,
            read,
            chosen,
            policy,
            shadow,
            tag,
            tuple(policies),
            tuple(map(_field, policies, read)),
            WIRE[chosen],
            _terms(read, shadow=shadow),
            _counted(workers),
            policy is OnOutage.LOCAL and workers is None,
        )

    def key(self, keys: Keys, key: str, wire: str = "") -> str:
        """Where the state of one caller lies; another algorithm has another key, never another type."""
        return keys.of(KIND, self.tag, encoded(key), suffix=wire or self.wire)

    def caller(self, key: str) -> str:
        """How a caller of this limiter is called where units that came free are announced."""
        return f"{self.tag}:{encoded(key)}"

    def spec(self, need: int, take: int, *, shares: int = 1) -> str:
        """What the script is told; `shares` divides the limits, for a process that counts alone."""
        terms = self.terms
        if shares > 1:
            terms = _terms([_share(limit, shares) for limit in self.limits], shadow=self.shadow)
        return f"{self.wire} {need} {take} {terms}"


def _counted(workers: Workers | None) -> Workers | None:
    if workers is None or callable(workers):
        return workers
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UsageError(f"workers={workers!r}: give how many processes share the limit, 1 or more")
    return workers


def _field(policy: str, limit: Limit) -> tuple[str, str]:
    name = _quoted(policy)
    return name, f"{name};q={limit.count};w={max(1, math.ceil(limit.window_us / 1_000_000))}"


def _quoted(name: str) -> str:
    r"""A string of structured fields (RFC 9651): printable ASCII, with ``"`` and ``\\`` escaped."""
    plain = name.encode("ascii", "backslashreplace").decode()
    plain = "".join(sign if " " <= sign <= "~" else f"\\x{ord(sign):02x}" for sign in plain)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _chosen(choices: Any, value: str, name: str) -> Any:
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(repr(str(one)) for one in choices)
        raise UsageError(f"{name}={value!r} is unknown: choose one of {known}") from None


def _terms(limits: Sequence[Limit], *, shadow: bool) -> str:
    bits, shift = layout(limits)
    return f"{shadow:d} {bits} {shift} " + " ".join(f"{limit.count} {limit.window_us}" for limit in limits)


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


@dataclass(slots=True)
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
