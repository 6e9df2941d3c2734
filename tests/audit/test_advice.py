"""What a finding says: who writes, through which handler, what breaks; and every example runs."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from textwrap import dedent
from typing import Any

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statekit import AsyncStateKit, Flag, StateKit, TenantSettings
from statekit.audit.advice import finding_of
from statekit.audit.advice.spelling import expression, plain, shown
from statekit.audit.engine import Analysis
from statekit.audit.judge import Verdict
from statekit.audit.model import Category, Confidence, Finding, Severity
from statekit.audit.natures import Nature
from statekit.audit.reading import read
from statekit.audit.rules import rules

SHOP = """
import asyncio, itertools, queue, threading, httpx, discord, asyncpg
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from time import time
from apscheduler.schedulers.background import BackgroundScheduler
from redis import Redis
from sqlalchemy import create_engine
from fastapi import APIRouter, FastAPI, Request, WebSocket
from shop.limits import Limiter

app = FastAPI()
router = APIRouter(prefix="/v1")
HITS = {}
SESSIONS = {}
otp_codes = {}
chat_history = {}
rooms = {}
CONFIG = {"theme": "light", "page_size": 20}
THEME = "light"
MAINTENANCE = False
FLAGS = {}
billing = httpx.Client(timeout=3)
engine = create_engine("postgresql://")
cache_server = Redis()
bot = discord.Client(intents=1)
EXPORT = threading.Lock()
SLOTS = threading.Semaphore(10)
pool = ThreadPoolExecutor(4)
scheduler = BackgroundScheduler()
jobs = queue.Queue()
order_numbers = itertools.count(1)
visits = 0
running = {}
class_ = {}
limiter = Limiter()

class Registry:
    _instance = None
    seen = {}
    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance
    def see(self, who):
        self.seen[who] = time()

@router.post("/login")
async def check_login(request: Request):
    HITS.setdefault(request.client.host, []).append(time())
    if len(HITS[request.client.host]) > 5:
        raise HTTPException(429)
    remember(request.cookies["sid"], 1)
    HITS[request.client.host] = []
    limiter.hit(request.client.host)
    Registry().see(request.client.host)

def remember(sid, user_id):
    SESSIONS[sid] = user_id

@router.post("/logout")
def logout(sid, email, message):
    SESSIONS.pop(sid)
    otp_codes[email] = "1"
    otp_codes.pop(email)
    chat_history.setdefault(email, []).append(message)
    del chat_history[email]

@router.websocket("/ws")
async def ws(websocket: WebSocket, room: str):
    rooms.setdefault(room, set()).add(websocket)
    del rooms[room]

@app.api_route("/maintenance", methods=["PUT", "PATCH"])
def switch(on: bool, name: str):
    global MAINTENANCE, THEME, visits
    MAINTENANCE = on
    THEME = name
    visits += 1
    FLAGS[name] = on
    CONFIG["theme"] = name
    app.state.last_switch = name
    running[name] = 1
    class_[name] = 1

@router.post("/export")
def export(shop):
    with EXPORT, SLOTS:
        with open("/data/x", "w") as f:
            f.write("x")
    jobs.put(shop)
    pool.submit(print)
    return next(order_numbers)

@lru_cache
def load_user(user_id):
    return db.session.execute("select 1 from users", user_id)

@lru_cache
def client_for(region):
    return httpx.AsyncClient(base_url=region)

@router.get("/u")
def u(i):
    return load_user(i), client_for(i)

async def poll():
    while True:
        await asyncio.sleep(1)

@app.on_event("startup")
async def start():
    asyncio.create_task(poll())
    scheduler.start()

def create():
    inner = {}
    @app.get("/inner")
    def handler(who):
        inner[who] = time()
    return handler
"""
LIMITS = """
from time import time

class Limiter:
    def __init__(self):
        self.calls = {}
    def hit(self, ip):
        self.calls[ip] = time()
        self.calls.pop(ip)
"""


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return Analysis([read("shop/app.py", SHOP.encode()), read("shop/limits.py", LIMITS.encode())])


def verdict_on(analysis: Analysis, name: str, shape: str = "") -> Verdict:
    return next(one for one in analysis.verdicts if one.state.name == name and shape in one.state.shape)


def as_category(verdict: Verdict, category: Category) -> Verdict:
    """The verdict as if that had been found; all writes that run late count."""
    changes = tuple(verdict.changes or [one for one in verdict.state.changes if one.at_run_time])
    return replace(verdict, category=category, confidence=Confidence.HIGH, changes=changes)


def told(analysis: Analysis, name: str, category: Category, shape: str = "") -> Finding:
    return finding_of(as_category(verdict_on(analysis, name, shape), category), analysis)


# -- sentences -----------------------------------------------------------------------------------------------


def test_a_limiter_in_its_own_names(analysis: Analysis) -> None:
    found = told(analysis, "HITS", Category.RATE_LIMITER)
    assert found.rule == "SK101"
    assert found.severity is Severity.ERROR
    assert found.qualified_name == "shop.app.HITS"
    assert found.why == (
        "`HITS`, kept per `request.client.host`, is written by `check_login` (POST /v1/login): each worker counts for "
        "itself, so N workers let N times the limit through, and a restart forgives everybody."
    )
    assert 'hits = kit.rate_limiter("hits", "5/minute")' in found.replacement
    assert "await hits.hit(request.client.host)" in found.replacement
    assert "kept per: request.client.host" in found.evidence


def test_every_write_once_with_its_handler(analysis: Analysis) -> None:
    found = told(analysis, "SESSIONS", Category.SESSION_STORE)
    assert [(one.function, one.handler, one.route) for one in found.writes] == [
        ("remember", "check_login", "POST /v1/login"),
        ("logout", "logout", "POST /v1/logout"),
    ]
    assert (
        "`remember` (called from `check_login`, POST /v1/login) and `logout` (POST /v1/logout)" in found.why
    )
    lines = SHOP.splitlines()
    assert all("SESSIONS" in lines[one.line - 1] for one in found.writes)


@pytest.mark.parametrize(
    ("name", "route"),
    [("rooms", "WS /v1/ws"), ("THEME", "PUT|PATCH /maintenance"), ("jobs", "POST /v1/export")],
)
def test_routes_are_said_as_one_types_them(analysis: Analysis, name: str, route: str) -> None:
    assert route in {one.route for one in told(analysis, name, Category.OTHER_SINGLETON).writes}


@pytest.mark.parametrize(
    ("name", "category", "rule", "severity"),
    [
        ("SESSIONS", Category.SESSION_STORE, "SK501", "error"),
        ("MAINTENANCE", Category.FLAG_CACHE, "SK202", "error"),
        ("THEME", Category.TENANT_CONFIG, "SK402", "error"),
        ("billing", Category.CLIENT_POOL, "SK303", "warning"),
        ("bot", Category.CLIENT_POOL, "SK303", "error"),
        ("load_user", Category.MEMO_CACHE, "SK608", "warning"),
        ("pool", Category.BACKGROUND_WORKER, "SK703", "warning"),
        ("scheduler", Category.BACKGROUND_WORKER, "SK703", "error"),
        ("EXPORT", Category.LOCK, "SK903", "error"),
        ("order_numbers", Category.COUNTER, "SK1001", "error"),
        ("visits", Category.COUNTER, "SK1002", "warning"),
        ("last_switch", Category.OTHER_SINGLETON, "SK1306", "warning"),
        ("limiter", Category.RATE_LIMITER, "SK103", "error"),
        ("seen", Category.RATE_LIMITER, "SK104", "error"),
        ("inner", Category.MEMO_CACHE, "SK607", "warning"),
    ],
)
def test_rule_and_severity(
    analysis: Analysis, name: str, category: Category, rule: str, severity: str
) -> None:
    found = told(analysis, name, category)
    assert (found.rule, found.severity) == (rule, severity)


def test_memory_only_without_a_backend_is_a_note(analysis: Analysis) -> None:
    verdict = as_category(verdict_on(analysis, "HITS"), Category.RATE_LIMITER)
    found = finding_of(replace(verdict, reason="the memory branch beside a shared backend"), analysis)
    assert found.severity is Severity.NOTE
    assert found.why.startswith("Only where no shared backend is configured: `HITS`, kept per")


def test_what_is_alive_stays(analysis: Analysis) -> None:
    assert "sockets in `rooms` stay" in told(analysis, "rooms", Category.CONNECTION_MANAGER).keep
    assert "executor stays in a process" in told(analysis, "pool", Category.BACKGROUND_WORKER).keep
    assert "sockets stay in the process" in told(analysis, "billing", Category.CLIENT_POOL).keep
    assert not told(analysis, "HITS", Category.RATE_LIMITER).keep


def test_what_was_cleared_is_no_finding(analysis: Analysis) -> None:
    cleared = replace(verdict_on(analysis, "HITS"), category=None)
    with pytest.raises(ValueError, match="was cleared"):
        finding_of(cleared, analysis)


def test_every_category_speaks_of_every_candidate(analysis: Analysis) -> None:
    for verdict in analysis.verdicts:
        for category in Category:
            if category is Category.MISCONFIG:
                continue
            found = finding_of(as_category(verdict, category), analysis)
            assert found.rule in rules()
            assert found.why.count("`") % 2 == 0
            assert found.why.endswith(".")
            assert "\n" not in found.why
            assert found.replacement
            assert found.writes == tuple(sorted(found.writes, key=lambda one: (one.path, one.line)))


# -- examples run --------------------------------------------------------------------------------------------


class Stub(str):
    """Stands for whatever of the project an example mentions."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Stub:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)

    def __call__(self, *_: Any, **__: Any) -> Stub:
        return Stub("called")

    def __getitem__(self, _: Any) -> Stub:
        return Stub("item")

    def __await__(self) -> Iterator[Any]:
        return iter(())


class Root:
    """What a chain begins with: a module, a request."""

    def __getattr__(self, name: str) -> Stub:
        return Stub(name)

    def __call__(self, *_: Any, **__: Any) -> Stub:
        return Stub("called")


def names_in(tree: ast.AST) -> set[str]:
    bound = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    read_ = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return {one for one in read_ - bound if not hasattr(builtins, one)} | (read_ & {"scheduler", "bot"})


def plainly_used(tree: ast.AST) -> set[str]:
    """Names that are values as they are: of those no attribute is asked and nothing is called."""
    deep = {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    deep |= {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return names_in(tree) - deep


def run(code: str, *, asynchronous: bool) -> None:
    tree = ast.parse(code)
    scope: dict[str, Any] = {one: Root() for one in names_in(tree)} | dict.fromkeys(
        plainly_used(tree), "text"
    )
    real: dict[str, Any] = {
        "json": json,
        "Flag": Flag,
        "TenantSettings": TenantSettings,
        "StateKit": StateKit,
        "__name__": "x",
        "REDIS_URL": "redis://localhost",
    }
    if asynchronous:
        real |= {"kit": AsyncStateKit.in_memory(), "redis": fakeredis.FakeAsyncRedis()}
    else:
        real |= {"kit": StateKit.in_memory(), "redis": fakeredis.FakeRedis(), "Redis": fakeredis.FakeRedis}
    scope |= real

    async def running() -> None:
        done = eval(compiled, scope)  # our own examples
        if inspect.isawaitable(done):
            await done
        if asynchronous:
            await real["kit"].close()
            await real["redis"].aclose()

    compiled = compile(code, "<example>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(running())
    if not asynchronous:
        real["kit"].close()


def examples(analysis: Analysis) -> Iterator[tuple[str, Category, str]]:
    seen = set()
    for verdict in analysis.verdicts:
        for category in set(Category) - {Category.MISCONFIG}:
            code = finding_of(as_category(verdict, category), analysis).replacement
            if code not in seen:
                seen.add(code)
                yield verdict.state.name, category, code


def is_asynchronous(code: str) -> bool:
    return any(isinstance(node, ast.Await | ast.AsyncWith) for node in ast.walk(ast.parse(code)))


def test_examples_are_python_of_a_few_lines_in_the_projects_names(analysis: Analysis) -> None:
    for name, category, code in examples(analysis):
        ast.parse(code)
        assert len(code.splitlines()) <= 5, (name, category)
        assert max(map(len, code.splitlines())) <= 140, (name, category)


@pytest.mark.parametrize("category", [one for one in Category if one is not Category.MISCONFIG])
def test_examples_run(analysis: Analysis, category: Category) -> None:
    ran = 0
    for name, of, code in examples(analysis):
        if of is category and name in NAMED:
            try:
                run(code, asynchronous=is_asynchronous(code))
            except Exception as error:
                raise AssertionError(f"{name} as {category}:\n{code}") from error
            ran += 1
    assert ran >= 3


NAMED = {
    "HITS", "SESSIONS", "otp_codes", "chat_history", "rooms", "CONFIG", "THEME", "MAINTENANCE", "FLAGS", "billing", "engine",
    "cache_server", "bot", "EXPORT", "SLOTS", "pool", "scheduler", "jobs", "order_numbers", "visits", "running", "class_",
    "limiter", "load_user", "client_for", "inner", "last_switch", "seen", "create_task",
}  # fmt: skip


def test_the_after_of_each_category_runs() -> None:
    """What docs/audit-rules.md recommends exists."""
    for rule in rules().values():
        if rule.language == "python":
            ast.parse(rule.before)
            ast.parse(rule.after)
    for category in ("rate_limiter", "flag_cache", "session_store", "lock", "tenant_config"):
        code = next(one.after for one in rules().values() if one.category == category)
        run(code, asynchronous=False)


# -- spelling --------------------------------------------------------------------------------------------------


@given(st.text())
def test_any_text_is_fit_for_a_sentence(text: str) -> None:
    found = shown(text)
    assert "`" not in found
    assert "\n" not in found
    assert len(found) <= 60


@given(st.text())
def test_any_name_becomes_an_identifier(text: str) -> None:
    found = plain(text)
    assert found.isidentifier()
    ast.parse(f"{found} = 1")


@pytest.mark.parametrize(
    ("chain", "spelt"),
    [
        ("request.client.host", "request.client.host"),
        ("outer.inner::key", "key"),
        ("str()", "str(...)"),
        ("request.form[]", "request.form[...]"),
        ("__import__('os').system('x')", ""),
        ("x\ny", ""),
        ("'text'", "'text'"),
        ("", ""),
    ],
)
def test_a_chain_is_repeated_only_where_it_is_plain(chain: str, spelt: str) -> None:
    assert expression(chain) == spelt


def test_hostile_routes_and_keys_stay_on_their_line() -> None:
    source = dedent(
        """
        X = {}
        @app.get("/a\\n::error::`<script>alert(1)</script>")
        def view(key):
            X[key] = 1
            X.pop(key)
        """
    )
    analysis = Analysis([read("a.py", source.encode())])
    found = told(analysis, "X", Category.SESSION_STORE)
    assert "\n" not in found.why
    assert found.why.count("`") % 2 == 0
    assert "\n" not in found.writes[0].route


def test_a_nature_has_words() -> None:
    from statekit.audit.advice import sentences

    assert {Nature.CLIENT, Nature.EXECUTOR, Nature.LOCK} <= set(sentences._KINDS)
