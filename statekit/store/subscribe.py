"""Subscribers: the connections on which a `Push` receives, over redis-py.

Each has a connection of its own, made as the pool makes them, minus its retries: reconnecting is the push's
business, which must know about every gap. (redis-py's own subscriber reconnects silently.)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from statekit.errors import StoreError, StoreUnavailable
from statekit.store.push import Signal

__all__ = ["AsyncRedisSubscriber", "RedisSubscriber"]

Translated: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Turns what redis-py raises into statekit's errors."""


def _signal(reply: Any) -> Signal | None:
    """Read one reply of a subscribed connection; None for what concerns nobody."""
    if not isinstance(reply, list):  # RESP3 answers a PING plainly
        return ("pong", "", b"")
    word, channel, *rest = (part.encode() if isinstance(part, str) else part for part in reply)
    kind = _KINDS.get(word)
    if kind is None or channel is None:
        return None
    return (kind, channel.decode(), rest[0] if kind == "message" else b"")


_KINDS = {
    b"pong": "pong",
    b"message": "message",
    b"smessage": "message",
    b"subscribe": "subscribe",
    b"ssubscribe": "subscribe",
    b"sunsubscribe": "unsubscribe",
}


def _commands(channels: tuple[str, ...], *, sharded: bool) -> list[tuple[str, ...]]:
    if sharded:  # channels of one node may lie in several slots, which one command may not name together
        return [("SSUBSCRIBE", channel) for channel in channels]
    return [("SUBSCRIBE", *channels)] if channels else []


class RedisSubscriber:
    """A blocking connection that receives; sending is safe from other threads."""

    def __init__(self, connection: Callable[[], Any], translated: Translated) -> None:
        self._connection = connection()
        self._translated = translated
        self._sending = threading.Lock()

    def connect(self) -> None:
        with self._translated():
            self._connection.connect()

    def subscribe(self, *channels: str, sharded: bool = False) -> None:
        """Subscribe to channels; `sharded`: to what is published in this node's shard alone, slot by slot."""
        for command in _commands(channels, sharded=sharded):
            self._send(*command)

    def ping(self) -> None:
        self._send("PING")

    def _send(self, *command: str) -> None:
        with self._sending, self._translated():
            self._connection.send_command(*command, check_health=False)

    def get(self, timeout: float) -> Signal | None:
        with self._translated():
            if not self._connection.can_read(timeout):
                return None
            return _signal(self._connection.read_response(disable_decoding=True)) or ("pong", "", b"")

    def fileno(self) -> int:
        """What to wait on, for whoever waits for several."""
        sock = self._connection._sock  # noqa: SLF001 - redis-py has no public name for it
        if sock is None:
            raise StoreUnavailable("the subscription has ended")
        return int(sock.fileno())

    def close(self) -> None:
        # ValueError: fakeredis cannot be closed while another thread is reading from it
        with contextlib.suppress(StoreError, ValueError), self._translated():
            self._connection.disconnect()


class AsyncRedisSubscriber:
    """Same as `RedisSubscriber`, for asyncio."""

    def __init__(self, connection: Callable[[], Any], translated: Translated) -> None:
        self._connection = connection()
        self._translated = translated
        self._reading: asyncio.Task[Any] | None = None

    async def connect(self) -> None:
        with self._translated():
            await self._connection.connect()
        self._connection.socket_timeout = None  # silence is what a subscription mostly hears

    async def subscribe(self, *channels: str, sharded: bool = False) -> None:
        for command in _commands(channels, sharded=sharded):
            await self._send(*command)

    async def ping(self) -> None:
        await self._send("PING")

    async def _send(self, *command: str) -> None:
        with self._translated():
            await self._connection.send_command(*command, check_health=False)

    async def get(self, timeout: float) -> Signal | None:  # noqa: ASYNC109 - silence is no error here
        done, _ = await asyncio.wait({self.reading()}, timeout=timeout)
        return self.taken() if done else None

    def reading(self) -> asyncio.Task[Any]:
        """The read that is under way, for whoever waits for several; `taken` takes what it brought."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._connection.read_response(disable_decoding=True))
        return self._reading

    def taken(self) -> Signal:
        reading, self._reading = self.reading(), None
        with self._translated():
            return _signal(reading.result()) or ("pong", "", b"")

    async def close(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading
        with contextlib.suppress(StoreError), self._translated():
            await self._connection.disconnect(nowait=True)
