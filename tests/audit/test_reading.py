"""The reader takes whatever a folder may hold: it gives facts or says why it cannot, and never raises."""

from __future__ import annotations

import ast
import marshal
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statekit.audit.engine import Analysis
from statekit.audit.facts import FileFacts, frozen, thawed
from statekit.audit.reading import read

FIXTURES = Path(__file__).with_name("fixtures")
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SOURCES = [path.read_bytes() for path in sorted(FIXTURES.rglob("*.py")) if path.stat().st_size]
SCRAPS = [
    b"def f(",
    b"class A:",
    b"    ",
    b"\t",
    b"(",
    b")",
    b"[",
    b"{",
    b"}",
    b'"""',
    b"'",
    b"\\\n",
    b"\x00",
    b"\xff",
    b"\r",
    b"\x0c",
]
SCRAPS += [
    b"lambda: 0",
    b":=",
    b"*",
    b"**",
    b"await ",
    b"async ",
    b"yield ",
    b"global x\n",
    b"nonlocal x\n",
    b"del x\n",
    b"match x:\n case _:\n",
]
SCRAPS += [
    b"@",
    b".",
    b"\n",
    b"\n\n",
    b"#",
    b"# statekit: ignore",
    b"# -*- coding: utf-16 -*-\n",
    b"return\n",
    b"else:\n",
    b"import *\n",
    b"from . import x\n",
]
LAST = 100
"""Files of the standard library that one quick run reads."""


def _facts(source: bytes) -> FileFacts:
    """Read, and hold what is given to its form: it can be sent, and judged, whatever it says."""
    facts = read("some/file.py", source)
    assert thawed(marshal.loads(marshal.dumps(frozen(facts)))) == facts
    Analysis([facts])
    return facts


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Real source with pieces cut out, put in, moved or doubled."""
    source = draw(st.sampled_from(SOURCES))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(source)))
        end = min(len(source), at + draw(st.integers(0, 60)))
        put = draw(st.sampled_from([*SCRAPS, source[at:end] * 2]) | st.binary(max_size=6))
        source = source[:at] + put + source[end:]
    return source


@st.composite
def _shuffled(draw: st.DrawFn) -> bytes:
    """Lines of real sources in another order: much of it still parses, and none of it was meant."""
    lines = draw(st.sampled_from(SOURCES)).splitlines() + draw(st.sampled_from(SOURCES)).splitlines()
    chosen = draw(st.lists(st.sampled_from(lines), max_size=25))
    return b"\n".join(line.lstrip() if draw(st.booleans()) else line for line in chosen)


@given(
    _damaged()
    | _shuffled()
    | st.binary(max_size=200)
    | st.text(max_size=200).map(lambda one: one.encode("utf-8", "surrogatepass"))
)
@settings(max_examples=250, deadline=None)
@example(b"")
@example(b"\xef\xbb\xbfx = {}")
def test_whatever_is_read_nothing_is_raised(source: bytes) -> None:
    _facts(source)


@pytest.mark.exhaustive
@given(_damaged() | _shuffled() | st.binary())
@settings(max_examples=5_000, deadline=None)
def test_whatever_is_read_nothing_is_raised_for_long(source: bytes) -> None:
    _facts(source)


UNREADABLE = {
    "Python 2": b"print 'hello'\n",
    "Python 2, but only there": b"try:\n    pass\nexcept IOError, e:\n    raise ValueError, e\n",
    "a null byte": b"x = 1\x00\n",
    "nothing but null bytes": b"\x00" * 5000,
    "a template": b"from {{ cookiecutter.name }} import app\n",
    "a merge conflict": b"<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> theirs\n",
    "an unknown encoding": b"# -*- coding: klingon -*-\nx = 1\n",
    "not the encoding it says": b"x = '\xe4'\n",
    "UTF-16": "x = {}\n".encode("utf-16"),
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "an archive": b"PK\x03\x04\x14\x00\x00\x00",
    "tabs and spaces": b"if x:\n\ty = 1\n        z = 2\n",
    "an unfinished string": b'x = """\n' * 3,
    "parentheses without end": b"(" * 5000,
    "brackets too deep": b"x = " + b"[" * 5000 + b"]" * 5000 + b"\n",
    "signs too deep": b"x = " + b"-" * 200_000 + b"1\n",
    "a global after its use": b"def f(:\n    global x\n",
}
READABLE = {
    "nothing": b"",
    "a blank line": b"\n",
    "a comment without end of line": b"# nothing here",
    "a byte order mark": b"\xef\xbb\xbfx = {}\n",
    "Latin-1, and says so": b"# -*- coding: latin-1 -*-\nx = '\xe4'\n",
    "line ends of the Mac": b"x = {}\rdef f():\r    x['a'] = 1\r",
    "line ends of Windows": b"x = {}\r\ndef f():\r\n    x['a'] = 1\r\n",
    "form feeds": b"x = {}\n\x0c\ndef f():\n    x['a'] = 1\n",
    "one long line": b"x = [" + b"1," * 200_000 + b"]\n",
    "many lines": b"x = {}\n" * 20_000,
    "names of other scripts": "größe = {}\ndef ändern():\n    größe['ä'] = 1\n".encode(),
    "a long sum": b"x = " + b"+".join([b"1"] * 700) + b"\n",
    "a long chain": b"x = a" + b".b" * 700 + b"\n",
    "calls of calls": b"x = a" + b".b()" * 300 + b"\n",
    "many branches": b"def f(x):\n    if x == 0:\n        y = 0\n" + b"".join(b"    elif x == %d:\n        y = %d\n" % (n, n) for n in range(1, 150)),
    "nested functions": b"".join(b"    " * n + b"def f%d():\n" % n for n in range(80)) + b"    " * 80 + b"pass\n",
    "nested classes": b"".join(b"    " * n + b"class A%d:\n" % n for n in range(80)) + b"    " * 80 + b"x = {}\n",
    "its own alias": b"def f(x):\n    x = x\n    x = x.y\n    y = x\n    x = y\n    x[0] = 1\n",
    "aliases in a circle": b"def f():\n    a = b\n    b = c\n    c = a\n    a.x = b[c]\n",
    "its own base": b"class A(A):\n    x = {}\n    def f(self):\n        self.x[1] = A()\n",
    "bases in a circle": b"class A(B):\n    x = {}\nclass B(A):\n    def f(self):\n        self.x[1] = 1\n",
    "made by itself": b"def f():\n    return f()\nx = f()\nx[0] = 1\n",
    "imports itself": b"from some.file import x\nfrom .file import *\nx[0] = 1\n",
    "global of what is nowhere": b"def f():\n    global x\n    x = x + 1\n    del x\n",
    "odd targets": b"def f(a):\n    (a.b[0], *c), [d] = e[:] = (x)\n    a[b:c, ...] = d\n    a()[0] = 1\n    (yield)[0] = 1\n    'a'.b = 1\n",
    "new grammar": b"match x:\n    case {'a': [b, *_], **rest} if b:\n        rest['x'] = 1\ntry:\n    pass\nexcept* ValueError:\n    pass\n",
    "odd decorators": b"@(lambda f: f)\n@a[0].b\n@x if y else z\ndef f(): pass\n",
    "class in a comprehension": b"x = [type('A', (), {})() for _ in (lambda: 0)()]\n",
}  # fmt: skip


@pytest.mark.parametrize("source", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_says_why_and_nothing_else(source: bytes) -> None:
    facts = _facts(source)
    assert facts.error
    assert "\n" not in facts.error
    assert facts == FileFacts("some/file.py", {}, (), (), (), (), (), {}, facts.error)


@pytest.mark.parametrize("source", READABLE.values(), ids=READABLE)
def test_a_file_that_is_merely_odd_is_read(source: bytes) -> None:
    facts = _facts(source)
    assert not facts.error
    assert facts.functions[0].name == "<module>"


def _library(*, every: bool) -> list[Path]:
    """Files of the standard library: all, or each so-many-th, its own broken examples among them."""
    files = sorted(path for path in LIBRARY.rglob("*.py") if "site-packages" not in path.parts)
    return files if every else files[:: max(1, len(files) // LAST)]


def test_the_standard_library_is_read() -> None:
    _read_all(_library(every=False))


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_the_whole_standard_library_is_read() -> None:
    _read_all(_library(every=True))


def _read_all(files: list[Path]) -> None:
    sources = {path.as_posix(): path.read_bytes() for path in files}
    facts = [read(path, source) for path, source in sources.items()]
    refused = [one.path for one in facts if one.error and _parses(sources[one.path])]
    assert refused == []
    for one in facts:
        marshal.dumps(frozen(one))
    Analysis(facts)


def _parses(source: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


TOLD = """
import sys
from pathlib import Path
from statekit.audit.engine import Analysis
from statekit.audit.reading import read
for folder in sys.argv[1:]:
    facts = [read(path.name, path.read_bytes()) for path in sorted(Path(folder).rglob("*.py"))]
    for verdict in Analysis(facts).verdicts:
        sites = [(change.write.line, change.function.name) for change in verdict.changes]
        print(verdict.state.qualified, verdict.state.line, verdict.category, verdict.confidence, verdict.reason, sites)
"""


def test_the_same_is_said_each_time_in_the_same_order() -> None:
    told = [_told(seed) for seed in ("0", "1", "2")]
    assert told[0]
    assert told[0] == told[1] == told[2]


def _told(seed: str) -> str:
    command = [sys.executable, "-c", TOLD, str(FIXTURES)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
    ).stdout
