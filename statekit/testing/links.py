"""The connections through a `Proxy`: what each end says, passed on as the flow has it. On one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any

__all__ = ["End", "Flow", "Link"]

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that is felt as "connection reset by peer"."""


@dataclass(slots=True)
class Flow:
    """How replies pass now."""

    delay: float = 0.0
    jitter: float = 0.0
    byte: float = 0.0
    """Seconds a byte takes."""
    stalled: bool = False
    gone: bool = False

    def calm(self) -> None:
        self.delay = self.jitter = self.byte = 0.0
        self.stalled = self.gone = False


class Link:
    """One connection: its near end is the client's, the far one the server's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Any, flow: Flow, links: set[Link]) -> None:
        self._loop = loop
        self._target = target
        self._flow = flow
        self._links = links
        self.near, self.far = End(self), End(self)
        self._vanished = False
        self._left: int | None = None
        """Bytes of replies that may pass before it is cut."""
        self._replies: deque[bytes] = deque()
        self._due = 0.0

    def made(self, end: End) -> None:
        end.pause()
        if end is self.near:
            self._links.add(self)
            self._opening = self._loop.create_task(self._connect())
        if self._flow.gone:
            self.cut()

    async def _connect(self) -> None:
        try:
            if isinstance(self._target, str):
                await self._loop.create_unix_connection(lambda: self.far, self._target)
            else:
                await self._loop.create_connection(lambda: self.far, *self._target)
        except OSError:
            self.cut()
        if self not in self._links:
            self.far.reset()
        elif not self._flow.stalled:
            self.resume()

    def heard(self, end: End, data: bytes) -> None:
        """Pass on what one end said; replies, and the end of them (no bytes), when the flow has it."""
        if self._vanished:
            return
        if end is self.near:
            self.far.say(data)
            return
        step = max(1, int(0.02 / self._flow.byte)) if self._flow.byte else len(data) or 1
        for at in range(0, len(data) or 1, step):
            self._later(data[at : at + step])

    def _later(self, piece: bytes) -> None:
        flow, now = self._flow, self._loop.time()
        late = flow.delay + random.uniform(0, flow.jitter) if flow.delay or flow.jitter else 0.0  # noqa: S311
        self._due = max(self._due, now + late) + len(piece) * flow.byte
        if self._due <= now and not self._replies and not flow.stalled:
            self._pass(piece)
        else:
            self._replies.append(piece)
            self._loop.call_at(self._due, self._next)

    def _next(self) -> None:
        if self._replies and not self._flow.stalled:
            self._pass(self._replies.popleft())

    def _pass(self, piece: bytes) -> None:
        if not piece:
            self.near.close()
        elif self._left is None:
            self.near.say(piece)
        else:
            self.near.say(piece[: self._left])
            self._left -= len(piece)
            if self._left <= 0:
                self.cut()

    def pause(self) -> None:
        if not self._vanished:
            self.near.pause()
            self.far.pause()

    def resume(self) -> None:
        """Pass on at once what was held back, and then all that comes."""
        self.near.resume()
        self.far.resume()
        self._due = 0.0
        while self._replies and not self._vanished:
            self._pass(self._replies.popleft())

    def vanish(self) -> None:
        self._vanished = True
        self.near.resume()  # to notice when the client gives up
        self._replies.clear()

    def cut(self, after: int = 0) -> None:
        if after and not self._vanished:
            self._left = after
        else:
            self._links.discard(self)
            self._opening.cancel()
            self._replies.clear()
            self.near.reset()
            self.far.reset()

    def lost(self, end: End) -> None:
        """One end has closed: so does the other, once it has got what it was sent; of one that vanished nobody hears."""
        if end is self.far:
            self.heard(end, b"")
        else:
            self._links.discard(self)
            self._replies.clear()
            self.far.close()


class End(asyncio.Protocol):
    """One end of a link."""

    _transport: Any = None

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._link.made(self)

    def data_received(self, data: bytes) -> None:
        self._link.heard(self, data)

    def connection_lost(self, _: Exception | None) -> None:
        self._link.lost(self)

    def say(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, RESET
                )
            self._transport.abort()
