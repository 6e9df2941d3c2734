"""Flags on a cluster, where readers listen on different nodes, and across a failover under sentinels."""

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import StoreError
from statekit.flags import Flag
from statekit.testing import Blocking
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.unit.test_connect import cluster, cluster_kit, sentinel

__all__ = ["cluster", "cluster_kit", "sentinel"]


def test_readers_on_different_nodes_confirm(cluster_kit, cluster, namespace):
    url = f"redis+cluster://127.0.0.1:{cluster[1].port}"
    with cluster_kit, StateKit.connect(url, namespace, budget=PATIENT, snapshot_dir=None) as other:
        for n in range(5):
            came = other.flags.set("pay", Flag(rollout=n), wait=30)
            assert (came.workers, came.acknowledged) == (2, 2)
            assert cluster_kit.flags.get("pay") == Flag(rollout=n)


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
