"""Projects that nobody wrote: real lines, cut, moved, mixed and renamed. They parse, and the audit says something."""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from statekit.audit import Config, Report, audit

FIXTURES = Path(__file__).with_name("fixtures")
SOURCES = [
    path.read_text("utf-8").splitlines() for path in sorted(FIXTURES.rglob("*.py")) if path.stat().st_size
]
LINES = [line for source in SOURCES for line in source if line.strip()]
PATHS = ("app.py", "shop/__init__.py", "shop/state.py", "shop/web.py", "shop/tools.py", "deep/in/the/tree.py")
WORD = re.compile(r"\b[a-z_]{2,}\b")


def _jumbled(chance: random.Random) -> str:
    """One file, changed in up to a dozen places."""
    lines = list(chance.choice(SOURCES))
    for _ in range(chance.randrange(13)):
        at = chance.randrange(len(lines))
        chance.choice((_drop, _put_in, _rename, _swap))(lines, at, chance)
    return "\n".join(lines)


def _drop(lines: list[str], at: int, _: random.Random) -> None:
    if len(lines) > 1:
        del lines[at]


def _put_in(lines: list[str], at: int, chance: random.Random) -> None:
    lines.insert(at, "    " * chance.randrange(3) + chance.choice(LINES).strip())


def _rename(lines: list[str], at: int, chance: random.Random) -> None:
    here, there = WORD.findall(lines[at]), WORD.findall(chance.choice(LINES))
    if here and there:
        lines[at] = lines[at].replace(chance.choice(here), chance.choice(there))


def _swap(lines: list[str], at: int, chance: random.Random) -> None:
    other = chance.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _project(seed: int) -> dict[str, str]:
    chance = random.Random(seed)
    files = {path: _jumbled(chance) for path in chance.sample(PATHS, chance.randrange(1, 4))}
    return {path: source for path, source in files.items() if _parses(source)}


def _audited(files: dict[str, str]) -> Report:
    with TemporaryDirectory() as name:
        for path, source in files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, "utf-8")
        return audit(name, Config(), cache=False)


def _check(seed: int) -> None:
    files = _project(seed)
    for one in _audited(files).findings:
        lines = files[one.path].count("\n") + 1
        assert 1 <= one.line <= lines, (seed, one)
        assert one.name, (seed, one)
        assert one.why, (seed, one)
        assert one.replacement, (seed, one)
        assert all(site.path in files for site in one.writes), (seed, one)


@pytest.mark.parametrize("tens", range(15))
def test_no_project_is_too_odd(tens: int) -> None:
    for seed in range(tens * 10, tens * 10 + 10):
        _check(seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("hundreds", range(10, 60))
def test_no_project_is_too_odd_for_long(hundreds: int) -> None:
    for seed in range(hundreds * 100, hundreds * 100 + 100):
        _check(seed)
