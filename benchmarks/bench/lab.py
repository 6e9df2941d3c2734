"""What a case works with: the one server, clients of it, kits, processes; all given back when the case ends."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from itertools import count
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
import redis.asyncio

from statekit import AsyncStateKit, Budget, StateKit

__all__ = ["Fleet", "Lab"]

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds a process of a fleet may take to get ready, or to finish a turn."""
UNHURRIED = Budget(decision=10, operation=30, connect=30)
"""A busy machine is no outage: an answer that came late is measured as late, not replaced by a guess."""
USUAL: dict[str, Any] = {"budget": UNHURRIED, "snapshot_dir": None}


class Lab:
    """Hands out what a case needs. The server is the same for all contenders, and so is the kind of connection."""

    def __init__(self, url: str, *, quick: bool = False) -> None:
        self.url = url
        """For redis-py and whoever builds on it; ``redis+`` in front for those who ask for it."""
        self.quick = quick
        self._loop = asyncio.Runner()
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()
        self._mark, self._numbers = os.urandom(3).hex(), count(1)

    def kit(self, namespace: str | None = None, **options: Any) -> StateKit:
        """A kit over the server, in a namespace of its own."""
        kit = StateKit.connect(self.url, namespace or self.name(), **USUAL | options)
        self.later(kit.close)
        return kit

    def memory_kit(self) -> StateKit:
        """The in-memory twin."""
        kit = StateKit.in_memory(self.name())
        self.later(kit.close)
        return kit

    def async_kit(self, namespace: str | None = None, **options: Any) -> AsyncStateKit:
        """Same as `kit`, for asyncio; use it on the lab's loop."""
        kit = AsyncStateKit.connect(self.url, namespace or self.name(), **USUAL | options)
        self._async_stack.push_async_callback(kit.close)
        return kit

    def client(self, **options: Any) -> Any:
        """A redis-py client of the server."""
        client = redis.Redis.from_url(self.url, **options)
        self.later(client.close)
        return client

    def async_client(self, **options: Any) -> Any:
        """A redis-py client for asyncio."""
        client = redis.asyncio.Redis.from_url(self.url, **options)
        self._async_stack.push_async_callback(client.aclose)
        return client

    def name(self, prefix: str = "bench") -> str:
        """A name nobody else uses, in this case or another: a namespace, a key."""
        return f"{prefix}-{self._mark}-{next(self._numbers)}"

    def later(self, fn: Callable[[], Any]) -> None:
        """Call `fn` when the case ends."""
        self._stack.callback(fn)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the lab's one event loop."""
        return self._loop.run(coroutine)

    def turns(self, full: int, quick: int | None = None) -> range:
        """The rounds of a figure a case measures itself; fewer when time is short."""
        return range((quick or max(2, full // 3)) if self.quick else full)

    def fleet(self, size: int, worker: Worker, *args: Any) -> Fleet:
        """Start processes; use it in a ``with`` block, or leave its end to the lab."""
        fleet = Fleet(size, worker, *args)
        self.later(fleet.close)
        return fleet

    @contextmanager
    def commands(self) -> Iterator[Counter[str]]:
        """Count what the server was told inside the block, by command; filled when the block ends."""
        counted: Counter[str] = Counter()
        with redis.Redis.from_url(self.url) as client:
            before = _calls(client)
            yield counted
            after = _calls(client)
        counted.update({name: n - before[name] for name, n in after.items() if n > before[name]})
        counted.subtract({"info": 1})
        for name in [name for name, n in counted.items() if n <= 0]:
            del counted[name]

    def reads(self, fn: Callable[[], Any], times: int = 1) -> float:
        """How often the server had to read from its clients for one call of `fn`: a pipeline is read once."""
        with redis.Redis.from_url(self.url) as client:
            before = int(client.info("stats")["total_reads_processed"])
            for _ in range(times):
                fn()
            after = int(client.info("stats")["total_reads_processed"])
        return round(float(max(0, after - before - 1)) / times, 1)  # to a tenth: a kit beats now and then

    @contextmanager
    def round_trips(self, kit: Any) -> Iterator[list[tuple[str, ...]]]:
        """List the commands of each round trip a kit makes inside the block."""
        trips: list[tuple[str, ...]] = []

        def heard(event: Any) -> None:
            if hasattr(event, "commands"):
                trips.append(event.commands)

        stop = kit.hooks.subscribe(heard)
        try:
            yield trips
        finally:
            stop()

    def close(self) -> None:
        self._stack.close()
        self._loop.run(self._async_stack.aclose())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _calls(client: Any) -> Counter[str]:
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()})


Worker = Callable[..., Generator[Any, Any, Any]]


class Fleet:
    """Processes that work in turns, started afresh (spawn), so that nothing is inherited.

    A worker is a generator function at the top of a module: ``worker(index, *args)``. It prepares, then yields:
    now it is ready. What `turn` is given is sent into it; what it yields next is its answer.

        def worker(index: int, url: str) -> Generator[Any, float, None]:
            limiter = StateKit.connect(url).rate_limiter("hot", "1000/second")
            seconds = yield
            while True:
                seconds = yield admitted(limiter, seconds)
    """

    def __init__(self, size: int, worker: Worker, *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        for index in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, worker, index, args), daemon=True)
            process.start()
            theirs.close()
            self._links.append(mine)
            self._processes.append(process)
        self.ready = [self._answer(index) for index in range(size)]
        """What each worker's first yield gave."""

    def turn(self, order: Any = None) -> list[Any]:
        """Give every process the same order, at once; return their answers, in the order of their index."""
        for link in self._links:
            link.send((order,))
        return [self._answer(index) for index in range(len(self._links))]

    @property
    def pids(self) -> list[int]:
        return [process.pid or 0 for process in self._processes]

    def close(self) -> None:
        for link in self._links:
            link.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
        self._links, self._processes = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, index: int) -> Any:
        if not self._links[index].poll(PATIENCE):
            raise TimeoutError(f"process {index} of a fleet gives no answer")
        try:
            return self._links[index].recv()
        except EOFError:
            raise RuntimeError(f"process {index} of a fleet has died; see above") from None


def _work(link: Connection, worker: Worker, index: int, args: tuple[Any, ...]) -> None:
    """Run a worker until the other side hangs up."""
    working = worker(index, *args)
    link.send(next(working))
    try:
        while True:
            (order,) = link.recv()
            link.send(working.send(order))
    except (EOFError, BrokenPipeError):
        working.close()
