"""What a single write means: made once, made at start-up, made by a registry."""

from __future__ import annotations

from collections.abc import Iterator

from statekit.audit.facts import Value
from statekit.audit.judging.case import Case
from statekit.audit.project import FunctionIn
from statekit.audit.reach import Phase
from statekit.audit.states import BUILDERS, Change
from statekit.audit.words import words_of

__all__ = ["REMOVING", "at_run_time", "follows", "lazy", "reads_data", "texts"]

REMOVING = {"del", "pop", "popitem", "popleft", "clear", "remove", "discard", "cache_clear"}
FILLING = {"=", "[]=", "append", "update", "add"}
REGISTERING = ("register", "_register", "add_plugin", "on_", "subscribe")
WRAPPING = {"decorator", "wrapper", "deco", "inner", "__init_subclass__", "__new__", "__set_name__"}
SETTING = (
    "set_", "_set", "use_", "start", "_start", "enable", "disable", "attach", "bind", "install", "open", "close", "stop",
    "shutdown", "_stop", "reset", "load_", "_load",
)  # fmt: skip
VERSIONS = {"version", "etag", "mtime", "revision", "generation", "modified"}
ABOUT_FILES = {"exists", "isfile", "isdir", "open", "now", "uuid4", "run", "walk", "glob", "listdir"}


def at_run_time(case: Case, change: Change) -> bool:
    """Whether a write is made while requests are served, as far as can be told."""
    if not change.at_run_time:
        return False
    return not (_registers(case, change) or _builds(case, change) or _sets(change))


def lazy(change: Change) -> bool:
    """Whether a write is made only where nothing was there before."""
    write = change.write
    if write.op == "setdefault":
        return True
    if write.op not in FILLING or (write.value is not None and write.value.kind == "none"):
        return False
    target = write.target
    return any(one == target or one.startswith(target + "[") for one in change.function.facts.tests)


def follows(case: Case, change: Change) -> bool:
    """Whether the function that writes first compares a version with one kept outside."""
    others = (chain for chain in change.function.facts.tests if case.state.name not in chain)
    asked = {word for chain in others for word in words_of(chain)}
    return bool(asked & VERSIONS) and bool(case.tools.purity.outside_of(change.function))


def reads_data(outside: str) -> bool:
    """Whether a call reads what may change, not whether files are there."""
    return outside.rpartition(".")[2] not in ABOUT_FILES


def texts(value: Value) -> Iterator[str]:
    """All that is named in a value."""
    yield value.text
    for one in (*value.parts, *(its for _, its in value.named)):
        yield from texts(one)


def _registers(case: Case, change: Change) -> bool:
    """Whether the function that writes collects things at import: a decorator, a registry."""
    function, write = change.function, change.write
    if change.phase is Phase.RUNTIME and function in case.tools.reach.handlers:
        return False
    if function.last.startswith(REGISTERING) or function.last in WRAPPING:
        return write.op not in REMOVING and change.phase is not Phase.RUNTIME
    if change.phase is not Phase.RUNTIME and write.op not in REMOVING and _decorates(case, function):
        return True
    returned = {one.text for one in function.facts.returns if one.kind == "chain"}
    if any(f"{function.name}.{one}" in function.module.functions for one in returned):
        return True
    given = write.value.text if write.value else ""
    return write.op != "=" and given in returned and given in function.params


def _decorates(case: Case, function: FunctionIn) -> bool:
    """Whether it is a decorator, or what a decorator with arguments returns."""
    outer = function.module.functions.get(function.facts.outer)
    returned = {one.text for one in outer.facts.returns} if outer else set()
    known = case.tools.reach.decorating
    return function in known or (outer in known and function.last in returned)


def _builds(case: Case, change: Change) -> bool:
    """Whether a constructor sets it: where its object lasts, that happens once."""
    function = change.function
    if function.last not in BUILDERS or change.write.op != "=" or case.state.owner == function.facts.within:
        return False
    owner = function.module.classes.get(function.facts.within)
    return owner is None or owner not in case.tools.reach.serving


def _sets(change: Change) -> bool:
    """A setter that no handler is seen to call: whoever puts the application together does."""
    write = change.write
    if write.op != "=" or change.phase is not Phase.UNKNOWN or lazy(change):
        return False
    given = (
        write.value is not None and write.value.kind == "chain" and write.value.text in change.function.params
    )
    return given or change.function.last.startswith(SETTING)
