"""The decision list: which candidates are state, which are cleared, and how sure that is.

In order: what cannot be state by nature; what is alive; what nobody writes; what is only written at import or
start-up; what is filled once and never differs; what remains is state, and is sorted by what it is for. Each step has
its file in `judging/`.
"""

from __future__ import annotations

from statekit.audit.judging.alive import alive
from statekit.audit.judging.case import Case, Tools, Verdict
from statekit.audit.judging.kept import decorated, spawned
from statekit.audit.judging.nature import cleared_by_nature
from statekit.audit.judging.written import written
from statekit.audit.states import State

__all__ = ["Judge", "Verdict"]


class Judge:
    """Decides about candidates one by one."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def verdict(self, state: State) -> Verdict:
        """Decide about one candidate."""
        case = Case(state, self._tools)
        if state.shape == "decorator":
            return decorated(case)
        if state.shape == "spawn":
            return spawned(case)
        cleared = cleared_by_nature(case)
        return case.clear(cleared) if cleared else alive(case) or written(case)
