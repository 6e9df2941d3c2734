"""Reading: one file's source in, its `FileFacts` out. Never imports what it reads, never looks at another file."""

from __future__ import annotations

import ast
import re
import warnings

from statekit.audit.facts import FileFacts
from statekit.audit.reading.walker import Walker

__all__ = ["read"]

ADDRESSED = re.compile(r"#\s*(statekit:\s*ignore\b.*|per-process-ok\b.*)")
"""Comments that speak to the audit."""


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
    )


def _unread(path: str, error: Exception) -> FileFacts:
    line = getattr(error, "lineno", None)
    where = f" (line {line})" if line else ""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return FileFacts(path, {}, (), (), (), (), (), f"{type(error).__name__}: {said}{where}")


def _comments(source: bytes) -> list[tuple[int, str]]:
    if b"statekit:" not in source and b"per-process-ok" not in source:
        return []
    lines = source.decode("utf-8", "replace").splitlines()
    found = ((number, ADDRESSED.search(line)) for number, line in enumerate(lines, 1))
    return [(number, match[1]) for number, match in found if match]
