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

# A shell waits on a pipe that closes when we end, however we end, and takes the server with it.
WATCH = """"$@" >"$LOG" 2>&1 & echo $!
read -r word; kill -TERM $!; wait"""


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
        fast = self.app.startswith("fast")
        command = (*UVICORN, "--port", str(port), "--workers") if fast else (*GUNICORN, where, "-w")
        self._shell = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", sys.executable, *command, str(self.workers), *self.options, self.app],
            cwd=ADAPTERS,
            env={**os.environ, **self.environment, "LOG": str(self.log)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._shell.stdout
        self.pid = int(self._shell.stdout.readline())
        wait_until(self._up, PATIENCE, f"{self.app} does not come up: {self.told()}")
        return self

    def _up(self) -> bool:
        assert psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE, self.told()
        try:
            return requests.get(self.url + self.ready, timeout=5).ok
        except requests.RequestException:
            return False

    def told(self) -> str:
        """What it has logged, the end of it."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""

    def pids(self) -> set[int]:
        """The workers that live now."""
        below = psutil.Process(self.pid).children(recursive=True)
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
        try:
            self._shell.communicate("stop\n", timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.communicate()

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
