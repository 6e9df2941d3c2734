"""The pods: gunicorn processes on this machine, started, drained and replaced as an orchestrator does it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from demo_app.settings import Settings, State
from statekit.prove.children import ChildFailed, Children
from statekit.prove.pods import START_WITHIN, free_ports, get, until
from statekit.prove.pods import Pod as PlainPod

__all__ = ["Fleet", "Plan", "Pod"]

NOTICE = 0.6
"""Seconds between a pod's first "not ready" and its SIGTERM: several times a balancer's polling interval, and
longer than any request it may still have sent takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: which state, how many pods, how large."""

    state: State
    pods: int = 3
    workers: int = 2
    port: int = 0
    """Port of the first pod; the next ones follow. 0: any free ones."""
    store: str = ""
    namespace: str = "demo"
    threads: int = 16


class Pod(PlainPod):
    """One pod: a gunicorn master with its workers, which can say that it is not ready."""

    def __init__(self, settings: Settings, children: Children) -> None:
        conf = ("-c", "python:demo_app.gunicorn_conf", "demo_app.wsgi:app")
        command = (sys.executable, "-m", "gunicorn", *conf)
        super().__init__(settings.pod, f"http://{settings.bind}", command, settings.environment(), children)
        self._drain = Path(settings.drain_file)

    def start(self) -> None:
        """Start the pod; `wait` tells when it is ready."""
        self._drain.unlink(missing_ok=True)
        super().start()

    def ready(self) -> bool:
        """Ask the pod as a balancer does."""
        return get(f"{self.url}/readyz")[0] == 200

    def drain(self) -> None:
        """Have the pod say that it is not ready, and give balancers the time to notice."""
        self._drain.touch()
        until(lambda: not self.ready(), 5.0)
        time.sleep(NOTICE)


class Fleet:
    """The pods of one run, and the third party they call."""

    def __init__(self, plan: Plan, children: Children) -> None:
        self.plan = plan
        self._children = children
        self.third_party = ""
        self.pods: list[Pod] = []

    def start(self) -> None:
        """Start everything at once, and wait until all pods are ready."""
        self.third_party = self._start_third_party()
        settings = _settings(self.plan, self.third_party, self._children.folder)
        self.pods = [Pod(one, self._children) for one in settings]
        for pod in self.pods:
            pod.start()
        for pod in self.pods:
            pod.wait()

    @property
    def urls(self) -> list[str]:
        return [pod.url for pod in self.pods]

    def roll(
        self, told: Callable[[str, str], None] = lambda _pod, _step: None
    ) -> Iterator[tuple[str, float, float]]:
        """Replace one pod after the other; yields each one's name with when that began and ended."""
        for pod in self.pods:
            began = time.monotonic()
            told(pod.name, "draining")
            pod.drain()
            told(pod.name, "stopping")
            pod.stop()
            told(pod.name, "starting")
            pod.start()
            pod.wait()
            yield pod.name, began, time.monotonic()

    def _start_third_party(self) -> str:
        child = self._children.start("third-party", [sys.executable, "-m", "demo_app.upstream"])
        said = self._children.log("third-party")
        if (
            not until(lambda: "\n" in said.read_text() or child.poll() is not None, START_WITHIN)
            or child.poll()
        ):
            raise ChildFailed(f"the third party did not start:\n{self._children.last_words('third-party')}")
        return str(json.loads(said.read_text().splitlines()[-1])["upstream"])


def _settings(plan: Plan, third_party: str, folder: Path) -> list[Settings]:
    """One pod's settings each. Sticky pods are one process: a balancer pins to a pod, not to a process in it."""
    sticky = plan.state == State.STICKY
    common = Settings(
        state=plan.state,
        store=plan.store,
        namespace=plan.namespace,
        workers="1" if sticky else str(plan.workers),
        threads=str(plan.threads * plan.workers if sticky else plan.threads),
        upstream=third_party,
    )
    ports = [plan.port + index for index in range(plan.pods)] if plan.port else free_ports(plan.pods)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    peers = ",".join(f"http://{address}" for address in addresses)
    return [
        replace(
            common,
            pod=f"pod-{number}",
            bind=address,
            drain_file=str(folder / f"drain-{number}"),
            peers="" if sticky else peers,
        )
        for number, address in enumerate(addresses, start=1)
    ]
