"""Real gunicorn with --preload: app and kit are made once, used, and forked; every primitive must hold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from statekit import Flag, StateKit, TenantSettings
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.third_party import Stub
from tests.webservers import PATIENCE, WebServer


class Settings(TenantSettings):
    plan: str = "free"


@pytest.fixture
def stubs() -> Iterator[tuple[Stub, Stub]]:
    """The third parties that count: one those who borrow a client, one those who hold a slot."""
    both = (Stub(), Stub())
    yield both
    for stub in both:
        stub.close()


@pytest.fixture
def server(valkey_url: str, namespace: str, stubs: tuple[Stub, Stub], tmp_path: Path) -> Iterator[WebServer]:
    ports = {"POOL_PORT": str(stubs[0].port), "FLIGHT_PORT": str(stubs[1].port)}
    where = {"STATEKIT_URL": valkey_url, "NAMESPACE": namespace, **ports}
    options = ("--preload", "--threads", "2")
    with WebServer("preload_app:app", options, where, tmp_path / "log") as running:
        yield running


@pytest.fixture
def operator(valkey_url: str, namespace: str) -> Iterator[StateKit]:
    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        yield kit


def many(url: str, count: int, threads: int = 8) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: requests.get(url, timeout=60), range(count)))


def test_forked_workers_share_sessions_limits_and_flags(server: WebServer, operator: StateKit) -> None:
    assert all(answer["on"] is False for answer in server.from_each("/flag").values())

    jar = requests.post(f"{server.url}/count", timeout=30).cookies.get_dict()
    answers = [requests.post(f"{server.url}/count", cookies=jar, timeout=30).json() for _ in range(20)]
    assert [answer["n"] for answer in answers] == list(range(2, 22)), "no worker lost a session"

    statuses = [answer.status_code for answer in many(f"{server.url}/limited", 60)]
    assert statuses.count(200) == 20
    assert statuses.count(429) == 40

    # master, two workers, and this process
    wait_until(lambda: len(operator.flags.workers()) == 4, PATIENCE)
    told = operator.flags.set("news", Flag(enabled=True), by="test", wait=20)
    assert told.acknowledged == told.workers == 4
    assert all(answer["on"] is True for answer in server.from_each("/flag").values())


def test_forked_workers_share_what_is_held(
    server: WebServer, operator: StateKit, stubs: tuple[Stub, Stub]
) -> None:
    """Clients, slots and slices of a limit that the parent has are the parent's; the workers get their own."""
    pool, flight = stubs
    tenants = operator.tenants(Settings)
    wait_until(lambda: tenants.update("acme", {"plan": "pro"}, wait=5).workers == 4, PATIENCE)
    assert all(answer["plan"] == "pro" for answer in server.from_each("/tenant").values())

    allowed = sum(answer.json()["allowed"] for answer in many(f"{server.url}/leased", 400))
    assert 200 < allowed < 300, "never more than the limit, which the parent has a slice of"

    fences = [answer.json()["fence"] for answer in many(f"{server.url}/hold", 60)]
    assert len(set(fences)) == 60
    assert 1 <= flight.most <= 3
    assert operator.in_flight("reports", 3).count("acme") == 0

    assert all(answer.ok for answer in many(f"{server.url}/borrow", 60))
    assert len(server.from_each("/borrow")) == 2
    assert 1 <= pool.most <= 3
