"""Libraries that keep their state in the process unless they are told otherwise: limiters, sockets, schedulers, caches."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

from statekit.audit.deploy.found import REDIS, Hit, Place
from statekit.audit.deploy.gate import STORES
from statekit.audit.deploy.ground import Ground, developing
from statekit.audit.deploy.look import Called, Module, Setting
from statekit.audit.deploy.names import offstage
from statekit.audit.deploy.options import Certainty, branch_of, local_ones, options, text_of
from statekit.audit.deploy.urls import SURE
from statekit.audit.facts import Binding, FileFacts
from statekit.audit.model import Confidence, Severity

__all__ = ["library_hits"]

SHARED = re.compile(
    r"redis|valkey|memcache|postgres|mongo|sqlalchemyjobstore|database|rabbit|kafka", re.IGNORECASE
)
LIMITERS = {"flask_limiter": "storage_uri", "slowapi": "storage_uri", "quart_rate_limiter": "store"}
SOCKETS = {"flask_socketio", "socketio", "fastapi_socketio"}
SCHEDULERS = {
    "BackgroundScheduler",
    "AsyncIOScheduler",
    "GeventScheduler",
    "TornadoScheduler",
    "TwistedScheduler",
    "APScheduler",
}
METRIC = re.compile(r"prometheus_client\.(Counter|Gauge|Histogram|Summary)")
CACHE_TYPES = re.compile(
    r"^(flask_caching\.backends\.|flask_caching\.)?(simple(cache)?(\.SimpleCache)?)$", re.IGNORECASE
)
SHARED_CACHE = f'CACHE_TYPE = "RedisCache"\nCACHE_REDIS_URL = {REDIS}'
CACHE_FILES = re.compile(
    r"^(flask_caching\.backends\.)?(filesystem(cache)?(\.FileSystemCache)?|null(cache)?(\.NullCache)?)$",
    re.IGNORECASE,
)


def library_hits(ground: Ground) -> Iterator[Hit]:
    """Everything that libraries are told, or not told."""
    for module in ground.modules:
        yield from _limiters(ground, module)
        yield from _sockets(ground, module)
        yield from _stores(ground, module)
        yield from _schedulers(module)
    yield from _caches(ground)
    yield from _sessions(ground)
    yield from _metrics(ground)


def _in_its_mode(module: Module, one: Called, hit: Hit) -> Hit:
    """A finding about what a call makes; of one of two modes it speaks as that."""
    if not _is_one_of_two(module, one):
        return hit
    why = f"{hit.why}; another branch is shared, this is the one that is not"
    return replace(hit, rule="SK1211", why=why, confidence=SURE[Certainty.CHOICE])


def _is_one_of_two(module: Module, one: Called) -> bool:
    """Whether a call stands in a branch, or in a function that also makes something shared."""
    if branch_of(one.under) == "choice":
        return True
    siblings = (
        other for other in module.calls if one.local and other.owner == one.owner and other is not one
    )
    return any(SHARED.search(other.callee) for other in siblings)


def _unless_given(one: Called) -> Confidence:
    """How sure it is that an argument is not given: less where there are some nobody can see."""
    return Confidence.MEDIUM if one.open_ended else Confidence.HIGH


def _absent(call: Called, *names: str) -> bool:
    given = call.keyword(*names)
    return given is None or (isinstance(given, ast.Constant) and given.value is None)


# -- limiters ---------------------------------------------------------------------------------------------------


def _limiters(ground: Ground, module: Module) -> Iterator[Hit]:
    for one in module.called("Limiter", "RateLimiter"):
        argument = LIMITERS.get(one.callee.partition(".")[0])
        if argument is None or developing(one) or not _absent(one, argument, "storage"):
            continue
        if one.open_ended and argument in module.text:
            continue
        if not any(True for _ in ground.settings("RATELIMIT_STORAGE_URI", "RATELIMIT_STORAGE_URL")):
            yield _in_its_mode(module, one, _limiter(module, one, argument))


def _limiter(module: Module, one: Called, argument: str) -> Hit:
    name = one.name or one.spelt.rpartition(".")[2]
    why = f"`{name}` has no `{argument}`, so it counts in each process: N workers let through N times the limit, and a restart forgets"
    code = f'{name} = {one.spelt}(..., {argument}={REDIS})\n# or, one exact count for all: kit.rate_limiter({name!r}, "5/minute")'
    said = f"{one.callee} without {argument}, and no RATELIMIT_STORAGE_URI in the project"
    return Hit("SK1201", module.place(one, name), why, code, _unless_given(one), evidence=(said,))


# -- sockets ----------------------------------------------------------------------------------------------------


def _sockets(ground: Ground, module: Module) -> Iterator[Hit]:
    for one in module.called("SocketIO", "Server", "AsyncServer", "SocketManager"):
        if one.callee.partition(".")[0] not in SOCKETS or developing(one):
            continue
        if _absent(one, "message_queue", "client_manager") and not _connected(ground, module, one):
            yield _in_its_mode(module, one, _socket(module, one))


def _connected(ground: Ground, module: Module, one: Called) -> bool:
    """Whether the queue is given later, or in arguments that cannot be seen."""
    if one.open_ended and re.search(r"message_queue|client_manager", module.text):
        return True
    later = (other for place in ground.modules for other in place.called("init_app"))
    return any(not _absent(other, "message_queue", "client_manager") for other in later)


def _socket(module: Module, one: Called) -> Hit:
    name = one.name or one.spelt.rpartition(".")[2]
    asynchronous = one.callee.endswith("AsyncServer") or one.callee.startswith("fastapi")
    manager = "socketio.AsyncRedisManager" if asynchronous else "socketio.RedisManager"
    flask = one.callee.startswith("flask_socketio")
    argument = f"message_queue={REDIS}" if flask else f"client_manager={manager}({REDIS})"
    missing = argument.partition("=")[0]
    why = f"`{name}` has no `{missing}`: what one process emits reaches only the sockets it accepted itself, and its rooms are unknown to the others"
    return Hit(
        "SK1205",
        module.place(one, name),
        why,
        f"{name} = {one.spelt}(..., {argument})",
        _unless_given(one),
        keep="The sockets, and sticky routing for long polling: only the messages between processes move.",
        evidence=(f"{one.callee} without {missing}",),
    )


# -- stores for trying out --------------------------------------------------------------------------------------


def _stores(ground: Ground, module: Module) -> Iterator[Hit]:
    for one in module.called(*STORES):
        if ground.foreign(one.callee) and not developing(one):
            yield _store(module, one, one.callee.rpartition(".")[2])
    for one in module.called("aiocache.Cache", "aiocache.caches.set_config"):
        spelt = ast.unparse(one.node)
        if "MEMORY" in spelt or "SimpleMemoryCache" in spelt or spelt == "Cache()":
            yield _store(module, one, "SimpleMemoryCache")


def _store(module: Module, one: Called, kind: str) -> Hit:
    name, library = one.name or kind, one.callee.partition(".")[0]
    why = f"`{name}` is kept in `{kind}`, the store `{library}` has for trying it out: what one process keeps there, the next does not have"
    code = f"{kind}()  ->  the Redis or database store of `{library}`"
    sure = Confidence.MEDIUM if one.local else Confidence.HIGH
    said = f"{one.callee} at {module.path}:{one.node.lineno}"
    return _in_its_mode(
        module, one, Hit("SK1213", module.place(one, name), why, code, sure, evidence=(said,))
    )


# -- schedulers -------------------------------------------------------------------------------------------------


def _schedulers(module: Module) -> Iterator[Hit]:
    for one in module.called(*SCHEDULERS):
        if "apscheduler" not in one.callee or developing(one) or not _absent(one, "jobstores"):
            continue
        jobs = any(
            other.spelt.endswith((".add_job", ".scheduled_job", ".add_jobs")) for other in module.calls
        )
        started = [other for other in module.calls if other.spelt.endswith(".start")]
        name = one.name or one.spelt
        if jobs and any(other.spelt.rpartition(".")[0].rpartition(".")[2] == name for other in started):
            yield _scheduler(module, one, name)


def _scheduler(module: Module, one: Called, name: str) -> Hit:
    guarded = re.search(
        r"leader|lock|flock",
        " ".join(other.spelt for other in module.calls if other.owner == one.owner),
        re.IGNORECASE,
    )
    return Hit(
        "SK1206",
        module.place(one, name),
        f"`{name}` keeps its jobs in memory and is started where the app starts: N processes run every job N times, and jobs added at run time are lost at a restart",
        f'if redis.set(f"{name}:{{day}}", 1, nx=True, ex=86400):  # in the job, with the time it runs for: the first process does it\n    ...',
        Confidence.LOW if guarded else Confidence.MEDIUM,
        evidence=(f"{one.callee} without jobstores, started in the same file",),
    )


# -- caches and sessions ------------------------------------------------------------------------------------------


def _is_simple(node: ast.expr) -> bool:
    return bool(CACHE_TYPES.match(text_of(node)))


def _caches(ground: Ground) -> Iterator[Hit]:
    used = ground.imports("flask_caching", "flask_cache")
    for module, one in ground.settings("CACHE_TYPE"):
        found = options(module, one.value, one)
        place = module.place(one)
        for option in local_ones(found, _is_simple)[:1]:
            certainty = min(option.certainty, Certainty.CHOICE) if branch_of(one.under) else option.certainty
            sure = SURE[certainty] if used else Confidence.MEDIUM
            if not ground.overruled(one, _is_simple, module.path):
                yield _cache(place, text_of(option.node), certainty, sure)
        for option in local_ones(found, lambda node: bool(CACHE_FILES.match(text_of(node))))[:1]:
            yield _weak_cache(ground, place, text_of(option.node))


def _cache(place: Place, spelt: str, certainty: Certainty, sure: Confidence) -> Hit:
    why = f"`{place.name}` is `{spelt}`, a dict in each process: what one worker replaces or deletes lives on in the others"
    rule = "SK1202" if certainty is Certainty.PLAIN else "SK1211"
    return Hit(rule, place, why, SHARED_CACHE, sure)


def _weak_cache(ground: Ground, place: Place, spelt: str) -> Hit:
    null = "null" in spelt.lower()
    what = "keeps nothing at all" if null else "is shared by the processes of one machine, and by no other"
    sure = Confidence.MEDIUM if ground.running.spread and not null else Confidence.LOW
    why = f"`{place.name}` is `{spelt}`, which {what}"
    return Hit("SK1202", place, why, SHARED_CACHE, sure, severity=Severity.NOTE)


def _sessions(ground: Ground) -> Iterator[Hit]:
    for module, one in ground.settings("SESSION_TYPE"):
        texts = {text_of(option.node).lower() for option in options(module, one.value, one)}
        if texts & {"filesystem", "cachelib"} and not ground.overruled(one, _on_disk, module.path):
            yield _session(ground, module, one, "cachelib" if "cachelib" in texts else "filesystem")


def _on_disk(node: ast.expr) -> bool:
    return text_of(node).lower() in {"filesystem", "cachelib"}


def _session(ground: Ground, module: Module, one: Setting, spelt: str) -> Hit:
    backends = [ast.unparse(value.value) for _, value in ground.settings("SESSION_CACHELIB")]
    simple = any("SimpleCache" in text for text in backends)
    where, other = ("a dict of the process", "process") if simple else ("files of one machine", "pod")
    lost = simple or ground.running.spread
    unseen = Confidence.MEDIUM if spelt == "cachelib" and not backends else Confidence.LOW
    why = f"`{one.name}` is `{spelt}`, so sessions are kept in {where}: a visitor is a stranger to every other {other}, and signed out with each deploy"
    return Hit(
        "SK1204", module.place(one), why,
        'StatekitFlask(app, kit, sessions=True)  # or SESSION_TYPE = "redis"', Confidence.HIGH if lost else unseen,
        severity=None if lost else Severity.WARNING,
    )  # fmt: skip


# -- metrics ------------------------------------------------------------------------------------------------------


def _metrics(ground: Ground) -> Iterator[Hit]:
    """Once a project, and only where several processes share a port."""
    if (ground.running.workers or 1) < 2 or ground.running.most("metrics"):
        return
    made = [(facts, one) for facts in ground.files if not offstage(facts.path) for one in _measured(facts)]
    if made and not _gathered(ground):
        facts, one = made[0]
        why = (
            f"`{one.name}` is counted in each process and a scrape reads whichever answers, for "
            "PROMETHEUS_MULTIPROC_DIR is nowhere set"
        )
        place = Place(facts.path, one.line, one.name, one.owner)
        yield Hit("SK1209", place, why, "PROMETHEUS_MULTIPROC_DIR=/run/metrics  # in the environment")


def _measured(facts: FileFacts) -> Iterator[Binding]:
    for one in facts.bindings:
        if one.value.kind == "call" and facts.imports:
            head, dot, rest = one.value.text.partition(".")
            if METRIC.fullmatch(facts.imports.get(head, "") + dot + rest):
                yield one


def _gathered(ground: Ground) -> bool:
    """Whether anything is made for several processes to be gathered from."""
    return any(
        origin.startswith(("prometheus_client.multiprocess", "prometheus_client.values"))
        for one in ground.files
        for origin in one.imports.values()
    ) or any(
        "multiprocess.MultiProcessCollector" in one.calls for facts in ground.files for one in facts.functions
    )
