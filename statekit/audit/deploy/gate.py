"""Which Python files are worth a closer look: those whose facts speak of something that is configured."""

from __future__ import annotations

import re
from functools import cache

from statekit.audit.facts import Binding, FileFacts, Function, Value, Write

__all__ = ["CONFIGURED", "SECRET", "SESSION_TARGET", "STORES", "speaks"]

ROOTS = frozenset(
    [
        "flask_limiter",
        "slowapi",
        "quart_rate_limiter",
        "flask_caching",
        "flask_cache",
        "flask_session",
        "quart_session",
        "flask_socketio",
        "fastapi_socketio",
        "flask_apscheduler",
        "fastapi_cache",
        "aiocache",
        "broadcaster",
        "cashews",
        "hypercorn",
        "granian",
        "starsessions",
        "django_ratelimit",
        "ratelimit",
        "axes",
        "sanic_session",
        "aiohttp_session",
    ]
)
"""Packages whose use is worth it wherever it is."""
ORIGINS = frozenset(
    [
        "celery",
        "limits.storage",
        "celery.Celery",
        "kombu.Connection",
        "socketio",
        "socketio.AsyncServer",
        "socketio.Server",
        "uvicorn",
        "uvicorn.run",
        "tornado.options.define",
        "starlette.middleware.sessions.SessionMiddleware",
        "fastapi.middleware.sessions.SessionMiddleware",
        "tornado.web.Application",
    ]
)
"""Names of larger packages that are."""
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
SECRET = re.compile(
    r"^_*((app|flask|django|jwt|session|cookie|signing|csrf|token|auth|access|refresh|server|wtf_csrf|hmac|encryption|fernet)_)*"
    r"(secret|secret_key|secretkey|cookie_secret|session_secret|jwt_secret|jwt_secret_key|signing_key|session_key|cookie_key|jwt_key"
    r"|hmac_key|encryption_key|fernet_key|csrf_key)$",
    re.IGNORECASE,
)
CONFIGURED = re.compile(
    r"(^|\.)(app|application|\w*config|conf|\w*settings|server|environ|self|cls|api|flask_app|Flask\(\)|FastAPI\(\))(\[\])?$"
)
SETTINGS = re.compile(
    r"CACHES|CHANNEL_LAYERS|SESSION_ENGINE|SESSION_TYPE|SESSION_CACHELIB|REST_FRAMEWORK|INSTALLED_APPS|CACHE_TYPE|CACHE_BACKEND"
    r"|RATELIMIT_STORAGE_UR[IL]|AXES_HANDLER"
)
LOCAL = re.compile(
    r"mem(ory|cache)?://|:memory:|^sqlite:/?/?$|locmem|InMemoryChannelLayer|SimpleMemoryCache", re.IGNORECASE
)
CALLED = frozenset(
    {
        "app.config.from_mapping",
        "Flask().config.from_mapping",
        "config.from_mapping",
        "app.run",
        "uvicorn.run",
    }
)
SESSION_TARGET = re.compile(r"^(flask\.)?session$|\b(request|req|websocket|ws)\.session$|^get_session\(\)$")
MADE = frozenset({"call", "either", "other", "dict"})
ODD = frozenset(
    [
        "open",
        "now",
        "utcnow",
        "today",
        "localtime",
        "uuid4",
        "uuid1",
        "set",
        "frozenset",
        "bytes",
        "first",
        "one",
        "one_or_none",
        "scalar_one",
        "scalars",
        "all",
        "get",
        "latest",
        "earliest",
        "last",
        "get_object_or_404",
        "get_list_or_404",
        "first_or_404",
        "get_or_404",
        "find_one",
        "create",
        "get_or_create",
        "filter",
        "order_by",
        "exclude",
        "filter_by",
        "read_csv",
        "read_excel",
        "read_sql",
        "read_json",
        "read_parquet",
        "array",
        "zeros",
        "connect",
        "from_url",
        "create_engine",
        "client",
        "resource",
        "create_task",
        "partial",
        "dumps",
        "urandom",
        "token_bytes",
        "timedelta",
        "date",
        "datetime",
        "strptime",
        "fromtimestamp",
        "session",
    ]
)
"""Last names of calls whose result may be more than text."""


def speaks(facts: FileFacts) -> bool:
    """Whether a file imports, binds or writes what configures something."""
    return (
        any(_imported(origin) for origin in facts.imports.values())
        or any(_binding_speaks(one) for one in facts.bindings)
        or any(_function_speaks(one) for one in facts.functions)
    )


def _binding_speaks(one: Binding) -> bool:
    value = one.value
    if _local(value) or SETTINGS.fullmatch(one.name):
        return True
    made = value.kind in MADE or (value.kind == "chain" and "(" in value.text)
    return made and _named(one.name) and not value.text.endswith(("Field", "Column", "mapped_column"))


@cache
def _imported(origin: str) -> bool:
    root, last = origin.partition(".")[0], origin.rpartition(".")[2]
    if root == "apscheduler":
        return last.endswith(("Scheduler", "schedulers", "background", "asyncio")) or last in STORES
    return root in ROOTS or origin in ORIGINS or last in STORES


@cache
def _named(name: str) -> bool:
    return bool(SETTINGS.fullmatch(name) or SECRET.match(name))


def _local(value: Value | None) -> bool:
    """Whether a value speaks of memory, or holds a setting of one of the names."""
    if value is None:
        return False
    if value.kind == "const":
        return len(value.text) < 80 and bool(LOCAL.search(value.text))
    if value.kind in ("dict", "call", "either"):
        within = any(_local(one) for one in value.parts)
        return within or any(_named(name) or _local(one) for name, one in value.named) or _tagged(value)
    return False


def _tagged(value: Value) -> bool:
    """``Unicode(…).tag(config=True)``, whose own arguments are not among the facts."""
    return value.text.endswith("().tag") and any(name == "config" for name, _ in value.named)


def _function_speaks(function: Function) -> bool:
    if any(_write_speaks(function, one) for one in function.writes) or _session_speaks(function):
        return True
    return not CALLED.isdisjoint(function.calls)


def _write_speaks(function: Function, write: Write) -> bool:
    if write.op == "=":
        base, _, name = write.target.rpartition(".")
        return _named(name) and _configured(function, base)
    if write.op not in ("[]=", "update"):
        return False
    if write.op == "[]=" and _named(write.key.strip("'").rpartition(".")[2]):
        return _configured(function, write.target)
    if write.target == "config" or write.target.endswith(".config"):
        return write.op == "update" or _local(write.value)
    return write.target == "CACHES"


def _configured(function: Function, base: str) -> bool:
    """Whether what is written to is the app's, or an object's own at its making; rows have secrets too."""
    return function.name.endswith("__init__") if base == "self" else not base or bool(CONFIGURED.search(base))


def _session_speaks(function: Function) -> bool:
    """Whether something is put into a session that may not be plain."""
    for write in function.writes:
        if write.op in ("[]=", "update") and write.value and SESSION_TARGET.search(write.target):
            value = write.value
            if _may_be_odd(value) or (_unknown(value) and any(map(_odd_call, function.calls))):
                return True
    return False


def _unknown(value: Value) -> bool:
    return value.kind == "comprehension" or (value.kind == "chain" and value.text.isidentifier())


def _may_be_odd(value: Value) -> bool:
    if value.kind == "call":
        return _odd_call(value.text)
    if value.kind in ("comprehension", "const"):
        return value.text == "set" or value.text.startswith(("b'", 'b"'))
    parts = (*value.parts, *(one for _, one in value.named))
    return value.kind in ("lambda", "set") or any(_may_be_odd(one) for one in parts)


@cache
def _odd_call(chain: str) -> bool:
    """A call that may make an object, a row, or something else that is more than text."""
    last = chain.rpartition(".")[2]
    return last[:1].isupper() or last in ODD
