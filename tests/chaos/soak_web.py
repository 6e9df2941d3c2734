"""The web apps of the soak, and who visits them: Flask under gunicorn, FastAPI under uvicorn."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import requests

from tests.webservers import WebServer

PAUSE = 0.05


def web_servers(url: str, namespace: str, folder: Path) -> dict[str, WebServer]:
    """Not started yet."""
    where = {"STATEKIT_URL": url, "NAMESPACE": namespace, "BUDGET": "0.05"}
    flask = WebServer(
        "preload_app:app", ("--preload", "--threads", "2"), where, folder / "gunicorn", "/plain"
    )
    fastapi = WebServer("fast_app:app", (), where, folder / "uvicorn", "/plain")
    return {"flask": flask, "fastapi": fastapi}


class Guest(threading.Thread):
    """Visits one app on one session: every answer is right, or says that the store is away (503, or `stale`)."""

    def __init__(self, url: str, done: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self._done = url, done
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._jar: dict[str, str] = {}
        self._tried = self._kept = 0

    def run(self) -> None:
        for path in itertools.cycle(("/count", "/leased", "/flag", "/tenant")):
            if self._done.wait(PAUSE):
                return
            try:
                self._judge(path, self._ask(path))
            except requests.RequestException:
                self.counts["broken"] += 1  # its worker was killed
                time.sleep(PAUSE)

    def _ask(self, path: str) -> requests.Response:
        self._tried += path == "/count"
        how = requests.post if path == "/count" else requests.get
        return how(self.url + path, cookies=self._jar, timeout=30)

    def _judge(self, path: str, answer: requests.Response) -> None:
        if answer.status_code == 503:
            self.counts["refused"] += 1
        elif complaint := self._wrong(path, answer):
            self.counts["wrong"] += 1
            self.complaints.append(f"{self.url}{path}: {complaint}")
        else:
            self.counts["right"] += 1

    def _wrong(self, path: str, answer: requests.Response) -> str:
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:200]}"
        told = answer.json()
        if path == "/tenant":
            return "" if told["plan"] == "pro" or told["stale"] else f"{told}"
        if path != "/count":
            return ""
        self._jar.update(answer.cookies.get_dict())
        before, self._kept = self._kept, told["n"]
        return "" if before < self._kept <= self._tried else f"{told} after {before} of {self._tried}"
