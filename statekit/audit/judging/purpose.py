"""What a piece of state is for: names weigh, and what is written weighs more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from statekit.audit.judging.case import Case
from statekit.audit.judging.changes import REMOVING, lazy
from statekit.audit.judging.spoken import names, surroundings, users
from statekit.audit.model import Category
from statekit.audit.natures import Nature
from statekit.audit.states import Change
from statekit.audit.words import hinted, words_of

__all__ = ["purpose"]

ENOUGH = 1.3
"""Points below which nothing is known."""
KEYED = (
    ({"session", "conversation", "chat", "nonce", "cookies", "urlsafe"}, Category.SESSION_STORE, 1.3),
    ({"sid"}, Category.CONNECTION_MANAGER, 1.3),
    ({"user", "token", "state"}, Category.SESSION_STORE, 0.6),
    ({"ip", "addr", "remote", "host"}, Category.RATE_LIMITER, 0.6),
    ({"tenant", "org", "organization", "workspace", "site"}, Category.TENANT_CONFIG, 0.5),
    ({"job", "task", "run", "pid", "process"}, Category.BACKGROUND_WORKER, 0.6),
    (
        {"websocket", "ws", "client", "room", "connection", "socket", "channel"},
        Category.CONNECTION_MANAGER,
        0.6,
    ),
)
"""What keys say about what is kept under them."""
PUT_IN = {
    Nature.THREAD: Category.BACKGROUND_WORKER,
    Nature.TASK: Category.BACKGROUND_WORKER,
    Nature.PROCESS: Category.BACKGROUND_WORKER,
    Nature.LOCK: Category.LOCK,
    Nature.QUEUE: Category.EVENT_BUS,
    Nature.EVENT: Category.EVENT_BUS,
    Nature.CLIENT: Category.CLIENT_POOL,
}
DONE = {
    Category.CONNECTION_MANAGER: {"send", "send_text", "send_json", "send_bytes", "send_str", "write_message", "emit", "accept"},
    Category.EVENT_BUS: {"put", "put_nowait", "get_nowait", "set_result", "set_exception", "task_done"},
    Category.BACKGROUND_WORKER: {"cancel", "cancelled", "terminate", "kill", "poll", "is_alive", "done", "join"},
    Category.LOCK: {"acquire", "release", "locked"},
    Category.CLIENT_POOL: {"execute", "aclose", "request", "post", "commit", "cursor", "ping"},
}  # fmt: skip
"""What is done with the things that are kept."""
BUSY = {
    "running", "busy", "progress", "processing", "active", "syncing", "updating", "refreshing", "locked", "started",
}  # fmt: skip
"""Words of flags that keep others out while something is done."""
NOTED = {
    "seen", "known", "activity", "request", "prompt", "update", "updated", "usage", "values", "access", "used", "heartbeat",
}  # fmt: skip
"""What is noted as the last of its kind for others to see, not to hold somebody back."""
IDS = {"id", "uid", "uuid"}
COUNTING = {"+=", "append", "appendleft"}
PUTTING = {"=", "[]=", "add", "append"}
BEFORE = (["last"], ["previous"], ["prev"])
MOMENTS = {"now", "ts", "timestamp"}
"""What variables are called that hold what a clock said."""


def purpose(case: Case, run: list[Change], start: Mapping[Category, float] | None = None) -> Category:
    """The category most of what is known speaks for, beginning with the points of `start`."""
    points: dict[Category, float] = defaultdict(float, hinted(names(case, run)))
    for category, weight in hinted(surroundings(case)).items():
        if category is not Category.CLIENT_POOL:  # what is in `engine.py` is seldom a client itself
            points[category] += weight
    for category, weight in (start or {}).items():
        points[category] += weight
    _by_function(case, run, points)
    _by_content(case, run, points)
    _by_peers(case, run, points)
    _by_company(case, points)
    _by_use(case, run, points)
    _by_form(case, run, points)
    _by_time(case, run, points)
    _doubted(case, run, points)
    best = max(points, key=lambda one: points[one], default=Category.OTHER_SINGLETON)
    return best if points[best] >= ENOUGH else _unnamed(case, run)


def _by_function(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """What else the functions do that write it: look at a clock, refuse with a 429."""
    calls = {chain for c in run for chain in c.function.facts.calls}
    refusing = _refusing(case, run, points)
    if refusing:
        points[Category.RATE_LIMITER] += refusing
    if any(chain in case.tools.catalogue.clocks for chain in calls):
        for category, weight in ((Category.RATE_LIMITER, 1.0), (Category.MEMO_CACHE, 0.7)):
            if category in points:
                points[category] += weight
        if "last" in case.words and Nature.CONTAINER in case.natures and not case.words & NOTED:
            points[Category.RATE_LIMITER] += 1.0
    if Nature.CONTAINER in case.natures and any(
        c.function.facts.spawns for c in run if c.write.op in PUTTING
    ):
        points[Category.BACKGROUND_WORKER] += 0.8
    if _whole(run) and any(_looks(c) and case.tools.purity.outside_of(c.function) for c in run):
        points[Category.MEMO_CACHE] += 0.8


def _refusing(case: Case, run: list[Change], points: Mapping[Category, float]) -> float:
    """What a 429 beside a write says: much if the write may be what is counted, little if it only stands there too."""
    refusing = [c for c in run if "429" in c.function.facts.marks]
    counted = (
        {c.write.op for c in refusing} & COUNTING or _stamped(case, run) or Category.RATE_LIMITER in points
    )
    return (3.0 if counted else 0.5) if refusing else 0.0


def _by_content(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """What is put in, and under which keys."""
    inside = case.put_in(run)
    for category in dict.fromkeys(category for nature, category in PUT_IN.items() if nature in inside):
        points[category] += 3.0
    hints = (hint for c in run for hint in c.function.params.values())
    text = " ".join([case.state.annotation, *(c.write.value.text for c in run if c.write.value), *hints])
    themselves = any(c.write.value and c.write.value.text == "self" and _of_a_peer(case, c) for c in run)
    if themselves or "WebSocket" in text or "websocket" in text:
        points[Category.CONNECTION_MANAGER] += 3.0
    for words, category, weight in KEYED:
        if any(words & set(words_of(c.write.key)) for c in run):
            points[category] += weight


def _by_peers(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """Somebody comes and goes; clients that are no client of ours."""
    inside = case.put_in(run) | case.natures
    doing = {word for c in run for word in words_of(c.function.last)}
    many = Nature.CONTAINER in inside or case.state.holds
    if many and doing & {"disconnect", "unregister"} and doing & {"connect", "register"}:
        points[Category.CONNECTION_MANAGER] += 1.5
    named = case.words.union(*(words_of(c.attribute) for c in run))
    made = any(c.write.value and c.write.value.kind in {"call", "chain"} for c in run)
    if "clients" in named and made and Nature.CLIENT not in inside:
        points[Category.CONNECTION_MANAGER] += 2.0
        points[Category.CLIENT_POOL] -= 1.0


def _by_company(case: Case, points: dict[Category, float]) -> None:
    """What else its object keeps: beside a queue it belongs to what is on its way."""
    if case.state.shape not in {"attribute", "class_attribute"} or case.owner is None:
        return
    of, places = case.tools.natures.of, case.tools.states.places
    others = (
        (function, write)
        for one in case.owner.line()
        for name, found in places.assigned_of(one)
        for function, write in found
        if name != case.state.name
    )
    if any(Nature.QUEUE in of(function, write.value) for function, write in others):
        points[Category.EVENT_BUS] += 1.0


def _by_use(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """Which methods are called on what is kept."""
    several = Nature.CONTAINER in case.natures
    elements = [(several or c.attribute, c.write.target) for c in run]
    heads = {target.rstrip("[]") + "[]" if inside else target for inside, target in elements}
    owners = (c.function.module.classes.get(c.function.facts.within) for c in run)
    methods = {method for owner in owners if owner for method in owner.methods.values()}
    called = (chain.rpartition(".") for one in users(case, run) | methods for chain in one.facts.calls)
    done = {last for head, _, last in called if head in heads}
    for category, verbs in DONE.items():
        if done & verbs:
            points[category] += 2.0


def _of_a_peer(case: Case, change: Change) -> bool:
    """Whether a method puts its own object away, and there is one object for each peer."""
    function = change.function
    owner = function.module.classes.get(function.facts.within)
    return owner is not None and owner in case.tools.reach.serving


def _by_form(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """What it is made of, and how it changes."""
    state, natures = case.state, case.natures
    if Nature.CACHE in natures:
        points[Category.MEMO_CACHE] += 1.4
    if Nature.CONTAINER in natures and any(map(lazy, run)):
        points[Category.MEMO_CACHE] += 0.5
    alone = not natures & {Nature.CONTAINER, Nature.CACHE} and not state.holds
    if alone and words_of(state.name)[-1:] in (["session"], ["sess"]):
        points[Category.CLIENT_POOL] += 3.0  # of HTTP or a database: users have many
    if _switch(case) and not any(c.write.target in c.function.facts.tests for c in run):
        points[Category.FLAG_CACHE] += 1.8
    ops = {c.write.op for c in run}
    if ops & {"append", "appendleft"} and not ops & {"[]=", "setdefault"}:
        points[Category.EVENT_BUS] += 1.0
    number = any(value.kind == "const" and value.text.isdigit() for _, value in state.values)
    counted = any(c.write.op == "+=" and not c.attribute for c in run)
    if Nature.COUNTER in natures or (counted and (number or "int" in state.annotation)):
        points[Category.COUNTER] += 3.0
    points[Category.LOCK] += _keeping_out(case, run)
    if _whole(run) and Category.TENANT_CONFIG in points:
        points[Category.TENANT_CONFIG] += 1.0
    if state.shape == "app" and "config" in state.under[0]:
        points[Category.TENANT_CONFIG] += 1.5


def _keeping_out(case: Case, run: list[Change]) -> float:
    """A flag or a set of names that keeps others out while something is done."""
    if case.words & BUSY and _taken(run):
        return 4.0
    return 2.5 if Nature.CONTAINER in case.natures and _claimed(run) else 0.0


def _by_time(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """When something was last done: to hold the next one back, where who notes it has looked; else to be shown."""
    back = any(map(_finds, run))
    if _stamped(case, run):
        points[Category.MEMO_CACHE] *= 0.4
        asked = back or any(f"{c.write.target}.get" in c.function.facts.calls for c in run)
        limits = asked and not case.words & {"time", "times"}
        points[Category.RATE_LIMITER if limits else Category.OTHER_SINGLETON] += 1.3
    if words_of(case.state.name)[:1] in BEFORE and not back and Category.RATE_LIMITER not in points:
        points[Category.OTHER_SINGLETON] += 3.0


def _stamped(case: Case, run: list[Change]) -> bool:
    """Whether all that is put into it is what the clock says."""
    given = [
        c.write.value for c in run if c.write.value and c.write.op in {"=", "[]=", "append", "setdefault"}
    ]
    clocks = case.tools.catalogue.clocks
    return bool(given) and all(
        one.text in MOMENTS or (one.kind == "call" and one.text in clocks) for one in given
    )


def _doubted(case: Case, run: list[Change], points: dict[Category, float]) -> None:
    """What weak words say counts for less where the thing itself does not look like it."""
    state, natures = case.state, case.natures | case.put_in(run)
    told = (
        state.name,
        state.owner,
        state.module.path,
        *(c.attribute for c in run),
        *(c.function.last for c in run),
    )
    names = " ".join([*told, state.holds.name if state.holds else ""]).lower()
    caching = "cache" in names or "memo" in names or Nature.CACHE in natures or any(map(lazy, run))
    if Category.MEMO_CACHE in points and not caching:
        points[Category.MEMO_CACHE] *= 0.6
    if "cache" in state.name.lower() and "cache" not in case.words:  # `stagecache`
        points[Category.MEMO_CACHE] += 1.0
    if state.holds and Nature.CLIENT not in natures and not case.keeps_client(state.holds):
        points[Category.CLIENT_POOL] *= 0.6


def _switch(case: Case) -> bool:
    """Whether it is only ever true or false."""
    spelt = {(value.kind, value.text) for _, value in case.state.values}
    return bool(spelt) and spelt <= {("const", "True"), ("const", "False")}


def _looks(change: Change) -> bool:
    """Whether who writes it has looked at it: as somebody who keeps an answer for the next time does."""
    return change.write.target in {*change.function.facts.tests, *change.function.facts.reads}


def _finds(change: Change) -> bool:
    """Whether who writes it has looked at it, or at what is kept under a key."""
    target, facts = change.write.target, change.function.facts
    return not {target, f"{target}[]"}.isdisjoint((*facts.tests, *facts.reads))


def _taken(run: list[Change]) -> bool:
    """Whether somebody looks that it is free before taking it."""
    looked = any(c.write.target in c.function.facts.tests for c in run)
    return looked and {c.write.value.text for c in run if c.write.value} == {"True", "False"}


def _claimed(run: list[Change]) -> bool:
    """Whether who puts a key in looks first that it is not there, and it is taken out again when all is done."""
    claiming = {c.function for c in run if c.write.op == "add" and c.write.target in c.function.facts.tests}
    freeing = {c.function for c in run if c.write.op in {"discard", "remove"}}
    named = {word for one in claiming | freeing for word in words_of(one.last)}
    return bool(claiming and freeing) and (bool(claiming & freeing) or {"acquire", "release"} <= named)


def _whole(run: list[Change]) -> bool:
    """Whether it is always replaced as a whole."""
    return {c.write.op for c in run if not c.attribute} == {"="}


def _unnamed(case: Case, run: list[Change]) -> Category:
    """No name tells what it is for: what is put in and taken out under an id belongs to somebody."""
    keyed = any(IDS & set(words_of(c.write.key)[-1:]) for c in run)
    if Nature.CONTAINER in case.natures and keyed and any(c.write.op in REMOVING for c in run):
        return Category.SESSION_STORE
    kept = [c for c in run if c.write.op == "[]=" and _finds(c)] if Nature.CONTAINER in case.natures else []
    fetched = any(case.tools.purity.outside_of(c.function) for c in kept)
    return Category.MEMO_CACHE if fetched else Category.OTHER_SINGLETON
