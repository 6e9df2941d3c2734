"""Real web servers for tests: gunicorn and uvicorn with several workers, gone with the test that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from tests.servers import free_ports, wait_until

ADAPTERS = Path(__file__).with_name("adapters")
PATIENCE = 60
GUNICORN = ("-m", "gunicorn", "--no-control-socket", "--graceful-timeout", "3", "-b")
UVICORN = ("-m", "uvicorn", "--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "3")


@dataclass
class WebServer:
    """An app of tests/adapters behind a real server, on a port of the loopback."""

    app: str
    options: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    ready: str = "/readyz"
    workers: int = 2

    def start(self) -> Self:
        (port,) = free_ports(1)
        where = f"127.0.0.1:{port}"
        self.url = f"http://{where}"
        command = (*UVICORN, "--port", str(port)) if self.app.startswith("fast") else (*GUNICORN, where)
        flag = "--workers" if self.app.startswith("fast") else "-w"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command, flag, str(self.workers), *self.options, self.app],
                cwd=ADAPTERS,
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        wait_until(self._up, PATIENCE, f"{self.app} does not come up: {self.told()}")
        return self

    def _up(self) -> bool:
        assert self.process.poll() is None, self.told()
        try:
            return requests.get(self.url + self.ready, timeout=5).ok
        except requests.RequestException:
            return False

    def told(self) -> str:
        """What it has logged, the end of it."""
        return self.log.read_text()[-3000:]

    def pids(self) -> set[int]:
        """The workers that live now."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return {one.pid for one in below if _serves(one)}

    def from_each(self, path: str) -> dict[int, dict[str, Any]]:
        """The latest answer of each worker; each request comes on a connection of its own."""
        seen: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + PATIENCE
        while len(seen) < self.workers and time.monotonic() < deadline:
            with ThreadPoolExecutor(4) as pool:
                for answer in pool.map(lambda _: requests.get(self.url + path, timeout=30).json(), range(4)):
                    seen[answer["pid"]] = answer
        assert len(seen) == self.workers, f"only {len(seen)} workers ever answered"
        return seen

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _serves(one: psutil.Process) -> bool:
    """Whether it is a worker, and not what Python starts to look after resources."""
    try:
        return one.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(one.cmdline())
    except psutil.NoSuchProcess:
        return False
