"""Pods: processes of one app on this machine, each on a port of its own, started, watched and stopped."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from statekit.prove.children import ChildFailed, Children

__all__ = ["START_WITHIN", "Pod", "free_ports", "get", "until"]

START_WITHIN = 30.0


class Pod:
    """One pod: a server with its workers."""

    def __init__(
        self,
        name: str,
        url: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        children: Children,
        probe: str = "/",
    ) -> None:
        self.name = name
        self.url = url
        self.command = tuple(command)
        self.environment = dict(environment)
        self.probe = probe
        self._children = children
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the pod; `wait` tells when it is ready."""
        self._process = self._children.start(self.name, self.command, self.environment)

    def wait(self, within: float = START_WITHIN) -> None:
        """Wait until the pod is ready; raises `ChildFailed` with its last words if it ends or takes too long."""
        if not until(lambda: self.ready() or self._ended(), within) or self._ended():
            raise ChildFailed(f"{self.name} did not get ready:\n{self._children.last_words(self.name)}")

    def ready(self) -> bool:
        """Whether the pod may be sent requests: it answers, whatever it answers."""
        return get(f"{self.url}{self.probe}")[0] > 0

    def stop(self) -> None:
        """End the pod; requests under way are finished."""
        if self._process is not None:
            self._children.stop(self._process)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def get(url: str, timeout: float = 2.0) -> tuple[int, bytes]:
    """Fetch a URL of this machine; status 0 if nothing answers."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout)
    try:
        connection.request("GET", where.path or "/")
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def until(condition: Callable[[], object], within: float, every: float = 0.05) -> bool:
    """Wait for a condition; False if it did not come true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
