"""Tests that break servers and processes under load. Two at a time, on a machine with nothing else to do: `make chaos`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.store.outage import Budget
from statekit.testing import Blocking
from tests.chaos.sentinels import Sentinels
from tests.servers import binary

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that no test of it can be forgotten."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture
def sentinels(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    """A primary, two replicas, three sentinels; of another program if the test says which."""
    with Sentinels(binary(getattr(request, "param", "valkey"))) as running:
        yield running


@pytest.fixture
def connect(
    request: pytest.FixtureRequest, sentinels: Sentinels, namespace: str
) -> Iterator[Callable[..., Any]]:
    """Make kits over the sentinels; blocking ones, unless the test or the call says "asyncio"."""
    kits: list[Any] = []

    def connected(colour: str = getattr(request, "param", "blocking"), **options: Any) -> Any:
        # enough for a loaded machine; but a replica that has been cut off for ten seconds is not promoted
        options = {"budget": Budget(decision=2, operation=2, connect=2), "snapshot_dir": None, **options}
        if colour == "asyncio":
            kits.append(Blocking(AsyncStateKit.connect(sentinels.url, namespace, **options)))
        else:
            kits.append(StateKit.connect(sentinels.url, namespace, **options))
        return kits[-1]

    yield connected
    for kit in kits:
        kit.close()
