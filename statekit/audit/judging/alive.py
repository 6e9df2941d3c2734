"""Step 2: what is alive: clients, locks, executors, threads. It need not be written to."""

from __future__ import annotations

import sys
from functools import partial

from statekit.audit.judging.case import Case, Verdict
from statekit.audit.judging.changes import reads_data
from statekit.audit.model import Category, Confidence
from statekit.audit.natures import Nature
from statekit.audit.project import FunctionIn
from statekit.audit.reach import Phase
from statekit.audit.reading.chains import root_of
from statekit.audit.words import words_of

__all__ = ["alive"]

CLIENTS = {"client", "clients", "conn", "connection", "engine", "pool", "redis", "driver", "producer"}
WORKING = {Nature.THREAD, Nature.TASK, Nature.PROCESS}


def alive(case: Case) -> Verdict | None:
    """The verdict on something alive; None where it is not, or is judged by its writes."""
    changes = case.state.changes
    if changes and all(c.phase is Phase.COMMAND for c in changes):
        return case.clear("test or command only")
    if Nature.LOCK in case.natures:
        return _lock(case)
    return _of_the_process(case) or (None if _of_a_request(case) else _resource(case)) or _holding(case)


def _sure(case: Case) -> Confidence:
    return (
        Confidence.HIGH if case.state.shape in {"container", "class_attribute", "app"} else Confidence.MEDIUM
    )


def _of_the_process(case: Case) -> Verdict | None:
    natures = case.natures
    if Nature.LIMITER in natures:
        return case.found(Category.RATE_LIMITER, _sure(case), "a limiter of this process")
    if Nature.SCHEDULER in natures:
        return case.found(Category.BACKGROUND_WORKER, Confidence.HIGH, "a scheduler in each process")
    if Nature.EXECUTOR in natures:
        return case.found(Category.BACKGROUND_WORKER, _sure(case), "an executor of this process")
    return None


def _resource(case: Case) -> Verdict | None:
    natures, state = case.natures, case.state
    if Nature.CLIENT in natures:
        return case.found(Category.CLIENT_POOL, _sure(case), "a client with connections of its own")
    if Nature.QUEUE in natures:
        return case.found(Category.EVENT_BUS, _sure(case), "a queue only this process sees")
    if natures & WORKING:
        return case.found(Category.BACKGROUND_WORKER, Confidence.MEDIUM, "work that goes on in this process")
    if Nature.SIGNAL in natures and any(f"{state.name}.send" in one.facts.calls for one in state.readers):
        return case.found(Category.EVENT_BUS, Confidence.MEDIUM, "heard in this process only")
    return None


def _of_a_request(case: Case) -> bool:
    """Attributes of objects that live for a request."""
    return case.state.shape == "attribute" and case.owner not in case.tools.states.lasting


def _holding(case: Case) -> Verdict | None:
    """An object that keeps a client, or what it read once; or a name that says client, set to something unknown."""
    state = case.state
    itself = state.shape == "class_attribute" and state.holds is case.owner
    if state.holds and (itself or state.shape in {"container", "instance", "app"}):
        still = not any(c.attribute and c.at_run_time for c in state.changes)
        if still and case.keeps_client(state.holds):
            return case.found(Category.CLIENT_POOL, Confidence.MEDIUM, "an object that keeps a client")
        effect = _guarded_inside(case) if still else ""
        if effect:
            reason = f"its lock guards {effect}, which other processes do too"
            return case.found(Category.LOCK, Confidence.MEDIUM, reason)
        outside = _read_once(case) if state.shape != "app" else ""
        if outside:
            return case.found(Category.MEMO_CACHE, Confidence.MEDIUM, f"remembers what {outside} said")
    last = words_of(state.name)[-1:]
    rebound = any(c.write.op in {"=", "[]="} and not c.attribute for c in state.changes)
    unknown = Nature.UNKNOWN in case.natures and case.natures <= {Nature.NONE, Nature.UNKNOWN}
    if rebound and unknown and set(last) & CLIENTS and state.shape in {"container", "class_attribute", "app"}:
        return case.found(Category.CLIENT_POOL, Confidence.MEDIUM, "set to a client")
    return None


def _guarded_inside(case: Case) -> str:
    """What a lock of the object guards in its methods, where that reaches beyond the process."""
    owner, natures = case.state.holds, case.tools.natures
    for base in owner.line() if owner else ():
        for name, writes in case.tools.states.places.assigned_of(base):
            if any(Nature.LOCK in natures.of(function, write.value) for function, write in writes):
                for method in base.methods.values():
                    for chain, calls, _ in method.facts.guards:
                        if chain == f"self.{name}" and (effect := case.tools.purity.effect_in(method, calls)):
                            return effect
    return ""


def _read_once(case: Case) -> str:
    """What a `cached_property` of the object, or an object made at the first use, has read outside."""
    owner = case.state.holds
    made = owner.method("__init__") if owner and Nature.NONE in case.natures else None
    outside = case.tools.purity.outside_of(made) if made else ""
    if outside and reads_data(outside) and owner and not case.keeps_client(owner):
        return outside
    for method in (one for base in owner.line() for one in base.methods.values()) if owner else ():
        decorators = (one.text.rpartition(".")[2] for one in method.facts.decorators)
        if any(one in case.tools.catalogue.once_decorators for one in decorators):
            outside = case.tools.purity.outside_of(method)
            if outside and reads_data(outside):
                return outside
    return ""


def _lock(case: Case) -> Verdict:
    """A lock is judged by what is done while it is held, never by its constructor."""
    state = case.state
    users = sorted(
        state.readers or state.module.functions.values(), key=lambda one: (one.module.path, one.facts.line)
    )
    effect = next(filter(None, (_guarded(case, one) for one in users)), "")
    if effect:
        reason = f"guards {effect}, which other processes do too"
        return case.found(Category.LOCK, Confidence.MEDIUM, reason)
    return case.clear("guards local state only")


def _guarded(case: Case, function: FunctionIn) -> str:
    """A call under the lock that reaches beyond the process; under a semaphore, any call."""
    many = any("Semaphore" in value.text or "Limiter" in value.text for _, value in case.state.values)
    for chain, calls, _ in function.facts.guards:
        if words_of(case.state.name) == words_of(_last(chain)):
            effect = case.tools.purity.effect_in(function, calls)
            effect = effect or (
                next(filter(_leaves, map(partial(_dotted, case, function), calls)), "") if many else ""
            )
            if effect:
                return effect
    return ""


def _dotted(case: Case, function: FunctionIn, chain: str) -> str:
    return case.tools.project.dotted(function.module, chain)


def _leaves(dotted: str) -> bool:
    """Whether a call may be to somewhere else: not into the standard library, not to a log."""
    return (
        dotted.partition(".")[0]
        not in sys.stdlib_module_names - {"asyncio", "subprocess", "urllib", "socket"}
        and "log" not in dotted
    )


def _last(chain: str) -> str:
    """The last name of a chain: of ``self._lock`` and of ``locks[]`` alike."""
    return chain.replace("[]", "").replace("()", "").rpartition(".")[2] or root_of(chain)
