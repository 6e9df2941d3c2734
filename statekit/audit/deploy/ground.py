"""What the rules about Python look at: the files worth a closer look, and the whole project where that is needed."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path

from statekit.audit.deploy.look import Called, Module, Setting, look
from statekit.audit.deploy.names import offstage
from statekit.audit.deploy.options import PRODUCTION, branch_of, local_ones, options
from statekit.audit.deploy.running import Running
from statekit.audit.facts import FileFacts, Function, Value

__all__ = ["SESSION_TARGET", "STORES", "Ground", "developing", "speaks"]

ROOTS = frozenset(
    [
        "flask_limiter",
        "slowapi",
        "quart_rate_limiter",
        "limits",
        "flask_caching",
        "flask_cache",
        "flask_session",
        "quart_session",
        "flask_socketio",
        "socketio",
        "fastapi_socketio",
        "apscheduler",
        "flask_apscheduler",
        "celery",
        "kombu",
        "taskiq",
        "dramatiq",
        "huey",
        "fastapi_cache",
        "aiocache",
        "broadcaster",
        "prometheus_client",
        "uvicorn",
        "hypercorn",
        "granian",
        "starsessions",
        "langgraph",
        "django_ratelimit",
        "ratelimit",
        "axes",
        "sanic_session",
        "environ",
        "decouple",
        "aiohttp_session",
        "secrets",
    ]
)
"""Packages whose use is worth a closer look."""
STORES = frozenset(
    [
        "InMemoryBackend",
        "SimpleMemoryCache",
        "MemoryStorage",
        "MemoryJobStore",
        "InMemoryStore",
        "InMemoryBroker",
        "InMemoryResultBackend",
        "MemoryBackend",
        "InMemorySaver",
        "MemorySaver",
        "MemoryStore",
        "InMemoryRateLimiter",
        "InMemorySessionService",
        "InMemoryEventStore",
        "InMemorySessionInterface",
        "InMemoryChannelLayer",
        "MemoryDataStore",
        "InMemoryTaskStore",
        "InMemoryMemoryService",
    ]
)
"""Stores that libraries offer for trying them out."""
NAMES = re.compile(
    r"^(CACHES|CHANNEL_LAYERS|SESSION_ENGINE|SESSION_TYPE|SESSION_CACHELIB|REST_FRAMEWORK|INSTALLED_APPS|SECRET_KEY"
    r"|CACHE_TYPE|CACHE_BACKEND)$|SECRET|RATELIMIT|BROKER|STORAGE_UR|RESULT_BACKEND|COOKIE_KEY|JWT_KEY|SIGNING_KEY|(DATABASE|DB)_(URL|URI|PATH|FILE)",
    re.IGNORECASE,
)
LOCAL = re.compile(r"mem(ory|cache)?://|:memory:|^sqlite:/?/?$|locmem|InMemoryChannelLayer", re.IGNORECASE)
MAPPED = frozenset({"app.config.from_mapping", "Flask().config.from_mapping", "config.from_mapping"})
SESSION_TARGET = re.compile(r"^(flask\.)?session$|\b(request|req|websocket|ws)\.session$|^get_session\(\)$")
DEV_OWNER = re.compile(r"(^|\.|_)\w*?(Test|Testing|Dev|Develop|Development|Local|Debug|CI)\w*$")


def speaks(facts: FileFacts) -> bool:
    """Whether a file is worth a closer look: it imports, binds or calls what configures something."""
    if any(_imported(origin) for origin in facts.imports.values()):
        return True
    if any(_named(one.name) or _local(one.value) for one in facts.bindings):
        return True
    return any(_function_speaks(one) for one in facts.functions)


def _imported(origin: str) -> bool:
    return (
        origin.partition(".")[0] in ROOTS
        or origin.rpartition(".")[2] in STORES
        or origin.endswith("SessionMiddleware")
    )


@cache
def _named(name: str) -> bool:
    return bool(NAMES.search(name))


def _local(value: Value) -> bool:
    if value.kind == "const":
        return len(value.text) < 80 and bool(LOCAL.search(value.text))
    if value.kind in ("dict", "call", "either"):
        return any(map(_local, value.parts)) or any(_named(name) or _local(one) for name, one in value.named)
    return False


def _function_speaks(function: Function) -> bool:
    for write in function.writes:
        if write.op in ("[]=", "update") and (
            write.target.endswith("config") or SESSION_TARGET.search(write.target)
        ):
            return True
        if write.op == "=" and _named(write.target):
            return True
    return not MAPPED.isdisjoint(function.calls)


class Ground:
    """A project as the rules of this room see it."""

    def __init__(self, root: Path, files: Iterable[FileFacts], running: Running) -> None:
        self.files = [one for one in files if not one.error]
        self.running = running
        spoken = (one for one in self.files if not offstage(one.path) and speaks(one))
        self.modules = [found for found in (look(root, one) for one in spoken) if found]

    @cached_property
    def _functions(self) -> dict[str, list[tuple[str, Function]]]:
        found: dict[str, list[tuple[str, Function]]] = {}
        for facts in self.files:
            for one in facts.functions:
                found.setdefault(one.name.rpartition(".")[2], []).append((facts.path, one))
        return found

    def function(self, module: Module, dotted: str) -> Function | None:
        """The project's own function that a call means, if it can be told."""
        where, _, last = dotted.rpartition(".")
        found = self._functions.get(last, [])
        here = [one for path, one in found if path == module.path]
        if here:
            return here[0]
        stem = where.rpartition(".")[2]
        there = [
            one for path, one in found if path.removesuffix("/__init__.py").removesuffix(".py").endswith(stem)
        ]
        return there[0] if stem and len(there) == 1 else found[0][1] if len(found) == 1 and where else None

    @cached_property
    def class_names(self) -> frozenset[str]:
        """Names of the project's own classes."""
        return frozenset(one.name for facts in self.files for one in facts.classes)

    @cached_property
    def own(self) -> frozenset[str]:
        """The project's own packages: the first folders of its paths."""
        return frozenset(part.removesuffix(".py") for one in self.files for part in one.path.split("/")[:2])

    def class_bases(self, path: str, name: str) -> tuple[str, ...]:
        """What a class of a file says it builds on."""
        facts = next((one for one in self.files if one.path == path), None)
        return next((one.bases for one in facts.classes if one.name == name), ()) if facts else ()

    def foreign(self, dotted: str) -> bool:
        """Whether a dotted name is that of somebody else's package."""
        head = dotted.partition(".")[0]
        return bool(head) and "." in dotted and head not in self.own

    def settings(self, *names: str) -> Iterator[tuple[Module, Setting]]:
        """All settings of some names that production sees."""
        wanted = {one.upper() for one in names}
        for module in self.modules:
            for one in module.settings:
                if one.name.upper() in wanted and not developing(one):
                    yield module, one

    def imports(self, *roots: str) -> bool:
        """Whether any file of the project imports one of these packages."""
        return any(origin.partition(".")[0] in roots for one in self.files for origin in one.imports.values())

    def overruled(self, setting: Setting, is_local: Callable[[ast.expr], bool], path: str) -> bool:
        """Whether what is meant for production sets the same name to something that is shared."""
        if _productive(path, setting):
            return False
        for module, other in self.settings(setting.name):
            if other is not setting and _productive(module.path, other):
                found = options(module, other.value, other)
                if found and not local_ones(found, is_local):
                    return True
        return False


def developing(setting: Setting | Called) -> bool:
    """Whether only a developer's or a test's run sees this."""
    return branch_of(setting.under) == "dev" or bool(DEV_OWNER.search(setting.owner) and not setting.local)


def _productive(path: str, setting: Setting) -> bool:
    return bool(
        PRODUCTION.search(re.sub(r"[/._-]", " ", path))
        or PRODUCTION.search(re.sub("([a-z])([A-Z])", r"\1 \2", setting.owner))
    )
