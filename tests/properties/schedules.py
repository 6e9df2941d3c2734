"""Random schedules for a limiter, each told by its number: what is asked of the store, and what it must answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from struct import pack
from typing import Any, NamedTuple

from statekit.ratelimit.core import HIT, HOLD, RESET
from statekit.ratelimit.limits import LARGEST, Limit
from statekit.ratelimit.rule import layout
from statekit.store.op import Script
from tests.models.limits import ALGORITHMS, Asked, Bound, Caller, Wish, hit, hold

START = 1_893_456_000_000_000
SECOND, DAY, YEARS = 10**6, 86400 * 10**6, 10 * 365 * 86400 * 10**6


class Step(NamedTuple):
    """One run of a script, and its one right answer."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Any, ...]
    answer: list[int] | int
    asked: tuple[Asked, ...] = ()
    """What a hit asks for."""


class Plan(NamedTuple):
    """The limits of a limiter, and as the scripts are told them."""

    bounds: tuple[Bound, ...]
    terms: str

    @classmethod
    def of(cls, bounds: list[Bound]) -> Plan:
        bits, shift = layout([Limit(count, window / SECOND) for count, window in bounds])
        return cls(tuple(bounds), f"{bits} {shift} " + " ".join(f"{c} {w}" for c, w in bounds))


class Schedule:
    """A limiter's life, the same whenever it is told: one to three callers, whatever they ask, limits that change, a clock that need not go on."""

    def __init__(self, algorithm: str, number: int) -> None:
        self.luck = luck = random.Random(number * len(ALGORITHMS) + ALGORITHMS.index(algorithm))
        self.algorithm, self.number = algorithm, number
        kind = luck.random()
        self.huge, self.changing, self.leaping = kind < 0.15, 0.15 <= kind < 0.4, luck.random() < 0.3
        self.holding, self.shadow = luck.random() < 0.3, luck.random() < 0.1
        self.plans = [self._plan() for _ in range(3 if self.changing else 1)]
        self.plan = self.plans[0]
        self.now = START + luck.randrange(0, 10 * SECOND)
        names = [f"{{x:{algorithm}:{number}}}:{name}" for name in ("ann", "bob", "eve")]
        self.callers = {name: Caller(algorithm) for name in names[: luck.choice((1, 1, 1, 1, 2, 3))]}
        self.notable: list[int] = []
        self.made = self.proved = 0

    def _plan(self) -> Plan:
        luck = self.luck
        bounds = {}
        for _ in range(luck.choice((1, 1, 1, 2, 2, 3))):
            count = luck.randrange(13)
            window = luck.choice((luck.randrange(1, 61), luck.randrange(1, 1001), SECOND, 60 * SECOND))
            if self.huge and luck.random() < 0.7:
                count = luck.choice((1000, 10**6, 50_000_000, LARGEST, luck.randrange(LARGEST)))
                window = luck.choice((1, SECOND, DAY, 30 * DAY, 101 * DAY, YEARS, luck.randrange(1, YEARS)))
            elif luck.random() < 0.2:
                count = luck.choice((100, 1000, 100_000))
            bounds[window] = Bound(count, window)
        return Plan.of(list(bounds.values()))

    # -- what happens --------------------------------------------------------------------------------------

    def steps(self, most: int) -> Iterator[Step]:
        luck = self.luck
        for _ in range(luck.randrange(most // 4, 7 * most // 4)):
            self.now = self._next_moment()
            dice = luck.random()
            if self.changing and dice < 0.15:
                self.plan = luck.choice(self.plans)
            if dice > 0.98:
                yield self._reset()
            elif self.holding and 0.3 < dice < 0.6:
                yield self._hold()
            else:
                yield from self._hit()
        for name, caller in self.callers.items():
            yield Step(RESET, (name,), ("freed", name), int(caller.written))

    def _next_moment(self) -> int:
        """Mostly a little later, or just about a moment that matters; sometimes far from here, or back."""
        luck, dice = self.luck, self.luck.random()
        if dice < 0.35 and self.notable:
            moment = luck.choice(self.notable) + luck.choice((-1, 0, 0, 1))
            if moment >= self.now:
                return moment
        if dice < 0.45:
            return self.now
        longest = max(window for _, window in self.plan.bounds)
        if self.leaping and dice > 0.9:
            leap = luck.choice((longest, 2 * longest, 3600 * SECOND, luck.randrange(2 * longest + 2)))
            leap += luck.choice((-1, 0, 1))
            return max(START - YEARS, self.now - leap) if dice > 0.94 else min(START + YEARS, self.now + leap)
        spread = luck.choice((10, 80, max(window for _, window in self.plan.bounds) // 3 + 1))
        return self.now + luck.randrange(spread)

    def _cost(self) -> int:
        luck = self.luck
        most = max(count for count, _ in self.plan.bounds)
        return luck.choice((1, 1, 1, 1, 2, 3, luck.randrange(5), luck.randrange(most + 2)))

    def _asked(self, name: str, need: int, take: int) -> tuple[Asked, str]:
        plan, shadow = self.plan, self.shadow and name.endswith(("ann", "eve"))
        text = f"{self.algorithm} {need} {take} {shadow:d} {plan.terms}"
        return Asked(self.callers[name], plan.bounds, need, take, shadow), text

    def _hit(self) -> Iterator[Step]:
        """A hit or a peek of one caller, or of all; a refusal may be asked again, just before its end and at it."""
        names = list(self.callers) if self.luck.random() < 0.5 else [self.luck.choice(list(self.callers))]
        costs = [self._cost() for _ in names]
        looks = self.luck.random() < 0.15
        step = self._ask(names, costs, looks=looks)
        yield step
        assert isinstance(step.answer, list)
        waits = step.answer[3::4]
        refused = not step.answer[0]
        if refused and min(waits) >= 0 and self.luck.random() < 0.4:
            wrote = not self.changing or (min(costs) > 0 and not looks)
            wait = max(waits) if not self.shadow else self._refusing(names, costs, waits)
            for later, admitted in ((wait - 1, 0), (1, 1)):
                self.now += later
                again = self._ask(names, costs, looks=later > 1 or looks)
                assert not wrote or again.answer[0] == admitted, "the oracle contradicts itself"
                yield again
            self.proved += 1

    def _refusing(self, names: list[str], costs: list[int], waits: list[int]) -> int:
        per = len(self.plan.bounds)
        parts = [waits[i * per : i * per + per] for i in range(len(names))]
        return max(max(part) for name, part in zip(names, parts, strict=True) if name.endswith("bob"))

    def _ask(self, names: list[str], costs: list[int], *, looks: bool) -> Step:
        pairs = [
            self._asked(name, max(1, cost), 0 if looks else cost)
            for name, cost in zip(names, costs, strict=True)
        ]
        all_asked = tuple(asked for asked, _ in pairs)
        answer = hit(self.now, *all_asked)
        self._note(answer[2:])
        return Step(HIT, tuple(names), (self.now, *(text for _, text in pairs)), answer, all_asked)

    def _hold(self) -> Step:
        """Make a hold, settle one, or both, as reservations and leases do; some are settled that are not there."""
        luck, name = self.luck, self.luck.choice(list(self.callers))
        held = [one.id for one in self.callers[name].stored]
        old = luck.choice([*held, "f" * 16, ""]) if luck.random() < 0.6 else ""
        units = next((one.units for one in self.callers[name].stored if one.id == old), 1)
        spent = luck.choice((0, units, luck.randrange(units + 1), units + luck.randrange(3))) if old else 0
        cost, self.made, new = max(1, self._cost()), self.made + 1, f"{self.made:016x}"
        longest = max(window for _, window in self.plan.bounds)
        lasts = luck.choice(
            (0, 1, luck.randrange(80), min(longest, 3600 * SECOND), luck.randrange(longest + 1))
        )
        verb = luck.random()
        if verb < 0.3:
            wish, (asked, text) = Wish(old, spent), self._asked(name, 1, 0)
        elif verb < 0.65:
            wish, (asked, text) = Wish(old, spent, new, cost, cost, lasts), self._asked(name, cost, 0)
        else:
            wish, (asked, text) = Wish(old, spent, new, 0, cost * 3, lasts), self._asked(name, cost, cost)
        answer = hold(self.now, asked, wish)
        self._note(answer[2:-2])
        return Step(HOLD, (name,), (self.now, text, *wish, "freed", name), answer)

    def _reset(self) -> Step:
        name = self.luck.choice(list(self.callers))
        written, self.callers[name] = self.callers[name].written, Caller(self.algorithm)
        return Step(RESET, (name,), ("freed", name), int(written))

    def _note(self, figures: list[int]) -> None:
        """Remember the moments the answer names."""
        self.notable = [self.now + wait for index, wait in enumerate(figures) if index % 4 and wait > 0]


# -- on the wire ---------------------------------------------------------------------------------------------


def request(step: Step) -> bytes:
    """A step as the server reads it."""
    words = ["EVALSHA", step.script.sha, len(step.keys), *step.keys, *step.args]
    texts = [str(word) for word in words]
    parts = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
    return f"*{len(texts)}\r\n{parts}".encode()


def reply(answer: list[int] | int) -> bytes:
    """The right answer as the server writes it."""
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    return b"$%d\r\n%b\r\n" % (8 * len(answer), pack(f">{len(answer)}q", *answer))
