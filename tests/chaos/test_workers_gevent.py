"""gunicorn's gevent workers: greenlets wait for the store, the hub does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from statekit import Flag, StateKit
from tests.conftest import PATIENT
from tests.servers import Server, binary, wait_until
from tests.webservers import WebServer

BUDGET = 1.5
WAITING = 30


@pytest.mark.parametrize("options", [(), ("--preload", "-c", "gevent_conf.py")], ids=["", "preload"])
def test_a_stalled_store_does_not_stall_the_hub(
    options: tuple[str, ...], namespace: str, tmp_path: Path
) -> None:
    with Server(binary("valkey")) as store:
        where = {"STATEKIT_URL": store.url, "NAMESPACE": namespace, "BUDGET": str(BUDGET)}
        served = WebServer(
            "preload_app:app", ("-k", "gevent", *options), where, tmp_path / "log", "/plain", workers=1
        )
        with served as server, ThreadPoolExecutor(WAITING) as pool:
            assert requests.get(f"{server.url}/limited", timeout=30).ok
            with store.frozen():
                begin = time.monotonic()
                asked = [
                    pool.submit(requests.get, f"{server.url}/limited", timeout=60) for _ in range(WAITING)
                ]
                idle = [_seconds(f"{server.url}/plain") for _ in range(20)]
                answers = [one.result() for one in asked]
                took = time.monotonic() - begin
            print(f"\n{WAITING} waited {took:.2f} s, others meanwhile {max(idle) * 1000:.0f} ms at most")
            assert {answer.status_code for answer in answers} == {200}, "allowed, as declared"
            assert took < 2 * BUDGET, "they waited side by side"
            assert max(idle) < BUDGET / 2
            with StateKit.connect(store.url, namespace, budget=PATIENT, snapshot_dir=None) as operator:
                wait_until(lambda: operator.flags.set("news", Flag(), wait=10).complete, 60)
            assert requests.get(f"{server.url}/flag", timeout=30).json()["on"]
        assert "Traceback" not in server.told()


def _seconds(url: str) -> float:
    begin = time.monotonic()
    assert requests.get(url, timeout=60).ok
    return time.monotonic() - begin
