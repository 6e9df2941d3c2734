"""Steps 3 to 9: what is written, by whom, and whether another process would have written the same."""

from __future__ import annotations

import re
from collections.abc import Callable

from statekit.audit.judging.case import Case, Verdict
from statekit.audit.judging.changes import REMOVING, at_run_time, follows, lazy, reads_data, texts
from statekit.audit.judging.purpose import purpose
from statekit.audit.model import Category, Confidence
from statekit.audit.natures import Nature
from statekit.audit.reach import Phase
from statekit.audit.states import Change
from statekit.audit.words import words_of

__all__ = ["written"]

ASKING = {
    "request", "user", "tenant", "session", "token", "client", "ip", "addr", "email", "account", "org", "sid", "key", "id", "uuid",
}  # fmt: skip
"""Words of keys that come with a request."""
REGISTRIES = {"registry", "registered", "registries", "plugins", "plugin", "hooks", "formats"}
ABOUT_ITSELF = {
    "otel", "opentelemetry", "telemetry", "tracing", "tracer", "prometheus", "profiler", "logging", "metrics", "metric", "analytics",
    "posthog", "sentry", "statsd", "timeline",
}  # fmt: skip
SAYING = {"warn", "warning", "info", "debug", "error", "log", "exception", "print", "echo"}
SAID = {"warned", "warnings", "warning", "logged", "reported", "once", "notified", "sampled", "sample"}
SHARED = re.compile(r"redis|valkey|memcache", re.IGNORECASE)
OF_A_LIFE = {
    "setup", "loaded", "stop", "stopped", "stopping", "exiting", "initialized", "initialised", "closed", "closing", "shutdown", "terminated", "unsupported",
}  # fmt: skip
KEEPING = {"add", "append", "discard", "remove"}
ENDING = (
    "close",
    "stop",
    "shutdown",
    "aclose",
    "_close",
    "_stop",
    "lifespan",
    "__aexit__",
    "__exit__",
    "drain",
    "_drain",
)
GOING_ON = {Nature.TASK, Nature.THREAD, Nature.PROCESS, Nature.QUEUE, Nature.EVENT}


def written(case: Case) -> Verdict:
    """The verdict on a candidate by what is written to it."""
    state = case.state
    run = [c for c in state.changes if at_run_time(case, c)]
    later = [c for c in run if c.attribute or not lazy(c)] if state.holds else []
    cleared = _cleared(case, later or run)
    if cleared:
        return case.clear(cleared)
    if _fills(later or run):
        return _filled_once(case, later or run)
    return _state(case, run)


def _fills(run: list[Change]) -> bool:
    """Whether it is written only where nothing was; who fills it may make room by dropping something else."""
    filled = [c for c in run if c.write.op not in REMOVING]
    mine = {(c.function, c.write.key) for c in filled}
    filling = {function for function, _ in mine}
    dropped = (c for c in run if c.write.op in REMOVING)
    return all(map(lazy, filled)) and all(
        c.write.op in {"popitem", "pop", "del"}
        and c.function in filling
        and (c.function, c.write.key) not in mine
        for c in dropped
    )


def _cleared(case: Case, run: list[Change]) -> str:
    """The step of the list that clears it, or ''."""
    return next((reason for reason, clears in STEPS if clears(case, run)), "")


def _left_alone(case: Case, run: list[Change]) -> bool:
    """An object that is only made, or one of several of its class, on which nobody calls what changes it."""
    owner, states = case.state.holds, case.tools.states
    if all(not c.attribute and lazy(c) for c in run):
        return True
    if (
        owner is None
        or case.state.var is None
        or states.held_in(owner) < 2
        or not all(c.attribute for c in run)
    ):
        return False
    changing = {c.function.last for c in run if c.function.facts.within}
    return not states.asked_to(case.state.var, changing)


def _collects(case: Case, run: list[Change]) -> bool:
    """A registry that code fills and nobody empties: the same in each process."""
    holds = set(words_of(case.state.holds.name)) if case.state.holds else set()
    return bool((case.words | holds) & REGISTRIES) and not any(c.write.op in REMOVING for c in run)


def _about_itself(case: Case) -> bool:
    words = set(words_of(case.state.module.path.replace("/", "_"))) | case.words
    return bool(words & ABOUT_ITSELF) and not words & {"buffer", "session"}


def _about_its_life(case: Case) -> bool:
    """A switch by which an object knows that it has begun, or is to end."""
    switch = case.natures <= {Nature.CONSTANT, Nature.EVENT, Nature.NONE}
    return case.state.shape == "attribute" and switch and bool(case.words & OF_A_LIFE)


def _warns_once(case: Case, run: list[Change]) -> bool:
    """A flag that is set once, or what says by its name that it keeps logs short."""
    if case.words & SAID:
        return True
    if Nature.COUNTER in case.natures and any(
        chain.endswith("getpid") for c in run for chain in c.function.facts.calls
    ):
        return True  # the process is part of the number
    first = case.state.values[0][1] if case.state.values else None
    if first is None or (first.kind, first.text) != ("const", "False"):
        return False
    raised = all(c.write.op == "=" and not c.attribute and lazy(c) for c in run)
    return raised and {c.write.value.text for c in run if c.write.value} == {"True"}


def _filled_once(case: Case, run: list[Change]) -> Verdict:
    """Written where nothing was: whether it could differ is a matter of where it comes from."""
    if _more_than_a_memo(case, run):
        return _state(case, run)
    if any(c.write.op in {"append", "add"} for c in run) and Nature.CONTAINER in case.natures:
        return case.clear("warn once")  # it only keeps a message from being said twice
    inside = case.put_in(run)
    if Nature.LOCK in inside:
        return case.found(Category.LOCK, Confidence.MEDIUM, "locks of this process, made on demand", run)
    if Nature.CLIENT in inside:
        return case.found(Category.CLIENT_POOL, Confidence.HIGH, "clients made on demand", run)
    outside = next(filter(None, (case.tools.purity.outside_of(c.function) for c in run)), "")
    whole = all(c.write.op == "=" for c in run)
    if not outside or (whole and not reads_data(outside)):
        return case.clear("idempotent lazy" if whole else "pure memo")
    category = purpose(case, run, {Category.MEMO_CACHE: 2.0})
    return case.found(category, Confidence.MEDIUM, f"remembers what {outside} said", run)


def _more_than_a_memo(case: Case, run: list[Change]) -> bool:
    """An object that changes later, an entry compared with a clock, work under way, or something noted that counts."""
    state = case.state
    if state.holds and any(c.attribute and c.at_run_time for c in state.changes):
        return True
    clocks = case.tools.catalogue.clocks
    calls = [c.function.facts.calls for c in run]
    if state.shape != "class_attribute" and any(chain in clocks for one in calls for chain in one):
        return True
    if any(c.phase is Phase.RUNTIME and _handed_over(c) for c in run):
        return True
    if any(c.write.op in {"append", "add"} for c in run) and Nature.CONTAINER in case.natures:
        return not all(any(chain.rpartition(".")[2] in SAYING for chain in one) for one in calls)
    return bool(case.put_in(run) & GOING_ON)


def _handed_over(change: Change) -> bool:
    """Whether what is kept comes from the caller, not from the function that keeps it."""
    value = change.write.value
    return change.write.op == "[]=" and value is not None and value.text in change.function.params


def _kept_alive(case: Case, run: list[Change]) -> bool:
    """A set of tasks that nobody looks at: it only keeps them from being collected before they end."""
    if case.put_in(run) != {Nature.TASK} or not all(c.write.op in KEEPING for c in run):
        return False
    changing = {c.function for c in case.state.changes}
    return all(one in changing or one.last.startswith(ENDING) for one in case.state.readers)


def _state(case: Case, run: list[Change]) -> Verdict:
    category = purpose(case, run)
    if _kept_alive(case, run):
        return case.found(category, Confidence.LOW, "keeps work from being collected", run)
    if _dual(case, run):
        return case.found(category, Confidence.MEDIUM, "the memory branch beside a shared backend", run)
    weak = any("WeakSet" in value.text or "WeakKey" in value.text for _, value in case.state.values)
    if weak and Nature.LOCK not in case.natures:
        return case.found(category, Confidence.LOW, "lives only as long as its keys do", run)
    return case.found(category, _confidence(case, run), "changed at run time", run)


def _dual(case: Case, run: list[Change]) -> bool:
    """Whether the same is kept in a shared store where there is one."""
    said = [*case.state.under, *(text for _, value in case.state.values for text in texts(value))]
    for change in run:
        facts = change.function.facts
        said += facts.tests
        if case.state.holds:
            continue  # one of its methods may well talk to a shared store, too
        if (
            change.write.target not in facts.tests
        ):  # else it is kept in front of the shared store, not instead
            said += facts.calls
    return any(SHARED.search(one) for one in said)


def _confidence(case: Case, run: list[Change]) -> Confidence:
    """A handler that reaches it, a key that comes with a request, things put in and taken out: each adds."""
    state, natures = case.state, case.natures
    certain = any(c.phase is Phase.RUNTIME for c in run)
    ops = {c.write.op for c in run}
    keyed = any(set(words_of(c.write.key)) & ASKING for c in run)
    both = bool(ops & REMOVING) and bool(ops - REMOVING)
    timed = any(chain in case.tools.catalogue.clocks for c in run for chain in c.function.facts.calls)
    score = (
        1.0 * certain
        + 0.7 * keyed
        + 0.7 * both
        + 0.5 * timed
        + 0.5 * bool(natures & {Nature.CONTAINER, Nature.CACHE})
    )
    score += 0.3 * (state.shape in {"container", "instance", "app", "closure"}) - 0.2 * (
        state.shape == "attribute"
    )
    score -= 0.5 * (state.shape == "instance" and Nature.NONE in natures)
    if score >= 2.2 and certain and (keyed or both or timed):
        return Confidence.HIGH
    return Confidence.MEDIUM if score >= 0.8 else Confidence.LOW


STEPS: tuple[tuple[str, Callable[[Case, list[Change]], bool]], ...] = (
    ("constant", lambda case, _: not case.state.changes),
    ("set at start-up", lambda _, run: not run),
    ("shared backend", lambda case, _: Nature.BACKEND in case.natures),
    ("registry", _collects),
    ("telemetry of the process", lambda case, _: _about_itself(case)),
    ("re-synchronises itself", lambda case, run: all(follows(case, c) for c in run)),
    ("warn once", _warns_once),
    ("says whether the object itself is ready", lambda case, _: _about_its_life(case)),
    (
        "made by a command",
        lambda case, run: case.state.under[:1] == ("__main__",) and all(c.attribute for c in run),
    ),
    ("an object nobody changes", lambda case, run: case.state.holds is not None and _left_alone(case, run)),
)
"""The decision list, in order: the first that holds clears the candidate."""
