"""Patterns of paths, as people know them from ``.gitignore``.

``settings.py`` and ``tests`` match a file or folder of that name anywhere; ``app/jobs`` and ``app/*.py`` begin at the
audited root; ``**`` stands for any number of folders. What matches a folder matches all below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Globs"]

_PIECES = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[")
_MEANING = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Globs:
    """Some patterns as one; none match nothing."""

    __slots__ = ("_match",)

    def __init__(self, patterns: Iterable[str]) -> None:
        expressions = [_expression(one) for one in patterns]
        self._match = re.compile("|".join(expressions)).fullmatch if expressions else None

    def __bool__(self) -> bool:
        return self._match is not None

    def __contains__(self, path: str) -> bool:
        return self._match is not None and self._match(path) is not None


def _expression(pattern: str) -> str:
    bare = pattern.removeprefix("./").rstrip("/")
    anywhere = "" if "/" in bare else "(?:.*/)?"
    body = "".join(_meaning(piece) for piece in _PIECES.findall(bare.lstrip("/")))
    return f"(?s:{anywhere}{body}(?:/.*)?)"


def _meaning(piece: str) -> str:
    if piece in _MEANING:
        return _MEANING[piece]
    if piece[0] == "[" and len(piece) > 2:
        inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^{inside[1:]}]" if inside[0] == "!" and len(inside) > 1 else f"[{inside}]"
    return re.escape(piece)
