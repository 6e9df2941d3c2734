"""Many visitors of one HTTP server, each on a connection of its own that stays open; as cheap as Python can.

Each has an address of its own (127.1.x.y, all of which are this machine), so that limits by address see as many
callers as there are; and a session of its own.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

__all__ = ["Load", "Visitors", "ask"]


@dataclass(slots=True)
class Load:
    """What came of some seconds of load."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    wrong: int = 0

    @property
    def answered(self) -> int:
        return len(self.times)


class Visitor(asyncio.Protocol):
    """Sends one request, waits for the whole answer, sends the next; reads no more of HTTP than that needs."""

    def __init__(self) -> None:
        self._buffer = b""
        self._due = -1
        self._answer: asyncio.Future[bytes] | None = None
        self.load: Load | None = None
        self.until = 0.0
        self.pause = 0.0
        self.request = b""
        self.expected = b""
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in (self._answer, self.done):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error or ConnectionError("the server hung up"))

    def send(self, request: bytes) -> None:
        self._buffer, self._due, self._start = b"", -1, perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._due < 0:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            self._due = head + 4 + _length(self._buffer[:head].lower())
        if len(self._buffer) >= self._due:
            self._whole(perf_counter())

    def _whole(self, now: float) -> None:
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer.set_result(self._buffer)
            return
        load = self.load
        assert load is not None
        load.times.append(now - self._start)
        load.wrong += not (self._buffer.startswith(b"HTTP/1.1 200") and self._buffer.endswith(self.expected))
        if now < self.until:
            if self.pause:
                asyncio.get_running_loop().call_later(self.pause, self.send, self.request)
            else:
                self.send(self.request)
        elif self.done is not None:
            self.done.set_result(None)

    async def once(self, request: bytes) -> bytes:
        """Send a request and return the whole answer, head and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self.send(request)
        return await self._answer


def _length(head: bytes) -> int:
    at = head.find(b"content-length:")
    return int(head[at + 15 :].partition(b"\r\n")[0]) if at >= 0 else 0


def request(method: str, path: str, cookie: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: */*", "User-Agent: bench"]
    lines += [f"Cookie: {cookie}"] if cookie else []
    lines += ["Content-Length: 0"] if method == "POST" else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Visitors:
    """The visitors of one server; each has begun a session before the load."""

    def __init__(self, port: int, count: int, path: str, expected: bytes) -> None:
        self._port, self._count, self._path, self._expected = port, count, path, expected
        self._all: list[Visitor] = []

    async def arrive(self) -> None:
        loop = asyncio.get_running_loop()
        for n in range(self._count):
            where = (f"127.1.{n // 250}.{n % 250 + 1}", 0)
            _, visitor = await loop.create_connection(Visitor, "127.0.0.1", self._port, local_addr=where)
            filled = await visitor.once(request("POST", "/fill"))
            visitor.request = request("GET", self._path, _cookie(filled))
            visitor.expected = self._expected
            self._all.append(visitor)

    async def visit(self, seconds: float, *, rate: float | None = None) -> Load:
        """Keep every visitor busy for some seconds; or, with `rate`, send about so many requests a second in all."""
        load, loop = Load(), asyncio.get_running_loop()
        start = perf_counter()
        for n, visitor in enumerate(self._all):
            visitor.load, visitor.until = load, start + seconds
            visitor.done = loop.create_future()
            visitor.pause = len(self._all) / rate if rate else 0.0
            loop.call_later(visitor.pause * n / len(self._all), visitor.send, visitor.request)
        await asyncio.gather(*(visitor.done for visitor in self._all if visitor.done))
        load.seconds = perf_counter() - start
        return load

    async def at_once(self, path: str, count: int) -> list[int]:
        """The statuses of `count` requests sent at the same moment, from one address."""
        loop = asyncio.get_running_loop()
        links = [await loop.create_connection(Visitor, "127.0.0.1", self._port) for _ in range(count)]
        answers = await asyncio.gather(*(visitor.once(request("GET", path)) for _, visitor in links))
        for transport, _ in links:
            transport.close()
        return [int(answer[9:12]) for answer in answers]

    def leave(self) -> None:
        for visitor in self._all:
            visitor.transport.close()


async def ask(port: int, path: str) -> Any:
    """One GET; the JSON it answers."""
    transport, visitor = await asyncio.get_running_loop().create_connection(Visitor, "127.0.0.1", port)
    answer = await visitor.once(request("GET", path))
    transport.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def _cookie(answer: bytes) -> str:
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    lines = [line for line in head.split("\r\n") if line.lower().startswith("set-cookie:")]
    return "; ".join(line.partition(":")[2].strip().partition(";")[0] for line in lines)
