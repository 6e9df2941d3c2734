"""Two primaries at once: one that nobody but its clients can reach, and the one promoted in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.errors import NotReplicated, StoreError, StoreReadOnly, StoreUnavailable
from statekit.testing import Blocking
from tests.chaos.sentinels import Sentinels, signed_in
from tests.conftest import PATIENT
from tests.servers import ANY, Server, binary, wait_until

BOTH = pytest.mark.parametrize("connect", ["blocking", "asyncio"], indirect=True)


def test_an_isolated_primary_goes_on_and_only_replicas_tell_the_difference(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    """The kits keep the connections they have, to a primary that was replaced behind their back."""
    plain, confirming = connect("blocking"), connect("asyncio", replicas=1)
    kept = signed_in(plain.sessions(), "user:1")
    other = signed_in(confirming.sessions(), "user:2")
    limiter = plain.rate_limiter("api", "10/hour", on_outage="deny", local_refusals=False)
    sentinels.in_step()
    first = sentinels.primary()
    with sentinels.isolated(first):
        second = sentinels.promoted(first)
        elsewhere = StateKit.connect(second.url, plain.namespace, budget=PATIENT, snapshot_dir=None)
        theirs = elsewhere.rate_limiter("api", "10/hour", on_outage="deny")
        assert plain.sessions().revoke(kept.handle)  # taken for done, and lost
        with pytest.raises(NotReplicated):
            confirming.sessions().revoke(other.handle)
        admitted = [sum(one.hit("k").allowed for _ in range(20)) for one in (limiter, theirs)]
        assert admitted == [10, 10]  # each side has a whole limit, and not one more than that
    sentinels.demoted(first)
    wait_until(lambda: found(plain, kept.id) == "user:1", 30, "the kit does not find the new primary")
    assert not limiter.hit("k").allowed
    wait_until(lambda: found(confirming, other.id) == "user:2", 30, "the kit does not find the new primary")
    assert confirming.sessions().revoke(other.handle)
    elsewhere.close()


def found(kit: Any, cookie: str) -> str | None:
    try:
        return kit.sessions().load(kit.sessions().lazy(cookie)).principal  # type: ignore[no-any-return]
    except StoreError:
        return None


@BOTH
@pytest.mark.parametrize("sentinels", ["valkey", "redis62"], indirect=True)
def test_a_demoted_primary_is_left_at_the_first_refusal(
    sentinels: Sentinels, connect: Callable[..., Any]
) -> None:
    """A script that may not write there says so in words of its own, on every version."""
    kit = connect()
    limiter = kit.rate_limiter("api", "10/hour", on_outage="deny")
    session = signed_in(kit.sessions(), "user:1")
    limiter.hit("k")
    sentinels.in_step()
    first, second = sentinels.servers[:2]
    second.ask("REPLICAOF", "NO", "ONE")
    first.ask("REPLICAOF", "127.0.0.1", second.port)
    with pytest.raises(StoreUnavailable, match="the sentinels named is one no more"):
        kit.sessions().revoke(session.handle)
    for watcher in sentinels.watchers:
        watcher.ask("SENTINEL", "REMOVE", "main")
        watcher.ask("SENTINEL", "MONITOR", "main", "127.0.0.1", second.port, 2)
    assert kit.sessions().revoke(session.handle)
    assert limiter.hit("k").remaining == 8


@pytest.mark.parametrize("kind", [StateKit, AsyncStateKit])
@pytest.mark.parametrize("name", ["valkey", "redis62"])
def test_an_address_that_moves_to_another_server_is_followed_at_the_first_refusal(
    name: str, kind: Any, namespace: str, tmp_path: Path
) -> None:
    """Without sentinels: a name, here of a socket, that stands for whoever is the primary."""
    with Server(binary(name), port=ANY) as first, Server(binary(name), port=ANY) as second:
        address = tmp_path / "store"
        address.symlink_to(first.socket)
        kit = kind.connect(f"unix://{address}", namespace, budget=PATIENT, snapshot_dir=None)
        with kit if kind is StateKit else Blocking(kit) as kit:
            session = signed_in(kit.sessions(), "user:1")
            second.ask("REPLICAOF", "127.0.0.1", first.port)
            wait_until(lambda: second.ask("EXISTS", kit.store.keys.of("session", session.handle)), 30)
            second.ask("REPLICAOF", "NO", "ONE")
            first.ask("REPLICAOF", "127.0.0.1", second.port)
            address.unlink()
            address.symlink_to(second.socket)
            with pytest.raises(StoreReadOnly):
                kit.sessions().revoke(session.handle)
            assert kit.sessions().revoke(session.handle)
