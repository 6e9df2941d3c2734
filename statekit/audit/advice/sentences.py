"""One sentence about this state, in its own names: who changes it, and what two workers make of that."""

from __future__ import annotations

import re
from collections.abc import Callable

from statekit.audit.advice.spelling import shown
from statekit.audit.advice.subject import Subject
from statekit.audit.advice.weight import dual, everywhere, numbers, receives
from statekit.audit.facts import Value
from statekit.audit.model import Category, Site
from statekit.audit.natures import Nature

__all__ = ["keep", "why"]

MODULE = "the module itself"


def why(subject: Subject) -> str:
    """What breaks with two workers."""
    sentence = f"{_what(subject)}: {_CONSEQUENCES[subject.category](subject)}."
    if dual(subject):
        return f"Only where no shared backend is configured: {sentence}"
    return sentence


def keep(subject: Subject) -> str:
    """What stays in the process, and what is shared: the split, where there is one."""
    return _KEEPS.get(subject.category, _stays)(subject)


# -- what happens ------------------------------------------------------------------------------------------------


def _what(subject: Subject) -> str:
    shape = subject.state.shape
    if shape == "decorator":
        return _decorated(subject)
    if shape == "spawn":
        return _spawned(subject)
    kept = f", kept per `{shown(subject.keys[0])}`," if subject.keys else ""
    if not subject.sites:
        return f"`{subject.name}` is {_made(subject)}"
    attributes = {change.attribute for change in subject.verdict.changes}
    inner = (
        f".{shown(*attributes)}"
        if subject.state.holds and len(attributes) == 1 and "" not in attributes
        else ""
    )
    return f"`{subject.name}{inner}`{kept} is {_verb(subject)} {_writers(subject)}"


def _verb(subject: Subject) -> str:
    ops = {change.write.op for change in subject.verdict.changes}
    return (
        "written by"
        if ops & {"=", "[]=", "+=", "append", "add", "update", "setdefault", "put", "put_nowait"}
        else "changed by"
    )


def _writers(subject: Subject) -> str:
    """Who writes, handlers first: those are what a reader knows."""
    named: dict[str, Site] = {}
    for site in sorted(subject.sites, key=lambda one: not one.handler):
        named.setdefault(site.function, site)
    first, *others = named.values()
    if not others:
        return _writer(first)
    if len(others) == 1 and first.handler == others[0].handler != "" and first.handler not in named:
        both = f"`{shown(first.function)}` and `{shown(others[0].function)}`"
        return f"{both} (both called from {_from(first)})"
    return f"{_writer(first)} and " + (f"{len(others)} others" if len(others) > 1 else _writer(others[0]))


def _writer(site: Site) -> str:
    function = MODULE if site.function == "<module>" else f"`{shown(site.function)}`"
    if not site.handler or site.handler == site.function:
        return f"{function} ({site.route})" if site.route else function
    return f"{function} (called from {_from(site)})"


def _from(site: Site) -> str:
    """The handler by which a request gets there, with its route."""
    return f"`{shown(site.handler)}`" + (f", {site.route}" if site.route else "")


def _made(subject: Subject) -> str:
    made = subject.made_by
    kind = _alive(subject)
    spelt = f"`{shown(made.text)}(…)`" if made and made.text else "made"
    return f"{spelt}, {kind} of each process" if kind else f"{spelt} in each process"


_KINDS = {
    Nature.SCHEDULER: "a scheduler",
    Nature.EXECUTOR: "an executor",
    Nature.QUEUE: "a queue",
    Nature.LOCK: "a lock",
    Nature.THREAD: "a thread",
    Nature.TASK: "a task",
    Nature.PROCESS: "a child",
    Nature.CLIENT: "a client",
}


def _alive(subject: Subject) -> str:
    """What is alive in it, '' if nothing is."""
    return next((said for nature, said in _KINDS.items() if nature in subject.natures), "")


def _decorated(subject: Subject) -> str:
    decorator = _caching(subject)
    given = "the client it made" if subject.category is Category.CLIENT_POOL else "what it returned"
    return f"`{subject.name}` keeps {given} in each process" + (
        f" (`@{shown(decorator)}`)" if decorator else ""
    )


def _caching(subject: Subject) -> str:
    function = subject.state.function
    decorators: tuple[Value, ...] = function.facts.decorators if function else ()
    names = [one.text for one in decorators]
    return next(
        (one for one in names if "cache" in one.lower() or "memo" in one.lower()), names[0] if names else ""
    )


def _spawned(subject: Subject) -> str:
    state = subject.state
    ran = shown(state.annotation.removesuffix("()"))
    if subject.started:
        return f"`{ran or subject.name}` is started by {_writer(subject.started)} and lives in that worker"
    where = shown(state.owner.strip("<>"))
    return f"`{ran or subject.name}` is started by {f'`{where}`' if where and where != 'module' else MODULE}, in every worker"


# -- what comes of it ----------------------------------------------------------------------------------------------


def _limit(subject: Subject) -> str:
    if Nature.LOCK in subject.natures or subject.has("semaphore", "semaphores"):
        return "each worker allows the whole number, so N workers allow N times as many"
    return "each worker counts for itself, so N workers let N times the limit through, and a restart forgives everybody"


def _flag(_: Subject) -> str:
    return (
        "the worker that gets the request switches, the others go on as before, and a restart switches back"
    )


def _client(subject: Subject) -> str:
    if receives(subject):
        return "every worker connects and gets everything, so with N workers each message is handled N times"
    return "each worker opens its own connections, so N workers hold N times as many, and one made before a fork is shared by all"


def _config(subject: Subject) -> str:
    if subject.state.shape == "decorator":
        return "after a change each worker answers with the settings it read first"
    return "the worker that takes the change has the new value, the others keep the old one, and a restart loses it"


def _session(subject: Subject) -> str:
    whom = f"for this `{shown(subject.keys[0])}`" if subject.keys else "of it"
    return f"a request that lands on another worker finds nothing {whom}, and a restart loses it all"


def _memo(subject: Subject) -> str:
    said = subject.verdict.reason
    told = re.fullmatch(r"remembers what (.+) said", said)
    source = told[1] if told else ""
    what = _SOURCES.get(source.rpartition(".")[2]) or f"what `{shown(source)}` returns"
    changed = f"when {what} changes," if source else "after a change"
    return f"{changed} some workers go on answering with the old value, and clearing it clears one of them"


_SOURCES = {"SQL": "the database", "open": "the file"}


def _background(subject: Subject) -> str:
    if everywhere(subject):
        return "N workers run it N times over"
    if Nature.EXECUTOR in subject.natures:
        return "a restart loses what is waiting and running in it, and no other worker knows of it"
    return "a restart loses the work in hand, and a request that lands on another worker does not know of it"


def _connections(_: Subject) -> str:
    return (
        "a message reaches only those who are connected to the same worker, and each worker sees another list"
    )


def _lock(subject: Subject) -> str:
    said = subject.verdict.reason
    guarded = said.removeprefix("guards ").partition(",")[0] if said.startswith("guards ") else ""
    known = _SOURCES.get(guarded.rpartition(".")[2])
    what = f"use {known}" if known else f"call `{shown(guarded)}`" if guarded else "are inside"
    return f"it holds back this worker only, while the others {what} at the same time"


def _count(subject: Subject) -> str:
    if numbers(subject):
        return "two workers give out the same number, and a restart begins again"
    return "each worker counts its own part, so what is shown depends on who answers, and a restart begins at nothing"


def _events(subject: Subject) -> str:
    if Nature.SIGNAL in subject.natures:
        return "only listeners in the same worker hear it"
    return "what one worker puts in, no other takes out, and a restart loses what is waiting"


def _other(_: Subject) -> str:
    return (
        "each worker has its own, so a later request sees an older value, or none, depending on who answers"
    )


_CONSEQUENCES: dict[Category, Callable[[Subject], str]] = {
    Category.RATE_LIMITER: _limit,
    Category.FLAG_CACHE: _flag,
    Category.CLIENT_POOL: _client,
    Category.TENANT_CONFIG: _config,
    Category.SESSION_STORE: _session,
    Category.MEMO_CACHE: _memo,
    Category.BACKGROUND_WORKER: _background,
    Category.CONNECTION_MANAGER: _connections,
    Category.LOCK: _lock,
    Category.COUNTER: _count,
    Category.EVENT_BUS: _events,
    Category.MISCONFIG: _other,
    Category.OTHER_SINGLETON: _other,
}

# -- what stays ----------------------------------------------------------------------------------------------------


def _stays(subject: Subject) -> str:
    """Nothing, unless there is something alive inside."""
    alive = _alive(subject)
    stays = f"`{subject.name}` holds {alive}, which stays in its process; what it knows is shared."
    return stays if alive else ""


def _keep_client(subject: Subject) -> str:
    return f"`{subject.name}` and its sockets stay in the process that opened them; what is shared is how many there may be."


def _keep_sockets(subject: Subject) -> str:
    return f"The sockets in `{subject.name}` stay where they were accepted: each process subscribes, and passes on what it hears to those it holds."


def _keep_work(subject: Subject) -> str:
    what = _alive(subject).partition(" ")[2] or "thread or task"
    return (
        f"The {what} stays in a process; what is shared is the list of work, who does it, and how far it is."
    )


def _keep_lock(subject: Subject) -> str:
    return f"`{subject.name}` may stay beside the shared one where it also guards memory of this process."


def _keep_events(subject: Subject) -> str:
    return f"The last step may stay: from the shared stream into `{subject.name}`, for who waits in this very process."


_KEEPS: dict[Category, Callable[[Subject], str]] = {
    Category.CLIENT_POOL: _keep_client,
    Category.CONNECTION_MANAGER: _keep_sockets,
    Category.BACKGROUND_WORKER: _keep_work,
    Category.LOCK: _keep_lock,
    Category.EVENT_BUS: _keep_events,
    Category.FLAG_CACHE: lambda _: "",
    Category.TENANT_CONFIG: lambda _: "",
}
