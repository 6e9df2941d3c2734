"""Slots in flight against their model: holders that renew, vanish, never hear of their grant; a clock that is set back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from statekit.inflight.core import ACQUIRE, RELEASE, RENEW, VIEW
from statekit.inflight.memory import TWINS
from statekit.store.memory import Data
from statekit.store.op import Script
from tests.models.inflight import Slots

START = 1_893_456_000_000_000
SECOND = 1_000_000
LEASE = 4 * SECOND
Runs = Callable[[Script, str, Any], Any]


class Fleet:
    """Many who want one of the slots of a key."""

    def __init__(self, runs: Runs, key: str, number: int) -> None:
        self.runs, self.key, self.luck = runs, key, random.Random(number)
        self.slots, self.now, self.limit = Slots(), START, self.luck.randrange(5)
        self.names: list[str] = []
        self.asked = 0

    def played(self, steps: int) -> int:
        verbs = (self.acquires, self.acquires, self.acquires, self.renews, self.releases, self.releases)
        for _ in range(steps):
            self.now += self.luck.choice(
                (0, 0, 1, SECOND, LEASE - 1, LEASE, LEASE, 15 * SECOND)
            ) * self.luck.randrange(2)
            if self.luck.random() < 0.03:
                self.now -= self.luck.choice((SECOND, 3600 * SECOND))
            if self.luck.random() < 0.03:
                self.limit = self.luck.randrange(5)
            self.luck.choice(verbs)()
            self.counted()
        return steps

    def acquires(self) -> None:
        self.asked += 1
        token, announce = f"w{self.luck.randrange(3)} {self.asked}", self.luck.choice((0, 2 * SECOND))
        before = len(self.slots.live(self.now))
        expected = self.slots.acquire(self.limit, LEASE, token, announce, self.now)
        outcome, *figures = self.runs(ACQUIRE, self.key, (self.limit, LEASE, token, announce, self.now))
        assert (outcome.decode(), *figures) == expected
        if expected[0] == "held":
            assert before < self.limit, "one more than the limit"
            fence = expected[1] if self.luck.random() < 0.8 else 0  # the answer was lost
            self.names.append(f"{fence} {token}")

    def renews(self) -> None:
        some = self.some()
        assert self.runs(RENEW, self.key, (LEASE, self.now, *some)) == self.slots.renew(LEASE, self.now, some)

    def releases(self) -> None:
        some = self.some()
        held, _ = self.slots.release(self.now, some)
        assert self.runs(RELEASE, self.key, ("freed", self.now, *some)) == held

    def some(self) -> list[str]:
        return self.luck.sample(self.names, min(len(self.names), self.luck.randrange(1, 4))) or ["1 w 0"]

    def counted(self) -> None:
        taken, *rows = self.runs(VIEW, self.key, (1, self.now))
        shown = {name.decode(): end for name, end in zip(rows[::2], rows[1::2], strict=True)}
        assert shown == {name: end for name, end in self.slots.ends.items() if end > self.now}
        assert taken == len(shown)


def in_memory() -> Runs:
    data = Data()
    return lambda script, key, args: TWINS[script.name](data, [key], args)


def on_server(url: str) -> Runs:
    client = redis.Redis.from_url(url)
    return lambda script, key, args: client.eval(script.source, 1, key, *args)


def test_slots_are_what_the_model_says(valkey_url, namespace, record_property):
    runs = on_server(valkey_url)
    steps = sum(Fleet(runs, f"{namespace}:{number}", number).played(25) for number in range(40))
    steps += sum(Fleet(in_memory(), "k", number).played(40) for number in range(500))
    record_property("schedules", ("slots in flight", 540, steps))


@pytest.mark.exhaustive
@pytest.mark.parametrize("shard", range(4))
def test_thousands_of_schedules(valkey_url, namespace, shard, record_property):
    runs, numbers = on_server(valkey_url), range(1000 * shard, 1000 * (shard + 1))
    steps = sum(Fleet(runs, f"{namespace}:{number}", number).played(25) for number in numbers)
    record_property("schedules", ("slots in flight", len(numbers), steps))
