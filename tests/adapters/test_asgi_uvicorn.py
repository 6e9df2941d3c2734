"""Real uvicorn with two workers: sessions and limits are shared, and clients that leave harm nobody."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statekit import AsyncStateKit, Flag
from tests.conftest import PATIENT
from tests.servers import wait_until

HERE = Path(__file__).parent
PATIENCE = 60


def _answers(url: str, server: subprocess.Popen[bytes], log: Path) -> bool:
    assert server.poll() is None, f"uvicorn did not come up:\n{log.read_text()}"
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def address(valkey_url: str, namespace: str, tmp_path: Path) -> Iterator[str]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = tmp_path / "uvicorn.log"
    command = [sys.executable, "-m", "uvicorn", "asgi_app:app", "--workers", "2", "--port", str(port)]
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, "STATEKIT_URL": valkey_url, "NAMESPACE": namespace},
            stdout=out,
            stderr=out,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url, server, log), PATIENCE, "uvicorn did not come up")
        yield url
        assert "Traceback" not in log.read_text()
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
async def site(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that makes a connection for each request, so that either worker may answer."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits) as browser:
        yield browser


async def from_both_workers(site: httpx.AsyncClient, path: str) -> dict[int, Any]:
    """The latest answer of each worker."""
    seen: dict[int, Any] = {}
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 2:
            for answer in await asyncio.gather(*(site.get(path) for _ in range(4))):
                seen[answer.json()["pid"]] = answer.json()
    return seen


async def test_workers_share_sessions_limits_and_flags(
    site: httpx.AsyncClient, valkey_url: str, namespace: str
) -> None:
    assert all(answer["on"] is False for answer in (await from_both_workers(site, "/flag")).values())

    answers = [(await site.post("/count")).json() for _ in range(20)]
    assert [answer["n"] for answer in answers] == list(range(1, 21)), "no worker lost a session"
    assert all(answer["started"] for answer in answers), "the app's own lifespan ran"

    statuses = [
        answer.status_code for answer in await asyncio.gather(*(site.get("/limited") for _ in range(60)))
    ]
    assert statuses.count(200) == 20
    assert statuses.count(429) == 40

    operator = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT)
    told = await operator.flags.set("news", Flag(enabled=True), by="test", wait=20)
    assert told.acknowledged == told.workers == 3
    assert all(answer["on"] is True for answer in (await from_both_workers(site, "/flag")).values())
    await operator.close()


async def test_clients_that_leave_harm_nobody(site: httpx.AsyncClient) -> None:
    await site.post("/count")
    loyal = [asyncio.create_task(site.get("/slow")) for _ in range(20)]
    leaving = [asyncio.create_task(site.get("/slow")) for _ in range(40)]
    await asyncio.sleep(0.05)
    for task in leaving:
        task.cancel()
    answers = await asyncio.gather(*loyal)
    assert [answer.json()["n"] for answer in answers] == [1] * 20
    assert (await site.post("/count")).json()["n"] == 2


async def test_a_stream_arrives_whole_with_its_cookie(site: httpx.AsyncClient) -> None:
    async with site.stream("GET", "/stream") as answer:
        assert answer.headers["Set-Cookie"].startswith("session=")
        lines = [line async for line in answer.aiter_lines()]
    assert lines == [str(number) for number in range(100)]
