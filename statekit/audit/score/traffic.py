"""What goes on between the candidates: who calls whom and what becomes of the answer, who imports what.

Only what can be followed counts. A call of a method on an object of unknown class is left out, not guessed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from statekit.audit.engine import Analysis
from statekit.audit.project import ClassIn, FunctionIn, Module, Var
from statekit.audit.reach import Phase
from statekit.audit.score.groups import Group

__all__ = ["Entry", "How", "Traffic"]

LATER = {
    "delay", "apply_async", "kiq", "enqueue", "defer", "defer_async", "send_with_options", "send", "s", "si", "schedule",
}  # fmt: skip
"""What a task is asked by to run later, somewhere else."""
FORGETTING = {
    "Thread", "Timer", "Process", "create_task", "ensure_future", "start_new_thread", "add_job", "add_task", "spawn",
    "start_background_task", "run_coroutine_threadsafe", "call_later", "call_soon", "start_soon", "submit", "enqueue",
    "delay", "apply_async", "on_commit", "add_done_callback", "create_background_task",
}  # fmt: skip
"""Callees that start what they are given and do not wait for it."""
ASKING = {"Depends", "Security"}
"""Callees that need the answer of what they are given before they go on."""

Thing = FunctionIn | ClassIn | Var


class How(StrEnum):
    """What becomes of the answer of something that is entered from outside."""

    FORGOTTEN = "background start"
    CONSUMER = "acknowledged request"
    """It changes something, and the client is only told that it was done."""
    DROPPED = "ignored answer"
    AWAITED = "awaited call"
    REQUEST = "answered request"
    ANSWERED = "blocking call"
    """The caller goes on with the answer, and does not await it."""
    IN_THE_WAY = "gate"
    """A step that other handlers' requests pass through: middleware, dependencies."""

    def times(self, count: int) -> str:
        return f"{count} {self}" + ("s" if count > 1 else "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One way into a group: the function entered, how, and by whom (None: by a client of the app)."""

    target: FunctionIn
    how: How
    by: FunctionIn | None = None


class Traffic:
    """References within and between groups."""

    def __init__(self, analysis: Analysis, groups: Iterable[Group]) -> None:
        self.analysis = analysis
        self.home: dict[Module, Group] = {module: group for group in groups for module in group.modules}
        self.inside: Counter[Group] = Counter()
        self.leaving: Counter[Group] = Counter()
        """Calls and imports of a group, by where they lead."""
        self.reached: dict[Group, dict[Thing, set[Group]]] = defaultdict(lambda: defaultdict(set))
        """What outsiders use of a group, and who they are."""
        self.entries: dict[Group, list[Entry]] = defaultdict(list)
        self.targets: dict[FunctionIn, set[FunctionIn]] = {}
        """Every function, and those it calls, as far as they can be told."""
        self.callers: dict[FunctionIn, set[FunctionIn]] = defaultdict(set)
        """Functions called from other groups, and by which functions."""
        self._functions = {one.last for one in analysis.project.functions()}
        self._classes = {one.name.rpartition(".")[2] for one in analysis.project.classes()}
        for module, group in self.home.items():
            self._imports(module, group)
            for function in module.functions.values():
                self._calls(function, group)

    # -- imports -----------------------------------------------------------------------------------------

    def _imports(self, module: Module, group: Group) -> None:
        for dotted in module.facts.imports.values():
            thing = self.analysis.project.imported(module, dotted)
            if isinstance(thing, Module):
                self._count(group, self.home.get(thing))
            elif isinstance(thing, ClassIn | FunctionIn | Var):
                self._refer(group, thing)

    def _refer(self, group: Group, thing: Thing) -> Group | None:
        """Count a reference; the group it leads to, where that is another one."""
        there = self.home.get(thing.module)
        self._count(group, there)
        if there is None or there is group:
            return None
        self.reached[there][thing].add(group)
        return there

    def _count(self, group: Group, there: Group | None) -> None:
        if there is not None:
            (self.inside if there is group else self.leaving)[group] += 1

    # -- calls -------------------------------------------------------------------------------------------

    def _calls(self, function: FunctionIn, group: Group) -> None:
        called = {target: chain for chain, target in self._called(function)}
        started = {target: (how, callee) for target, how, callee in self._started(function)}
        self.targets[function] = {one for one in called if isinstance(one, FunctionIn)}
        at_run_time = self.analysis.reach.phase(function) in {Phase.RUNTIME, Phase.UNKNOWN}
        for target in dict.fromkeys([*called, *started]):
            there = self._refer(group, target)
            if there is None or not isinstance(target, FunctionIn):
                continue
            how, by = started.get(target) or (
                self._answered(function, target, called[target]),
                called[target],
            )
            if not _is_message(by, target):
                self.callers[target].add(function)
            if at_run_time:
                self.entries[there].append(Entry(target, how, function))

    @staticmethod
    def _answered(function: FunctionIn, target: FunctionIn, chain: str) -> How:
        if _is_message(chain, target):
            return How.FORGOTTEN
        if chain in function.facts.dropped:
            return How.DROPPED
        return How.AWAITED if target.facts.is_async else How.ANSWERED

    def _called(self, function: FunctionIn) -> Iterator[tuple[str, FunctionIn | ClassIn]]:
        for chain in function.facts.calls:
            head, _, last = chain.rpartition(".")
            found = self.target(function, chain)
            if found is None and last in LATER and head:
                found = self.target(function, head)
            if found is not None and found is not function:
                yield chain, found

    def _started(self, function: FunctionIn) -> Iterator[tuple[FunctionIn, How, str]]:
        """What is handed to something that starts it, or asks it first; how, and by what."""
        for callee, _, what in function.facts.passed:
            last = callee.rpartition(".")[2]
            if last in FORGETTING or last in ASKING:
                found = self.target(function, what.removesuffix("()"))
                if isinstance(found, FunctionIn) and found is not function:
                    yield found, How.FORGOTTEN if last in FORGETTING else How.ANSWERED, callee

    def target(self, function: FunctionIn, chain: str) -> FunctionIn | ClassIn | None:
        """The function or class of the project that a chain names, if that can be told."""
        last = chain.rpartition(".")[2]
        if last not in self._functions and last not in self._classes:
            return None
        place = self.analysis.places.of(function, chain)
        if place is None or place.inside:
            return None
        if isinstance(place.what, FunctionIn):
            return place.what
        return place.what if place.kind == "class" and isinstance(place.what, ClassIn) else None


def _is_message(chain: str, target: FunctionIn) -> bool:
    """Whether something is asked for by a message to another process: ``task.delay(…)``, ``queue.enqueue(task)``."""
    last = chain.rpartition(".")[2]
    return last in LATER and last != target.last
