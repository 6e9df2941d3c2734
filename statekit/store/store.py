"""The store as primitives see it: hand over an operation, get its result.

What every round trip has in common is written once, as a generator around the operation, for both drivers:
the breaker, the repeat of a script the server has forgotten, the one retry of reads, the hooks.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, TypeVar

from statekit.errors import StoreError, StoreRejected, StoreTimeout, StoreUnavailable, UsageError
from statekit.store.drive import adrive, drive
from statekit.store.fork import on_fork
from statekit.store.hooks import Hooks, RoundTrip
from statekit.store.keys import Keys
from statekit.store.op import Call, Op, Reply, Round, started
from statekit.store.outage import Breaker, Budget, checked_budget
from statekit.store.pulse import AsyncPulse, Pulse
from statekit.store.push import AsyncPush, Push
from statekit.store.replicas import checked_replicas, gathered, question, replicated
from statekit.store.roster import AsyncRoster, Roster

__all__ = ["AsyncStore", "AsyncTransport", "Store", "Transport"]

T = TypeVar("T")
Clock = Callable[[], int]
_dice = random.SystemRandom()  # not the global generator: an app may have seeded it


class Transport(Protocol):
    """What carries rounds to a server and back, for blocking callers."""

    def exchange(self, calls: Round, budget: float) -> Sequence[Reply]:
        """Send the calls together; return their replies in order, errors of single commands in place."""

    def subscriber(self) -> Any:
        """Return a new subscription connection, for `Push`."""

    def close(self) -> None: ...
    def after_fork(self) -> None: ...
    def describe(self) -> str: ...


class AsyncTransport(Protocol):
    """Same as `Transport`, for asyncio."""

    def exchange(self, calls: Round, budget: float) -> Awaitable[Sequence[Reply]]: ...
    def subscriber(self) -> Any: ...
    async def close(self) -> None: ...
    def describe(self) -> str: ...


class _Governed:
    """What both stores share: names, budgets, hooks, and the rules around each round."""

    def __init__(self, namespace: str, budget: Budget, clock: Clock | None, replicas: int) -> None:
        if clock is not None and not callable(clock):
            raise UsageError(f"clock={clock!r} cannot be called: give a function that returns microseconds")
        self.keys = Keys(namespace)
        self.budget = checked_budget(budget)
        self.hooks = Hooks()
        self.breaker = Breaker(jitter=lambda: _dice.uniform(0.6, 1.0))
        self.clock = clock
        self.replicas = checked_replicas(replicas)
        """How many replicas must have a write whose loss would do harm, before it counts as done."""
        self._question = question(replicas, self.budget.operation) if replicas else None
        self._worker = Worker()

    @property
    def worker(self) -> str:
        """This process's name in the fleet: host, pid, and a random part; a forked child has its own."""
        return self._worker.name

    def now(self) -> int | str:
        """The time a script shall use: empty for the server's own clock, microseconds in a test."""
        return "" if self.clock is None else self.clock()

    def confirmed(self, op: Op[T]) -> Op[T]:
        """Wrap a write whose loss would do harm: `replicas` of them must have it, or it raises `NotReplicated`."""
        return op if self._question is None else replicated(op, self._question)

    def governed(self, op: Op[T]) -> Generator[Round, Sequence[Reply], T]:
        """Wrap an operation: each of its rounds obeys the breaker, is completed, and is reported."""
        breaker, hooks = self.breaker, self.hooks
        if self._question is not None:
            op = gathered(op)
        try:
            calls = next(started(op))
            while True:
                try:
                    if breaker.opened_until is None and not hooks:
                        replies = yield from self._completed(calls)
                    else:
                        replies = yield from self._reported(calls)
                except StoreError as error:
                    calls = op.throw(error)
                else:
                    calls = op.send(replies)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _reported(self, calls: Round) -> Generator[Round, Sequence[Reply], Sequence[Reply]]:
        """Send if the breaker lets it pass, and tell the hooks how it went."""
        start = monotonic()
        if not self.breaker.admits(start):
            raise StoreUnavailable("the store failed several times in a row; it is asked again in a moment")
        try:
            replies = yield from self._completed(calls)
        except StoreUnavailable as error:
            self._report(calls, start, error)
            raise
        except GeneratorExit:  # a cancelled task, an interrupt
            self.breaker.abandoned(monotonic())
            raise
        self._report(calls, start, next((one for one in replies if isinstance(one, StoreUnavailable)), None))
        return replies

    def _completed(self, calls: Round) -> Generator[Round, Sequence[Reply], Sequence[Reply]]:
        """Send; once more if the connection broke and running the commands twice changes nothing."""
        try:
            try:
                replies = yield calls
            except StoreTimeout:
                raise
            except StoreUnavailable:
                if not all(call.read_only for call in calls):
                    raise
                replies = yield calls
            for reply in replies:
                if isinstance(reply, StoreRejected) and _forgotten(reply):
                    replies = yield from self._taught(calls, replies)
                    break
        except StoreUnavailable as error:
            if error.part:  # of a cluster that answers; each node has a breaker of its own
                self.breaker.succeeded()
            else:
                self.breaker.failed(monotonic())
            raise
        self.breaker.succeeded()
        return replies

    def _taught(
        self, calls: Round, replies: Sequence[Reply]
    ) -> Generator[Round, Sequence[Reply], list[Reply]]:
        """Send again, whole, the scripts the server does not know (restart, failover, SCRIPT FLUSH)."""
        missing = [i for i, reply in enumerate(replies) if _forgotten(reply) or calls[i].waits]
        again = yield tuple(calls[index]._replace(whole=True) for index in missing)
        complete = list(replies)
        for index, reply in zip(missing, again, strict=True):
            complete[index] = reply
        return complete

    def _report(self, calls: Round, start: float, error: Exception | None) -> None:
        self.hooks.emit(RoundTrip(tuple(map(_verb, calls)), monotonic() - start, error))


def _forgotten(reply: Reply) -> bool:
    return isinstance(reply, StoreRejected) and str(reply.args[0]).startswith("NOSCRIPT")


def _verb(call: Call) -> str:
    return call.script.name if call.script else str(call.args[0])


@dataclass(slots=True)
class Worker:
    """Who this process is; asked again after a fork, the answer is another."""

    _pid: int = 0
    _name: str = ""

    @property
    def name(self) -> str:
        pid = os.getpid()
        if pid != self._pid:
            self._name = f"{socket.gethostname()}-{pid}-{os.urandom(4).hex()}"
            self._pid = pid
        return self._name


class Store(_Governed):
    """A shared store for blocking callers; thread-safe, and a forked child may go on using it."""

    def __init__(
        self,
        transport: Transport,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        replicas: int = 0,
    ) -> None:
        super().__init__(namespace, budget, clock, replicas)
        self.transport = transport
        self.keys.slotted = getattr(transport, "slotted", False)
        self.pulse = Pulse()
        self.roster = Roster(self)
        self.push = Push(transport.subscriber)
        on_fork(self)

    def run(self, op: Op[T], budget: float | None = None) -> T:
        """Drive an operation to its result; each round trip may take `budget` seconds."""
        return drive(self.transport, self.governed(op), budget or self.budget.operation)

    def close(self) -> None:
        """Stop the background threads and give all connections back. Closing twice is fine."""
        self.pulse.close()
        self.push.close()
        self.transport.close()

    def after_fork(self) -> None:
        self.transport.after_fork()


class AsyncStore(_Governed):
    """Same as `Store`, for asyncio: rounds issued in one tick of the loop leave as one pipeline."""

    def __init__(
        self,
        transport: AsyncTransport,
        namespace: str = "statekit",
        *,
        budget: Budget = Budget(),
        clock: Clock | None = None,
        replicas: int = 0,
    ) -> None:
        super().__init__(namespace, budget, clock, replicas)
        self.transport = transport
        self.keys.slotted = getattr(transport, "slotted", False)
        self.pulse = AsyncPulse()
        self.roster = AsyncRoster(self)
        self.push = AsyncPush(transport.subscriber)

    def run(self, op: Op[T], budget: float | None = None) -> Coroutine[Any, Any, T]:
        """Same as `Store.run`, for asyncio."""
        driven = adrive(self.transport, self.governed(op), budget or self.budget.operation)
        return driven if self.breaker.opened_until is None else _after_others(driven)

    async def close(self) -> None:
        """Same as `Store.close`, for asyncio."""
        await self.pulse.close()
        await self.push.close()
        await self.transport.close()


async def _after_others(driven: Coroutine[Any, Any, T]) -> T:
    """Let the loop turn first: an answer without the store waits for nothing, and a caller may ask in a loop."""
    try:
        await asyncio.sleep(0)
    except BaseException:
        driven.close()
        raise
    return await driven
