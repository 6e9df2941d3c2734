"""Floors: what nothing built on a shared store can beat, on this machine and with this client."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import Comparison, Contender, Lab, case

INCR = "return redis.call('INCR', KEYS[1])"


def evalsha(lab: Lab) -> Callable[[], Any]:
    """A bare EVALSHA of INCR through redis-py: the least a decision in a script can cost."""
    client, key = lab.client(), lab.name("floor")
    sha = client.script_load(INCR)
    return lambda: client.evalsha(sha, 1, key)


def connected(url: str) -> socket.socket:
    """A bare socket to the server of a URL."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        link = socket.socket(socket.AF_UNIX)
        link.connect(parts.path)
        return link
    return socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))


def raw(lab: Lab, request: bytes) -> Callable[[], bytes]:
    """A request and its reply over a bare socket: one write, one read, no client."""
    link = connected(lab.url)
    lab.later(link.close)

    def asked() -> bytes:
        link.sendall(request)
        return link.recv(65536)

    return asked


@case("floors/round-trip", "What does a round trip to the store cost at least?")
def round_trip(lab: Lab) -> Iterator[Comparison]:
    client, key = lab.client(), lab.name("floor")
    sha = client.script_load(INCR)
    words = [b"EVALSHA", sha.encode(), b"1", key.encode()]
    request = b"*4\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    kit = lab.kit()
    yield Comparison(
        "one round trip, one process",
        [
            Contender("raw socket, PING", raw(lab, b"PING\r\n"), floor=True),
            Contender("raw socket, EVALSHA INCR", raw(lab, request), floor=True),
            Contender("redis-py, PING", client.ping, floor=True),
            Contender("redis-py, INCR", lambda: client.incr(key), floor=True),
            Contender("redis-py, EVALSHA INCR", evalsha(lab), floor=True),
            Contender("statekit, PING", kit.ping),
        ],
    )


@case("floors/push", "What does a message from one connection to another cost through the store?")
def push(lab: Lab) -> Iterator[Comparison]:
    client, channel = lab.client(), lab.name("channel")
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(channel)
    lab.later(listener.close)
    while listener.get_message(timeout=0.2) is not None:  # the confirmation comes first
        pass

    def delivered() -> None:
        client.publish(channel, b"0123456789abcdef")
        while listener.get_message(timeout=1.0) is None:
            pass

    yield Comparison(
        "publish, then receive, redis-py", [Contender("bare pub/sub message", delivered, floor=True)]
    )


@case("floors/local", "What does a look at this process's own memory cost?")
def local(_: Lab) -> Iterator[Comparison]:
    names = {"d": {"key": 1}, "f": lambda: None}
    yield Comparison(
        "one look",
        [
            Contender("dict lookup", "d['key']", names=names, floor=True),
            Contender("dict.get", "d.get('key')", names=names, floor=True),
            Contender("call of an empty function", "f()", names=names, floor=True),
        ],
    )
