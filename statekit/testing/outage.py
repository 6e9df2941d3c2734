"""Outages on demand: a store that is gone, silent, or hangs up."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from statekit.errors import StoreError, StoreUnavailable

__all__ = ["OutageSimulator", "store_down"]


class OutageSimulator:
    """A proxy between a kit and its server that refuses, stalls or cuts when told to.

    Give the kit `url` instead of the server's own. Works for ``redis://`` and ``unix://`` URLs (and their
    ``valkey`` spellings), not for TLS, clusters and sentinels.

        with OutageSimulator("redis://localhost:6379/0") as outage:
            kit = StateKit.connect(outage.url)
            with outage.stalled():
                assert kit.rate_limiter("login", "5/minute").hit("ip").degraded
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target: Any = parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or 6379)
        self._folder = Path(tempfile.mkdtemp(prefix="sko-"))
        self._path = self._folder / "s"
        database = parts.path.strip("/") or "0"
        query = (
            parts.query if parts.scheme == "unix" else "&".join(filter(None, (parts.query, f"db={database}")))
        )
        secret = parts.netloc.rpartition("@")[0]
        asked = f"?{query}" if query else ""
        self.url = f"unix://{secret}{'@' if secret else ''}{self._path}{asked}"
        """Where the kit connects to; the same database and credentials as the original."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener: socket.socket | None = None
        self._links: set[socket.socket] = set()

    def start(self) -> Self:
        """Listen and pass everything on."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def refuse(self) -> None:
        """Refuse new connections and cut those there are: the server is gone."""
        if self._listener is not None:
            self._path.unlink(missing_ok=True)
            _shut(self._listener)
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut the connections there are, once; new ones are welcome."""
        for link in list(self._links):
            _shut(link)

    def stall(self) -> None:
        """Accept everything and answer nothing: the server hangs."""
        self._flowing.clear()

    def restore(self) -> None:
        """Pass everything on again; what was held back in a stall arrives now."""
        self._flowing.set()
        if self._listener is None:
            self.start()

    @contextmanager
    def refused(self) -> Iterator[None]:
        """`refuse` while the block runs."""
        self.refuse()
        try:
            yield
        finally:
            self.restore()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """`stall` while the block runs."""
        self.stall()
        try:
            yield
        finally:
            self.restore()

    def close(self) -> None:
        """Stop for good."""
        self._flowing.set()
        self.refuse()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
            try:
                far.connect(self._target)
            except OSError:
                _shut(near)
                continue
            for source, sink in ((near, far), (far, near)):
                self._links.add(source)
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
        self._links.discard(source)
        _shut(sink)
        source.close()


def _shut(one: socket.socket) -> None:
    """Wake whoever waits on a socket, which closing alone does not."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()


class _Kit(Protocol):
    store: Any


@contextmanager
def store_down(kit: _Kit, error: StoreError | None = None) -> Iterator[None]:
    """Let every round trip of a kit fail at once while the block runs; works on every store, memory too.

    `error` is what they fail with: a `StoreUnavailable` unless given. The declared answers for an outage are
    all one gets; afterwards the kit is as before, its breaker closed.
    """
    store = kit.store
    transport = store.transport
    store.transport = _Down(transport, error or StoreUnavailable("the store is down: a simulated outage"))
    try:
        yield
    finally:
        store.transport = transport
        store.breaker.succeeded()


class _Down:
    """A transport that fails, in either colour: it raises before there is anything to await."""

    def __init__(self, inner: Any, error: StoreError) -> None:
        self._inner = inner
        self._error = error

    def exchange(self, *_: object) -> Any:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
