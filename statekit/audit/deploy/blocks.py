"""As much of YAML as deployment files use: nested mappings and lists, scalars, comments, several documents.

What is not understood (anchors, templates, flow mappings that are nested or go over several lines) is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Entry", "entries", "flow"]

KEY = re.compile(r"""^(?P<key>"[^"]*"|'[^']*'|[^\s#&*!|>@`%{}\[\],"'][^#]*?)\s*:(?:\s+(?P<value>.*))?$""")
PAIRS = re.compile(r"^\{\s*[\w./-]+:[^{}\[\]]*\}$")
PAIR = re.compile(r"""([\w./-]+):\s*("[^"]*"|'[^']*'|[^,{}]*[^,{}\s])""")
BLOCK = re.compile(r"^[|>][+-]?\d*$")

Path = tuple[str, ...]


class Entry(NamedTuple):
    """A scalar, or a key with more below it (`value` is '' then): its path of keys, ``-`` for the elements of a list."""

    document: int
    path: Path
    value: str
    line: int
    comment: str
    item: tuple[int, ...] = ()
    """Which elements of the lists on its path it belongs to, by line."""

    @property
    def key(self) -> str:
        return next((one for one in reversed(self.path) if one != "-"), "")


class _Level(NamedTuple):
    indent: int
    path: Path
    item: tuple[int, ...]


def entries(text: str) -> Iterator[Entry]:
    """Every scalar of a YAML text, in order."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        yield from reader.read(number, line)
    yield from reader.end()


class _Reader:
    def __init__(self) -> None:
        self.document = 0
        self.levels: list[_Level] = []
        self.block: tuple[int, Entry, list[str]] | None = None

    def read(self, number: int, line: str) -> Iterator[Entry]:
        bare = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if self.block:
            if not bare or indent > self.block[0]:
                self.block[2].append(bare)
                return
            yield from self.end()
        if bare == "---" or bare.startswith("--- "):
            self.document += 1
            self.levels = []
        elif bare and bare[0] not in "#%{" and "\t" not in line[:indent]:
            yield from self._line(number, indent, bare)

    def end(self) -> Iterator[Entry]:
        """What was read of a text over several lines."""
        if self.block:
            _, entry, lines = self.block
            self.block = None
            yield entry._replace(value="\n".join(lines))

    def _line(self, number: int, indent: int, bare: str) -> Iterator[Entry]:
        while self.levels and self.levels[-1].indent >= indent and not self._same_list(indent, bare):
            self.levels.pop()
        path, item = (self.levels[-1].path, self.levels[-1].item) if self.levels else ((), ())
        while bare == "-" or bare.startswith("- "):
            path, item = (*path, "-"), (*item, number)
            self.levels.append(_Level(indent, path, item))
            rest = bare[1:].lstrip()
            indent += len(bare) - len(rest)
            bare = rest
        content, comment = _cut(bare)
        if content:
            yield from self._content(Entry(self.document, path, content, number, comment, item), indent)

    def _same_list(self, indent: int, bare: str) -> bool:
        """A list may stand as deep as the key it belongs to."""
        last = self.levels[-1]
        return bare.startswith("-") and last.indent == indent and last.path[-1] != "-"

    def _content(self, entry: Entry, indent: int) -> Iterator[Entry]:
        match = KEY.match(entry.value) if entry.value[0] not in "[{" else None
        if match is None:
            yield entry._replace(value=_plain(entry.value))
            return
        path = (*entry.path, _plain(match["key"]))
        value = (match["value"] or "").strip()
        self.levels.append(_Level(indent, path, entry.item))
        entry = entry._replace(path=path, value=_plain(value))
        if BLOCK.match(value):
            self.block = indent, entry, []
        elif PAIRS.match(value):
            yield from (
                entry._replace(path=(*path, _plain(k)), value=_plain(v)) for k, v in PAIR.findall(value)
            )
        else:
            yield entry


def _cut(text: str) -> tuple[str, str]:
    """Content and comment; a ``#`` inside quotes, or without a space before it, begins none."""
    quote = ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'" and (at == 0 or text[at - 1] in " :[,{"):
            quote = char
        elif char == "#" and (at == 0 or text[at - 1] == " "):
            return text[:at].rstrip(), text[at + 1 :].strip()
    return text.rstrip(), ""


def _plain(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def flow(value: str) -> list[str]:
    """The elements of ``[a, "b, c"]``; one element where it is none."""
    if not (value.startswith("[") and value.endswith("]")):
        return [value] if value else []
    return [
        one.strip().strip("\"'")
        for one in re.findall(r""""[^"]*"|'[^']*'|[^,\[\]]+""", value[1:-1])
        if one.strip()
    ]
