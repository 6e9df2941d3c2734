"""Where the state lives: the only file that differs between the "before" and the "after".

`shared` talks to a server. `memory` and `sticky` get the same primitives with everything kept in the process,
and with tenant configs handed out as the live object, as a module-level dictionary would.
"""

from __future__ import annotations

from demo_app.settings import Settings, State
from statekit import Budget, StateKit

__all__ = ["kit_for"]

PATIENT = Budget(decision=2.0)
"""Pods, store and load share one small machine here: a slow answer of the store is not an outage, and a limit that
let callers through for it would not be what is on show."""


def kit_for(settings: Settings) -> StateKit:
    """The kit a pod with these settings works with."""
    if settings.state == State.SHARED:
        return StateKit.connect(settings.store or None, namespace=settings.namespace, budget=PATIENT)
    return StateKit.in_memory(settings.namespace, draft_copies=False)
