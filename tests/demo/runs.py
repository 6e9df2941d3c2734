"""Running the demo's commands as a user does, and looking at what they leave behind."""

from __future__ import annotations

import http.cookies
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil

MAIN = "from statekit.cli import main; main()"
STATEKIT = [sys.executable, "-c", MAIN]


@contextmanager
def running(*arguments, first="", **environment):
    """Run a command, after some code of a test's own; whatever is left of it at the end is killed."""
    known = {name: value for name, value in os.environ.items() if name != "STATEKIT_URL"}
    process = psutil.Popen(
        [sys.executable, "-c", f"{first}\n{MAIN}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**known, **environment},
        # a run in the background of a shell ignores interrupts, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    family = Family(process)
    try:
        yield family
    finally:
        for one in [*family.members(), process]:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait(10)


class Family:
    """A process and all that it started, also what has lost its parent since."""

    def __init__(self, process):
        self.process = process
        self._known = {}

    def members(self):
        try:
            for one in self.process.children(recursive=True):
                self._known[one.pid] = one
        except psutil.NoSuchProcess:
            pass
        return [one for one in self._known.values() if alive(one)]

    def ready(self):
        """Wait for the line that says so; returns what it says."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.members()
        return json.loads(line)

    def gone(self, within=40):
        """Wait until nothing is left; returns what is left after that time."""
        deadline = time.monotonic() + within
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def alive(process):
    """True for a process that runs; a zombie waits only for its entry to be read."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Browser:
    """A client that keeps its cookies, over a connection of its own each time."""

    def __init__(self):
        self.cookies = {}

    def __call__(self, method, url, document=None, **headers):
        """Send a request; returns status, JSON and headers of the answer."""
        body = None if document is None else json.dumps(document).encode()
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Content-Type": "application/json", "Connection": "close", **headers}
        request = Request(url, body, {**sent, "Cookie": cookie} if cookie else sent, method=method)
        try:
            with urlopen(request, timeout=20) as answer:
                return self._read(answer, answer.status)
        except HTTPError as error:
            with error:
                return self._read(error, error.code)

    def _read(self, answer, status):
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        text = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return status, json.loads(text) if is_json else text.decode(), answer.headers
