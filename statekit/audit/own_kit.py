"""State that a kit keeps: where ``StateKit.in_memory()`` is called, each primitive is kept in the process.

The only rule that knows statekit itself. Beside a branch that connects, it is told of as less sure.
"""

from __future__ import annotations

from collections.abc import Iterator

from statekit.audit.facts import Write
from statekit.audit.judging.case import Verdict
from statekit.audit.model import Category, Confidence
from statekit.audit.project import FunctionIn, Project
from statekit.audit.reach import Phase, Reach
from statekit.audit.reading.chains import parts_of
from statekit.audit.states import Change, State
from statekit.audit.words import words_of

__all__ = ["kept_by_kits"]

PRIMITIVES = {
    ".rate_limiter": Category.RATE_LIMITER,
    ".sessions": Category.SESSION_STORE,
    ".tenants": Category.TENANT_CONFIG,
    ".pools": Category.CLIENT_POOL,
    ".flags": Category.FLAG_CACHE,
}
ADAPTERS = {"StatekitFlask", "StatekitMiddleware"}
"""They keep sessions."""


def kept_by_kits(project: Project, reach: Reach) -> Iterator[Verdict]:
    """One verdict for each primitive that is taken from a kit, if the project makes one in memory."""
    makers = [one for one in project.functions() if any(map(_in_memory, one.facts.calls))]
    if not makers:
        return
    dual = any(chain.endswith("StateKit.connect") for one in makers for chain in one.facts.calls)
    uses: dict[Category, list[tuple[FunctionIn, str, int]]] = {}
    for function in project.functions():
        for chain, line in function.facts.calls.items():
            category = _primitive(chain)
            if category:
                uses.setdefault(category, []).append((function, chain, line))
    for category, found in uses.items():
        yield _verdict(category, found, reach, dual)


def _in_memory(chain: str) -> bool:
    return chain.endswith("StateKit.in_memory")


def _primitive(chain: str) -> Category | None:
    """What a call takes from a kit, or asks of what was taken."""
    parts = parts_of(chain)
    if parts[-1].lstrip(".") in ADAPTERS:
        return Category.SESSION_STORE
    kit = next((at for at, part in enumerate(parts) if "kit" in words_of(part)), None)
    return PRIMITIVES.get(parts[kit + 1]) if kit is not None and kit + 1 < len(parts) else None


def _verdict(
    category: Category, uses: list[tuple[FunctionIn, str, int]], reach: Reach, dual: bool
) -> Verdict:
    """Bound where it is first taken; changed by whoever uses it while requests are served."""
    taken = [one for one in uses if one[0] not in reach.runtime] or uses
    function, chain, line = min(taken, key=lambda one: (one[0].module.path, one[2]))
    changes = [
        Change(user, Write(used, used.rpartition(".")[2], at), Phase.RUNTIME)
        for user, used, at in uses
        if user in reach.runtime and user is not function
    ]
    held = next((name for name, at, _ in function.facts.holds if at == line), chain.rpartition(".")[2])
    state = State("instance", function.module, line, held, function.name, changes=changes)
    sure, reason = Confidence.HIGH, "a kit in memory keeps it"
    if dual:
        sure, reason = Confidence.MEDIUM, "a kit in memory keeps it, where a setting says so"
    return Verdict(state, category, sure, reason, tuple(changes))
