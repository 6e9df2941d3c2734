"""Real uvicorn with two workers: sessions and limits are shared, and clients that leave harm nobody."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from statekit import AsyncStateKit, Flag
from statekit.testing import OutageSimulator
from tests.conftest import PATIENT
from tests.servers import Servers, wait_until

HERE = Path(__file__).parent
PATIENCE = 60


def _answers(url: str, server: subprocess.Popen[bytes], log: Path) -> bool:
    assert server.poll() is None, f"uvicorn did not come up:\n{log.read_text()}"
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


@contextmanager
def serving(store_url: str, namespace: str, log: Path, workers: int) -> Iterator[str]:
    """Run the app of asgi_app.py under uvicorn."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "asgi_app:app",
        "--workers",
        str(workers),
        "--port",
        str(port),
    ]
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, "STATEKIT_URL": store_url, "NAMESPACE": namespace},
            stdout=out,
            stderr=out,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url, server, log), PATIENCE, "uvicorn did not come up")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


NAMESPACE = f"uvicorn-{os.getpid()}"


@pytest.fixture(scope="module")
def address(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("uvicorn") / "log"
    with serving(servers["valkey"].url, NAMESPACE, log, workers=2) as url:
        yield url
        assert "Traceback" not in log.read_text()


def browser_of(address: str) -> httpx.AsyncClient:
    """A browser that makes a connection for each request, so that either worker may answer."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits)


@pytest.fixture
async def site(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(address) as browser:
        yield browser


async def from_both_workers(site: httpx.AsyncClient, path: str) -> dict[int, Any]:
    """The latest answer of each worker."""
    seen: dict[int, Any] = {}
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 2:
            for answer in await asyncio.gather(*(site.get(path) for _ in range(4))):
                seen[answer.json()["pid"]] = answer.json()
    return seen


async def test_workers_share_sessions_limits_and_flags(site: httpx.AsyncClient, valkey_url: str) -> None:
    assert all(answer["on"] is False for answer in (await from_both_workers(site, "/flag")).values())

    answers = [(await site.post("/count")).json() for _ in range(20)]
    assert [answer["n"] for answer in answers] == list(range(1, 21)), "no worker lost a session"
    assert all(answer["started"] for answer in answers), "the app's own lifespan ran"

    statuses = [
        answer.status_code for answer in await asyncio.gather(*(site.get("/limited") for _ in range(60)))
    ]
    assert statuses.count(200) == 20
    assert statuses.count(429) == 40

    operator = AsyncStateKit.connect(valkey_url, NAMESPACE, budget=PATIENT)
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


async def conversation(url: httpx.URL, cookies: str, text: str) -> str | int:
    """Say something over a websocket; returns what is answered, or the status of a refusal."""
    wsproto = pytest.importorskip("wsproto", reason="uvicorn needs wsproto (or websockets) for websockets")
    from wsproto import events

    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    headers = [(b"Cookie", cookies.encode())]
    writer.write(
        client.send(events.Request(host=f"{url.host}:{url.port}", target="/chat", extra_headers=headers))
    )
    try:
        while True:
            client.receive_data(await reader.read(65536) or None)
            for event in client.events():
                if isinstance(event, events.RejectConnection):
                    return event.status_code
                if isinstance(event, events.AcceptConnection):
                    writer.write(client.send(events.TextMessage(text)))
                if isinstance(event, events.TextMessage):
                    return event.data
    finally:
        writer.close()


async def test_a_websocket_has_its_visitors_session_and_its_limit(site: httpx.AsyncClient) -> None:
    await site.post("/count")
    cookies = f"session={site.cookies['session']}"
    async with asyncio.timeout(PATIENCE):
        assert await conversation(site.base_url, cookies, "hello") == "1 hello"
        assert (await site.get("/said")).json() == {"said": "hello"}
        assert await conversation(site.base_url, cookies, "again") == "1 again"
        assert await conversation(site.base_url, cookies, "and again") == 429


async def test_while_the_store_is_away_only_those_who_need_it_are_sent_away(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    with (
        OutageSimulator(valkey_url) as outage,
        serving(outage.url, namespace, tmp_path / "uvicorn.log", workers=1) as url,
    ):
        async with browser_of(url) as site:
            assert (await site.post("/count")).json()["n"] == 1
            with outage.refused():
                assert (await site.get("/flag")).status_code == 200, "it carries a session, and reads none"
                answers = [await site.post("/count"), await site.get("/limited")]
                assert [answer.status_code for answer in answers] == [503, 503]
                assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
                assert (await site.get("/healthz")).status_code == 200
                assert (await site.get("/readyz")).status_code == 503
                site.cookies.clear()
                assert (await site.get("/limited")).json()["n"] is None, "limits allow, as declared"
            deadline = time.monotonic() + PATIENCE
            while (await site.post("/count")).status_code != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
