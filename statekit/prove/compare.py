"""Where several pods answered otherwise than one process. Pure: what was seen in, differences out.

The same visitor takes the same steps in every run, so answers are compared step by step, as long as two runs of a
visitor ask for the same endpoints. What differs by itself is told from what differs because of the pods by a second
run of the one process, the *control*: a field that differs between one process and itself more than now and then is
not judged; of the others, a difference counts if it is far more frequent than in the control (Fisher's exact test,
one-sided, p < 0.001).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from statekit.prove.declared import AtMost
from statekit.prove.measures import percentile, worst_window
from statekit.prove.records import ABSENT, Answer, Seen, flat

__all__ = ["Difference", "Endpoint", "Invariant", "Result", "Traffic", "compared"]

Runs: TypeAlias = tuple[Seen, Seen, Seen]
"""One process, the same again, several pods."""

BY_ITSELF = 0.05
"""A field that differs more often than this between one process and itself is not judged."""
SURE = 0.001
FEWEST = 3
EXAMPLE = 60
NEVER = "never asked"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an endpoint answered otherwise."""

    kind: str
    """status · value · shape · failures"""
    what: str
    """The field, or the statuses."""
    count: int
    of: int
    """Answers compared."""
    one: str
    """What one process said, the first time they differed."""
    pods: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """One endpoint in one run."""

    answers: int
    failed: int
    statuses: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint in both runs."""

    name: str
    one: Traffic
    pods: Traffic
    differences: tuple[Difference, ...]
    not_judged: tuple[str, ...] = ()
    """Fields that differ by themselves."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must hold, and whether it did."""

    name: str
    endpoint: str
    one: str
    pods: str
    """In words: ``0 of 120 broken``, ``300 in 60 s``."""
    broken_in_one: bool
    broken_in_pods: bool

    @property
    def diverges(self) -> bool:
        """True when it holds in one process and not in several."""
        return self.broken_in_pods and not self.broken_in_one


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a comparison."""

    endpoints: tuple[Endpoint, ...]
    invariants: tuple[Invariant, ...]

    @property
    def diverging(self) -> tuple[str, ...]:
        """Endpoints that answer differently, or break an invariant, with several pods."""
        named = [one.name for one in self.endpoints if one.differences]
        return tuple(dict.fromkeys([*named, *(one.endpoint for one in self.invariants if one.diverges)]))


def compared(one: Seen, control: Seen, pods: Seen) -> Result:
    """Compare a run of several pods with two runs of one process."""
    noise, found = _paired(one, control), _paired(one, pods)
    names = sorted({answer.endpoint for seen in (one, pods) for answer in seen.answers})
    endpoints = [_endpoint(name, (one, control, pods), noise[name], found[name]) for name in names]
    return Result(tuple(endpoints), tuple(_invariants(one, control, pods)))


# -- step by step ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Field:
    """How often one field of one endpoint was compared and differed, and how it did first."""

    compared: int = 0
    differed: int = 0
    shape: int = 0
    example: tuple[str, str] = ("", "")

    def note(self, one: str, other: str) -> None:
        self.compared += 1
        if one != other:
            self.differed += 1
            self.shape += _type(one) != _type(other)
            self.example = self.example if self.differed > 1 else (one, other)


def _type(value: str) -> str:
    """The JSON type of a value as it is spelt."""
    first = value[:1]
    return "number" if first.isdigit() or first == "-" else "truth" if first in {"t", "f"} else first


_Fields = dict[str, _Field]
STATUS = "(status)"


def _paired(one: Seen, other: Seen) -> defaultdict[str, _Fields]:
    found: defaultdict[str, _Fields] = defaultdict(lambda: defaultdict(_Field))
    theirs, skipped = other.by_user(), set(one.ignored)
    for user, answers in one.by_user().items():
        for mine, their in zip(answers, theirs.get(user, ()), strict=False):
            if mine.endpoint != their.endpoint:
                break  # this visitor took another way from here on
            _note(found[mine.endpoint], mine, their, skipped)
    return found


def _note(fields: _Fields, mine: Answer, their: Answer, skipped: set[str]) -> None:
    if mine.failed or their.failed:
        return
    fields[STATUS].note(str(mine.status), str(their.status))
    if mine.status == their.status:
        first, second = flat(mine.document), flat(their.document)
        for path in {**first, **second}:
            if not skipped & {path, *path.replace("[]", "").split(".")}:
                fields[path].note(first.get(path, ABSENT), second.get(path, ABSENT))


def _endpoint(name: str, runs: Runs, noise: _Fields, found: _Fields) -> Endpoint:
    mine = [[answer for answer in seen.answers if answer.endpoint == name] for seen in runs]
    differences = [*_failures(name, runs, mine)]
    unsteady = []
    for path, one in found.items():
        control = noise.get(path, _Field())
        of = [_bodies(fields) if path != STATUS else fields[STATUS].compared for fields in (found, noise)]
        if control.compared and control.differed > BY_ITSELF * control.compared:
            unsteady.append(path)
        elif one.differed >= FEWEST and unlikely(one.differed, of[0], control.differed, of[1]):
            kind = "status" if path == STATUS else "shape" if one.shape * 2 > one.differed else "value"
            first, second = (text if len(text) <= EXAMPLE else text[:EXAMPLE] + "…" for text in one.example)
            differences.append(Difference(kind, path, one.differed, of[0], first, second))
    return Endpoint(name, traffic(mine[0]), traffic(mine[2]), tuple(differences), tuple(sorted(unsteady)))


def _bodies(fields: _Fields) -> int:
    """How many pairs of answers had the same status, so that their bodies were compared."""
    return fields[STATUS].compared - fields[STATUS].differed


def _failures(name: str, runs: Runs, mine: list[list[Answer]]) -> Iterator[Difference]:
    """Requests that failed with several pods and with one process never; and what the locustfile calls a failure."""
    failed = [[answer for answer in answers if answer.failed] for answers in mine]
    if failed[2] and not failed[0] and not failed[1]:
        said = str(failed[2][0].status or "no answer")
        yield Difference("failures", "failed requests", len(failed[2]), len(mine[2]), "none", said)
    called = [[j for j in seen.judgements if not j.name and j.endpoint == name] for seen in runs]
    before = len(called[0]) + len(called[1])
    if called[2] and unlikely(len(called[2]), len(mine[2]), before, len(mine[0]) + len(mine[1])):
        what = "failures by the locustfile's own judgement"
        yield Difference(
            "failures", what, len(called[2]), len(mine[2]), str(len(called[0])), called[2][0].detail
        )


def traffic(answers: list[Answer]) -> Traffic:
    """What one endpoint answered in one run."""
    took = [answer.took * 1000 for answer in answers if not answer.failed]
    statuses = Counter(str(answer.status or "none") for answer in answers)
    p50, p95 = (percentile(took, share) for share in (0.5, 0.95))
    rounded = [None if value is None else round(value, 1) for value in (p50, p95)]
    return Traffic(len(answers), sum(a.failed for a in answers), dict(sorted(statuses.items())), *rounded)


# -- invariants --------------------------------------------------------------------------------------------------


def _invariants(one: Seen, control: Seen, pods: Seen) -> Iterator[Invariant]:
    runs = (one, control, pods)
    yield from (_counted(rule, runs) for rule in pods.at_most)
    names = dict.fromkeys((j.name, j.endpoint) for seen in (one, pods) for j in seen.judgements if j.name)
    yield from (_judged(name, endpoint, runs) for name, endpoint in names)


def _counted(rule: AtMost, runs: Runs) -> Invariant:
    """A bound over all visitors, and the most that any stretch of time saw."""
    name = f"at most {rule.limit} {rule.name}"
    if all(answer.endpoint != rule.of for answer in runs[2].answers):
        return Invariant(name, rule.of, NEVER, NEVER, broken_in_one=False, broken_in_pods=False)
    most = [
        worst_window(
            [a for a in seen.answers if a.endpoint == rule.of and a.status == rule.status], rule.within
        )
        for seen in runs
    ]
    before, after = max(most[:2]), most[2]
    said_one, said_pods = (f"{count} in {rule.within:g} s" for count in (before, after))
    return Invariant(name, rule.of, said_one, said_pods, before > rule.limit, after > rule.limit)


def _judged(name: str, endpoint: str, runs: Runs) -> Invariant:
    """What visitors judged on the spot."""
    one, control, pods = (_told(seen, name, endpoint) for seen in runs)
    before = one[0] + control[0]
    worse = before > 0 and unlikely(*pods, before, one[1] + control[1])
    said_one, said_pods = (f"{broken} of {judged} broken" for broken, judged in (one, pods))
    return Invariant(name, endpoint, said_one, said_pods, before > 0 and not worse, pods[0] > 0)


def _told(seen: Seen, name: str, endpoint: str) -> tuple[int, int]:
    outcomes = [j.held for j in seen.judgements if (j.name, j.endpoint) == (name, endpoint)]
    return outcomes.count(False), len(outcomes)


def unlikely(differed: int, compared_: int, before: int, of: int) -> bool:
    """Whether so many differences are far more than the control's would lead one to expect (Fisher, one-sided)."""
    if not of or differed * of <= before * compared_:
        return False
    total, marked = compared_ + of, differed + before
    whole = _log_choose(total, compared_)
    tail = (
        math.exp(_log_choose(marked, k) + _log_choose(total - marked, compared_ - k) - whole)
        for k in range(differed, min(marked, compared_) + 1)
        if compared_ - k <= total - marked
    )
    return sum(tail) < SURE


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
