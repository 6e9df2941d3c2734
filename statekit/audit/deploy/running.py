"""How the app is run, as far as its files say: processes, pods, preloading, stickiness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from statekit.audit.model import Severity

__all__ = ["Running", "Said"]

STEPS = (Severity.NOTE, Severity.WARNING, Severity.ERROR)


class Said(NamedTuple):
    """One thing a file says about how the app is run."""

    what: str
    """workers · threads · pods · preload · sticky · forked (a hook that runs in each worker) · metrics"""
    number: int
    """How many, at least: one per core counts as two."""
    path: str
    line: int
    text: str
    """As it is spelt there."""

    @property
    def where(self) -> str:
        """Path and line."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Running:
    """Everything the deployment files say; the largest number counts."""

    said: tuple[Said, ...] = ()

    def most(self, what: str) -> Said | None:
        """The strongest statement of one kind, None where nobody says anything."""
        return max((one for one in self.said if one.what == what), key=lambda one: one.number, default=None)

    def _number(self, what: str) -> int | None:
        most = self.most(what)
        return most.number if most else None

    @property
    def workers(self) -> int | None:
        """Processes in a pod; None if no file says."""
        return self._number("workers")

    @property
    def pods(self) -> int | None:
        """Copies of the whole: replicas, machines; None if no file says."""
        return self._number("pods")

    @property
    def preload(self) -> Said | None:
        """What imports the app before forking, if anything does."""
        return self.most("preload")

    @property
    def spread(self) -> bool:
        """Whether there are several pods, so that not even a file is shared by all."""
        return (self.pods or 1) > 1

    @property
    def several(self) -> bool:
        """Whether more than one process is configured to answer."""
        return (self.workers or 1) > 1 or self.spread

    @property
    def single(self) -> bool:
        """Whether the files say that there is one process, and nothing says otherwise."""
        return self.workers == 1 and not self.several

    @property
    def why(self) -> str:
        """Half a sentence for a finding: who starts how many, '' if nothing is known."""
        for what, noun in (("workers", "processes"), ("pods", "pods")):
            most = self.most(what)
            if most and most.number > 1:
                return f"{most.where} starts several {noun} (`{most.text}`)"
        most = self.most("workers")
        return f"{most.where} starts one process (`{most.text}`), today" if most else ""

    def weigh(self, severity: Severity) -> Severity:
        """A step up where several processes are configured, a step down where exactly one is."""
        step = 1 if self.several else -1 if self.single else 0
        return STEPS[max(0, min(len(STEPS) - 1, STEPS.index(severity) + step))]
