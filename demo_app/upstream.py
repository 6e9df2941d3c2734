"""The third party: a small HTTP server that answers slowly and counts the connections it is holding.

``GET /stats`` tells: connections now, the most there ever were, calls answered. A connection counts from
its first call until it is closed; one that only ever asks for ``/stats`` is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Upstream"]


@dataclass(slots=True)
class Upstream:
    """The counts of one third party."""

    delay: float
    calls: int = 0
    connections: int = 0
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until its peer closes it."""
        counted = False
        try:
            while head := await _request(reader):
                if head.startswith("GET /stats"):
                    await _answer(writer, self.stats())
                    continue
                if not counted:
                    counted = True
                    self._opened()
                self.calls += 1
                await asyncio.sleep(self.delay)
                await _answer(writer, {"paid": True, "call": self.calls})
        except (ConnectionError, asyncio.CancelledError):  # the peer has gone, or we are
            pass
        finally:
            self.connections -= counted
            writer.close()

    def _opened(self) -> None:
        self.connections += 1
        self.most = max(self.most, self.connections)

    def stats(self) -> dict[str, int]:
        return {"connections": self.connections, "max": self.most, "calls": self.calls}


async def _request(reader: asyncio.StreamReader) -> str:
    """Read the head of a request; this third party takes no bodies. Empty when the peer has gone."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    return ""


async def _answer(writer: asyncio.StreamWriter, document: Mapping[str, object]) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _main(host: str, port: int, delay: float) -> None:
    upstream = Upstream(delay)
    server = await asyncio.start_server(upstream.serve, host, port, backlog=512)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    address = server.sockets[0].getsockname()
    sys.stdout.write(json.dumps({"upstream": f"http://{address[0]}:{address[1]}"}) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A slow third party that counts its connections.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--delay", type=float, default=0.12, help="seconds a call takes")
    given = parser.parse_args()
    asyncio.run(_main(given.host, given.port, given.delay))
