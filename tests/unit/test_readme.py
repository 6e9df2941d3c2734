"""The README's code runs, and sends exactly what its comments say.

A line's comment is ``# ⇄ a, b`` (one round trip that carries a and b), ``# ⇄ a; ⇄ b`` (two round trips) or
``# local`` (none). A statement without such a comment is run but not judged.
"""

from __future__ import annotations

import ast
import re
import threading
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SENT = re.compile(r"#\s*(local|⇄.*?)\s*(?:\(.*\))?$")


def promised(line: str) -> list[str] | None:
    """Read a line's comment: the round trips it promises, or None if it promises nothing."""
    found = SENT.search(line)
    if found is None:
        return None
    if found[1] == "local":
        return []
    return [trip.strip().removeprefix("⇄").strip() for trip in found[1].split(";")]


def test_reads_the_comments():
    assert promised("x = 1  # local") == []
    assert promised("x()    # ⇄ a.b, GET") == ["a.b, GET"]
    assert promised("x()    # ⇄ a; ⇄ b   (the first time)") == ["a", "b"]
    assert promised("x()    # what it is for") is None


@pytest.fixture
def source():
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert blocks, "the README lost its code"
    return "\n".join(blocks)


def test_readme_sends_what_it_says(source, valkey_url):
    sent: list[str] = []
    here = threading.get_ident()

    def record(event):
        if hasattr(event, "commands") and threading.get_ident() == here:
            sent.append(", ".join(event.commands))

    names: dict[str, object] = {"url": valkey_url, "__name__": __name__}
    lines = source.splitlines()
    wrong = []
    for statement in ast.parse(source).body:
        sent.clear()
        module = ast.Module([statement], type_ignores=[])
        exec(compile(module, str(README), "exec"), names)
        if "kit" in names and not hasattr(names["kit"], "_recorded"):
            names["kit"].hooks.subscribe(record)
            names["kit"]._recorded = True
        promise = promised(lines[statement.lineno - 1])
        if promise is not None and promise != sent:
            wrong.append(f"{lines[statement.lineno - 1].strip()}\n    sent {sent}")
    names["kit"].close()
    assert not wrong, "\n".join(wrong)
