"""Leased limits: four processes on one hot key. How fast, never above the bound, and how much of it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import Any

from benchmarks.bench import AtLeast, AtMost, Figure, Figures, Lab, Skip, case
from benchmarks.bench.proofs import Span, hammered, most_in_a_window
from benchmarks.suites.limiters import plus_redis

PROCESSES = 4
NAME = "hot"


# -- what each process does ------------------------------------------------------------------------------


def hitting(kind: str, url: str, namespace: str, limit: int) -> Callable[[], bool]:
    """One contender's decision, in a process of its own."""
    if kind == "limits":
        return _limits(url, namespace, limit)
    from statekit import Budget, StateKit

    kit = StateKit.connect(url, namespace, budget=Budget(decision=30, operation=30, connect=30))
    options: dict[str, Any] = {"lease": True} if kind == "leased" else {}
    hit = kit.rate_limiter(NAME, f"{limit}/second", **options).hit
    return lambda: hit("k").allowed


def _limits(url: str, namespace: str, limit: int) -> Callable[[], bool]:
    from limits import RateLimitItemPerSecond
    from limits.storage import storage_from_string
    from limits.strategies import MovingWindowRateLimiter

    item = RateLimitItemPerSecond(limit, 1, namespace=namespace)
    hit = MovingWindowRateLimiter(storage_from_string(plus_redis(url))).hit
    return lambda: hit(item, "k")


def counter(_: int, kind: str, url: str, namespace: str, limit: int) -> Generator[Any, float, None]:
    """Decide for as long as each turn says; answer with how many a second, allowed or not."""
    hit = hitting(kind, url, namespace, limit)
    for _ in range(200):
        hit()
    seconds = yield
    while True:
        made, start = 0, monotonic()
        end = start + seconds
        while monotonic() < end:
            for _ in range(20):
                hit()
            made += 20
        seconds = yield made / (monotonic() - start)


def witness(_: int, kind: str, url: str, namespace: str, limit: int) -> Generator[Any, float, None]:
    """Decide for as long as the turn says; answer with when each admitted call was made and returned."""
    hit = hitting(kind, url, namespace, limit)
    hit()
    seconds = yield
    while True:
        seconds = yield hammered(hit, seconds)


# -- cases -----------------------------------------------------------------------------------------------


def leases_exist(lab: Lab) -> None:
    if "lease" not in inspect.signature(lab.memory_kit().rate_limiter).parameters:
        raise Skip("this statekit has no leased limits")


@case("leases/decisions", "How many decisions a second do four processes get on one hot key?")
def decisions(lab: Lab) -> Iterator[Figures]:
    leases_exist(lab)
    kinds = LEASED | OTHERS
    for limit in (5_000_000, 20_000):
        fleets = {
            name: lab.fleet(PROCESSES, counter, kind, lab.url, lab.name(), limit)
            for name, kind in kinds.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in lab.turns(5, 2):
            for name, fleet in fleets.items():
                rates[name].append(sum(fleet.turn(0.5 if lab.quick else 0.8)))
        for fleet in fleets.values():
            fleet.close()
        yield Figures(
            f"{PROCESSES} processes, one key, {limit:,} a second",
            "decisions/s",
            [Figure(name, values, note=NOTES.get(name, "")) for name, values in rates.items()],
            promises=[AtLeast("statekit, leased", 20, of="limits")],
            more_is_better=True,
            note="Nearly all are allowed." if limit > MILLION else "Most are refused, most of those locally.",
        )


MILLION = 1_000_000
NOTES = {"limits": "moving window, hit alone: neither what is left nor when to retry"}


@case("leases/bound", "Does a leased limit hold, and how much of it is used under steady load?")
def bound(lab: Lab) -> Iterator[Figures]:
    leases_exist(lab)
    for limit, kinds in ((20_000, LEASED), (2_000, LEASED | OTHERS)):
        seen = {name: witnessed(lab, kind, limit) for name, kind in kinds.items()}
        most = {name: most_in_a_window(spans, 1.0) for name, (spans, _) in seen.items()}
        shares = {name: used(spans, seconds, limit) for name, (spans, seconds) in seen.items()}
        yield Figures(
            f"most admissions proven within one second, {PROCESSES} processes that never pause, {limit:,} a second",
            "admissions",
            [*(Figure(name, count) for name, count in most.items()), Figure("the limit", limit, floor=True)],
            promises=[AtMost("statekit, leased", limit)],
        )
        yield Figures(
            f"share of the limit that is used, {limit:,} a second",
            "%",
            [
                *(Figure(name, values) for name, values in shares.items()),
                Figure("the limit", 100, floor=True),
            ],
            promises=[AtLeast("statekit, leased", 95)],
            more_is_better=True,
        )


LEASED = {"statekit, leased": "leased"}
OTHERS = {"statekit, one by one": "exact", "limits": "limits"}


def witnessed(lab: Lab, kind: str, limit: int) -> tuple[list[Span], float]:
    """What all processes saw, and for how long they hammered."""
    seconds = 3.0 if lab.quick else 6.0
    with lab.fleet(PROCESSES, witness, kind, lab.url, lab.name(), limit) as fleet:
        seen = fleet.turn(seconds)
    return [span for spans in seen for span in spans], seconds


def used(spans: list[Span], seconds: float, limit: int) -> list[float]:
    """The share of the limit admitted in each second after the first, when slices have found their size."""
    begin = min(before for before, _ in spans)
    whole = range(1, int(seconds) - 1)
    counts = [sum(begin + n <= before < begin + n + 1 for before, _ in spans) for n in whole]
    return [100 * count / limit for count in counts]
