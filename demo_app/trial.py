"""One variant under load: start the pods, start the load, replace the pods one by one, see what was seen."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import benchmarks.fleet
from benchmarks.fleet.figures import WINDOW, Span, figures
from benchmarks.fleet.sightings import Sighting, load
from demo_app.pods import Fleet, Plan
from demo_app.settings import State
from statekit.prove.children import ChildFailed, Children
from statekit.prove.pods import until

__all__ = ["FULL", "QUICK", "Course", "Outcome", "Told", "trial"]

Told: TypeAlias = Callable[[str, float], None]
"""Called with what is being done, and how far the variant is, from 0 to 1."""
SCENARIO = Path(benchmarks.fleet.__file__).with_name("load.py")


@dataclass(frozen=True, slots=True)
class Course:
    """How long a variant is driven, and when what happens."""

    seconds: float
    hammer: float
    restart: float
    """When the first pod is replaced; after the hammer, for a restart forgets what memory had counted."""
    users: int = 45
    slide: float = 0.0
    """How much longer shared state is driven: its key is hammered again while the first calls leave the window."""

    def of(self, state: State) -> Course:
        """The course of one variant."""
        longer = self.slide if state == State.SHARED else 0.0
        return replace(self, seconds=self.seconds + longer, slide=longer)


FULL = Course(seconds=42, hammer=18, restart=19, slide=24)
QUICK = Course(seconds=18, hammer=7, restart=7.5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one variant showed."""

    state: State
    began: float
    sightings: list[Sighting]
    restarts: list[Span]

    @property
    def figures(self) -> dict[str, Any]:
        return figures(self.sightings, self.restarts)


def trial(plan: Plan, course: Course, folder: Path, told: Told) -> Outcome:
    """Run one variant; every process it starts has ended when it returns or raises."""
    folder.mkdir(parents=True)
    with Children(folder) as children:
        told("starting the pods", 0.0)
        fleet = Fleet(plan, children)
        fleet.start()
        load_run = _Load(plan, course, fleet, children)
        began = load_run.wait_begun()
        _watch(load_run, began + course.restart, course, told)
        spans = [Span(*span) for span in fleet.roll(load_run.teller(told))]
        _watch(load_run, began + course.seconds + 60, course, told)
        told("stopping the pods", 0.98)
        return Outcome(plan.state, began, load_run.sightings(), spans)


def _watch(load_run: _Load, until_when: float, course: Course, told: Told) -> None:
    """Report progress until a moment has come or the load has ended."""
    while time.monotonic() < until_when and load_run.running:
        hammering = time.monotonic() - load_run.began < course.hammer
        load_run.teller(told)("", "under load, one API key hammered" if hammering else "under load")
        time.sleep(0.2)


class _Load:
    """The load generator's process."""

    def __init__(self, plan: Plan, course: Course, fleet: Fleet, children: Children) -> None:
        self._course = course
        self._children = children
        self._records = children.folder / "sightings.jsonl"
        self._progress = children.folder / "progress.json"
        self.began = 0.0
        self._process: subprocess.Popen[bytes] = children.start("load", self._command(plan, fleet))

    def _command(self, plan: Plan, fleet: Fleet) -> list[str]:
        course = self._course
        command = [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--headless", "--only-summary"]
        command += [
            "--host",
            ",".join(fleet.urls),
            "--users",
            str(course.users),
            "--spawn-rate",
            str(course.users),
        ]
        command += ["--run-time", f"{course.seconds:g}s", "--stop-timeout", "6", "--exit-code-on-error", "0"]
        command += ["--sightings", str(self._records), "--progress", str(self._progress)]
        command += ["--hammer-seconds", f"{course.hammer:g}", "--third-party", fleet.third_party]
        if course.slide:
            command += ["--hammer-again", f"{WINDOW - 2:g}"]
        return [*command, "--sticky"] if plan.state == State.STICKY else command

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_begun(self) -> float:
        """Wait for the first visitor; returns when that was."""
        until(lambda: self._progress.exists() or not self.running, 30.0)
        self.began = float(self._read_progress().get("began", 0.0))
        if not self.began:
            raise ChildFailed(f"the load did not start:\n{self._children.last_words('load')}")
        return self.began

    def teller(self, told: Told) -> Callable[[str, str], None]:
        """Say what is happening, with how far the load is."""

        def tell(pod: str, step: str) -> None:
            done = (time.monotonic() - self.began) / (self._course.seconds + 3)
            requests = self._read_progress().get("requests", 0)
            told(f"{step} {pod}".rstrip() + f" · {requests:,} requests", min(0.97, done))

        return tell

    def sightings(self) -> list[Sighting]:
        """What it saw; raises `ChildFailed` if it could not write it down."""
        try:
            return load(self._records)
        except OSError as error:
            raise ChildFailed(f"the load left no records:\n{self._children.last_words('load')}") from error

    def _read_progress(self) -> dict[str, float]:
        with contextlib.suppress(OSError, ValueError):
            known: dict[str, float] = json.loads(self._progress.read_text())
            return known
        return {}
