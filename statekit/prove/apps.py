"""From what the user names to the command that serves it on a port."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from statekit.errors import UsageError

__all__ = ["App", "app_of"]

PROBE_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class App:
    """How an app is served: a command in which ``{port}`` stands for the port."""

    name: str
    command: tuple[str, ...]

    def on(self, port: int) -> tuple[str, ...]:
        """The command for one port."""
        return tuple(one.replace("{port}", str(port)) for one in self.command)


def app_of(target: str, command: str, environment: Mapping[str, str]) -> App:
    """The app that was named: ``pkg.mod:app`` or ``pkg.mod:create_app()``, or a command of one's own.

    A child process imports it once to see whether it is WSGI (then gunicorn serves it: one worker, eight threads) or
    ASGI (uvicorn, one process). Raises `UsageError` where it cannot be imported, or nothing useful was named.
    """
    if bool(target) == bool(command):
        raise UsageError("name an app (pkg.mod:app), or give --command; not both")
    if command:
        if "{port}" not in command:
            raise UsageError(f"--command {command!r} has no {{port}} in it: several pods cannot share one")
        return App(command, tuple(shlex.split(command)))
    if ":" not in target:
        raise UsageError(f"{target!r} names no app: write the module and the app, such as {target}:app")
    serve = _uvicorn if _kind(target, environment) == "asgi" else _gunicorn
    return App(target, (sys.executable, "-m", *serve(target)))


def _gunicorn(target: str) -> list[str]:
    return ["gunicorn", "-c", "python:statekit.prove.gunicorn_conf", "-b", "127.0.0.1:{port}", target]


def _uvicorn(target: str) -> list[str]:
    quiet = ["--log-level", "warning", "--timeout-graceful-shutdown", "5"]
    factory = ["--factory"] if target.endswith("()") else []
    return ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", *quiet, *factory, target.removesuffix("()")]


def _kind(target: str, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "statekit.prove.kind", target]
    try:
        done = subprocess.run(  # noqa: S603 - the user's own app, as named
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PROBE_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{target} was still being imported after {PROBE_WITHIN:g} s") from error
    if done.returncode:
        raise UsageError(f"{target} cannot be imported:\n{done.stderr[-1500:]}")
    return done.stdout.split()[-1]
