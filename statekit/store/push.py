"""Push: messages other processes published, handed to whoever keeps a local copy.

Rule 1: publishing keeps nothing. A message can be lost while a connection is down, so every time a
        subscription starts, the first time included, its listeners hear ``None``: anything may have been
        missed, ask the store.
Rule 2: a connection that looks alive is not believed. When nothing has come for `IDLE` seconds a PING goes
        out; without any sign of life within `DEADLINE` the connection is dropped and made anew. (A client
        that only sends PINGs never notices a half-open one.)
Rule 3: reconnecting waits a little longer after each failure, jittered, so that a restarted server is not met
        by the whole fleet at once.

One connection and one thread (or task) a kit, however many channels; nothing runs before the first
subscription. The thread keeps no listener alive: when all are gone, because their kit was dropped instead of
closed, it ends within `IDLE` and its connection with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Protocol, TypeAlias

from statekit.errors import StoreError, StoreUnavailable
from statekit.store.fork import on_fork

__all__ = ["AsyncListener", "AsyncPush", "AsyncSubscriber", "Listener", "Push", "Signal", "Subscriber"]

IDLE = 1.0
"""Seconds of silence after which a PING asks whether anybody is there."""
DEADLINE = 2.0
"""Seconds an answer to that PING may take."""
GATHER = 0.002
"""Seconds from a message until its listeners settle: giving the new answers everywhere comes before saying so."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before the first attempt to reconnect, and the most there is between two."""

log = logging.getLogger("statekit")
_dice = random.SystemRandom()  # not the global generator: an app may have seeded it

Signal: TypeAlias = tuple[str, str, bytes]
"""What a subscriber receives: its kind (``subscribe``, ``message``, ``pong``), the channel, the data."""


class Listener(Protocol):
    """Who follows a channel. Both methods run on the push's thread; what they raise is logged."""

    def heard(self, message: bytes | None) -> None:
        """Take one message; None means that the subscription (re)started and messages may be missing."""

    def settled(self) -> None:
        """Do what remains, now that no further message is waiting; called once after one or more `heard`."""


class AsyncListener(Protocol):
    """Same as `Listener`, for asyncio."""

    def heard(self, message: bytes | None) -> None: ...
    async def settled(self) -> None: ...


class Subscriber(Protocol):
    """A connection of its own that receives what is published."""

    def connect(self) -> None: ...
    def subscribe(self, *channels: str) -> None: ...
    def ping(self) -> None: ...
    def get(self, timeout: float) -> Signal | None:
        """The next signal, or None if none comes within `timeout` seconds."""

    def close(self) -> None: ...


class AsyncSubscriber(Protocol):
    """Same as `Subscriber`, for asyncio."""

    async def connect(self) -> None: ...
    async def subscribe(self, *channels: str) -> None: ...
    async def ping(self) -> None: ...
    async def get(self, timeout: float) -> Signal | None: ...  # noqa: ASYNC109 - silence is no error here
    async def close(self) -> None: ...


def pauses() -> Iterator[float]:
    """The pauses between attempts to reconnect: doubling, jittered, bounded."""
    pause = FIRST_PAUSE
    while True:
        yield pause * _dice.uniform(0.5, 1.5)
        pause = min(LONGEST_PAUSE, pause * 2)


class Watch:
    """Whether a connection still lives, judged by its silence; times are monotonic seconds, passed in."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: float | None = None

    def heard(self) -> None:
        self._asked = None

    def silent(self, now: float) -> bool:
        """Note that nothing came; True if a PING is due. Raises `StoreUnavailable` past the deadline."""
        if self._asked is None:
            self._asked = now
            return True
        if now - self._asked > DEADLINE:
            raise StoreUnavailable(f"the subscription gave no sign of life for {DEADLINE:g} s")
        return False


class Push:
    """The subscriptions of a blocking kit, on one daemon thread; a forked child gets a thread of its own."""

    def __init__(self, subscriber: Callable[[], Subscriber]) -> None:
        self._subscriber = subscriber
        self._listeners: dict[str, tuple[weakref.ref[Listener], ...]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.live: Subscriber | None = None
        """The connection now subscribed, None while there is none: another one may have missed messages."""
        self._thread: threading.Thread | None = None
        on_fork(self)

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Let `listener` follow `channel` as long as it lives: it first hears None, then every message.

        Does not wait, and does not keep the listener alive.
        """
        with self._lock:
            self._listeners[channel] = (*self._listeners.get(channel, ()), weakref.ref(listener))
            if self.live is not None:
                with contextlib.suppress(StoreError):  # the thread will find the connection broken, too
                    self.live.subscribe(channel)
            self._start()

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop handing messages to `listener`."""
        with self._lock:
            remaining = tuple(one for one in self._listeners.get(channel, ()) if one() is not listener)
            self._listeners[channel] = remaining

    def close(self) -> None:
        """End the thread; it is waited for, up to a second."""
        self._closed.set()
        with self._lock:
            live, thread = self.live, self._thread
        if live is not None:
            live.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def after_fork(self) -> None:
        """The parent keeps its connection; this process's copy of it is closed, which the parent does not notice.

        A thread that is a greenlet survives a fork: it would go on here, and read what is meant for the parent.
        """
        self._lock = threading.Lock()
        closed, self._closed = self._closed, threading.Event()
        live, self.live, self._thread = self.live, None, None
        if live is not None:
            live.close()
        if closed.is_set():
            self._closed.set()

    def restart_after_fork(self) -> None:
        """Make a connection of this process's own, by a thread of its own."""
        if self._listeners:
            self._start()

    def _start(self) -> None:
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="statekit-push", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        waits = pauses()
        while not self._closed.is_set():
            subscriber = None
            try:
                subscriber = self._subscriber()
                self._join(subscriber)
                waits = pauses()
                self._listen(subscriber)
            except StoreError as error:
                log.debug("statekit: the subscription is gone and will be made anew: %s", error)
            except Exception:
                if self._thread is threading.current_thread() and not self._closed.is_set():
                    # else a fork or `close` took the connection from under this thread
                    log.exception("statekit: the subscription failed and will be made anew")
            finally:
                if self.live is subscriber:  # else another thread's, begun since this one found nobody left
                    self.live = None
                if subscriber is not None:
                    subscriber.close()
            if self._forsaken():
                return
            self._closed.wait(next(waits))

    def _forsaken(self) -> bool:
        """Whether nobody listens any more: this thread then ends, the next to subscribe starts another."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return True
            for channel, listeners in list(self._listeners.items()):
                living = tuple(one for one in listeners if one() is not None)
                if not living:
                    del self._listeners[channel]
            if self._listeners:
                return False
            self._thread = self.live = None
            return True

    def _join(self, subscriber: Subscriber) -> None:
        subscriber.connect()
        with self._lock:  # a channel added from now on is subscribed by whoever adds it
            subscriber.subscribe(*self._listeners)
            self.live = subscriber

    def _listen(self, subscriber: Subscriber) -> None:
        watch, due = Watch(), 0.0
        touched: dict[int, Listener] = {}
        while not self._closed.is_set():
            signal = subscriber.get(max(0.0, due - monotonic()) if touched else IDLE)
            if signal is not None:
                watch.heard()
                due = due if touched else monotonic() + GATHER
                self._hand_on(signal, touched)
            if touched and (signal is None or monotonic() >= due):
                self._settle(touched)
            elif signal is None:
                if self._forsaken():
                    return
                if watch.silent(monotonic()):
                    subscriber.ping()

    def _hand_on(self, signal: Signal, touched: dict[int, Listener]) -> None:
        kind, channel, data = signal
        if kind == "pong":
            return
        for living in self._listeners.get(channel, ()):
            if (listener := living()) is None:
                continue
            touched[id(listener)] = listener
            try:
                listener.heard(data if kind == "message" else None)
            except Exception:
                log.exception("statekit: a message on %s could not be used", channel)

    def _settle(self, touched: dict[int, Listener]) -> None:
        for listener in touched.values():
            try:
                listener.settled()
            except Exception:
                log.exception("statekit: a local copy could not be brought up to date; it is tried again")
        touched.clear()


class AsyncPush:
    """Same as `Push`, for asyncio: one task; on another event loop it starts over."""

    def __init__(self, subscriber: Callable[[], AsyncSubscriber]) -> None:
        self._subscriber = subscriber
        self._listeners: dict[str, tuple[AsyncListener, ...]] = {}
        self.live: AsyncSubscriber | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def subscribe(self, channel: str, listener: AsyncListener) -> None:
        """Same as `Push.subscribe`, for asyncio."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self.live, self._task = loop, None, None
        known = self._listeners.get(channel, ())
        self._listeners[channel] = known if listener in known else (*known, listener)
        if self.live is not None:
            with contextlib.suppress(StoreError):
                await self.live.subscribe(channel)
        if self._task is None:
            self._task = loop.create_task(self._run(), name="statekit-push")

    def unsubscribe(self, channel: str, listener: AsyncListener) -> None:
        """Same as `Push.unsubscribe`, for asyncio."""
        remaining = tuple(one for one in self._listeners.get(channel, ()) if one is not listener)
        self._listeners[channel] = remaining

    async def close(self) -> None:
        """Same as `Push.close`, for asyncio."""
        task, self._task = self._task, None
        if task is not None and self._loop is asyncio.get_running_loop():
            while not task.done():  # before Python 3.12 a client that connects can swallow a cancellation
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)

    async def _run(self) -> None:
        waits = pauses()
        while True:
            subscriber = None
            try:
                subscriber = self._subscriber()
                await subscriber.connect()
                self.live = subscriber
                await subscriber.subscribe(*self._listeners)
                waits = pauses()
                await self._listen(subscriber)
            except StoreError as error:
                log.debug("statekit: the subscription is gone and will be made anew: %s", error)
            except Exception:
                log.exception("statekit: the subscription failed and will be made anew")
            finally:
                self.live = None
                if subscriber is not None:
                    await subscriber.close()
            await asyncio.sleep(next(waits))

    async def _listen(self, subscriber: AsyncSubscriber) -> None:
        watch, due = Watch(), 0.0
        touched: dict[int, AsyncListener] = {}
        while True:
            signal = await subscriber.get(max(0.0, due - monotonic()) if touched else IDLE)
            if signal is not None:
                watch.heard()
                due = due if touched else monotonic() + GATHER
                self._hand_on(signal, touched)
            if touched and (signal is None or monotonic() >= due):
                await self._settle(touched)
            elif signal is None and watch.silent(monotonic()):
                await subscriber.ping()

    def _hand_on(self, signal: Signal, touched: dict[int, AsyncListener]) -> None:
        kind, channel, data = signal
        if kind == "pong":
            return
        for listener in self._listeners.get(channel, ()):
            touched[id(listener)] = listener
            try:
                listener.heard(data if kind == "message" else None)
            except Exception:
                log.exception("statekit: a message on %s could not be used", channel)

    async def _settle(self, touched: dict[int, AsyncListener]) -> None:
        for listener in touched.values():
            try:
                await listener.settled()
            except Exception:
                log.exception("statekit: a local copy could not be brought up to date; it is tried again")
        touched.clear()
