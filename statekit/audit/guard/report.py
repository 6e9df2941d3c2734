"""What the guard saw: each change with who made it, each name with whether it ever changed, and what watching cost."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["BETWEEN", "Change", "Overhead", "Report", "Watched", "written"]

BETWEEN = "(between requests)"
"""Who changed what changed while no request was under way: a thread, a timer, a signal."""


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which one kind of request changed one piece of state."""

    state: str
    category: str
    request: str
    """Method and pattern of the path: ``POST /login``."""
    kind: str
    """added · removed · replaced"""
    count: int
    shared: int
    """How many of them others under way may have made just as well."""
    among: int
    """The most requests one of these was shared among; 1 if all were alone."""
    example: str
    """Where in the state the first one was, as far as it may be shown."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One name of the audit, and what became of it."""

    state: str
    category: str
    rule: str
    verdict: str
    """confirmed · between requests · unchanged · not found"""
    looks: int
    """Requests before and after which it was looked at."""
    in_part: bool = False
    """True where it is too large to be read whole: a change may have gone unseen."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """What watching cost, per request."""

    budget_ms: float
    mean_ms: float
    most_ms: float
    share: float
    """Of the state, the share an average request looked at; below 1 the budget did not reach for all."""


@dataclass(frozen=True, slots=True)
class Report:
    """All a guard saw in one process, so far."""

    pid: int
    requests: int
    changes: tuple[Change, ...]
    states: tuple[Watched, ...]
    overhead: Overhead
    notes: tuple[str, ...] = ()

    @property
    def confirmed(self) -> tuple[str, ...]:
        """Names a request really changed."""
        return self._with("confirmed")

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Names nothing changed: candidates for a suppression, if every path was walked."""
        return self._with("unchanged")

    @property
    def not_found(self) -> tuple[str, ...]:
        """Names that led to nothing in this process: a module not imported, an object not made."""
        return self._with("not found")

    def _with(self, verdict: str) -> tuple[str, ...]:
        return tuple(one.state for one in self.states if one.verdict == verdict)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON would have it."""
        return {"version": 1, **asdict(self)}

    def text(self) -> str:
        """The report for people."""
        cost = self.overhead
        first = (
            f"{self.requests:,} requests, {len(self.states)} states named by the audit: {len(self.confirmed)} changed by "
            f"requests, {len(self.unchanged)} unchanged, {len(self.not_found)} not found"
        )
        between = len(self._with("between requests"))
        lines = [f"{first}, {between} only between requests" if between else first]
        by_state: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            by_state[change.state].append(change)
        for state, changes in by_state.items():
            lines += ["", f"{state}  ({changes[0].category})" if changes[0].category else state]
            lines += [f"  {_line(change)}" for change in changes]
        lines += _listed("unchanged (every path walked? then suppress)", self.unchanged)
        lines += _listed(
            "not found in this process (not imported, not made yet, or local to a function)", self.not_found
        )
        lines += [
            "",
            f"watching took {cost.mean_ms:.2f} ms a request, {cost.most_ms:.2f} at most (budget {cost.budget_ms:g} ms)",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)]) + "\n"


def _line(change: Change) -> str:
    shared = f", {change.shared} of them shared among up to {change.among} requests" if change.shared else ""
    if change.shared == change.count:
        shared = f", never alone: shared among up to {change.among} requests"
    example = f", first {change.example.strip()}" if change.example.strip() else ""
    return f"{change.request:<28} {change.kind} {change.count:,} x{shared}{example}"


def _listed(title: str, names: tuple[str, ...]) -> list[str]:
    return ["", f"{title}:", *(f"  {name}" for name in names)] if names else []


def verdict_of(changes: list[Change], looks: int) -> str:
    """What became of a name."""
    if any(change.request != BETWEEN for change in changes):
        return "confirmed"
    if changes:
        return "between requests"
    return "unchanged" if looks else "not found"


def written(report: Report, path: Path, made_in: int) -> Path:
    """Write a report; ``{pid}`` in the name stands for this process, and a forked one adds its own."""
    name = path.name.replace("{pid}", str(report.pid))
    if name == path.name and os.getpid() != made_in:
        name = f"{path.stem}.{report.pid}{path.suffix}"
    target = path.with_name(name)
    text = report.text() if path.suffix == ".txt" else json.dumps(report.as_json(), indent=2) + "\n"
    target.write_text(text, encoding="utf-8")
    return target
