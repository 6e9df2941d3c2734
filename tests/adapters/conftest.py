"""Apps of Flask and of ASGI frameworks, over a kit in memory and over a real server."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask

from statekit import AsyncStateKit, StateKit
from statekit.store.hooks import RoundTrip
from statekit.testing import recorded
from statekit_asgi import StatekitMiddleware
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


# -- ASGI ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "valkey"])
async def async_kit(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[AsyncStateKit]:
    if request.param == "memory":
        built = AsyncStateKit.in_memory(namespace)
    else:
        built = AsyncStateKit.connect(request.getfixturevalue("valkey_url"), namespace, budget=PATIENT)
    yield built
    await built.close()


class AsgiSite:
    """An ASGI app and a browser for it; counts what a request asks of the store."""

    def __init__(self, app: Any, kit: AsyncStateKit) -> None:
        self.app = app
        self.kit = kit
        self.browser = self.new_browser()

    def new_browser(self, address: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 1234), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, **{"base_url": "http://localhost", **options})

    async def trips(self, method: str, path: str, **options: Any) -> tuple[Any, list[tuple[str, ...]]]:
        """The answer, and the commands of each round trip made meanwhile; the background's are not the request's."""
        with recorded(self.kit) as trips:
            answer = await self.browser.request(method, path, **options)
        return answer, [trip.commands for trip in trips if trip.commands != ("replica.sync",)]


@pytest.fixture
def around(async_kit: AsyncStateKit) -> Any:
    """Put the middleware around an app: with its ``add_middleware`` if it has one, else from outside."""

    def wrap(app: Any, **options: Any) -> AsgiSite:
        if hasattr(app, "add_middleware"):
            app.add_middleware(StatekitMiddleware, kit=async_kit, **options)
            return AsgiSite(app, async_kit)
        return AsgiSite(StatekitMiddleware(app, kit=async_kit, **options), async_kit)

    return wrap
