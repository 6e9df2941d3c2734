"""URLs: from ``redis://…`` to a transport.

    redis://user:password@host:6379/0            valkey://…       one server
    rediss://…                                   valkeys://…      the same, over TLS
    unix:///path/to/socket?db=0
    redis+cluster://h1:7000,h2:7000              valkey+cluster://…, rediss+cluster://…
    redis+sentinel://h1,h2:26379/service/0       valkey+sentinel://…, rediss+sentinel://…

Options of redis-py may follow as ``?name=value``; a sentinel's own credentials are ``sentinel_username`` and
``sentinel_password``. Nothing here connects: a URL is read, checked and kept until the first round trip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from statekit.errors import UsageError
from statekit.store.cluster import AsyncClusterTransport, ClusterTransport
from statekit.store.coalescing import AsyncRedisTransport
from statekit.store.drive import RedisTransport, punctual
from statekit.store.embedded import Embedded
from statekit.store.outage import checked_budget

if TYPE_CHECKING:
    from statekit.store.outage import Budget
    from statekit.store.slots import Node
    from statekit.store.store import AsyncTransport, Transport

__all__ = ["Address", "carried", "carried_async", "connected", "connected_async", "masked"]

EXAMPLES = (
    "redis://host:6379/0, rediss://…, unix:///path, redis+cluster://h1,h2, redis+sentinel://h1,h2/service/0"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:,@/ ]+)(?::(?P<port>\d{1,5}))?\Z")


def masked(url: str) -> str:
    """Write a URL without its secrets, for messages."""
    bare = re.sub(r"(?<=//).*@", "***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", bare)


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that has been understood."""

    kind: str
    """``redis``, ``unix``, ``cluster`` or ``sentinel``."""
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    """The path of a socket, or the name of a sentinel's service."""
    options: dict[str, Any]
    """What redis-py is to be told: credentials, database, and all that stood behind the ``?``."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL. Raises `UsageError`, naming it without its password, and what to write instead."""
        try:
            return _parsed(url)
        except ValueError as error:
            raise UsageError(f"url={masked(str(url))!r}: {error}. Write for example {EXAMPLES}") from None

    @property
    def where(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def _parsed(url: str) -> Address:
    if not isinstance(url, str):
        raise ValueError("it is not text")  # noqa: TRY004 - told as one story with the others
    parts = urlsplit(url)
    scheme = parts.scheme.replace("valkey", "redis", 1)
    base, _, kind = scheme.partition("+")
    if scheme != "unix" and (base not in ("redis", "rediss") or kind not in ("", "cluster", "sentinel")):
        raise ValueError(f"scheme {parts.scheme!r} is not known")
    credentials, _, hosts = parts.netloc.rpartition("@")
    options = _credentials(credentials) | _options(parts.query)
    if scheme == "unix":
        if not parts.path:
            raise ValueError("the path of the socket is missing")
        return Address("unix", False, (), unquote(parts.path), options)  # noqa: FBT003 - a socket has no TLS
    default = 26379 if kind == "sentinel" else 6379
    service, database = _service(kind, parts.path.strip("/"))
    options = ({"db": _database(database)} if database else {}) | options
    if kind == "cluster" and options.pop("db", 0):
        raise ValueError("a cluster has only database 0")
    return Address(kind or "redis", base == "rediss", _hosts(hosts, default, kind), service, options)


def _credentials(text: str) -> dict[str, Any]:
    user, _, password = text.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(f"redis://h/?{query}") if query else {}  # type: ignore[no-untyped-call]
    options.pop("host", None)
    return options


def _service(kind: str, path: str) -> tuple[str, str]:
    if kind != "sentinel":
        return "", path
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("the name of the service the sentinels watch is missing")
    return unquote(service), database


def _database(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"database {text!r} is not a number")
    return int(text)


def _hosts(text: str, default: int, kind: str) -> tuple[tuple[str, int], ...]:
    names = text.split(",") if text or kind else ["localhost"]
    if len(names) > 1 and not kind:
        raise ValueError("several hosts need redis+cluster:// or redis+sentinel://")
    return tuple(_host(name, default) for name in names)


def _host(text: str, default: int) -> tuple[str, int]:
    match = _HOST.match(text) if not text.startswith(":") else _HOST.match("localhost" + text)
    if match is None or not 0 < int(match["port"] or default) < 65536:
        raise ValueError(f"{text!r} is not host or host:port")
    return match["host"].strip("[]"), int(match["port"] or default)


# -- clients ---------------------------------------------------------------------------------------------


def _silent() -> dict[str, Any]:
    """Tell redis-py not to introduce itself: two round trips less on each new connection."""
    return {"driver_info": None} if hasattr(redis, "DriverInfo") else {"lib_name": None, "lib_version": None}


def _named(address: Address) -> dict[str, Any]:
    """Hold a server's certificate to its name: older clients look only at who signed it."""
    checked = address.tls and address.options.get("ssl_cert_reqs") != "none"
    return {"ssl_check_hostname": True} if checked else {}


def _common(address: Address, budget: Budget, retry: Any) -> dict[str, Any]:
    checked_budget(budget)
    return {
        "protocol": 2,
        "socket_timeout": budget.operation,
        "socket_connect_timeout": budget.connect,
        "retry": retry,
        **_silent(),
        **_named(address),
        **{name: value for name, value in address.options.items() if not name.startswith("sentinel_")},
    }


def _pooled(address: Address, options: dict[str, Any], theirs: Any) -> Any:
    """Make a client for one server, of the package `theirs`; options it does not know are found at once."""
    if address.kind == "unix":
        options |= {"connection_class": theirs.UnixDomainSocketConnection, "path": address.path}
    else:
        kind = theirs.SSLConnection if address.tls else theirs.Connection
        options |= {"connection_class": kind, "host": address.hosts[0][0], "port": address.hosts[0][1]}
    pool = theirs.ConnectionPool(max_connections=2**16, **options)
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise UsageError(f"an option behind the ? of the url is not one of redis-py: {error}") from None
    return theirs.Redis(connection_pool=pool)


class _InTurn:
    """How the sentinels are asked: who named a master last, first; who has not answered yet, last.

    A caller whose time runs out before one that hangs gives up, and who comes next begins with another. While there is
    no master, one that hangs is left out as long as any other answers.
    """

    sentinels: list[Any]
    check_master_state: Any

    def _asked(self, service: str) -> Generator[Any, Any, tuple[str, int]]:
        """Yield whom to ask, be sent the answer or the failure; returns whom they call the master."""
        silent: set[Any] = self.__dict__.setdefault("_silent", set())
        told: list[str] = []
        for one in sorted(self.sentinels, key=lambda one: one in silent):
            if told and one in silent:
                break
            silent.add(one)
            others = [other for other in self.sentinels if other is not one]
            self.sentinels = [*others, one]
            answer = yield one
            silent.discard(one)
            state = None if isinstance(answer, Exception) else answer.get(service)
            if state and self.check_master_state(state, service):
                self.sentinels = [one, *others]
                return state["ip"], state["port"]
            told.append(str(answer) if isinstance(answer, Exception) else "it has none now")
        raise redis.sentinel.MasterNotFoundError(
            f"no sentinel names a master of {service!r}: {'; '.join(told)}"
        )


class _Sentinels(_InTurn, redis.sentinel.Sentinel):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        for one in self.sentinels:
            punctual(one.connection_pool)

    def discover_master(self, service_name: str) -> tuple[str, int]:
        asked, answer = self._asked(service_name), None
        try:
            while True:
                one = asked.send(answer)
                try:
                    answer = one.sentinel_masters()
                except redis.ConnectionError as error:
                    answer = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


class _AsyncSentinels(_InTurn, redis.asyncio.sentinel.Sentinel):
    async def discover_master(self, service_name: str) -> tuple[str, int]:
        asked, answer = self._asked(service_name), None
        try:
            while True:
                one = asked.send(answer)
                try:
                    answer = await one.sentinel_masters()
                except redis.ConnectionError as error:
                    answer = error
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def _watched(address: Address, options: dict[str, Any], sentinel: Any, timeout: float) -> Any:
    """Make a client for whatever server the sentinels call the master."""
    named = {
        name.removeprefix("sentinel_"): value
        for name, value in address.options.items()
        if name.startswith("sentinel_")
    }
    tls = {"ssl": True} if address.tls else {}
    named |= _named(address)
    times = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": options["retry"]}
    asking = {**times, **tls, **named}
    watch = sentinel(address.hosts, sentinel_kwargs=asking)
    return watch.master_for(address.path, max_connections=2**16, **tls, **options)


def connected(url: str | None, budget: Budget) -> Transport:
    """Make a transport for blocking code."""
    address = Address.parse(url or _default())
    options = _common(address, budget, Retry(NoBackoff(), 0))
    if address.kind == "cluster":

        def node(where: Node) -> RedisTransport:
            one = replace(address, hosts=(where,))
            return RedisTransport(_pooled(one, {**options}, redis), owned=True, keeps=True)

        return ClusterTransport(node, address.hosts, address.where)
    if address.kind == "sentinel":
        return RedisTransport(_watched(address, options, _Sentinels, budget.connect), owned=True)
    return RedisTransport(_pooled(address, options, redis), owned=True, keeps=True)


def connected_async(url: str | None, budget: Budget) -> AsyncTransport:
    """Same as `connected`, for asyncio."""
    address = Address.parse(url or _default())
    options = _common(address, budget, AsyncRetry(NoBackoff(), 0))
    if address.kind == "cluster":

        def node(where: Node) -> AsyncRedisTransport:
            one = replace(address, hosts=(where,))
            return AsyncRedisTransport(_pooled(one, {**options}, redis.asyncio), owned=True)

        return AsyncClusterTransport(node, address.hosts, address.where)
    if address.kind == "sentinel":

        def watched() -> Any:
            return _watched(address, options, _AsyncSentinels, budget.connect)

        return AsyncRedisTransport(watched(), owned=True, fresh=lambda: watched().connection_pool)
    return AsyncRedisTransport(_pooled(address, options, redis.asyncio), owned=True)


def carried(client: Any) -> Transport:
    """Make a transport over a client the caller brought, a cluster's too."""
    if isinstance(client, redis.RedisCluster):
        return _carried_cluster(client)
    _refuse_other_colour(client, redis.asyncio.Redis, "AsyncStateKit")
    return RedisTransport(client, owned=False)


def carried_async(client: Any) -> AsyncTransport:
    """Same as `carried`, for asyncio."""
    if isinstance(client, redis.asyncio.RedisCluster):
        return _carried_async_cluster(client)
    _refuse_other_colour(client, redis.Redis, "StateKit")
    return AsyncRedisTransport(client, owned=False)


def _refuse_other_colour(client: Any, other: type, kit: str) -> None:
    if isinstance(client, other) or not hasattr(client, "connection_pool"):
        raise UsageError(
            f"{type(client).__module__}.{type(client).__name__} does not fit: {_cure(client, other, kit)}"
        )


def _cure(client: Any, other: type, kit: str) -> str:
    return (
        f"give it to {kit}"
        if isinstance(client, other)
        else "give a client of redis-py, or use .connect(url)"
    )


def _carried_cluster(client: redis.RedisCluster) -> ClusterTransport:
    """Use the connections of a cluster client; the map is our own, for theirs is read without a budget."""
    manager: Any = client.nodes_manager

    def node(where: Node) -> RedisTransport:
        known = manager.get_node(*where)
        if known is None or known.redis_connection is None:
            made = manager.create_redis_node(*where, **manager.connection_kwargs)
        else:
            made = known.redis_connection
        return RedisTransport(made, owned=False)

    return ClusterTransport(
        node, _places(manager), "brought along", renamed=lambda where: manager.remap_host_port(*where)
    )


def _carried_async_cluster(client: redis.asyncio.RedisCluster) -> AsyncClusterTransport:
    """Same as `_carried_cluster`, for asyncio: their connections cannot be borrowed, so ours are made alike."""
    manager: Any = client.nodes_manager

    def node(where: Node) -> AsyncRedisTransport:
        like = AsyncClusterNode(*where, **manager.connection_kwargs)
        pool = redis.asyncio.ConnectionPool(
            connection_class=like.connection_class, max_connections=2**16, **like.connection_kwargs
        )
        return AsyncRedisTransport(redis.asyncio.Redis(connection_pool=pool), owned=True)

    return AsyncClusterTransport(
        node, _places(manager), "brought along", renamed=lambda where: manager.remap_host_port(*where)
    )


def _places(manager: Any) -> list[Node]:
    """Where the nodes are that a cluster client knows."""
    return [(node.host, int(node.port)) for node in manager.startup_nodes.values()]


def _default() -> str:
    return os.environ.get("STATEKIT_URL") or Embedded().start()
