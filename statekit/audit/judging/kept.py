"""What a decorator keeps, and threads and tasks that are started and not bound to a name that lasts."""

from __future__ import annotations

from statekit.audit.facts import Value
from statekit.audit.judging.case import Case, Verdict
from statekit.audit.judging.changes import reads_data
from statekit.audit.judging.purpose import purpose
from statekit.audit.model import Category, Confidence
from statekit.audit.natures import Nature
from statekit.audit.project import ClassIn, FunctionIn, Var
from statekit.audit.reach import Phase
from statekit.audit.states import State
from statekit.audit.words import words_of

__all__ = ["decorated", "spawned"]

NOT_CACHING = ("no_", "never", "clear", "invalidate", "without")
EXPIRY = {"ttl", "timeout", "seconds", "expire"}


def decorated(case: Case) -> Verdict:
    """The verdict on a decorated function: purity is the whole matter."""
    function = case.state.function
    cached = (
        next((one for one in function.facts.decorators if _caches(case, function, one)), None)
        if function
        else None
    )
    if function is None or cached is None:
        return case.clear("no cache")
    returns = function.facts.returns
    owners = [found for one in returns if (found := case.tools.states.places.class_of(function, one))]
    return _object(case, function, owners) or _answer(case, function, cached)


def _object(case: Case, function: FunctionIn, owners: list[ClassIn]) -> Verdict | None:
    """One object for all who call."""
    natures = case.tools.natures
    client = any(Nature.CLIENT in natures.of(function, one) for one in function.facts.returns)
    if client or any(map(case.keeps_client, owners)):
        return case.found(Category.CLIENT_POOL, Confidence.MEDIUM, "keeps one client a process", ())
    changes = (c for one in owners for c in case.tools.states.inner_changes(one))
    changed = [c for c in changes if c.phase is Phase.RUNTIME]
    if not changed:
        return None
    state = case.state
    instance = State("instance", state.module, state.line, state.name, holds=owners[0])
    category = purpose(Case(instance, case.tools), changed)
    return case.found(category, Confidence.MEDIUM, "one object for all, changed at run time", changed)


def _answer(case: Case, function: FunctionIn, decorator: Value) -> Verdict:
    """An answer that is remembered."""
    outside = case.tools.purity.outside_of(function)
    said = str(decorator).lower()
    timed = (
        any(name in EXPIRY for name, _ in decorator.named)
        or "ttl" in decorator.text.lower()
        or "ttlcache" in said
    )
    if timed or (outside and _cleared(case, function)):
        return case.found(
            Category.MEMO_CACHE, Confidence.HIGH, "remembers what changes: it expires or is cleared", ()
        )
    asked = set(function.params) - {"self", "cls"}
    if outside and (asked or reads_data(outside)):
        return case.found(Category.MEMO_CACHE, Confidence.MEDIUM, f"remembers what {outside} said", ())
    return case.clear("pure memo" if asked else "idempotent lazy")


def _caches(case: Case, function: FunctionIn, decorator: Value) -> bool:
    project, known = case.tools.project, case.tools.catalogue.cache_decorators
    dotted = project.dotted(function.module, decorator.text)
    last = dotted.rpartition(".")[2]
    if function.facts.outer or last.startswith(NOT_CACHING):
        return False  # a cache in a function that is called anew ends with the call
    if "." in decorator.text and isinstance(
        project.named(function.module, decorator.text.partition(".")[0]), Var
    ):
        return False  # a cache extension's: its backend decides, and is looked at where it is configured
    if dotted in known:
        return not (last == "cache" and "." in decorator.text and "functools" not in dotted)
    words = set(words_of(last))
    if "cache" not in words:
        return bool(words & {"memoize", "memoized", "lru"})
    own = isinstance(project.named(function.module, decorator.text.partition(".")[0]), FunctionIn)
    return (own or bool(words & {"resource", "data"})) and not words & {
        "control",
        "page",
        "key",
        "redis",
        "property",
    }


def _cleared(case: Case, function: FunctionIn) -> bool:
    """Whether somebody clears the cache: then it is known to change."""
    ends = (f"{function.last}.cache_clear", f"{function.last}.cache_invalidate")
    readers = case.tools.states.readers_of.get(function.last, {})
    everyone = (one for found in readers.values() for one in found if "test" not in one.module.path)
    return any(chain.endswith(ends) for one in everyone for chain in one.facts.calls)


def spawned(case: Case) -> Verdict:
    """The verdict on a thread or task that is started."""
    state, reach = case.state, case.tools.reach
    function = state.function
    phase = reach.phase(function) if function else Phase.COMMAND
    if function is None or phase is Phase.COMMAND:
        return case.clear("command only")
    kind = Category.BACKGROUND_WORKER
    if _endless(case, function):
        sure = Confidence.MEDIUM if phase is Phase.UNKNOWN else Confidence.HIGH
        return case.found(kind, sure, "a loop in each process", ())
    waits = "waits" in function.facts.marks
    task = state.annotation.endswith("()") or state.name in {"create_task", "ensure_future"}
    if phase is Phase.RUNTIME and not task and not waits:
        return case.found(kind, Confidence.MEDIUM, "work a restart loses", ())
    if phase is Phase.STARTUP and function in reach.starters and not waits:
        return case.found(kind, Confidence.MEDIUM, "started in each process", ())
    return case.found(kind, Confidence.LOW, "work a restart loses", ())


def _endless(case: Case, function: FunctionIn) -> bool:
    """Whether what is started goes on for ever."""
    ran = case.state.annotation.removesuffix("()")
    place = case.tools.states.places.of(function, ran) if ran else None
    if place is None or not isinstance(place.what, FunctionIn):
        return False
    facts = place.what.facts
    return "forever" in facts.marks or any("sleep" in chain for chain in facts.calls)
