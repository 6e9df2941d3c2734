"""Messages on a cluster whose masters die: who listened to one hears its successor."""

from __future__ import annotations

import time
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import StoreError
from statekit.flags import Flag
from statekit.replica import core
from statekit.testing import Blocking
from tests.chaos.fleets import Cluster, tell
from tests.conftest import PATIENT
from tests.servers import wait_until


@pytest.mark.parametrize("name", ["valkey", "redis7"])
def test_readers_hear_of_writes_to_the_successor(
    name: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask by themselves once in ten minutes only: what they show after the failover, they were told."""
    monkeypatch.setattr(core, "RECONCILE", 600.0)
    channel = f"sk1:{namespace}:replica:{{flags}}:news"
    options: dict[str, Any] = {"budget": PATIENT, "snapshot_dir": None}
    with Cluster(name) as cluster:
        readers = [
            StateKit.connect(cluster.url, namespace, **options),
            Blocking(AsyncStateKit.connect(cluster.url, namespace, **options)),
        ]
        writer = StateKit.connect(cluster.url, namespace, **options)

        def all_listen() -> bool:
            _, count = tell(cluster.master_of(channel), "PUBSUB", "SHARDNUMSUB", channel)
            return int(count) == len(readers)

        with readers[0], readers[1]:
            wait_until(all_listen, 30)
            for kit in readers:
                kit.flags.set("before", Flag(rollout=1), wait=10)
            cluster.kill(cluster.master_of(channel))
            whole = cluster.wait_ok()
            wait_until(all_listen, 30, "they do not listen to the successor")
            print(f"\nheard again {time.monotonic() - whole:.2f} s after the cluster was whole")
            wait_until(lambda: _written(writer), 30)
            wait_until(lambda: all(kit.flags.get("after") == Flag(rollout=2) for kit in readers), 30)
        writer.close()


def _written(writer: StateKit) -> bool:
    try:
        return bool(writer.flags.set("after", Flag(rollout=2)))
    except StoreError:
        return False
