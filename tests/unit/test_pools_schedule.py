"""Pools under random schedules: processes that wait, crash, lose replies and lapse, one step at a time.

Nothing here runs in parallel: each procedure is a generator, so the test decides who takes the next step and
what becomes of it. After every step the budget is checked against the sockets that are really open.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from statekit.errors import PoolExhausted, StoreTimeout, StoreUnavailable
from statekit.pools.core import Grant, PoolConfig, viewing
from statekit.pools.ledger import Ledger
from statekit.pools.loan import Entry
from statekit.pools.local import Ask, Close, LocalPool, Open, Park, Ping
from statekit.pools.memory import TWINS
from statekit.store.memory import MemoryTransport

EPOCH = 1_700_000_000_000_000
KEY = "sk1:t:pool:{x}"


class Cancelled(BaseException):
    """What a task or a thread may be hit by at any step."""


class Signal:
    def set(self) -> None: ...
    def clear(self) -> None: ...


@dataclass
class World:
    """The store, the clock, the network, and the processes."""

    config: PoolConfig
    now: float = 100.0
    store: MemoryTransport = field(default_factory=lambda: MemoryTransport(TWINS))
    delayed: list[Any] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    born: int = 0

    def stamp(self) -> int:
        return EPOCH + round(self.now * 1_000_000)

    def start(self) -> None:
        self.born += 1
        self.processes.append(Process(self, f"p{self.born}"))

    def execute(self, calls: Any) -> Any:
        """Run at the store, at its time of arrival: a request that was under way for long is not older for it."""
        return self.store.exchange(
            tuple(call._replace(args=(*call.args[:-1], self.stamp())) for call in calls), 1
        )

    def shares(self) -> dict[str, int]:
        op = viewing(KEY, self.config, self.stamp())
        try:
            op.send(self.store.exchange(next(op), 1))
        except StopIteration as stop:
            return {process.worker: process.share for process in stop.value.processes}
        raise AssertionError

    def check(self) -> None:
        shares = self.shares()
        assert sum(shares.values()) <= self.config.fleet
        for process in self.processes:
            ledger, share = process.ledger, shares.get(process.name)
            assert process.sockets <= ledger.held <= self.config.per_process
            assert len(ledger.busy) >= len(process.loans)
            trusted = max(ledger.held, ledger.share.size)  # what it has, and what it may still open
            if share is None or trusted <= share:
                process.lapsed = share is None and trusted > 0
            assert process.lapsed or share is None or ledger.held <= share
        if not any(process.lapsed for process in self.processes):
            assert sum(process.sockets for process in self.processes) <= self.config.fleet


class Process:
    """One process: its pool, the procedures under way in it, and the clients its callers hold."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.ledger = Ledger(world.config, nullcontext(), lambda: world.now, lambda: 1.0, pings=False)
        self.pool = LocalPool(
            self.ledger, KEY, lambda: name, world.stamp, Signal, lambda _: name, lambda _: None
        )
        self.tasks: list[list[Any]] = []  # [steps, effect]
        self.loans: list[Entry] = []
        self.sockets = 0
        self.exhausted = 0
        self.lapsed = False

    def begin(self, steps: Any) -> None:
        task = [steps, None]
        self.tasks.append(task)
        self._resume(task, lambda: next(steps))

    def _resume(self, task: list[Any], step: Any) -> None:
        try:
            task[1] = step()
        except StopIteration as stop:
            self.tasks.remove(task)
            if isinstance(stop.value, Entry):
                self.loans.append(stop.value)
        except PoolExhausted:
            self.exhausted += 1
            self.tasks.remove(task)
        except (Cancelled, ConnectionRefusedError):
            self.tasks.remove(task)

    def step(self, task: list[Any], luck: random.Random, *, calm: bool = False) -> None:
        """Let one effect have its outcome, good or bad."""
        steps, effect = task
        fate = 1.0 if calm else luck.random()
        match effect:
            case Ask(op):
                self._ask(task, op, fate)
            case Open() if fate < 0.1:
                self._resume(task, lambda: steps.throw(ConnectionRefusedError()))
            case Open():
                self.sockets += 1
                self._resume(task, lambda: steps.send(object()))
            case Close():
                self.sockets -= 1
                if fate < 0.1:
                    self._resume(task, lambda: steps.throw(OSError("already gone")))
                else:
                    self._resume(task, lambda: steps.send(None))
            case Ping() if fate < 0.2:
                self._resume(task, lambda: steps.throw(luck.choice([OSError(), Cancelled()])))
            case Ping():
                self._resume(task, lambda: steps.send(calm or luck.random() < 0.5))
            case Park() if fate < 0.05:
                self._resume(task, lambda: steps.throw(Cancelled()))
            case Park():
                self._resume(task, lambda: steps.send(1))

    def _ask(self, task: list[Any], op: Any, fate: float) -> None:
        steps, calls = task[0], next(op)
        if fate < 0.08:
            error = StoreUnavailable("never sent")
        elif fate < 0.16:
            self.world.execute(calls)
            error = StoreTimeout("the reply is lost")
        elif fate < 0.24:
            self.world.delayed.append(calls)
            error = StoreTimeout("it arrives later")
        elif fate < 0.28:
            self.world.execute(calls)
            op.close()
            return self._resume(task, lambda: steps.throw(Cancelled()))
        else:
            return self._resume(task, lambda: steps.send(_ended(op, "send", self.world.execute(calls))))
        return self._resume(task, lambda: steps.send(_ended(op, "throw", error)))

    def give_back(self, entry: Entry, *, drop: bool = False) -> None:
        self.loans.remove(entry)
        if self.ledger.put(entry, drop):
            self.begin(self.pool.retire(entry))


def _ended(op: Any, how: str, value: Any) -> Grant:
    try:
        getattr(op, how)(value)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("one round is all it takes")


def one_move(world: World, luck: random.Random) -> None:
    process = luck.choice(world.processes)
    match luck.choices(range(9), [20, 40, 20, 3, 10, 10, 1, 1, 5])[0]:
        case 0:
            process.begin(process.pool.checkout(luck.choice([0, 0.1, 2.0])))
        case 1 if process.tasks:
            process.step(luck.choice(process.tasks), luck)
        case 2 if process.loans:
            process.give_back(luck.choice(process.loans))
        case 3 if process.loans:
            process.give_back(luck.choice(process.loans), drop=True)
        case 4:
            process.begin(process.pool.tend())
        case 5:
            world.now += luck.choice([0.001, 0.05, 0.3])
        case 6 if len(world.processes) > 2:
            world.processes.remove(process)  # kill -9: the kernel closes its sockets, the lease remains
            world.start()
        case 7:
            world.now += luck.choice([2.0, 6.5])
        case 8 if world.delayed:
            world.execute(world.delayed.pop(luck.randrange(len(world.delayed))))


@pytest.mark.parametrize("policy", ["keep", "close"])
@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**32), per_process=st.integers(1, 4), spare=st.integers(0, 3))
def test_no_schedule_passes_the_budget(policy: str, seed: int, per_process: int, spare: int) -> None:
    played(policy, seed, per_process, spare)


@pytest.mark.exhaustive
@pytest.mark.parametrize("policy", ["keep", "close"])
@pytest.mark.parametrize("shard", range(4))
def test_no_schedule_of_thousands_passes_the_budget(policy: str, shard: int, record_property: Any) -> None:
    seeds = range(250 * shard, 250 * (shard + 1))
    for seed in seeds:
        played(policy, seed, 1 + seed % 4, seed // 4 % 4)
    record_property("schedules", ("pools", len(seeds), 250 * len(seeds)))


def played(policy: str, seed: int, per_process: int, spare: int) -> None:
    """One schedule, the same whenever it is played."""
    luck = random.Random(seed)
    bounds = {"per_process": per_process, "fleet": per_process + spare, "idle": 3, "lifetime": 20}
    config = PoolConfig("x", on_outage=policy, **bounds)
    world = World(config)
    for _ in range(4):
        world.start()
    for _ in range(250):
        one_move(world, luck)
        world.check()
    settle(world, luck)


def settle(world: World, luck: random.Random) -> None:
    """Let everybody finish in peace: nobody hangs, no room is lost, and each can have a client again."""
    world.delayed.clear()
    for _ in range(400):
        turn(world, luck)
        for process in world.processes:
            for entry in list(process.loans):
                process.give_back(entry)
    for process in world.processes:
        assert not process.ledger.line
        assert process.ledger.opening == process.ledger.closing == 0
        assert process.sockets == process.ledger.held
    for process in world.processes:
        before = process.exhausted
        process.begin(process.pool.checkout(15.0))
        for _ in range(400):
            if not process.loans:
                turn(world, luck)
        assert process.exhausted == before
        assert len(process.loans) == 1
        process.give_back(process.loans[0])


def turn(world: World, luck: random.Random) -> None:
    """50 ms in which every process tends its pool and everything under way goes well."""
    world.now += 0.05
    for process in world.processes:
        process.begin(process.pool.tend())
        for task in list(process.tasks):
            process.step(task, luck, calm=True)
    world.check()
