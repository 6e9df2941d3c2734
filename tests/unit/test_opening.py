"""Connections that take longer to open than any caller may wait are opened all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.store.outage import Budget
from statekit.testing import Blocking, Proxy
from tests.servers import Server, binary, wait_until

SHORT = Budget(decision=0.05, operation=0.05, connect=1)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server that wants a password: four trips until the first answer."""
    with Server(binary("valkey"), ("--requirepass", "secret")) as server:
        yield server.url.replace("unix://", "unix://:secret@") + "?db=1"


@pytest.mark.parametrize("kind", [StateKit, AsyncStateKit])
def test_a_store_far_away_is_reached_although_a_greeting_takes_longer_than_a_decision(
    kind: Any, guarded: str, namespace: str
) -> None:
    with Proxy(guarded) as proxy:
        proxy.delay(0.025)
        made = kind.connect(proxy.url, namespace, budget=SHORT, snapshot_dir=None)
        kit: Any = made if kind is StateKit else Blocking(made)
        limiter = kit.rate_limiter("api", "9999/hour")
        assert limiter.hit("k").degraded
        wait_until(lambda: not limiter.hit("k").degraded, 30, "it is never reached")
        kit.close()
    wait_until(lambda: "statekit-opening" not in {one.name for one in threading.enumerate()}, 10)


@pytest.mark.parametrize("kind", [StateKit, AsyncStateKit])
def test_closing_leaves_nothing_that_was_being_opened(kind: Any, guarded: str, namespace: str) -> None:
    with Proxy(guarded) as proxy:
        proxy.delay(0.05)
        made = kind.connect(proxy.url, namespace, budget=SHORT, snapshot_dir=None)
        kit: Any = made if kind is StateKit else Blocking(made)
        assert kit.rate_limiter("api", "9/hour").hit("k").degraded
        kit.close()
        wait_until(lambda: proxy.connections == 0, 10, "a connection is left")
