"""Async Viability: whether those who use a package could leave a message and go on, or need its answer at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from statekit.audit.engine import Analysis
from statekit.audit.facts import Value
from statekit.audit.project import FunctionIn
from statekit.audit.score.groups import Group
from statekit.audit.score.model import Part
from statekit.audit.score.traffic import Entry, How, Traffic

__all__ = ["Viability", "handlers_of"]

WORTH = {
    How.FORGOTTEN: 1.0,
    How.CONSUMER: 1.0,
    How.DROPPED: 0.8,
    How.AWAITED: 0.5,
    How.REQUEST: 0.5,
    How.ANSWERED: 0.0,
    How.IN_THE_WAY: 0.0,
}
"""What one entry counts for: 1 could be a message today, 0 cannot go on without the answer."""
ENOUGH = 5
"""Ways in; where fewer were seen, as many are added that count half: one call alone decides nothing."""
CHANGING = {"post", "put", "patch", "delete"}
ANSWERING = {"self.write", "self.finish", "self.render", "self.send"}
"""How a handler answers that returns nothing."""
EMPTY = {"none", "const"}
WAYSIDE = (
    "middleware", "before_", "after_", "teardown", "user_loader", "request_loader", "processor", "template_", "Depends",
    "Security", "exception_handler", "errorhandler", "permission", "login_required",
)  # fmt: skip
"""What makes a handler a step on the way of other handlers' requests."""


class Viability:
    """Derives the parts of the factor for one group after the other."""

    def __init__(self, analysis: Analysis, traffic: Traffic) -> None:
        self.analysis = analysis
        self.traffic = traffic

    def parts(self, group: Group) -> tuple[Part, ...]:
        return tuple(filter(None, (self._entries(group), self._coloured(group))))

    def _entries(self, group: Group) -> Part:
        entries = [*self.traffic.entries.get(group, ()), *self._handled(group)]
        unseen = max(0, ENOUGH - len(entries))
        worth = sum(WORTH[one.how] for one in entries) + unseen / 2
        counts = Counter(one.how for one in entries)
        said = [how.times(counts[how]) for how in How if counts[how]] or ["no way in was seen"]
        said += [f"few: {unseen} more taken as half"] if unseen and entries else []
        return Part("need no answer", worth / (len(entries) + unseen), 3, ", ".join(said))

    def _coloured(self, group: Group) -> Part | None:
        functions = list(group.functions())
        count = sum(one.facts.is_async for one in functions)
        if not functions:
            return None
        return Part("async functions", count / len(functions), 1, f"{count} of {len(functions)}")

    def _handled(self, group: Group) -> Iterator[Entry]:
        handlers = self.analysis.reach.handlers
        for function in group.functions():
            if function in handlers:
                yield Entry(function, self._served(function, handlers[function]))

    def _served(self, function: FunctionIn, said: str) -> How:
        if said.startswith(("started by", "runs in the background")) or self._is_task(function):
            return How.FORGOTTEN
        if any(word in said for word in WAYSIDE):
            return How.IN_THE_WAY
        return How.CONSUMER if _only_acknowledges(function) else How.REQUEST

    def _is_task(self, function: FunctionIn) -> bool:
        known = self.analysis.reach.catalogue.task_decorators
        return any(one.text.rpartition(".")[2] in known for one in function.facts.decorators)


def handlers_of(group: Group, analysis: Analysis) -> int:
    """How many functions of a group serve requests or messages, or go on in the background."""
    return sum(one in analysis.reach.handlers for one in group.functions())


def _only_acknowledges(function: FunctionIn) -> bool:
    """Whether a handler changes something and returns nothing the client did not know before."""
    verbs = {one.text.rpartition(".")[2].lower() for one in function.facts.decorators} | {
        function.last.lower()
    }
    for decorator in function.facts.decorators:
        verbs |= {
            part.text.lower() for name, given in decorator.named if name == "methods" for part in given.parts
        }
    if not verbs & CHANGING or "get" in verbs or "yield" in function.facts.marks:
        return False
    if ANSWERING & set(function.facts.calls):
        return False
    return all(_says_nothing(one) for one in function.facts.returns)


def _says_nothing(value: Value) -> bool:
    """A constant, or a few of them in a dict or a tuple."""
    inner = [*value.parts, *(one for _, one in value.named)]
    if value.kind in {"dict", "tuple"}:
        return len(inner) == value.size and all(one.kind in EMPTY for one in inner)
    return value.kind in EMPTY
