"""A proxy that breaks a connection in the ways networks and servers do, on demand."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from statekit.store.durations import Duration, seconds
from statekit.testing.links import End, Flow, Link

__all__ = ["Proxy"]


class Proxy:
    """Stands between a kit and its server, and delays, stalls, cuts or refuses when told to.

    Give the kit `url` instead of the server's own; database and credentials are the same. It listens on a unix
    socket, or, given a `port` (0: any that is free), on the loopback. The verbs may be called from any thread and
    have been done when they return. `delay`, `trickle`, `stall` and `refuse` last until `restore`, and have a
    ``with`` form each; `cut` and `half_open` concern the connections there are, once. TLS passes through if the
    proxy has a port and the certificate names 127.0.0.1; of a cluster or a sentinel it shows one node.

    >>> from statekit import Budget, StateKit
    >>> from statekit.store.embedded import Embedded
    >>> with Embedded(ephemeral=True) as url, Proxy(url) as proxy:
    ...     kit = StateKit.connect(proxy.url, budget=Budget(decision=0.5))
    ...     login = kit.rate_limiter("login", "5/minute")
    ...     before = login.hit("203.0.113.7")
    ...     with proxy.stalled():
    ...         meanwhile = login.hit("203.0.113.7")
    ...     after = login.hit("203.0.113.7")
    ...     kit.close()
    >>> before.degraded, meanwhile.degraded, after.degraded
    (False, True, False)
    """

    def __init__(self, url: str, *, port: int | None = None) -> None:
        parts = urlsplit(url)
        self._target: Any = parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or 6379)
        self._folder = Path(tempfile.mkdtemp(prefix="skp-"))
        self._place: Any = str(self._folder / "s") if port is None else ("127.0.0.1", port or _free_port())
        self.url = _moved(parts, self._place)
        """Where the kit connects to."""
        self._flow = Flow()
        self._links: set[Link] = set()
        self._listener: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="statekit-testing-proxy", daemon=True)

    def start(self) -> Self:
        """Listen, and pass everything on. Once only."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        self.restore()
        return self

    @property
    def connections(self) -> int:
        """How many connections go through it now."""
        return len(self._links)

    # -- what it does to the connections there are, once -------------------------------------------------

    def cut(self, *, after: int = 0) -> None:
        """Reset the connections there are; new ones are welcome. Each may be given `after` more bytes of replies."""
        self._each(lambda link: link.cut(after))

    def half_open(self) -> None:
        """Let the connections there are go dead: never another byte, never an end. New ones are welcome.

        As when a firewall has forgotten them, or the server's machine has vanished.
        """
        self._each(Link.vanish)

    # -- what it does until told otherwise ---------------------------------------------------------------

    def delay(self, by: Duration, *, jitter: Duration = 0) -> None:
        """Let each reply take `by` longer (seconds or a `timedelta`), and up to `jitter` more."""
        self._flow.delay, self._flow.jitter = seconds(by, zero=True), seconds(jitter, zero=True)

    def trickle(self, bytes_per_second: float) -> None:
        """Let replies come a few bytes at a time. Raises `UsageError` for what is no number above zero."""
        self._flow.byte = seconds(1 / bytes_per_second if bytes_per_second else 0, "the time a byte takes")

    def stall(self) -> None:
        """Accept everything and pass nothing on: the server hangs."""
        self._flow.stalled = True
        self._each(Link.pause)

    def refuse(self) -> None:
        """Refuse new connections and reset those there are: the server is gone."""
        self._do(self._refuse)

    def restore(self) -> None:
        """Pass everything on as it is again; what was held back arrives now."""
        self._do(self._restore)

    @contextmanager
    def delayed(self, by: Duration, *, jitter: Duration = 0) -> Iterator[None]:
        """`delay` while the block runs."""
        with self._restored():
            self.delay(by, jitter=jitter)
            yield

    @contextmanager
    def trickled(self, bytes_per_second: float) -> Iterator[None]:
        """`trickle` while the block runs."""
        with self._restored():
            self.trickle(bytes_per_second)
            yield

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """`stall` while the block runs."""
        with self._restored():
            self.stall()
            yield

    @contextmanager
    def refused(self) -> Iterator[None]:
        """`refuse` while the block runs."""
        with self._restored():
            self.refuse()
            yield

    def close(self) -> None:
        """Stop for good. Closing twice is fine."""
        if self._thread.is_alive():
            self.refuse()
            self._do(lambda: self._loop.call_soon(self._loop.stop))
            self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- on its loop -------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _do(self, work: Callable[[], object]) -> None:
        """Work on the loop, and wait until it is done; nothing before the start and after the end."""

        async def done() -> None:
            outcome = work()
            if asyncio.iscoroutine(outcome):
                await outcome

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def _each(self, work: Callable[[Link], None]) -> None:
        self._do(lambda: self._each_now(work))

    @contextmanager
    def _restored(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.restore()

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if isinstance(self._place, str):
                Path(self._place).unlink(missing_ok=True)
        self._flow.gone = True
        self._each_now(Link.cut)

    def _each_now(self, work: Callable[[Link], None]) -> None:
        for link in tuple(self._links):
            work(link)

    async def _restore(self) -> None:
        self._flow.calm()
        self._each_now(Link.resume)
        if self._listener is None:
            if isinstance(self._place, str):
                self._listener = await self._loop.create_unix_server(self._accept, self._place, backlog=1024)
            else:
                self._listener = await self._loop.create_server(self._accept, *self._place, backlog=1024)

    def _accept(self) -> End:
        return Link(self._loop, self._target, self._flow, self._links).near


def _moved(parts: SplitResult, place: Any) -> str:
    """The same database and credentials at another place."""
    login = parts.netloc.rpartition("@")[0] + "@" if "@" in parts.netloc else ""
    database = "" if parts.scheme == "unix" else f"db={parts.path.strip('/') or 0}"
    query = "&".join(filter(None, (parts.query, database)))
    if isinstance(place, str):
        scheme = "unix"
    else:
        scheme, place = "redis" if parts.scheme == "unix" else parts.scheme, f"{place[0]}:{place[1]}/"
    return f"{scheme}://{login}{place}{f'?{query}' if query else ''}"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
