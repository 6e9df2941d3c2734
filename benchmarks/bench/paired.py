"""The paired runner: every round gives every contender a batch, in an order drawn anew.

What disturbs the machine disturbs all contenders of a round alike, so it is the ratios within a round that are
compared, and their median that is reported. A batch is long enough (20 ms) for the clock, and short enough for a
round to be over before the machine has changed. The cycle collector rests during a batch and runs between them.
"""

from __future__ import annotations

import gc
import inspect
import random
import timeit
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.bench.lab import Lab
from benchmarks.bench.model import Contender

__all__ = ["Lane", "Pace", "paired"]

SINGLY = 5e-6
"""Seconds a call must take to be timed one by one: the clock is read twice for 0.1 µs."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure."""

    rounds: int = 31
    batch: float = 0.02
    warm: int = 2

    @classmethod
    def of(cls, *, quick: bool) -> Pace:
        return cls(rounds=7, batch=0.005, warm=1) if quick else cls()


Batch = Callable[[int], "list[float] | float"]


@dataclass(slots=True)
class Lane:
    """A contender under way: its times, in seconds for one unit of work, a value a round."""

    contender: Contender
    run: Batch
    size: int = 1
    rounds: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def go(self) -> None:
        """Run one batch and keep its times."""
        if self.contender.before is not None:
            self.contender.before()
        taken = self.run(self.size)
        each = self.contender.calls
        if isinstance(taken, float):
            self.rounds.append(taken / self.size / each)
            return
        self.rounds.append(sum(taken) / self.size / each)
        taken.sort()
        self.p50.append(median(taken) / each)
        self.p99.append(taken[min(len(taken) - 1, len(taken) * 99 // 100)] / each)

    def forget(self) -> None:
        """Drop what was measured while warming up."""
        self.rounds, self.p50, self.p99 = [], [], []


def paired(lab: Lab, contenders: Sequence[Contender], pace: Pace, seed: int = 1) -> list[Lane]:
    """Measure the contenders side by side; the lanes come back in their order, with all rounds."""
    lanes = [_calibrated(lab, contender, pace) for contender in contenders]
    order, dice = list(lanes), random.Random(seed)
    gc.collect()
    gc.freeze()  # what is there by now stays: a collection between batches need not walk it
    for number in range(pace.warm + pace.rounds):
        if number == pace.warm:
            for lane in lanes:
                lane.forget()
        dice.shuffle(order)
        for lane in order:
            _undisturbed(lane)
    gc.unfreeze()
    return lanes


def _undisturbed(lane: Lane) -> None:
    gc.collect()
    gc.disable()
    try:
        lane.go()
    finally:
        gc.enable()


def _calibrated(lab: Lab, contender: Contender, pace: Pace) -> Lane:
    """Find how many calls a batch needs, and whether they are worth timing one by one."""
    lane = Lane(contender, _whole(lab, contender))
    while _batch(lane) < pace.batch / 2:
        lane.size *= 2
    a_call = min(_batch(lane) for _ in range(3)) / lane.size  # what disturbs one of the three says nothing
    lane.size = max(1, round(pace.batch / a_call))
    if a_call >= SINGLY:
        lane.run = _single(lab, contender)
    lane.forget()
    return lane


def _batch(lane: Lane) -> float:
    """How long one batch takes."""
    lane.go()
    return lane.rounds[-1] * lane.size * lane.contender.calls


# -- batches ---------------------------------------------------------------------------------------------


def _whole(lab: Lab, contender: Contender) -> Batch:
    """Time n calls as one span."""
    call = contender.call
    if isinstance(call, str):
        return timeit.Timer(call, globals=dict(contender.names)).timeit
    if not inspect.iscoroutinefunction(call):
        return timeit.Timer(call).timeit

    async def batch(n: int) -> float:
        start = perf_counter()
        for _ in repeat(None, n):
            await call()
        return perf_counter() - start

    return lambda n: lab.run(batch(n))


def _single(lab: Lab, contender: Contender) -> Batch:
    """Time each of n calls."""
    call = contender.call
    if inspect.iscoroutinefunction(call):
        return lambda n: lab.run(_awaited(call, n))
    if isinstance(call, str):
        timer = timeit.Timer(call, globals=dict(contender.names))
        return lambda n: [timer.timeit(1) for _ in range(n)]
    return lambda n: _called(call, n)


def _called(call: Callable[[], Any], n: int) -> list[float]:
    spans, clock = [], perf_counter_ns
    for _ in repeat(None, n):
        start = clock()
        call()
        spans.append(clock() - start)
    return [span * 1e-9 for span in spans]


async def _awaited(call: Callable[[], Coroutine[Any, Any, Any]], n: int) -> list[float]:
    spans, clock = [], perf_counter_ns
    for _ in repeat(None, n):
        start = clock()
        await call()
        spans.append(clock() - start)
    return [span * 1e-9 for span in spans]
