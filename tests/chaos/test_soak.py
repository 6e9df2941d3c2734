"""The short soak: each fault once, then some at random; nothing may grow, no answer may be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers import wait_until


@pytest.mark.timeout(240)
def test_a_short_soak_ends_where_it_began(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.chaos.soak", "--seconds", "45", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert told["problems"] == []
    assert not told["answers"].get("wrong")
    assert not told["answers"].get("crash")
    assert told["answers"]["right"] > 1000
    assert len(told["faults"]) >= 14, "each of them came"


def test_a_soak_that_is_told_to_end_leaves_nothing_behind() -> None:
    soak = subprocess.Popen([sys.executable, "-m", "tests.chaos.soak"], stdout=subprocess.PIPE, text=True)
    one = psutil.Process(soak.pid)
    wait_until(lambda: len(one.children(recursive=True)) > 10, 60)
    started = one.children(recursive=True)
    soak.terminate()
    assert soak.wait(60) == 1
    assert soak.stdout
    soak.stdout.close()
    wait_until(lambda: not any(child.is_running() for child in started), 30, f"{started} are left")
