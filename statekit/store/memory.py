"""The per-process store: the twin of a server, in one dictionary.

Each script has a twin, a Python function over `Data` that does what the Lua does; one contract suite and one
differential test hold the two together. Everything a primitive promises holds here too, except being shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from statekit.errors import StoreError, StoreRejected
from statekit.store.op import Arg, Call, Reply, Round
from statekit.store.push import Signal

__all__ = ["AsyncMemoryTransport", "Data", "MemoryTransport", "Twin", "Twins"]

SWEEP_EVERY = 1024
"""Writes between two sweeps of what has expired."""


class Data:
    """Keys with values and deadlines; what a twin reads and writes. Held under one lock while a round runs."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._values: dict[str, tuple[Any, int]] = {}
        self._writes = 0
        self.subscribers: set[MemorySubscriber | AsyncMemorySubscriber] = set()

    @staticmethod
    def now(given: Arg = "") -> int:
        """Microseconds since the epoch: `given` by a test, else this host's clock."""
        return int(given) if given != "" else time.time_ns() // 1000

    def get(self, key: str) -> Any:
        """The value under a key, or None; a key past its deadline is gone."""
        value, deadline = self._values.get(key, (None, 0))
        if deadline and deadline <= self.now():
            del self._values[key]
            return None
        return value

    def put(self, key: str, value: Any, ttl_ms: int) -> None:
        """Store a value, for `ttl_ms` milliseconds of this host's clock (0: for ever)."""
        self._values[key] = (value, self.now() + ttl_ms * 1000 if ttl_ms else 0)
        self._writes += 1
        if self._writes % SWEEP_EVERY == 0:
            self._sweep()

    def expire(self, key: str, ttl_ms: int) -> None:
        """Move the deadline of a key that exists."""
        if self.get(key) is not None:
            self.put(key, self._values[key][0], ttl_ms)

    def delete(self, *keys: str) -> int:
        """Remove keys; returns how many there were."""
        return sum(self._values.pop(key, None) is not None for key in keys)

    def publish(self, channel: str, message: str | bytes) -> int:
        """Hand a message to this process's subscribers; returns how many there are."""
        data = message.encode() if isinstance(message, str) else message
        listening = [one for one in tuple(self.subscribers) if channel in one.channels]
        for one in listening:
            one.deliver("message", channel, data)
        return len(listening)

    def keys(self) -> list[str]:
        """The keys that are alive, for tests."""
        return [key for key in list(self._values) if self.get(key) is not None]

    def _sweep(self) -> None:
        now = self.now()
        for key in [key for key, (_, deadline) in self._values.items() if deadline and deadline <= now]:
            del self._values[key]


Twin: TypeAlias = Callable[[Data, Sequence[str], Sequence[Arg]], Reply]
Twins: TypeAlias = Mapping[str, Twin]


def _get(data: Data, keys: Sequence[str]) -> Reply:
    value = data.get(keys[0])
    return value.encode() if isinstance(value, str) else value


def _lrange(data: Data, args: Sequence[Any]) -> Reply:
    key, first, last = args
    end = None if int(last) == -1 else int(last) + 1
    return list(data.get(str(key)) or [])[int(first) : end]


COMMANDS: dict[str, Callable[[Data, Sequence[Any]], Reply]] = {
    "PING": lambda _data, _args: b"PONG",
    "GET": _get,
    "DEL": lambda data, args: data.delete(*args),
    "EXISTS": lambda data, args: sum(data.get(key) is not None for key in args),
    "LRANGE": _lrange,
    "PUBLISH": lambda data, args: data.publish(args[0], args[1]),
}


class MemoryTransport:
    """Rounds answered by twins, atomically, in this process."""

    def __init__(self, twins: Twins, data: Data | None = None) -> None:
        self._twins = twins
        self.data = Data() if data is None else data

    def exchange(self, calls: Round, budget: float) -> list[Reply]:  # noqa: ARG002 - memory answers at once
        with self.data.lock:
            return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Reply:
        try:
            if call.script is None:
                return COMMANDS[str(call.args[0])](self.data, call.args[1:])
            keys = [str(key) for key in call.args[: call.keys]]
            return self._twins[call.script.name](self.data, keys, call.args[call.keys :])
        except StoreError as error:
            return error
        except KeyError as error:
            return StoreRejected(f"the in-memory store has no twin of {error}")

    def subscriber(self) -> MemorySubscriber:
        return MemorySubscriber(self.data)

    def close(self) -> None:
        """Keep nothing open; the data goes with the last reference."""

    def after_fork(self) -> None:
        self.data.lock = threading.RLock()

    def describe(self) -> str:
        return "memory of this process"


class AsyncMemoryTransport:
    """Same as `MemoryTransport`, for asyncio."""

    def __init__(self, twins: Twins, data: Data | None = None) -> None:
        self._inner = MemoryTransport(twins, data)
        self.data = self._inner.data

    async def exchange(self, calls: Round, budget: float) -> list[Reply]:
        return self._inner.exchange(calls, budget)

    def subscriber(self) -> AsyncMemorySubscriber:
        return AsyncMemorySubscriber(self.data)

    async def close(self) -> None:
        self._inner.close()

    def describe(self) -> str:
        return self._inner.describe()


class MemorySubscriber:
    """A subscription to this process's own messages."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._inbox: deque[Signal] = deque()
        self._arrived = threading.Condition()
        self.channels: set[str] = set()

    def connect(self) -> None:
        self._data.subscribers.add(self)

    def subscribe(self, *channels: str) -> None:
        self.channels = {*self.channels, *channels}
        for channel in channels:
            self.deliver("subscribe", channel, b"")

    def ping(self) -> None:
        self.deliver("pong", "", b"")

    def deliver(self, kind: str, channel: str, data: bytes) -> None:
        with self._arrived:
            self._inbox.append((kind, channel, data))
            self._arrived.notify()

    def get(self, timeout: float) -> Signal | None:
        with self._arrived:
            if not self._inbox:
                self._arrived.wait(timeout)
            return self._inbox.popleft() if self._inbox else None

    def close(self) -> None:
        self._data.subscribers.discard(self)
        self.ping()  # whoever waits in `get` looks up


class AsyncMemorySubscriber:
    """Same as `MemorySubscriber`, for asyncio; messages may come from the threads of other kits."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Signal] = asyncio.Queue()
        self.channels: set[str] = set()

    async def connect(self) -> None:
        self._data.subscribers.add(self)

    async def subscribe(self, *channels: str) -> None:
        self.channels = {*self.channels, *channels}
        for channel in channels:
            self.deliver("subscribe", channel, b"")

    async def ping(self) -> None:
        self.deliver("pong", "", b"")

    def deliver(self, kind: str, channel: str, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, (kind, channel, data))

    async def get(self, timeout: float) -> Signal | None:  # noqa: ASYNC109 - silence is no error here
        if timeout <= 0:
            return None if self._inbox.empty() else self._inbox.get_nowait()
        try:
            # Not wait_for: before Python 3.12 it can swallow a cancellation, and the loop then never ends.
            async with asyncio.timeout(timeout):
                return await self._inbox.get()
        except TimeoutError:
            return None

    async def close(self) -> None:
        self._data.subscribers.discard(self)
