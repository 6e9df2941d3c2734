"""`statekit.guard`: what requests really changed, told without running a line of the app's code to look."""

from __future__ import annotations

import asyncio
import collections
import functools
import importlib
import inspect
import itertools
import json
import re
import subprocess
import sys
import textwrap
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

import statekit
from statekit.audit.guard.named import Named
from statekit.audit.guard.places import found
from statekit.audit.guard.prints import Printer, difference
from statekit.audit.guard.workers import configured_workers
from statekit.errors import StateNotShared, UsageError


@pytest.fixture
def module():
    """A module of an app, as if it had been imported."""
    made = types.ModuleType("guarded_shop")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def printed(value):
    return Printer().of(value)


def changed(value, change):
    before = printed(value)
    change(value)
    return difference(before, printed(value))


# -- fingerprints ------------------------------------------------------------------------------------------


class Room:
    def __init__(self):
        self.members, self.topic = {}, "tea"


class Slotted:
    __slots__ = ("count", "never")

    def __init__(self):
        self.count = 0


class Extended(Room):
    __slots__ = ("count",)

    def __init__(self):
        super().__init__()
        self.count = 0


class Hostile:
    """Whatever is asked of it, it has an effect."""

    calls = 0

    def trap(self, *_):
        type(self).calls += 1
        raise AssertionError("the app's code was run")

    __hash__ = __eq__ = __repr__ = __str__ = __len__ = __iter__ = __bool__ = __getattr__ = (
        __getattribute__
    ) = trap
    members = __class__ = property(trap)


class HostileDict(dict):
    calls = 0

    def trap(self, *_):
        type(self).calls += 1
        raise AssertionError("the app's code was run")

    __len__ = __iter__ = __getitem__ = __contains__ = __eq__ = __repr__ = items = keys = values = get = trap


@pytest.mark.parametrize(
    ("value", "change", "kind", "where"),
    [
        ({}, lambda v: v.update(a=1), "added", "['a']"),
        ({"a": 1}, lambda v: v.clear(), "removed", "['a']"),
        ({"a": 1}, lambda v: v.update(a=2), "replaced", "['a'] 1 -> 2"),
        ({"a": [1]}, lambda v: v["a"].append(2), "added", "['a']"),
        ({"a": {"b": {"c": {}}}}, lambda v: v["a"]["b"]["c"].update(d=1), "replaced", "['a']"),
        ([1], lambda v: v.append(2), "added", "[1]"),
        (collections.deque([1, 2]), lambda v: v.popleft(), "removed", "[1]"),
        ({1, 2}, lambda v: v.discard(1), "removed", "[1]"),
        (collections.defaultdict(list), lambda v: v["k"], "added", "['k']"),
        (collections.OrderedDict(a=1), lambda v: v.update(b=1), "added", "['b']"),
        (Room(), lambda v: v.members.update(ann=1), "added", ".members['ann']"),
        (Room(), lambda v: setattr(v, "topic", "x"), "replaced", ".topic"),
        (Slotted(), lambda v: setattr(v, "count", 5), "replaced", ".count 0 -> 5"),
        (Extended(), lambda v: setattr(v, "count", 5), "replaced", ".count 0 -> 5"),
        (Extended(), lambda v: v.members.update(ann=1), "added", ".members['ann']"),
        (bytearray(b"a"), lambda v: v.append(1), "added", ""),
        (itertools.count(), next, "replaced", ""),
        (threading.Lock(), lambda v: v.acquire(), "replaced", ""),
        (threading.RLock(), lambda v: v.acquire(), "replaced", ""),
        ({"0123456789abcdef": 1}, lambda v: v.update({"0123456789abcdef": 2}), "replaced", "['01234567…'] 1 -> 2"),
    ],
)  # fmt: skip
def test_what_changed_and_where(value, change, kind, where):
    told = changed(value, change)
    assert told.kind == kind
    if kind != "added" or where:
        assert told.where.startswith(where)


def test_a_cache_is_told_by_its_own_count():
    @functools.lru_cache
    def price(item):
        return item

    assert changed(price, lambda cache: cache(1)).kind == "added"
    assert changed(price, lambda cache: cache(1)) is None
    assert changed(price, lambda cache: cache.cache_clear()).kind == "removed"


def test_what_did_not_change_is_the_same():
    lru = collections.OrderedDict(a=1, b=2)
    assert changed(lru, lambda v: v.move_to_end("a")) is None
    assert changed({"a": float("1.5"), "b": "x" * 5000}, lambda _: None) is None
    assert changed(Room(), lambda v: v.members.get("ann")) is None


def test_no_code_of_the_app_is_run():
    hostile, mapping = Hostile(), HostileDict()
    dict.__setitem__(mapping, "h", hostile)
    values = {"h": hostile, "d": mapping, "list": [hostile], "key": {id: hostile}}
    assert changed(values, lambda v: dict.__setitem__(mapping, "i", 1)).where == "['d']"
    assert Hostile.calls == HostileDict.calls == 0


def test_a_key_with_a_hash_of_its_own_is_not_asked_for_it():
    class Key:
        asked = 0

        def __hash__(self):
            Key.asked += 1
            return 1

        __eq__ = object.__eq__

    table = {Key(): 1}
    before, Key.asked = printed(table), 0
    table_print = printed(table)
    assert Key.asked == 0
    assert difference(before, table_print) is None


def test_looks_are_bounded_however_large_the_state():
    nested = {n: {m: [object()] * 50 for m in range(200)} for n in range(500)}
    endless = []
    endless.append(endless)
    for value in (
        nested,
        endless,
        list(range(1_000_000)),
        dict.fromkeys(range(1_000_000)),
        {"x" * 5_000_000: 1},
    ):
        started = perf_counter()
        printed(value)
        assert perf_counter() - started < 0.2  # milliseconds; a loaded machine is given more
    assert not printed(nested).whole
    large = dict.fromkeys(range(100_000))
    assert changed(large, lambda v: v.update(new=1)).kind == "added"
    assert any(
        difference(before, Printer(turn=turn).of(large))
        for turn in range(400)
        for before in [Printer(turn=turn).of(large)]
        if large.update({5_000: object()}) is None
    )


# -- finding the state --------------------------------------------------------------------------------------


def look_up(name, *apps):
    places = found([Named(name)], apps)
    return places[name](Printer()) if places else None


def test_every_kind_of_place(module):
    source = """
    import functools
    HITS = {}
    class Cache:
        shared = {}
        def __init__(self):
            self.rooms = {"a": 1}
        @classmethod
        @functools.lru_cache
        def price(cls): return 1
        @staticmethod
        @functools.lru_cache
        def tax(x): return x
    hold = [Cache()]
    def memo(f):
        table = {}
        def inner(x): return table.setdefault(x, f(x))
        return inner
    @memo
    def slow(x): return x
    def create():
        seen = []
        def view(): return seen
        return view
    view = create()
    class App: pass
    app = App()
    app.state = App()
    app.state._state = {"users": {}}
    app.config = {"PLAN": "free"}
    """
    exec(textwrap.dedent(source), vars(module))
    for cls in (module.Cache, module.App):
        cls.__module__ = module.__name__
    for path, change in {
        "HITS": lambda: module.HITS.update(a=1),
        "Cache.shared": lambda: module.Cache.shared.update(a=1),
        "Cache.tax": lambda: module.Cache.tax(1),
        "Cache.rooms": lambda: module.hold[0].rooms.update(b=1),
        "slow": lambda: module.slow(3),
        "create.seen": lambda: module.view().append(1),
        "users": lambda: module.app.state._state["users"].update(a=1),
        "PLAN": lambda: module.app.config.update(PLAN="pro"),
    }.items():
        name = f"guarded_shop.{path}"
        before = look_up(name)
        change()
        assert difference(before, look_up(name)), path
    module.Cache.proxy = module.proxy = Hostile()
    assert look_up("guarded_shop.proxy.anything") is None
    assert look_up("guarded_shop.proxy")
    assert Hostile.calls == 0
    before = look_up("src.backend.guarded_shop.HITS")
    module.HITS = {"b": 1}
    assert difference(before, look_up("src.backend.guarded_shop.HITS"))


def test_nothing_is_imported_to_look_at_it(module, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)  # others may have used it
    assert look_up("colorsys.ONE_THIRD") is None
    assert "this" not in sys.modules
    assert look_up("this.s") is None
    assert "this" not in sys.modules
    assert look_up("guarded_shop.nothing") is None


# -- around requests ------------------------------------------------------------------------------------------


def flask_app(module):
    app = Flask("guarded")
    module.HITS, module.FLAGS, module.PLANS = {}, {"new": False}, {"free": 1}

    @app.post("/login/<user>")
    def login(user):
        module.HITS[user] = module.HITS.get(user, 0) + 1
        return {}

    @app.get("/flags")
    def flags():
        return dict(module.FLAGS)

    @app.post("/fails")
    def fails():
        module.FLAGS["new"] = True
        raise RuntimeError

    return app


NAMES = ["guarded_shop.HITS", "guarded_shop.FLAGS", "guarded_shop.PLANS", "guarded_shop.GONE"]


def test_what_a_request_changed_is_told_by_route(module):
    app = flask_app(module)
    told = []
    app.wsgi_app = guard = statekit.guard(app.wsgi_app, NAMES, on_change=told.append, budget=0.5)
    client = app.test_client()
    for user in ("ann", "bob", "ann"):
        client.post(f"/login/{user}", buffered=True)
        client.get("/flags", buffered=True)
    report = guard.report()
    assert report.requests == 6
    assert {(c.state, c.request, c.kind, c.count) for c in report.changes} == {
        ("guarded_shop.HITS", "POST /login/<user>", "added", 2),
        ("guarded_shop.HITS", "POST /login/<user>", "replaced", 1),
    }
    assert [c.example for c in report.changes] == ["['ann']", "['ann'] 1 -> 2"]
    assert report.confirmed == ("guarded_shop.HITS",)
    assert report.unchanged == ("guarded_shop.FLAGS", "guarded_shop.PLANS")
    assert report.not_found == ("guarded_shop.GONE",)
    assert [c.kind for c in told] == ["added", "added", "replaced"]
    assert "POST /login/<user>" in report.text()
    assert json.loads(json.dumps(report.as_json()))["requests"] == 6


def test_a_request_that_fails_is_looked_at_too(module):
    app = flask_app(module)
    app.testing = True
    app.wsgi_app = guard = statekit.guard(app.wsgi_app, NAMES, budget=0.5)
    with pytest.raises(RuntimeError):
        app.test_client().post("/fails", buffered=True)
    assert guard.report().confirmed == ("guarded_shop.FLAGS",)


def test_a_class_may_be_the_app(module):
    class Answer:
        def __init__(self, environ, start_response):
            module.HITS[environ["PATH_INFO"]] = 1

        def __iter__(self):
            return iter([b"ok"])

    module.HITS = {}
    guard = statekit.guard(Answer, NAMES, budget=0.5)
    guard({"PATH_INFO": "/ann"}, None).close()
    assert guard.report().confirmed == ("guarded_shop.HITS",)


def test_a_callback_that_fails_fails_nobody(module):
    app = flask_app(module)
    app.wsgi_app = statekit.guard(app.wsgi_app, NAMES, on_change=lambda _: 1 / 0, budget=0.5)
    assert app.test_client().post("/login/ann", buffered=True).status_code == 200


def test_what_changes_between_requests_is_no_requests(module):
    app = flask_app(module)
    app.wsgi_app = guard = statekit.guard(app.wsgi_app, NAMES, budget=0.5)
    client = app.test_client()
    for n in range(20):  # the same second on both sides, at least once
        client.get("/flags", buffered=True)
        module.FLAGS[str(n)] = True
    client.get("/flags", buffered=True)
    (change,) = guard.report().changes
    assert change.request == "(between requests)"
    assert guard.report().confirmed == ()


def test_overlapping_requests_share_what_they_may_have_done(module):
    app = Flask("guarded")
    module.HITS = {}
    inside, leave = threading.Barrier(3), threading.Event()

    @app.get("/wait")
    def wait():
        inside.wait(10)
        leave.wait(10)
        return {}

    @app.get("/hit")
    def hit():
        inside.wait(10)
        module.HITS["a"] = 1
        leave.set()
        return {}

    app.wsgi_app = guard = statekit.guard(app.wsgi_app, NAMES[:1], budget=0.5)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda path: app.test_client().get(path, buffered=True), ["/wait", "/wait", "/hit"]))
    changes = {c.request: c for c in guard.report().changes}
    assert set(changes) == {"GET /wait", "GET /hit"}
    assert changes["GET /hit"].shared == 1
    assert changes["GET /hit"].among == 3
    assert changes["GET /wait"].count == 2
    assert "shared among up to 3 requests" in guard.report().text()


def test_a_streamed_answer_ends_when_it_is_closed(module):
    module.HITS = {}

    def app(_environ, start_response):
        start_response("200 OK", [])

        def body():
            yield b"a"
            module.HITS["late"] = 1
            yield b"b"

        return body()

    guard = statekit.guard(app, NAMES[:1], budget=0.5)
    answer = guard({"PATH_INFO": "/things/8123/0123456789abcdef"}, lambda *_: None)
    assert b"".join(answer) == b"ab"
    assert guard.report().requests == 0
    answer.close()
    answer.close()
    assert guard.report().requests == 1
    assert guard.report().changes[0].request == "GET /things/{…}/{…}"


async def played(app, scope, *messages):
    """Call an app as a server does, with what a client would send."""
    waiting = iter(messages)

    async def receive():
        return next(waiting)

    async def send(_message):
        await asyncio.sleep(0)

    await app({"headers": [], "query_string": b"", "root_path": "", **scope}, receive, send)


def test_asgi_and_a_connection_that_stays(module):
    module.HITS, module.ROOMS = {}, {}

    async def item(request):
        module.HITS[request.path_params["sku"]] = 1
        request.app.state.users["ann"] = 1
        return PlainTextResponse("ok")

    async def room(socket):
        await socket.accept()
        module.ROOMS[id(socket)] = socket
        assert await socket.receive_text() == "bye"
        del module.ROOMS[id(socket)]
        await socket.close()

    app = Starlette(routes=[Route("/items/{sku}", item), WebSocketRoute("/room", room)])
    told, app.state.users = [], {}
    names = ["guarded_shop.HITS", "guarded_shop.ROOMS", "guarded_shop.users"]
    app.add_middleware(statekit.guard, findings=names, on_change=told.append, budget=0.5)
    asyncio.run(
        played(app, {"type": "http", "method": "GET", "path": "/items/tea"}, {"type": "http.request"})
    )
    talk = {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "bye"}
    asyncio.run(played(app, {"type": "websocket", "path": "/room"}, *talk))
    assert [(c.state[13:], c.request, c.kind) for c in told] == [
        ("HITS", "GET /items/{sku}", "added"),
        ("users", "GET /items/{sku}", "added"),
        ("ROOMS", "WEBSOCKET /room", "added"),
        ("ROOMS", "WEBSOCKET /room", "removed"),
    ]
    assert asyncio.iscoroutinefunction(type(statekit.guard(app, NAMES)).__call__)


def test_the_budget_holds_and_says_so(module):
    for n in range(40):
        setattr(module, f"T{n}", {key: [key] * 20 for key in range(60)})
    guard = statekit.guard(lambda *_: [], [f"guarded_shop.T{n}" for n in range(40)], budget=0.002)
    for n in range(400):
        module.T7["k"] = n
        guard({}, None).close()
    report = guard.report()
    assert (
        report.overhead.mean_ms < 8
    )  # the budget and a loaded machine; all forty would take 20 times as long
    assert 0 < report.overhead.share < 0.9
    assert "took turns" in report.text()
    assert not report.not_found
    assert min(one.looks for one in report.states) > 0


# -- findings, refusal, the file ----------------------------------------------------------------------------


def finding(**other):
    return {
        "rule": "SK101", "category": "rate_limiter", "confidence": "high", "severity": "error", "path": "guarded_shop.py",
        "line": 1, "name": "HITS", "qualified_name": "guarded_shop.HITS", "writes": [], "why": "", "replacement": "",
        **other,
    }  # fmt: skip


@pytest.fixture
def audited(tmp_path):
    path = tmp_path / "audit.json"
    findings = [finding(), finding(qualified_name="x.CACHES", category="misconfig")]
    path.write_text(json.dumps({"version": 1, "findings": findings, "unparsed": []}))
    return path


def test_findings_of_a_file(module, audited):
    app = flask_app(module)
    app.wsgi_app = guard = statekit.guard(app.wsgi_app, str(audited), budget=0.5)
    app.test_client().post("/login/ann", buffered=True)
    (state,) = guard.report().states
    assert (state.state, state.rule, state.verdict) == ("guarded_shop.HITS", "SK101", "confirmed")


@pytest.mark.parametrize("text", ["", "[]", '{"findings": 7}', None])
def test_findings_that_cannot_be_read_are_said(tmp_path, text):
    path = tmp_path / "audit.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"audit\.json"):
        statekit.guard(lambda *_: [], path)


def test_no_app_and_no_budget_are_refused():
    with pytest.raises(UsageError, match="cannot be called"):
        statekit.guard({}, [])
    with pytest.raises(UsageError, match="budget=0"):
        statekit.guard(lambda *_: [], [], budget=0)


def test_it_refuses_to_start_with_several_workers_and_open_errors(monkeypatch, audited):
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with pytest.raises(StateNotShared, match=r"4 workers .*WEB_CONCURRENCY.*guarded_shop\.HITS"):
        statekit.guard(lambda *_: [], audited, refuse=True)
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    statekit.guard(lambda *_: [], audited, refuse=True)


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, ["/bin/gunicorn", "-w", "3", "a:b"], 3),
        ({}, ["/bin/gunicorn", "-w3"], 3),
        ({}, ["/x/uvicorn/__main__.py", "a:b", "--workers=5"], 5),
        ({}, ["manage.py", "--workers", "9"], 1),
        ({"GUNICORN_CMD_ARGS": "--workers 6 --threads 2"}, ["gunicorn"], 6),
        ({"WEB_CONCURRENCY": "2"}, ["x"], 2),
        ({"WEB_CONCURRENCY": "many"}, ["x"], 1),
        ({}, [], 1),
    ],
)
def test_how_many_workers(environment, arguments, expected):
    assert configured_workers(environment, arguments)[0] == expected


APP = """
import statekit
HITS = {}
def inner(environ, start_response):
    HITS[len(HITS)] = 1
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
app = statekit.guard(inner, ["app.HITS"], write="guard-{pid}.json")
"""


def test_the_report_is_written_at_exit(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    code = "import app, os; [app.app({}, lambda *_: None).close() for _ in range(3)]; print(os.getpid())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    report = json.loads((tmp_path / f"guard-{done.stdout.strip()}.json").read_text())
    assert report["requests"] == 3
    assert report["states"][0]["verdict"] == "confirmed"


REFUSING = APP.replace('write="guard-{pid}.json"', "refuse=True").replace('["app.HITS"]', '"audit.json"')


def test_gunicorn_is_asked_itself(tmp_path, audited):
    (tmp_path / "app.py").write_text(REFUSING)
    (tmp_path / "gunicorn.conf.py").write_text(
        "workers = 3\nbind = 'unix:g.sock'\ncontrol_socket_disable = True\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "app:app"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "3 workers are configured (gunicorn)" in done.stderr


PROJECT = """
HITS = {}

def create_app():
    from flask import Flask

    app = Flask(__name__)

    @app.post("/login/<user>")
    def login(user):
        HITS[user] = HITS.get(user, 0) + 1
        return {"hits": HITS[user]}

    return app
"""


def test_a_project_is_audited_here_and_now(tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "audited_shop.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = importlib.import_module("audited_shop").create_app()
    app.wsgi_app = guard = statekit.guard(app.wsgi_app, tmp_path, budget=0.5)
    app.test_client().post("/login/ann", buffered=True)
    (state,) = guard.report().states
    assert (state.state.rpartition(".")[2], state.verdict) == ("HITS", "confirmed")
    del sys.modules["audited_shop"]


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, audited):
    page = (Path(__file__).parents[2] / "docs" / "guard.md").read_text(encoding="utf-8")
    monkeypatch.chdir(audited.parent)
    names = {"app": lambda *_: [], "flask_app": Flask("shop"), "starlette_app": Starlette()}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(block, names)
    assert names["flask_app"].wsgi_app.report().requests == 0
    for parameter in list(inspect.signature(statekit.guard).parameters)[1:]:
        assert f"| `{parameter}` |" in page


def test_a_connection_that_waits_is_blamed_for_nothing(module):
    module.HITS = {}

    async def app(scope, receive, _send):
        await receive()
        module.HITS[scope["path"]] = 1

    guard = statekit.guard(app, NAMES[:1], budget=0.5)

    async def both():
        quiet = asyncio.Event()

        async def waiting():
            await quiet.wait()
            return {"type": "websocket.disconnect"}

        socket = asyncio.create_task(guard({"type": "websocket", "path": "/room"}, waiting, None))
        await asyncio.sleep(0)
        await played(guard, {"type": "http", "method": "GET", "path": "/hit"}, {"type": "http.request"})
        quiet.set()
        await socket

    asyncio.run(both())
    assert {(c.request, c.count, c.shared) for c in guard.report().changes} == {
        ("GET /hit", 1, 0),
        ("WEBSOCKET /room", 1, 0),
    }
