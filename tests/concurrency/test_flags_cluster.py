"""Messages on a cluster, where readers listen on different nodes; and flags across a failover under sentinels."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from statekit import AsyncStateKit, StateKit
from statekit.errors import StoreError
from statekit.flags import Flag
from statekit.replica import core
from statekit.testing import Blocking
from tests.chaos.fleets import Cluster, tell
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.unit.test_connect import cluster, cluster_kit, sentinel

__all__ = ["cluster", "cluster_kit", "sentinel"]


def test_readers_on_different_nodes_confirm(cluster_kit, cluster, namespace):
    url = f"redis+cluster://127.0.0.1:{cluster.nodes[1].port}"
    with cluster_kit, StateKit.connect(url, namespace, budget=PATIENT, snapshot_dir=None) as other:
        for n in range(5):
            came = other.flags.set("pay", Flag(rollout=n), wait=30)
            assert (came.workers, came.acknowledged) == (2, 2)
            assert cluster_kit.flags.get("pay") == Flag(rollout=n)


@pytest.fixture
def only_push(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that ask by themselves so seldom that what they know in a test, they were told."""
    monkeypatch.setattr(core, "RECONCILE", 600.0)


@pytest.fixture(params=["blocking", "asyncio"])
def reader(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Iterator[Any]:
    options = {"budget": PATIENT, "snapshot_dir": None}
    kit: Any = (
        StateKit.connect(cluster.url, namespace, **options)
        if request.param == "blocking"
        else Blocking(AsyncStateKit.connect(cluster.url, namespace, **options))
    )
    with kit:
        yield kit


@pytest.fixture
def writer(cluster: Cluster, namespace: str) -> Iterator[StateKit]:
    kit = StateKit.connect(cluster.url, namespace, budget=PATIENT, snapshot_dir=None)
    yield kit
    kit.close()


def news(namespace: str) -> str:
    return f"sk1:{namespace}:replica:{{flags}}:news"


def listens(cluster: Cluster, namespace: str) -> None:
    """Wait until the owner of the flags has a subscriber of its shard's own."""
    channel = news(namespace)
    wait_until(lambda: channel in tell(cluster.master_of(channel), "PUBSUB", "SHARDCHANNELS", "*"), 30)


def test_news_stay_in_their_shard(cluster, namespace, only_push, reader, writer):
    listens(cluster, namespace)
    owner = cluster.master_of(news(namespace))
    other = next(node for node in cluster.nodes if node is not owner)
    with redis.Redis(port=other.port).pubsub() as eavesdropper:
        eavesdropper.subscribe(news(namespace))
        assert eavesdropper.get_message(timeout=10)["type"] == "subscribe"
        assert writer.flags.set("pay", Flag(rollout=7), wait=30).acknowledged >= 1
        wait_until(lambda: reader.flags.get("pay") == Flag(rollout=7), 30)
        assert eavesdropper.get_message(timeout=0.2) is None


def test_a_reader_goes_where_its_news_go(cluster, namespace, only_push, reader, writer):
    """The slot moves there and back again: what is written before, between and after arrives."""
    channel = news(namespace)
    for turn in range(4):
        listens(cluster, namespace)
        writer.flags.set("pay", Flag(rollout=turn))
        wait_until(lambda turn=turn: reader.flags.get("pay") == Flag(rollout=turn), 30)
        at = cluster.masters.index(cluster.master_of(channel))
        cluster.move_slot(channel, cluster.masters[(at + 1) % 3])
        writer.flags.set("pay", Flag(rollout=50 + turn))
        wait_until(lambda turn=turn: reader.flags.get("pay") == Flag(rollout=50 + turn), 30)


def test_a_connection_to_a_shard_that_ends_is_made_anew(cluster, namespace, only_push, reader, writer):
    for turn in range(3):
        listens(cluster, namespace)
        assert tell(cluster.master_of(news(namespace)), "CLIENT", "KILL", "TYPE", "pubsub") >= 1
        writer.flags.set("pay", Flag(rollout=turn))  # perhaps nobody hears of it
        wait_until(lambda turn=turn: reader.flags.get("pay") == Flag(rollout=turn), 30)


def test_an_older_release_is_heard(cluster, namespace, only_push, reader, writer):
    """It publishes to all nodes, whose readers of this release listen there too."""
    listens(cluster, namespace)
    writer.store.transport._told = lambda calls: calls  # its scripts know of no shards
    writer.flags.set("pay", Flag(rollout=9))
    wait_until(lambda: reader.flags.get("pay") == Flag(rollout=9), 30)


def test_an_older_release_hears_by_its_next_question(cluster, namespace, monkeypatch, writer):
    """It listens on one node in the classic way alone; it asks every three seconds, here sooner."""
    monkeypatch.setattr(core, "RECONCILE", 0.3)
    older = StateKit.connect(cluster.url, namespace, budget=PATIENT, snapshot_dir=None)
    transport = older.store.transport
    older.store.push._subscriber = lambda: transport.node(transport.some_node()).subscriber()
    with older:
        writer.flags.set("pay", Flag(rollout=3))
        wait_until(lambda: older.flags.get("pay") == Flag(rollout=3), 30)


def test_units_that_came_free_are_heard_of_on_every_node(reader, writer):
    """What comes from many slots goes to all nodes, whichever the listener chose."""
    for turn in range(6):
        mine, other = (kit.rate_limiter("login", "1/hour") for kit in (reader, writer))
        assert mine.hit(f"ip{turn}").allowed
        wait_until(lambda turn=turn, mine=mine: mine.hit(f"ip{turn}").local, 30)
        other.reset(f"ip{turn}")
        wait_until(lambda turn=turn, mine=mine: mine.hit(f"ip{turn}").allowed, 30)


def test_who_holds_without_need_is_called_in_the_shard_of_the_pool(cluster, namespace, reader, writer):
    heard: list[bytes | None] = []

    class Ear:
        def heard(self, message: bytes | None) -> None:
            heard.append(message)

        def settled(self) -> None: ...

    ear = Ear()
    channel = f"sk1:{namespace}:pool:{{things}}"
    writer.store.push.subscribe(channel, ear)
    wait_until(lambda: heard.count(None) == 2, 30)  # on the node it chose, and in the shard
    for kit in (reader, writer):
        kit.pools.register("things", open=object, per_process=2, fleet=2)
    with reader.pools.checkout("things", timeout=30), reader.pools.checkout("things", timeout=30):
        pass
    with writer.pools.checkout("things", timeout=30):
        assert any(heard)
    owner = cluster.master_of(channel)
    for node in cluster.nodes:
        assert (channel in tell(node, "PUBSUB", "SHARDCHANNELS", "*")) is (node is owner)


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_who_may_not_listen_to_a_shard_asks(cluster, namespace, monkeypatch, writer, colour):
    """And does not try again and again."""
    monkeypatch.setattr(core, "RECONCILE", 0.3)
    for node in cluster.nodes:
        tell(node, "ACL", "SETUSER", "deaf", "on", ">pw", "~*", "&*", "+@all", "-ssubscribe", "-spublish")
    url = cluster.url.replace("//", "//deaf:pw@")
    options = {"budget": PATIENT, "snapshot_dir": None}
    reader: Any = (
        StateKit.connect(url, namespace, **options)
        if colour == "blocking"
        else Blocking(AsyncStateKit.connect(url, namespace, **options))
    )
    with reader:
        for turn, kit in enumerate((writer, reader)):  # what it writes itself goes to all
            kit.flags.set("pay", Flag(rollout=turn))
            wait_until(lambda turn=turn: reader.flags.get("pay") == Flag(rollout=turn), 30)
        wait_until(lambda: not reader.store.push.live._lines, 30)
        assert not reader.store.push.live._at


def test_a_cluster_without_sharded_publishing_tells_everybody(namespace, only_push):
    with Cluster("redis62", replicas=0) as cluster:
        kits = [
            StateKit.connect(cluster.url, namespace, budget=PATIENT, snapshot_dir=None),
            Blocking(AsyncStateKit.connect(cluster.url, namespace, budget=PATIENT, snapshot_dir=None)),
        ]
        with kits[0], kits[1]:
            for turn, writer in enumerate(kits * 2):
                assert writer.flags.set("pay", Flag(rollout=turn), wait=30).acknowledged == 2
                assert all(kit.flags.get("pay") == Flag(rollout=turn) for kit in kits)


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_flags_survive_a_failover_even_to_an_empty_replica(sentinel, colour, namespace):
    port, master, _ = sentinel
    options = {"budget": PATIENT, "snapshot_dir": None}
    url = f"valkey+sentinel://127.0.0.1:{port}/main/0"
    if colour == "asyncio":
        reader = Blocking(AsyncStateKit.connect(url, namespace, **options))
    else:
        reader = StateKit.connect(url, namespace, **options)
    with reader, StateKit.connect(url, namespace, **options) as writer:
        assert writer.flags.set("search", Flag(), wait=30).complete
        master.stop(keep=True)
        assert reader.flags.enabled("search")

        def written():
            try:
                return writer.flags.set("pay", Flag())
            except StoreError:
                return None

        wait_until(written, 60)
        wait_until(lambda: reader.flags.enabled("pay"), 30)
        assert reader.flags.enabled("search")
        assert writer.flags.set("pay", Flag(enabled=False), wait=30).acknowledged == 2
        assert not reader.flags.enabled("pay")
