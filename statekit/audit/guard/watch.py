"""Looks at the state before and after each request, within a budget, and keeps count of who changed what."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from types import MethodType
from typing import Any

from statekit.audit.guard.named import Named
from statekit.audit.guard.places import Place, found
from statekit.audit.guard.prints import ABSENT, Print, Printer, difference, fields_of
from statekit.audit.guard.report import BETWEEN, Change, Overhead, Report, Watched, verdict_of

__all__ = ["Look", "Watch"]

log = logging.getLogger("statekit.guard")

NODES, FEWEST = 256, 32
"""Values read of one state in one look: at first, and when it has proved too dear."""
SEARCH_EVERY, LONGEST = 1.0, 60.0
"""Seconds between two searches for what was not found yet; each time twice as long, up to the second."""
GENTLE = 0.2
"""How much of a new look's cost counts in the running mean."""


@dataclass(slots=True)
class _State:
    """One watched place."""

    named: Named
    place: Place
    nodes: int = NODES
    cost: float = 50e-6
    """Seconds one look takes, running mean."""
    looks: int = 0
    in_part: bool = False
    last: tuple[int, int, Print] | None = None
    """After the latest request, if nothing was under way: the stretch read, the nodes, the print."""


@dataclass(slots=True, eq=False)
class Look:
    """One request under way: what the state was when it began, and with how many others it overlapped."""

    turn: int
    before: list[tuple[_State, int, Print]] = field(default_factory=list)
    peers: int = 0
    spent: float = 0.0


@dataclass(slots=True)
class _Tally:
    count: int = 0
    shared: int = 0
    among: int = 1
    example: str = ""


class Watch:
    """The state of one process, and who changed it. Used from any thread and any task."""

    def __init__(
        self,
        wanted: Iterable[Named],
        app: Any,
        budget: float,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self.wanted = tuple(wanted)
        self.app = app
        self.budget = budget
        self.on_change = on_change
        self.serving: Any = None
        """The application object a framework names in its requests."""
        self._states: dict[str, _State] = {}
        self._next = 0
        self._search_at, self._search_after = 0.0, SEARCH_EVERY
        self._under_way: set[Look] = set()
        self._tallies: dict[tuple[str, str, str], _Tally] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.requests = 0
        self._spent = self._most = 0.0
        self._looked = 0

    # -- around a request ---------------------------------------------------------------------------------------

    def begin(self) -> Look:
        """Take the prints before a request."""
        started = perf_counter()
        self._after_fork()
        look = Look(int(monotonic()))
        with self._lock:
            self._search()
            alone = not self._under_way
            self._enter(look)
            chosen = self._chosen()
        look.before = [(state, state.nodes, self._print(state, state.nodes, look.turn)) for state in chosen]
        self._between(look, alone)
        look.spent = perf_counter() - started
        return look

    def _enter(self, look: Look) -> None:
        look.peers = len(self._under_way)
        for other in self._under_way:
            other.peers += 1
        self._under_way.add(look)

    def end(self, look: Look, request: str) -> None:
        """Take the prints after a request, and note what is different."""
        changes = self.compare(look, request)
        with self._lock:
            self._under_way.discard(look)
            last = not self._under_way
            for state, nodes, after in look.before:
                state.last = (look.turn, nodes, after) if last else None
            self.requests += 1
            self._looked += len(look.before)
            self._spent += look.spent
            self._most = max(self._most, look.spent)
        self._tell(changes)

    def compare(self, look: Look, request: str) -> list[Change]:
        """Note what is different from when the look was taken, and go on from here."""
        started = perf_counter()
        changes: list[Change] = []
        for index, (state, nodes, before) in enumerate(look.before):
            after = self._print(state, nodes, look.turn)
            changed = difference(before, after)
            if changed:
                changes.append(self._note(state, request, changed.kind, changed.where, look.peers + 1))
                look.before[index] = (state, nodes, after)
        look.spent += perf_counter() - started
        return changes

    def pause(self, look: Look, request: str) -> None:
        """Look while a long connection waits for its peer: until `resume` it does nothing that could be blamed."""
        changes = self.compare(look, request)
        with self._lock:
            self._under_way.discard(look)
        self._tell(changes)

    def resume(self, look: Look) -> None:
        """Go on with a connection that was paused, from how things are now."""
        started = perf_counter()
        with self._lock:
            self._enter(look)
        look.turn = int(monotonic())
        look.before = [
            (state, nodes, self._print(state, nodes, look.turn)) for state, nodes, _ in look.before
        ]
        look.spent += perf_counter() - started

    def _between(self, look: Look, alone: bool) -> None:
        """Note what changed since the latest request ended, where nothing was under way."""
        chosen = {id(state) for state, _, _ in look.before}
        for state, nodes, before in look.before:
            last, state.last = state.last, None
            if alone and last and last[:2] == (look.turn, nodes) and (changed := difference(last[2], before)):
                self._note(state, BETWEEN, changed.kind, changed.where, 1)
        for state in self._states.values():
            if id(state) not in chosen:
                state.last = None

    # -- looking ------------------------------------------------------------------------------------------------

    def _chosen(self) -> list[_State]:
        """As many states as two looks may cost, taking turns; at least one."""
        states = list(self._states.values())
        chosen: list[_State] = []
        left = self.budget / 2
        for offset in range(len(states)):
            state = states[(self._next + offset) % len(states)]
            left -= state.cost
            if left < 0 and chosen:
                break
            chosen.append(state)
        self._next += len(chosen) if len(chosen) < len(states) else 0
        return chosen

    def _print(self, state: _State, nodes: int, turn: int) -> Print:
        started = perf_counter()
        try:
            print_ = state.place(Printer(nodes, turn))
        except RuntimeError:  # changed by a thread in this very moment
            print_ = ABSENT._replace(digest=hash(started))
        cost = perf_counter() - started
        state.cost += GENTLE * (cost - state.cost)
        state.looks += 1
        state.in_part = state.in_part or not print_.whole
        if state.cost > self.budget / 2 and state.nodes > FEWEST:
            state.nodes = max(FEWEST, state.nodes // 2)
        return print_

    def _search(self) -> None:
        """Look for what was not found yet, more and more seldom."""
        now = monotonic()
        if len(self._states) == len(self.wanted) or now < self._search_at:
            return
        missing = [one for one in self.wanted if one.qualified_name not in self._states]
        places = found(missing, self._apps())
        for one in missing:
            if one.qualified_name in places:
                self._states[one.qualified_name] = _State(one, places[one.qualified_name])
        self._search_at = monotonic() + self._search_after
        self._search_after = min(LONGEST, self._search_after * 2)

    def _apps(self) -> list[Any]:
        """The wrapped app and what it wraps itself; ``app.wsgi_app`` belongs to an app, a request knows its own."""
        apps: list[Any] = [self.serving]
        one = self.app
        while one is not None and len(apps) < 16:
            apps.append(one)
            one = one.__self__ if type(one) is MethodType else dict(fields_of(one)).get("app")
        return apps

    # -- counting -----------------------------------------------------------------------------------------------

    def _note(self, state: _State, request: str, kind: str, where: str, among: int) -> Change:
        with self._lock:
            name = state.named.qualified_name
            tally = self._tallies.setdefault((name, request, kind), _Tally(example=where))
            tally.count += 1
            tally.shared += among > 1
            tally.among = max(tally.among, among)
        return Change(name, state.named.category, request, kind, 1, int(among > 1), among, where)

    def _tell(self, changes: list[Change]) -> None:
        for change in changes if self.on_change else ():
            try:
                self.on_change(change)  # type: ignore[misc]
            except Exception:
                log.exception("on_change failed")

    def _after_fork(self) -> None:
        """A forked worker counts for itself, and inherits no request under way."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._under_way = os.getpid(), threading.Lock(), set()

    def report(self) -> Report:
        """What was seen so far."""
        with self._lock:
            rows = list(self._tallies.items())
            states, requests = dict(self._states), max(1, self.requests)
        by_name = {one.qualified_name: one for one in self.wanted}
        changes = [
            Change(name, by_name[name].category, request, kind, one.count, one.shared, one.among, one.example)
            for (name, request, kind), one in rows
        ]
        changes.sort(key=lambda one: (one.state, one.shared - one.count, -one.count, one.request))
        share = self._looked / (requests * max(1, len(states)))
        overhead = Overhead(
            self.budget * 1e3, self._spent / requests * 1e3, self._most * 1e3, min(1.0, share)
        )
        return Report(
            os.getpid(),
            self.requests,
            tuple(changes),
            self._watched(states, changes),
            overhead,
            self._notes(share, states),
        )

    def _watched(self, states: dict[str, _State], changes: list[Change]) -> tuple[Watched, ...]:
        made: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            made[change.state].append(change)
        rows = []
        for one in self.wanted:
            state = states.get(one.qualified_name)
            looks, in_part = (state.looks // 2, state.in_part) if state else (0, False)
            verdict = verdict_of(made[one.qualified_name], looks)
            rows.append(Watched(one.qualified_name, one.category, one.rule, verdict, looks, in_part))
        return tuple(rows)

    def _notes(self, share: float, states: dict[str, _State]) -> tuple[str, ...]:
        notes = []
        if self.requests and share < 0.995:
            notes.append(
                f"the budget reached for {share:.0%} of the state in an average request; they took turns"
            )
        large = [name for name, state in states.items() if state.in_part]
        if large:
            notes.append(
                f"too large to be read whole, a change in their middle may have gone unseen: {', '.join(large)}"
            )
        return tuple(notes)
