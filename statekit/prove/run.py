"""A proof from end to end: one process, the same again, several pods with a rolling restart; what each visitor saw."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from statekit.prove.apps import App
from statekit.prove.balancer import put_in_rotation
from statekit.prove.children import ChildFailed, Children
from statekit.prove.compare import Result, compared
from statekit.prove.pods import Pod, free_ports, until
from statekit.prove.records import Seen

__all__ = ["Course", "Proof", "prove"]

Told: TypeAlias = Callable[[str], None]
"""Called with what is being done."""
NOTICE = 0.4
"""Seconds between a pod's leaving the rotation and its SIGTERM: longer than the load takes to hear of it."""
ROLL_AT = 0.3
"""When the first pod is replaced, as a share of the run."""
LATE = 40.0
"""Seconds a load may take beyond its time before it is ended."""
RUNS = ("one", "control", "pods")


@dataclass(frozen=True, slots=True)
class Course:
    """How a proof is run."""

    pods: int = 3
    seconds: float = 20.0
    users: int = 20
    seed: int = 1
    ready: str = "/"
    """Asked until something answers, before a pod gets requests."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For every pod. ``{run}`` in a value differs from run to run, and from proof to proof; ``{pod}`` is its number."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it."""

    app: str
    course: Course
    result: Result
    replaced: int
    """Pods that were replaced under load."""
    requests: dict[str, int]
    """Per run."""


def prove(app: App, locustfile: Path, course: Course, folder: Path, told: Told) -> Proof:
    """Run it all; every process it starts has ended when it returns or raises. Raises `ChildFailed`."""
    token, seen, replaced = os.urandom(3).hex(), {}, 0
    for run in RUNS:
        pods = course.pods if run == "pods" else 1
        title = {"one": "one process", "control": "one process, again"}.get(
            run, f"{pods} pods, replaced one by one"
        )
        told(f"{title}: {course.seconds:g} s")
        trial = _Trial(app, locustfile, course, folder / run, f"{token}-{run}")
        seen[run] = trial.run(pods)
        replaced += trial.replaced
    counts = {run: len(one.answers) for run, one in seen.items()}
    return Proof(app.name, course, compared(seen["one"], seen["control"], seen["pods"]), replaced, counts)


class _Trial:
    """One run: pods, load, and for several pods the restarts."""

    def __init__(self, app: App, locustfile: Path, course: Course, folder: Path, token: str) -> None:
        self._app, self._locustfile, self._course, self._token = app, locustfile, course, token
        self._rotation, self._begun = folder / "rotation.json", folder / "begun"
        self._records = folder / "seen.jsonl"
        self._folder = folder
        self.replaced = 0

    def run(self, count: int) -> Seen:
        """Run it; returns what the load saw."""
        self._folder.mkdir(parents=True)
        with Children(self._folder) as children:
            pods = [
                self._pod(number, port, children) for number, port in enumerate(free_ports(count), start=1)
            ]
            load = children.start("load", self._load(pods[0].url))
            for pod in pods:
                pod.start()
            for pod in pods:
                pod.wait()
            put_in_rotation(self._rotation, [pod.url for pod in pods])
            until(lambda: self._begun.exists() or load.poll() is not None, LATE)
            if count > 1:
                self._roll(pods, load, time.monotonic() + self._course.seconds * ROLL_AT)
            self._wait(load, children)
        return Seen.load(self._records)

    def _pod(self, number: int, port: int, children: Children) -> Pod:
        environment = environment_of(self._course, self._token, number)
        return Pod(
            f"pod-{number}",
            f"http://127.0.0.1:{port}",
            self._app.on(port),
            environment,
            children,
            self._course.ready,
        )

    def _load(self, host: str) -> list[str]:
        course = self._course
        command = [sys.executable, "-m", "statekit.prove.load", "--rotation", str(self._rotation)]
        command += ["--out", str(self._records), "--begun", str(self._begun), "--seed", str(course.seed)]
        command += ["-f", str(self._locustfile), "--headless", "--only-summary", "--exit-code-on-error", "0"]
        command += ["--host", host, "--users", str(course.users), "--spawn-rate", str(course.users)]
        return [*command, "--run-time", f"{max(1, round(course.seconds))}s", "--stop-timeout", "5"]

    def _roll(self, pods: list[Pod], load: subprocess.Popen[bytes], begin: float) -> None:
        """Replace one pod after the other, for as long as the load lasts."""
        urls = [pod.url for pod in pods]
        until(lambda: time.monotonic() > begin or load.poll() is not None, self._course.seconds)
        for pod in pods:
            if load.poll() is not None:
                return
            put_in_rotation(self._rotation, [url for url in urls if url != pod.url])
            time.sleep(NOTICE)
            pod.stop()
            pod.start()
            pod.wait()
            put_in_rotation(self._rotation, urls)
            self.replaced += 1

    def _wait(self, load: subprocess.Popen[bytes], children: Children) -> None:
        until(lambda: load.poll() is not None, self._course.seconds + LATE)
        if load.poll() is None or not self._records.exists():
            raise ChildFailed(f"the load left no records:\n{children.last_words('load')}")


def environment_of(course: Course, token: str, number: int) -> dict[str, str]:
    """The environment of one pod."""
    given = {
        name: value.replace("{run}", token).replace("{pod}", str(number))
        for name, value in course.environment.items()
    }
    path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "WEB_CONCURRENCY": "1", "STATEKIT_PROVE_RUN": token, **given}
