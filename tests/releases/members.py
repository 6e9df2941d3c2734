"""Processes of member.py, seen from the test that started them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEFORE = HERE / "statekit-0.1.0-py3-none-any.whl"


def release(path: Path | None) -> dict[str, str]:
    """The environment of a process which finds statekit in `path`, or the present one."""
    return {**os.environ, "PYTHONPATH": str(path or os.environ.get("PYTHONPATH", ""))}


class Member:
    """A process of a fleet; calling it calls the verb of member.py, and raises what that raised, as text."""

    def __init__(self, url: str, namespace: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "member.py"), url, namespace],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, verb: str, *arguments: Any, **options: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([verb, arguments, options]) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        if "error" in told:
            raise RuntimeError(told["error"])
        return told["answer"]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
