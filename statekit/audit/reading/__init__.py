"""Reading: one file's source in, its `FileFacts` out. Never imports what it reads, never looks at another file."""

from __future__ import annotations

import ast
import re
import warnings

from statekit.audit.facts import Binding, FileFacts, Function
from statekit.audit.reading.walker import Walker

__all__ = ["read"]

ADDRESSED = re.compile(r"#\s*(statekit:\s*ignore\b.*|per-process-ok\b.*)")
"""Comments that speak to the audit."""
PLAIN = {"const", "tuple", "lambda", "text"}
"""Values that nothing is kept in."""


def read(path: str, source: bytes) -> FileFacts:
    """Read one file; a file that cannot be parsed gives facts with nothing but `error`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in somebody's strings are not our business
            tree = ast.parse(source, path)
        walker = Walker()
        walker.read(tree)
        functions = walker.functions()
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return _unread(path, error)
    return FileFacts(
        path=path,
        imports=walker.imports,
        stars=tuple(walker.stars),
        functions=functions,
        classes=tuple(walker.classes),
        bindings=tuple(walker.bindings),
        comments=tuple(_comments(source)),
        notes=_notes(source, walker.bindings, functions),
    )


def _unread(path: str, error: Exception) -> FileFacts:
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if line else ""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return FileFacts(path, {}, (), (), (), (), (), {}, f"{type(error).__name__}: {said}{where}")


def _comments(source: bytes) -> list[tuple[int, str]]:
    if b"statekit:" not in source and b"per-process-ok" not in source:
        return []
    lines = source.decode("utf-8", "replace").splitlines()
    found = ((number, ADDRESSED.search(line)) for number, line in enumerate(lines, 1))
    return [(number, match[1]) for number, match in found if match]


def _notes(source: bytes, bindings: list[Binding], functions: tuple[Function, ...]) -> dict[int, str]:
    """The comments on, or right above, the lines where something may be kept."""
    if b"#" not in source:
        return {}
    lines = source.decode("utf-8", "replace").splitlines()
    wanted = {one.line for one in bindings if one.value.kind not in PLAIN}
    wanted |= {
        w.line
        for one in functions
        if one.within
        for w in one.writes
        if w.op == "=" and w.target.startswith("self.")
    }
    found = ((number, _note(lines, number)) for number in wanted if 0 < number <= len(lines))
    return {number: note for number, note in found if note}


def _note(lines: list[str], number: int) -> str:
    beside = lines[number - 1].partition("  #")[2]
    above = lines[number - 2].strip() if number > 1 else ""
    return f"{beside} {above[1:] if above.startswith('#') else ''}".strip()[:160]
