"""What the audit says of a project does not depend on the process that reads a file, on a hash, or on an address."""

from __future__ import annotations

import ast
import marshal
import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

import statekit
from statekit.audit.catalogue import Catalogue
from statekit.audit.engine import Analysis
from statekit.audit.portions import Portions, Record, Shared, found_in
from statekit.audit.project import Project
from statekit.audit.reading import read
from statekit.audit.reading.chains import BUILTINS, parts_of
from statekit.audit.reading.looks import unparsed

HINTS = (
    "int", "None", "'Later'", '"it\'s"', "''", "int | None", "'A' | None", "a.B", "list[int] | None", "A | B | 'C'", "A | (B | C)", "...", "True",
    "u'x' | None", "b'x'", "-1", "Callable[[int], str] | None", " | ".join(["a" * 50] * 4), repr("x" * 200),
)  # fmt: skip
CHAINS = ("a", "a.b.c", "a.b[].c()", "outer.inner::a.b", "a[].b", "a().b", "f::a[]")
EQUALLY_NEAR = b"""
from flask import Flask
app = Flask(__name__)
seen = {}
def note(key):
    seen[key] = 1
""" + b"".join(b"@app.route('/%d')\ndef page_%d():\n    note(%d)\n" % (n, n, n) for n in range(30))


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_is_written_as_python_would(hint: str) -> None:
    node = ast.parse(hint, mode="eval").body
    assert unparsed(node) == ast.unparse(node)[:120]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_what_its_parts_are(chain: str) -> None:
    assert "".join(parts_of(chain)) == chain


def test_an_interpreter_without_site_knows_the_same_builtins() -> None:
    home = Path(statekit.__file__).parent.parent
    asked = f"import sys; sys.path.insert(0, {str(home)!r}); from statekit.audit.reading.chains import BUILTINS; print(*BUILTINS)"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", asked], capture_output=True, text=True, check=True
    )
    assert set(said.stdout.split()) == BUILTINS & set(said.stdout.split()) >= {"exit", "quit", "len"}


def test_of_ways_that_are_equally_short_the_first_is_told() -> None:
    analysis = Analysis([read("app.py", EQUALLY_NEAR)])
    note = analysis.project.by_path["app.py"].functions["note"]
    nearest = analysis.reach.handler_of(note)
    assert nearest is not None
    assert nearest.name == "page_0"


class First(Portions):
    """One who ends early."""

    def left(self):
        return islice(super().left(), 20)


@pytest.mark.parametrize("dies", [False, True])
def test_links_are_the_same_whoever_finds_them(dies: bool) -> None:
    """A fork that took some portions, whether it told what it found or not."""
    home = Path(statekit.__file__).parent.parent
    files = [read(str(one.relative_to(home)), one.read_bytes()) for one in home.glob("demo_app/**/*.py")]
    with closing(First()) as portions:
        found = marshal.dumps(found_in(portions, files, Catalogue()))
        portions.left = super(First, portions).left

        def theirs() -> dict[int, Record]:
            return {} if dies else marshal.loads(found)

        shared, alone = Analysis(files, None, Shared(portions, theirs)).reach, Analysis(files).reach
    assert len(marshal.loads(found)) == 20
    for part in ("handlers", "starters", "edges", "runtime", "startup", "command", "early"):
        assert list(map(repr, getattr(shared, part))) == list(map(repr, getattr(alone, part))), part
    assert {*map(str, shared.registered)} == {*map(str, alone.registered)}
    assert [*map(str, shared.edges.values())] == [*map(str, alone.edges.values())]


@pytest.mark.parametrize(
    ("path", "dotted"),
    [
        ("app/views.py", ("app", "views")),
        ("app/__init__.py", ("app",)),
        ("__init__.py", ()),
        ("a.b/c.d.py", ("a.b", "c.d")),
        ("script", ("script",)),
        (".py", (".py",)),
    ],
)
def test_a_path_gives_the_name_a_module_is_imported_by(path: str, dotted: tuple[str, ...]) -> None:
    assert Project([read(path, b"")]).modules[0].dotted == dotted
