"""Values put into a session that only this process can keep: objects, functions, open files, locks, rows.

What a session holds should survive being written as JSON. A value whose kind cannot be told is left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from statekit.audit.deploy.found import Hit, Place
from statekit.audit.deploy.gate import SESSION_TARGET
from statekit.audit.deploy.ground import Ground
from statekit.audit.deploy.look import Module, Setting, callee_of
from statekit.audit.model import Confidence, Severity
from statekit.audit.reading.chains import spell

__all__ = ["session_hits"]

FLASK = {"flask.session", "quart.session"}
ROWS = re.compile(
    r"\.(first|one|one_or_none|first_or_404|get_or_404|scalar_one|scalar_one_or_none|all|scalars)$"
)
QUERY = re.compile(r"\b(query|objects|execute|filter|filter_by|select|scalars|find)\b")
LOOKUPS = re.compile(
    r"\.(objects|query)(\.\w+\(\))*\.(get|latest|earliest|last|filter|create|get_or_create|order_by|exclude|filter_by)$|(^|\.)(get_object_or_404|get_list_or_404|find_one)$"
)
JSON_BASES = {
    "str",
    "int",
    "float",
    "dict",
    "list",
    "StrEnum",
    "IntEnum",
    "TypedDict",
    "tuple",
    "NamedTuple",
    "OrderedDict",
    "defaultdict",
    "UserDict",
}
STEPS = 3


class Odd(NamedTuple):
    """What is odd about a value."""

    what: str
    confidence: Confidence
    code: str = ""
    """What to write instead, `{key}` for the session's key."""


_OPEN = Odd("an open file", Confidence.HIGH, 'session["{key}_path"] = str(path)')
_LOCK = Odd("a lock", Confidence.HIGH, 'kit.in_flight("{key}", 1).hold(session.id)')
_ALIVE = Odd("something alive in this process", Confidence.HIGH, 'session["{key}_id"] = job_id')
_CLIENT = Odd(
    "a client with a connection",
    Confidence.HIGH,
    "kit.pools  # and only what identifies the account in the session",
)
_FRAME = Odd(
    "a table of numbers",
    Confidence.HIGH,
    'session["{key}_path"] = path  # and the table in a file or an object store',
)
_SET = Odd("a set", Confidence.HIGH, 'session["{key}"] = sorted(values)')
_BYTES = Odd("bytes", Confidence.MEDIUM, 'session["{key}"] = base64.b64encode(data).decode()')
_TIME = Odd("a date or time", Confidence.MEDIUM, 'session["{key}"] = moment.isoformat()')
_NUMBER = Odd("a Decimal", Confidence.HIGH, 'session["{key}"] = str(amount)')
_UUID = Odd("a UUID", Confidence.MEDIUM, 'session["{key}"] = str(value)')
_FUNCTION = Odd("a function", Confidence.HIGH, 'session["{key}"] = "the name of what to call"')
_ROW = Odd(
    "a row of the database, as it was when it was read",
    Confidence.HIGH,
    'session["{key}_id"] = row.id  # session.hydrate("{key}_id", load)',
)

CONSTRUCTORS: dict[str, Odd] = {
    **dict.fromkeys(("open", "io.open", "io.BytesIO", "io.StringIO", "BytesIO", "StringIO", "tempfile.NamedTemporaryFile", "tempfile.TemporaryFile", "NamedTemporaryFile"), _OPEN),
    **dict.fromkeys(("threading.Lock", "threading.RLock", "threading.Semaphore", "asyncio.Lock", "multiprocessing.Lock", "threading.Event", "threading.Condition"), _LOCK),
    **dict.fromkeys(("threading.Thread", "asyncio.create_task", "subprocess.Popen", "concurrent.futures.ThreadPoolExecutor", "queue.Queue", "asyncio.Queue", "multiprocessing.Process", "threading.Timer"), _ALIVE),
    **dict.fromkeys(("requests.Session", "requests.session", "httpx.Client", "httpx.AsyncClient", "sqlite3.connect", "psycopg2.connect", "psycopg.connect", "redis.Redis", "redis.from_url", "sqlalchemy.create_engine", "aiohttp.ClientSession", "boto3.client", "boto3.resource", "paramiko.SSHClient"), _CLIENT),
    **dict.fromkeys(("pandas.DataFrame", "pandas.read_csv", "pandas.read_excel", "pandas.read_sql", "pandas.Series", "pandas.read_json", "pandas.read_parquet", "numpy.array", "numpy.zeros", "polars.DataFrame", "polars.read_csv"), _FRAME),
    **dict.fromkeys(("set", "frozenset"), _SET),
    **dict.fromkeys(("bytes", "bytearray", "memoryview", "pickle.dumps", "os.urandom", "secrets.token_bytes"), _BYTES),
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today", "datetime.timedelta", "datetime.datetime", "datetime.date", "datetime.datetime.fromtimestamp", "datetime.datetime.strptime", "django.utils.timezone.now", "django.utils.timezone.localtime"), _TIME),
    **dict.fromkeys(("decimal.Decimal", "fractions.Fraction", "complex"), _NUMBER),
    **dict.fromkeys(("uuid.uuid4", "uuid.uuid1", "uuid.UUID"), _UUID),
    **dict.fromkeys(("functools.partial", "types.SimpleNamespace"), _FUNCTION),
}  # fmt: skip
TAGGED = {_TIME, _BYTES, _UUID}
"""What Flask's own cookie carries all the same."""


class Put(NamedTuple):
    """Something put into a session."""

    key: str
    value: ast.expr
    line: int
    setting: Setting


def session_hits(ground: Ground) -> Iterator[Hit]:
    """Every value a session should not hold."""
    for module in ground.modules:
        if "session" in module.text:
            for put in _puts(module):
                odd = _Look(ground, module, put.setting).odd(put.value)
                if odd:
                    yield _hit(module, put, odd)


def _puts(module: Module) -> Iterator[Put]:
    for one in module.settings:
        if one.form == "item" and _is_session(module, one):
            yield Put(one.name, one.value, one.line, one)
    for call in module.calls:
        base, _, last = call.spelt.rpartition(".")
        literal = call.node.args[0] if last == "update" and base and call.node.args else None
        if isinstance(literal, ast.Dict):
            about = Setting("", base, "item", call.node, call.line, call.owner, call.local, call.under)
            yield from _updated(literal, about) if _is_session(module, about) else ()


def _updated(literal: ast.Dict, about: Setting) -> Iterator[Put]:
    """``session.update({"user": …})``."""
    for key, value in zip(literal.keys, literal.values, strict=True):
        if isinstance(key, ast.Constant):
            yield Put(str(key.value), value, key.lineno, about)


def _is_session(module: Module, one: Setting) -> bool:
    if one.base != "session":
        return bool(SESSION_TARGET.search(one.base)) and "." in one.base
    given = [it.value for it in _assigned(module, "session", one)]
    if _is_flask(module):
        return all(map(spell, given))
    made = bool(given) and "get_session" in ast.unparse(given[-1])
    return made or any(SESSION_TARGET.search(spell(it) or "") for it in given)  # session = request.session


def _is_flask(module: Module) -> bool:
    return module.facts.imports.get("session") in FLASK


def _assigned(module: Module, name: str, one: Setting) -> list[Setting]:
    """What a local variable is given before a line, in the same function."""
    return [
        it for it in module.settings
        if it.name == name and it.form == "name" and it.owner == one.owner and it.line <= one.line and it.local
    ]  # fmt: skip


class _Look:
    """What kind of thing an expression is, in one function of one module."""

    def __init__(self, ground: Ground, module: Module, at: Setting) -> None:
        self.ground = ground
        self.module = module
        self.at = at

    def odd(self, node: ast.expr, steps: int = STEPS) -> Odd | None:
        turn = _TURNS.get(type(node))
        found: Odd | None = getattr(self, turn)(node, steps) if turn and steps else None
        return found

    def _lambda(self, _node: ast.Lambda, _steps: int) -> Odd:
        return _FUNCTION

    def _set(self, _node: ast.expr, _steps: int) -> Odd:
        return _SET

    def _constant(self, node: ast.Constant, _steps: int) -> Odd | None:
        return _BYTES if isinstance(node.value, bytes) else None

    def _several(self, node: ast.expr, steps: int) -> Odd | None:
        return next(filter(None, (self.odd(one, steps - 1) for one in _inside(node))), None)

    def _name(self, node: ast.Name, steps: int) -> Odd | None:
        given = _assigned(self.module, node.id, self.at)
        if len({ast.dump(one.value) for one in given}) == 1:
            return self.odd(given[0].value, steps - 1)
        return None

    def _call(self, node: ast.Call, _steps: int) -> Odd | None:
        spelt = callee_of(node)
        dotted = self.module.dotted(spelt)
        known = CONSTRUCTORS.get(dotted) or (CONSTRUCTORS.get(spelt) if "." not in dotted else None)
        if known:
            return known
        if LOOKUPS.search(spelt) or (ROWS.search(spelt) and QUERY.search(spelt)):
            return None if ".values" in spelt or ".count" in spelt else _ROW
        return self._object(dotted)

    def _object(self, dotted: str) -> Odd | None:
        """An object of one of the project's own classes."""
        last = dotted.rpartition(".")[2]
        if not last[:1].isupper() or dotted.startswith(("self.", "cls.")):
            return None
        bases = self._bases(last, dotted)
        if bases is None or {base.rpartition(".")[2] for base in bases} & JSON_BASES:
            return None
        code = f'session["{{key}}_id"] = {last.lower()}.id  # session.hydrate("{{key}}_id", load) gives it once a request'
        return Odd(f"an object of `{last}`", Confidence.HIGH, code)

    def _bases(self, last: str, dotted: str) -> tuple[str, ...] | None:
        """What one of the project's own classes builds on; None where it is none."""
        for facts in self.ground.files if last in self.ground.class_names else []:
            for one in facts.classes:
                if one.name == last and (facts.path == self.module.path or "." in dotted):
                    return one.bases
        return None


def _inside(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Dict | ast.BoolOp):
        return node.values
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.ListComp):
        return [node.elt]
    return [node.value] if isinstance(node, ast.Await | ast.NamedExpr) else []


_TURNS: dict[type[ast.expr], str] = {
    ast.Lambda: "_lambda",
    ast.Set: "_set",
    ast.SetComp: "_set",
    ast.Constant: "_constant",
    ast.Name: "_name",
    ast.Call: "_call",
    **dict.fromkeys(
        (ast.Dict, ast.List, ast.Tuple, ast.IfExp, ast.BoolOp, ast.Await, ast.NamedExpr, ast.ListComp),
        "_several",
    ),
}


def _hit(module: Module, put: Put, odd: Odd) -> Hit:
    light = _is_flask(module) and odd in TAGGED
    spelt = f"{put.setting.base}[{put.key!r}]"
    why = f"`{spelt}` is given {odd.what}: a session that leaves the process is written as text, and comes back as something else or not at all"
    return Hit(
        "SK560",
        Place(module.path, put.line, put.key, put.setting.owner),
        why,
        (odd.code or 'session["{key}_id"] = value.id').replace("{key}", put.key),
        Confidence.LOW if light else odd.confidence,
        severity=Severity.NOTE if light else Severity.WARNING if odd in TAGGED else None,
        evidence=(f"{odd.what}, at the write",),
    )
