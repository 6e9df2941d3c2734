"""The proxy: each of its verbs, seen from a bare socket, over both kinds of sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from statekit.errors import UsageError
from statekit.testing import Proxy
from tests.servers import ANY, Server, binary, wait_until

PING, PONG = b"PING\r\n", b"+PONG\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(binary("valkey"), port=ANY) as server:
        yield server


@pytest.fixture(params=["unix", "tcp"])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[Proxy]:
    unix = request.param == "unix"
    with Proxy(f"unix://{server.socket}" if unix else server.url, port=None if unix else 0) as proxy:
        yield proxy


class Client:
    """A client of few words."""

    def __init__(self, proxy: Proxy, patience: float = 10.0) -> None:
        unix = isinstance(proxy._place, str)
        self.link = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.link.settimeout(patience)
        self.link.connect(proxy._place)

    def ask(self, request: bytes = PING) -> bytes:
        self.link.sendall(request)
        return self.hear(len(PONG))

    def hear(self, size: int) -> bytes:
        heard = b""
        while len(heard) < size and (data := self.link.recv(size - len(heard))):
            heard += data
        return heard

    def silent(self, seconds: float = 0.1) -> bool:
        self.link.settimeout(seconds)
        try:
            return self.link.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self.link.settimeout(10)


def test_it_passes_everything_on(proxy: Proxy) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: Client(proxy).ask(), range(40))) == {PONG}
    client = Client(proxy)
    large = b"x" * 3_000_000
    client.link.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(large), large))
    assert client.hear(len(large) + 12).count(b"x") == len(large)


def test_a_connection_that_ends_ends_at_the_other_side(proxy: Proxy, server: Server) -> None:
    client = Client(proxy)
    client.ask()
    assert proxy.connections == 1
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    assert client.hear(1) == b""
    wait_until(lambda: proxy.connections == 0)
    client = Client(proxy)
    client.ask()
    client.link.close()
    wait_until(lambda: proxy.connections == 0)


def test_delay_is_for_each_reply_and_lets_pipelines_overlap(proxy: Proxy) -> None:
    client = Client(proxy)
    with proxy.delayed(0.2, jitter=0.05):
        begin = time.monotonic()
        for _ in range(10):
            client.link.sendall(PING)
            time.sleep(0.002)
        assert client.hear(70) == PONG * 10
        assert 0.2 <= time.monotonic() - begin < 1.5  # ten in a row would be two seconds
    begin = time.monotonic()
    assert client.ask() == PONG
    assert time.monotonic() - begin < 0.2


def test_trickling_takes_its_time(proxy: Proxy) -> None:
    client = Client(proxy)
    with proxy.trickled(20):
        begin = time.monotonic()
        assert client.ask() == PONG
        assert time.monotonic() - begin >= 7 / 20


def test_what_was_held_back_in_a_stall_arrives_afterwards(proxy: Proxy) -> None:
    client = Client(proxy)
    client.ask()
    with proxy.stalled():
        client.link.sendall(PING)
        assert client.silent()
        late = Client(proxy)
        late.link.sendall(PING)
        assert late.silent()
    assert client.hear(7) == late.hear(7) == PONG


def test_a_reply_that_is_delayed_waits_for_the_end_of_a_stall(proxy: Proxy) -> None:
    client = Client(proxy)
    with proxy.delayed(0.05):
        client.link.sendall(PING)
        with proxy.stalled():
            assert client.silent()
        assert client.hear(7) == PONG


def gone(client: Client) -> bool:
    try:
        return client.hear(1) == b""
    except ConnectionError:
        return True


def test_cut(proxy: Proxy) -> None:
    client = Client(proxy)
    client.ask()
    proxy.cut()
    assert proxy.connections == 0
    assert gone(client)
    assert Client(proxy).ask() == PONG


def test_a_cut_over_tcp_is_a_reset(server: Server) -> None:
    with Proxy(server.url, port=0) as proxy:
        client = Client(proxy)
        client.ask()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.hear(1)


def test_cut_in_the_middle_of_a_reply(proxy: Proxy) -> None:
    client = Client(proxy)
    client.ask()
    proxy.cut(after=3)
    client.link.sendall(PING)
    assert client.hear(3) == b"+PO"
    assert gone(client)
    assert Client(proxy).ask() == PONG


def test_half_open(proxy: Proxy) -> None:
    client = Client(proxy)
    client.ask()
    proxy.half_open()
    client.link.sendall(PING)
    assert client.silent()
    assert Client(proxy).ask() == PONG
    proxy.restore()
    assert client.silent()  # what is gone stays gone
    before = proxy.connections
    client.link.close()
    wait_until(lambda: proxy.connections == before - 1 or proxy.connections == 0)


def test_refuse(proxy: Proxy) -> None:
    client = Client(proxy)
    client.ask()
    with proxy.refused():
        assert gone(client)
        for _ in range(3):
            with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
                Client(proxy)
    assert Client(proxy).ask() == PONG


def test_a_server_that_is_gone_is_a_connection_that_ends() -> None:
    with Proxy("unix:///nowhere/at-all") as proxy:
        assert gone(Client(proxy))


def test_urls_keep_database_credentials_and_options() -> None:
    def shown(url: str, **options: Any) -> str:
        proxy = Proxy(url, **options)
        proxy.close()
        return proxy.url.replace(str(proxy._place), "HERE").replace("127.0.0.1:9", "HERE")

    assert shown("redis://ann:pw@db:6380/3?a=1") == "unix://ann:pw@HERE?a=1&db=3"
    assert shown("unix:///tmp/s?db=2") == "unix://HERE?db=2"
    assert shown("unix:///tmp/s", port=9) == "redis://HERE/"
    assert shown("rediss://db", port=9) == "rediss://HERE/?db=0"
    assert shown("valkey://db/1", port=9) == "valkey://HERE/?db=1"


def test_after_its_end_it_does_nothing(server: Server) -> None:
    proxy = Proxy(server.url).start()
    with proxy.stalled():
        proxy.close()
    proxy.cut()
    proxy.close()
    with pytest.raises(UsageError):
        proxy.trickle(0)
    assert not [one for one in threading.enumerate() if one is proxy._thread]
