"""How much a finding weighs: what its category weighs, and what is known about this one."""

from __future__ import annotations

from statekit.audit.advice.subject import Subject
from statekit.audit.model import Category, Severity
from statekit.audit.natures import Nature
from statekit.audit.rules import sort_of
from statekit.audit.words import words_of

__all__ = ["NUMBERING", "dual", "everywhere", "numbers", "receives", "severity"]

NUMBERING = {"seq", "sequence", "next", "id", "ids", "number", "numbers", "serial", "ticket"}
RECEIVING = {"bot", "consumer", "discord", "telegram", "subscriber", "listener", "slackapp"}


def severity(subject: Subject) -> Severity:
    """Wrong answers and lost work are errors, what is stale or multiplied is a warning, what may be meant a note."""
    if dual(subject):
        return Severity.NOTE
    special = _SPECIAL.get(subject.category)
    return (special(subject) if special else None) or sort_of(subject.category).severity


def dual(subject: Subject) -> bool:
    """Whether it is only the branch without a shared backend that keeps this in memory."""
    return "shared backend" in subject.verdict.reason


def _worker(subject: Subject) -> Severity | None:
    return Severity.WARNING if Nature.EXECUTOR in subject.natures else None


def _counter(subject: Subject) -> Severity | None:
    return Severity.ERROR if numbers(subject) else None


def numbers(subject: Subject) -> bool:
    """Whether a counter gives out numbers: no two may be the same."""
    made = subject.made_by
    return subject.has(*NUMBERING) or (made is not None and made.text.rpartition(".")[2] == "count")


def receives(subject: Subject) -> bool:
    """Whether it is a client to which messages come: every process that has one gets them all."""
    made = subject.made_by
    return bool((set(words_of(made.text) if made else []) | set(subject.words)) & RECEIVING)


def everywhere(subject: Subject) -> bool:
    """Whether every process does the same work: a scheduler, a loop that starts with the app."""
    said = subject.verdict.reason
    return (
        Nature.SCHEDULER in subject.natures
        or "scheduler" in said
        or ("loop" in said and subject.started is None)
    )


def _client(subject: Subject) -> Severity | None:
    return Severity.ERROR if receives(subject) else None


_SPECIAL = {
    Category.BACKGROUND_WORKER: _worker,
    Category.COUNTER: _counter,
    Category.CLIENT_POOL: _client,
}
