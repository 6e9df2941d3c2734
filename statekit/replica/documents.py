"""Documents by name, never changed: a successor shares what it did not change with what came before it.

A write among 100,000 documents must not copy them all. So there are two dictionaries: a large one that many
successors share, and a small one with what differs from it, copied at each write and worked in when it has grown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["Documents"]

D = TypeVar("D")
SMALLEST = 64
"""Differences that are always kept apart; beyond, as many as the square root of the whole."""


class Documents(Mapping[str, D], Generic[D]):
    """A mapping that is replaced instead of changed; see `succeeded`.

    >>> before = Documents({"a": 1, "b": 2})
    >>> after = before.succeeded({"a": 3, "b": None, "c": 4})
    >>> dict(before), dict(after)
    ({'a': 1, 'b': 2}, {'a': 3, 'c': 4})
    """

    __slots__ = ("_base", "_length", "_news")

    def __init__(self, documents: Mapping[str, D] | None = None) -> None:
        self._base: dict[str, D] = dict(documents or {})
        self._news: dict[str, D | None] = {}
        self._length = len(self._base)

    def succeeded(self, changes: Mapping[str, D | None]) -> Documents[D]:
        """The documents after some changes; None takes one away."""
        after: Documents[D] = Documents.__new__(Documents)
        after._base, after._news = self._base, {**self._news, **changes}
        after._length = self._length
        for name in changes:
            after._length += (changes[name] is not None) - (name in self)
        if len(after._news) > SMALLEST and len(after._news) ** 2 > len(self._base):
            after._work_in()
        return after

    def _work_in(self) -> None:
        base = self._base.copy()
        for name, one in self._news.items():
            if one is None:
                base.pop(name, None)
            else:
                base[name] = one
        self._base, self._news = base, {}

    def get(self, name: str, default: D | None = None) -> D | None:  # type: ignore[override]
        """The document of that name."""
        found = self._news.get(name) if name in self._news else self._base.get(name)
        return default if found is None else found

    def __getitem__(self, name: str) -> D:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return self._news[name] is not None if name in self._news else name in self._base

    def __iter__(self) -> Iterator[str]:
        for name in self._base:
            if name not in self._news:
                yield name
        for name, one in self._news.items():
            if one is not None:
                yield name

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<{len(self)} documents>"
