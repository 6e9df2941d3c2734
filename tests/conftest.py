"""Fixtures: kits over every store and in both colours, real servers, a frozen clock, a fresh namespace."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from statekit import AsyncStateKit, StateKit
from statekit.store.memory import AsyncMemoryTransport, MemoryTransport
from statekit.store.outage import Budget
from statekit.store.store import AsyncStore, Store
from statekit.testing import Blocking, FrozenClock
from tests.properties.summary import pytest_terminal_summary  # noqa: F401 - a hook: here also workers' parents find it
from tests.servers import SERVERS, Servers
from tests.third_party import Stub

PATIENT = Budget(decision=5, operation=10, connect=5)
"""Budgets for a loaded machine: a slow answer is still an answer."""
STORES = ("memory", "fakeredis", *SERVERS)
COLOURS = ("blocking", "asyncio")

_numbers = itertools.count()


def pytest_collection_finish() -> None:
    """Ten thousand tests stay where they are: whoever collects garbage need not look through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    running = Servers()
    yield running
    running.stop()


@pytest.fixture(scope="session", autouse=True)
def _own_snapshots(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the last-known-good files of kits under test away from those of the machine."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest, servers: Servers) -> str:
    """The URL of each real server in turn."""
    return servers[request.param].url


@pytest.fixture
def valkey_url(servers: Servers) -> str:
    return servers["valkey"].url


@pytest.fixture
def namespace() -> str:
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


class Backend:
    """One store in one colour, from which a test gets as many kits as it likes: each is another process."""

    def __init__(self, store: str, colour: str, servers: Servers) -> None:
        self.store = store
        self.colour = colour
        self.url = servers[store].url if store in SERVERS else None
        self._fake = fakeredis.FakeServer(version=(7,)) if store == "fakeredis" else None
        self._memory: Any = None
        self._kits: list[Any] = []

    def kit(self, namespace: str, **options: Any) -> Any:
        built = (
            self._asyncio(namespace, **options)
            if self.colour == "asyncio"
            else self._blocking(namespace, **options)
        )
        self._kits.append(built)
        return built

    def _blocking(self, namespace: str, **options: Any) -> StateKit:
        if self.store == "memory":
            first = self._memory = self._memory or StateKit.in_memory(namespace).store.transport
            return StateKit._over(Store(MemoryTransport(first._twins, first.data), namespace, **options))
        options = {"budget": PATIENT, **options}
        if self._fake:
            return StateKit(fakeredis.FakeRedis(server=self._fake), namespace, **options)
        return StateKit.connect(self.url, namespace, **options)

    def _asyncio(self, namespace: str, **options: Any) -> Blocking:
        if self.store == "memory":
            first = self._memory = self._memory or AsyncStateKit.in_memory(namespace).store.transport
            over = AsyncMemoryTransport(first._inner._twins, first.data)
            return Blocking(AsyncStateKit._over(AsyncStore(over, namespace, **options)))
        options = {"budget": PATIENT, **options}
        if self._fake:
            return Blocking(AsyncStateKit(fakeredis.FakeAsyncRedis(server=self._fake), namespace, **options))
        return Blocking(AsyncStateKit.connect(self.url, namespace, **options))

    def close(self) -> None:
        for kit in self._kits:
            try:
                kit.close()
            except ValueError:
                if not self._fake:
                    raise
                kit.close()  # a socket of fakeredis cannot be closed while another thread is sending, any other can


@pytest.fixture(params=[f"{store}-{colour}" for store in STORES for colour in COLOURS])
def backend(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Backend]:
    """Each store under test in each colour."""
    store, _, colour = request.param.partition("-")
    one = Backend(store, colour, servers)
    yield one
    one.close()


@pytest.fixture
def new_kit(backend: Backend, namespace: str) -> Callable[..., Any]:
    """Make one more kit over the store under test: ``new_kit(clock=clock, budget=…)``."""
    return lambda **options: backend.kit(options.pop("namespace", namespace), **options)


@pytest.fixture
def kit(new_kit: Callable[..., Any]) -> Any:
    """A kit over the store under test; asyncio kits are wrapped to be called like blocking ones."""
    return new_kit()


@pytest.fixture
def another_kit(new_kit: Callable[..., Any]) -> Any:
    """A second kit on the same store and namespace: another process."""
    return new_kit()


@pytest.fixture
def frozen_kit(new_kit: Callable[..., Any], clock: FrozenClock) -> Any:
    """As `kit`, living by `clock`."""
    return new_kit(clock=clock)


@pytest.fixture
def stub() -> Iterator[Stub]:
    one = Stub()
    yield one
    one.close()
