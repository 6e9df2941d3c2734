"""Real gunicorn with --preload: app and kit are made once and forked; sessions, limits and flags must hold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests

from statekit import Flag, StateKit
from tests.conftest import PATIENT
from tests.servers import wait_until

HERE = Path(__file__).parent
PATIENCE = 60


@pytest.fixture
def address(valkey_url: str, namespace: str, tmp_path: Path) -> Iterator[str]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = tmp_path / "gunicorn.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--preload",
                "-w",
                "2",
                "--threads",
                "2",
                "-b",
                f"127.0.0.1:{port}",
                "--no-control-socket",
                "--graceful-timeout",
                "3",
                "preload_app:app",
            ],
            cwd=HERE,
            env={**os.environ, "STATEKIT_URL": valkey_url, "NAMESPACE": namespace},
            stdout=out,
            stderr=out,
        )
    try:
        yield _ready(f"http://127.0.0.1:{port}", server, log)
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _ready(url: str, server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{url}/readyz", timeout=5).ok:
                return url
        except requests.ConnectionError:
            time.sleep(0.05)
    pytest.fail(f"gunicorn did not come up:\n{log.read_text()}")


def from_both_workers(url: str, path: str) -> dict[int, dict[str, object]]:
    """The latest answer of each worker; each request comes on a connection of its own."""
    seen: dict[int, dict[str, object]] = {}
    deadline = time.monotonic() + PATIENCE
    while len(seen) < 2 and time.monotonic() < deadline:
        with ThreadPoolExecutor(4) as pool:
            for answer in pool.map(lambda _: requests.get(url + path, timeout=30).json(), range(4)):
                seen[answer["pid"]] = answer
    assert len(seen) == 2, "only one worker ever answered"
    return seen


def test_forked_workers_share_sessions_limits_and_flags(
    address: str, valkey_url: str, namespace: str
) -> None:
    assert all(answer["on"] is False for answer in from_both_workers(address, "/flag").values())

    jar = requests.post(f"{address}/count", timeout=30).cookies.get_dict()
    answers = [requests.post(f"{address}/count", cookies=jar, timeout=30).json() for _ in range(20)]
    assert [answer["n"] for answer in answers] == list(range(2, 22)), "no worker lost a session"

    with ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda _: requests.get(f"{address}/limited", timeout=30).status_code, range(60))
        )
    assert statuses.count(200) == 20
    assert statuses.count(429) == 40

    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as operator:
        wait_until(
            lambda: len(operator.flags.workers()) == 4, PATIENCE
        )  # master, two workers, and this process
        told = operator.flags.set("news", Flag(enabled=True), by="test", wait=20)
        assert told.acknowledged == told.workers == 4
    assert all(answer["on"] is True for answer in from_both_workers(address, "/flag").values())
