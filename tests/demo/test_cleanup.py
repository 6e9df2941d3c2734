"""Whatever happens, the demo leaves no process behind and says what went wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from statekit.prove.children import Children
from statekit.prove.pods import until
from tests.demo.runs import running

SERVE = ("demo", "serve", "--pods", "2", "--workers", "2", "--port", "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(number):
    with running(*SERVE) as run:
        run.ready()
        assert len(run.members()) > 6  # store, third party, two masters, four workers
        run.process.send_signal(number)
        assert run.process.wait(40) == 0
        assert run.gone() == []


def test_killed_outright(tmp_path):
    with running(*SERVE, TMPDIR=str(tmp_path)) as run:  # who is killed cannot tidy up its logs
        run.ready()
        run.process.kill()
        assert run.gone() == []


def test_interrupted_in_the_middle_of_a_run(tmp_path):
    with running("demo", "--quick", "--out", str(tmp_path / "report")) as run:
        assert until(lambda: any("locust" in one.cmdline() for one in run.members()), 60)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(40) == 130
        assert run.gone() == []
    assert not (tmp_path / "report" / "index.html").exists()


def test_a_port_in_use_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running("demo", "serve", "--state", "memory", "--pods", "1", "--port", str(port)) as run:
            out, err = run.process.communicate(timeout=90)
            assert run.process.returncode == 1
            assert out == ""
            assert "pod-1" in err
            assert "in use" in err
            assert run.gone() == []


def test_a_state_nobody_knows_is_bad_usage():
    with running("demo", "serve", "--state", "magic") as run:
        _, err = run.process.communicate(timeout=60)
        assert run.process.returncode == 2
        assert "magic" in err
        assert "memory, sticky, shared" in err


def test_a_report_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with running("demo", "--out", str(tmp_path / "file")) as run:
        _, err = run.process.communicate(timeout=60)
        assert run.process.returncode == 1
        assert "the report cannot be written" in err.replace("\n", " ")


def test_a_child_that_will_not_listen_is_ended(tmp_path):
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    with Children(tmp_path) as children:
        child = children.start("deaf", [sys.executable, "-c", deaf])
        assert until(lambda: "up" in children.last_words("deaf"), 30)
        children.stop(child, grace=0.2)
        assert child.returncode == -signal.SIGKILL


def test_children_end_with_the_block_when_it_raises(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), Children(tmp_path) as children:
        child = children.start("sleeper", ["sleep", "600"])
        raise RuntimeError("boom")
    assert child.poll() is not None


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from statekit.prove.children import Children
with Children(Path({str(tmp_path)!r})) as children:
    print(children.start("sleeper", ["sleep", "600"]).pid, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    time.sleep(0.3)  # the leash is tied before `sleep` begins
    parent.kill()
    parent.wait(10)
    assert until(lambda: not _runs(pid), 20)


def _runs(pid):
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SHORTER = """
from functools import partial
from demo_app import proof, trial
proof.QUICK = trial.Course(seconds=8, hammer=3, restart=3.5)
proof.Plan = partial(proof.Plan, pods=2)
"""


@pytest.mark.parametrize(
    ("first", "pods"),
    [
        pytest.param("", 3, id="as it is", marks=pytest.mark.exhaustive),
        pytest.param(SHORTER, 2, id="shorter"),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_the_whole_proof_in_short(tmp_path, first, pods):
    with running("demo", "--quick", "--out", str(tmp_path / "report"), first=first) as run:
        out, err = run.process.communicate(timeout=240)
        assert run.gone() == []
    assert (tmp_path / "report" / "index.html").stat().st_size > 50_000, err
    variants = json.loads((tmp_path / "report" / "report.json").read_text())["variants"]
    memory, sticky, shared = variants["memory"], variants["sticky"], variants["shared"]

    assert shared["permits_worst_window"] == 100
    assert min(memory["permits_worst_window"], sticky["permits_worst_window"]) > 100
    assert shared["sessions_lost"] == 0 < shared["sessions_opened"]
    assert memory["sessions_lost"] > memory["sessions_opened"] / 2 > 0 < sticky["sessions_lost"]
    assert shared["requests_failed_in_restart"] == 0
    assert shared["restarts"] == pods
    assert shared["flag_convergence_p50_ms"] is not None  # how fast is for a quiet machine to say
    assert memory["flag_convergence_p50_ms"] is None
    assert shared["upstream_connections_max"] <= 12 < memory["upstream_connections_max"] <= 24
    assert shared["tenant_leaks"] == 0 < memory["tenant_leaks"]
    assert "What the visitors saw" in out
