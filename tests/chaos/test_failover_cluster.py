"""Writes that wait for replicas, on a cluster: each shard that wrote is asked for its own."""

from __future__ import annotations

from typing import Any

from statekit import AsyncStateKit
from statekit.errors import NotReplicated
from statekit.store.keys import encoded
from statekit.store.outage import Budget
from statekit.testing import Blocking
from tests.chaos.fleets import Cluster
from tests.chaos.sentinels import serves, signed_in
from tests.servers import wait_until

SOON = Budget(decision=1, operation=1, connect=1)


def test_a_shard_without_its_replica_does_not_confirm_and_the_others_do(namespace: str) -> None:
    with Cluster() as cluster:
        made = AsyncStateKit.connect(cluster.url, namespace, budget=SOON, snapshot_dir=None, replicas=1)
        kit: Any = Blocking(made)
        sessions, keys = kit.sessions(), kit.store.keys
        opened = {f"user:{n}": signed_in(sessions, f"user:{n}") for n in range(6)}
        homes = {
            user: {
                cluster.master_of(keys.of("session", one.handle)).port,
                cluster.master_of(keys.of("sessions", encoded(user))).port,
            }
            for user, one in opened.items()
        }
        alone = cluster.master_of(keys.of("session", opened["user:0"].handle))
        replica = wait_until(lambda: cluster.replicas_of(alone), 30)[0]
        with replica.frozen():
            confirmed = {user for user, one in opened.items() if revoked(sessions, one)}
        assert confirmed == {user for user, masters in homes.items() if alone.port not in masters}
        for one in opened.values():
            sessions.revoke(one.handle)
        cluster.kill(alone)
        cluster.wait_ok()
        wait_until(lambda: serves(kit), 30)
        assert all(sessions.load(sessions.lazy(one.id)).is_new for one in opened.values())
        kit.close()


def revoked(sessions: Any, session: Any) -> bool:
    """Revoke a session; whether that was confirmed. Done it is in either case."""
    try:
        sessions.revoke(session.handle)
    except NotReplicated as error:
        return not error.result
    return True
