"""URLs: what is understood, what is refused and how, and real clusters and sentinels behind them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from statekit import AsyncStateKit, StateKit
from statekit.errors import StoreUnavailable, UsageError
from statekit.store.connect import Address, masked
from statekit.store.op import Call, Script, command, together
from statekit.testing import Blocking, recorded
from tests.chaos.fleets import Cluster
from tests.conftest import PATIENT
from tests.servers import Server, binary, free_ports, wait_until
from tests.tour import tour

COUNT = Script("test.count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.mark.parametrize(
    ("url", "kind", "tls", "hosts", "path", "options"),
    [
        ("redis://", "redis", False, (("localhost", 6379),), "", {}),
        ("redis://h", "redis", False, (("h", 6379),), "", {}),
        ("valkey://h:1/3", "redis", False, (("h", 1),), "", {"db": 3}),
        ("rediss://h", "redis", True, (("h", 6379),), "", {}),
        ("valkeys://[::1]:7/0", "redis", True, (("::1", 7),), "", {"db": 0}),
        ("redis://:7", "redis", False, (("localhost", 7),), "", {}),
        (
            "redis://ann:p%40ss%2F@h",
            "redis",
            False,
            (("h", 6379),),
            "",
            {"username": "ann", "password": "p@ss/"},
        ),
        ("redis://:p@h/1?db=2", "redis", False, (("h", 6379),), "", {"password": "p", "db": 2}),
        ("unix:///run/s.sock?db=2", "unix", False, (), "/run/s.sock", {"db": 2}),
        ("redis+cluster://a,b:7001", "cluster", False, (("a", 6379), ("b", 7001)), "", {}),
        ("valkey+cluster://:pw@a", "cluster", False, (("a", 6379),), "", {"password": "pw"}),
        ("redis+sentinel://a,b:1/main/2", "sentinel", False, (("a", 26379), ("b", 1)), "main", {"db": 2}),
        ("valkey+sentinel://a/main", "sentinel", False, (("a", 26379),), "main", {}),
    ],
)
def test_what_a_url_says(url: str, kind: str, tls: bool, hosts: Any, path: str, options: Any) -> None:
    assert Address.parse(url) == Address(kind, tls, hosts, path, options)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:6379",
        "redis://h:port",
        "redis://h:70000",
        "redis://h:0",
        "redis://h/notanumber",
        "redis://h/-1",
        "redis://a,b",
        "unix://",
        "redis+cluster://",
        "redis+cluster://h/3",
        "redis+sentinel://h",
        "redis+magic://h",
        "redis://h?socket_timeout=soon",
        "redis://h?colour=blue",
        "redis://[::1",
    ],
)
@pytest.mark.parametrize("connect", [StateKit.connect, AsyncStateKit.connect])
def test_a_url_that_means_nothing_is_refused_before_anything_connects(url: str, connect: Any) -> None:
    with pytest.raises(UsageError, match="url"):
        connect(url)


@pytest.mark.parametrize(
    "url",
    ["redis://ann:s3cret@h:port", "redis://:s3cr/et@h/x", "redis://s3cret@h:port", "x://h?password=s3cret"],
)
def test_messages_hold_no_secret(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        StateKit.connect(url)
    assert "s3cr" not in str(caught.value)
    assert "s3cr" not in masked(url)


def test_describe_holds_no_secret() -> None:
    assert "s3cret" not in StateKit.connect("redis://ann:s3cret@h").describe()
    assert "s3cret" not in StateKit.connect("redis+sentinel://ann:s3cret@h/main").describe()
    assert "s3cret" not in StateKit.connect("redis+cluster://ann:s3cret@h").describe()


def test_the_url_of_the_environment(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATEKIT_URL", valkey_url)
    assert StateKit.connect().ping() > 0


def test_nobody_there(namespace: str) -> None:
    with pytest.raises(StoreUnavailable):
        StateKit.connect("redis://127.0.0.1:1").ping()
    with pytest.raises(StoreUnavailable):
        StateKit.connect("redis+cluster://127.0.0.1:1").ping()
    with pytest.raises(StoreUnavailable):
        StateKit.connect("redis+sentinel://127.0.0.1:1/main").ping()
    with pytest.raises(StoreUnavailable):
        Blocking(AsyncStateKit.connect("redis+cluster://127.0.0.1:1")).ping()
    with pytest.raises(StoreUnavailable):
        Blocking(AsyncStateKit.connect("redis+sentinel://127.0.0.1:1/main")).ping()


def test_a_client_brought_along_may_decode(valkey_url: str, namespace: str) -> None:
    blocking = StateKit(redis.Redis.from_url(valkey_url, decode_responses=True), namespace)
    coloured = Blocking(
        AsyncStateKit(redis.asyncio.Redis.from_url(valkey_url, decode_responses=True), namespace)
    )
    for kit in (blocking, coloured):
        kit.store.run(command("SET", namespace, b"\xff\x00", "PX", 1000))
        assert kit.store.run(command("GET", namespace)) == b"\xff\x00"
    blocking.close()
    assert blocking.store.transport._client.ping()  # its owner goes on using it


def test_a_client_of_the_other_colour_is_refused() -> None:
    with pytest.raises(UsageError, match="AsyncStateKit"):
        StateKit(fakeredis.FakeAsyncRedis())
    with pytest.raises(UsageError, match="give it to StateKit"):
        AsyncStateKit(fakeredis.FakeRedis())
    with pytest.raises(UsageError, match="connect"):
        StateKit("redis://localhost")


# -- a real cluster, a real sentinel ---------------------------------------------------------------------


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A Redis that speaks only TLS, with a certificate of its own making."""
    openssl = shutil.which("openssl") or pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (port,) = free_ports(1)
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    options += ("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no")
    with Server(binary("redis7"), options) as server:
        server.port = port
        yield server, certificate


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls(tls_server: tuple[Server, Path], scheme: str, namespace: str) -> None:
    server, certificate = tls_server
    trusted = f"{scheme}://localhost:{server.port}/0?ssl_ca_certs={certificate}"
    with StateKit.connect(trusted, namespace, budget=PATIENT) as kit:
        tour(kit)
    with Blocking(AsyncStateKit.connect(trusted, namespace, budget=PATIENT)) as kit:
        assert kit.ping() > 0
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        StateKit.connect(f"{scheme}://localhost:{server.port}/0", namespace, budget=PATIENT).ping()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(replicas=0) as running:
        yield running


@pytest.fixture(params=["blocking", "asyncio", "blocking client", "asyncio client"])
def cluster_kit(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Iterator[Any]:
    port, url = cluster.nodes[0].port, cluster.url
    make = {
        "blocking": lambda: StateKit.connect(url, namespace, budget=PATIENT),
        "asyncio": lambda: Blocking(AsyncStateKit.connect(url, namespace, budget=PATIENT)),
        "blocking client": lambda: StateKit(
            redis.RedisCluster(host="127.0.0.1", port=port), namespace, budget=PATIENT
        ),
        "asyncio client": lambda: Blocking(
            AsyncStateKit(redis.asyncio.RedisCluster(host="127.0.0.1", port=port), namespace, budget=PATIENT)
        ),
    }
    kit: Any = make[request.param]()
    yield kit
    kit.close()


def test_a_round_over_all_nodes_of_a_cluster(cluster_kit: Any) -> None:
    keys = [cluster_kit.store.keys.of("n", str(number)) for number in range(30)]
    for total in (1, 2):
        with recorded(cluster_kit) as trips:
            replies = cluster_kit.store.run(together(*(COUNT((key,), (1,)) for key in keys)))
        assert replies == (total,) * 30
        assert len(trips) == 1
    assert cluster_kit.ping() > 0


def test_errors_of_a_cluster_stay_with_their_command(cluster_kit: Any) -> None:
    keys = [cluster_kit.store.keys.of("e", str(number)) for number in range(9)]
    cluster_kit.store.run(together(*(command("SET", key, "text", "PX", 60_000) for key in keys[:3])))

    def all_at_once() -> Any:
        return (yield tuple(Call(("INCR", key)) for key in keys))

    replies = cluster_kit.store.run(all_at_once())
    assert all("not an integer" in str(reply) for reply in replies[:3])
    assert list(replies[3:]) == [1] * 6


def test_every_primitive_works_on_a_cluster(cluster_kit: Any) -> None:
    with cluster_kit:
        tour(cluster_kit)


def test_a_slot_that_moves_is_followed(cluster_kit: Any, cluster: Cluster) -> None:
    key = cluster_kit.store.keys.of("moving", cluster_kit.namespace)  # a slot of its own
    counts = []

    def count() -> None:
        counts.append(cluster_kit.store.run(COUNT((key,), (1,))))

    count()
    target = next(node for node in cluster.masters if node is not cluster.master_of(key))
    cluster.move_slot(key, target, pause=count)  # while it is where it was, then ASK
    count()  # MOVED
    with recorded(cluster_kit) as trips:
        count()
    assert counts == [1, 2, 3, 4, 5]
    assert len(trips) == 1


@pytest.fixture
def sentinel() -> Iterator[tuple[int, Server, Server]]:
    ports = free_ports(3)
    master = Server(binary("valkey"), port=ports[0]).start()
    replica = Server(binary("valkey"), ("--replicaof", "127.0.0.1", str(ports[0])), ports[1]).start()
    watch = Server(binary("valkey"), ("--sentinel",), ports[2], config=True)
    (watch.folder / "conf").write_text(
        f"port {ports[2]}\nbind 127.0.0.1\ndir {watch.folder}\nunixsocket {watch.socket}\n"
        f"sentinel monitor main 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    watch.start()
    yield ports[2], master, replica
    for server in (watch, replica, master):
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_a_failover_under_sentinels_is_followed(
    sentinel: tuple[int, Server, Server], colour: str, namespace: str
) -> None:
    port, master, replica = sentinel
    url = f"valkey+sentinel://127.0.0.1:{port}/main/0"
    kit: Any = (
        StateKit.connect(url, namespace, budget=PATIENT)
        if colour == "blocking"
        else Blocking(AsyncStateKit.connect(url, namespace, budget=PATIENT))
    )
    kit.store.run(command("SET", "k", "v"))
    watching, copy = redis.Redis(port=port), redis.Redis(port=replica.port)
    wait_until(lambda: copy.get("k") == b"v", 30)
    wait_until(lambda: watching.execute_command("SENTINEL", "REPLICAS", "main"), 30)
    master.stop()
    wait_until(lambda: _writes(kit), 60)
    assert copy.get("k") == b"again"
    kit.close()


def _writes(kit: Any) -> bool:
    try:
        return bool(kit.store.run(command("SET", "k", "again")))
    except Exception:
        return False


def test_an_asyncio_kit_serves_one_loop_after_another(valkey_url: str, namespace: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, namespace)
    for _ in range(3):
        assert asyncio.run(kit.ping()) > 0


def test_an_idle_connection_that_the_server_closed_is_not_asked(valkey_url: str, namespace: str) -> None:
    """Connections stay at hand from round to round; one that ended is mended by the pool before the next."""
    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        limiter = kit.rate_limiter("api", "9/hour", on_outage="deny")
        for left in (8, 7, 6):
            number = kit.store.run(command("CLIENT", "ID"))
            redis.Redis.from_url(valkey_url).client_kill_filter(_id=number)
            assert limiter.hit("k").remaining == left
