"""Flask apps over a kit in memory and over a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from statekit import StateKit
from statekit.store.hooks import RoundTrip
from statekit_flask import StatekitFlask
from tests.conftest import PATIENT


@pytest.fixture(params=["memory", "valkey"])
def kit(request: pytest.FixtureRequest, namespace: str) -> Iterator[StateKit]:
    if request.param == "memory":
        built = StateKit.in_memory(namespace)
    else:
        built = StateKit.connect(request.getfixturevalue("valkey_url"), namespace, budget=PATIENT)
    yield built
    built.close()


@pytest.fixture
def server_kit(valkey_url: str, namespace: str) -> Iterator[StateKit]:
    """Over a real server only: for what memory cannot show."""
    built = StateKit.connect(valkey_url, namespace, budget=PATIENT)
    yield built
    built.close()


class Site:
    """An app, its extension and its kit; counts what a request asks of the store."""

    def __init__(self, kit: StateKit, **options: Any) -> None:
        self.app = Flask(__name__)
        self.app.testing = True
        self.kit = kit
        self.sk = StatekitFlask(self.app, kit, **options)
        self.browser = self.app.test_client()

    def trips(self, method: str, path: str, **options: Any) -> tuple[Any, list[tuple[str, ...]]]:
        """The answer, and the commands of each round trip the request made; the background's are not its."""
        trips: list[tuple[str, ...]] = []
        here = threading.get_ident()

        def keep(event: object) -> None:
            if isinstance(event, RoundTrip) and threading.get_ident() == here:
                trips.append(event.commands)

        stop = self.kit.hooks.subscribe(keep)
        try:
            return self.browser.open(path, method=method, **options), trips
        finally:
            stop()


@pytest.fixture
def site(kit: StateKit) -> Any:
    return lambda **options: Site(kit, **options)
