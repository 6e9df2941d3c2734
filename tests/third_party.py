"""A third party for tests: whoever borrows a client or holds a slot connects to it, and it counts."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import Any


class Stub:
    """A third party that answers, and counts the connections it holds.

    One thread, and in each round what was closed before what is new: a connection closed before another was
    opened is never counted beside it.
    """

    def __init__(self) -> None:
        self.live = self.most = self.total = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            ready = [key.fileobj for key, _ in self._selector.select(0.05)]
            for connection in ready:
                if connection is not self._listener:
                    self._answer(connection)
            if self._listener in ready:
                self._accept()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._selector.register(connection, selectors.EVENT_READ)
        self.live += 1
        self.total += 1
        self.most = max(self.most, self.live)

    def _answer(self, connection: Any) -> None:
        try:
            asked = connection.recv(1)
            connection.sendall(b"!" if asked else b"")
        except OSError:
            asked = b""
        if not asked:
            self._selector.unregister(connection)
            connection.close()
            self.live -= 1

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
