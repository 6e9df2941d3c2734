"""What the audit knows by name: `catalogue.toml`, widened by what a project adds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["Catalogue", "Names"]


class Names:
    """Ends of dotted names: ``httpx.Client`` is found in ``httpx.Client`` and in ``vendor.httpx.Client``."""

    __slots__ = ("_ends", "_known")

    def __init__(self, ends: Iterable[str]) -> None:
        self._ends = frozenset(ends)
        self._known: dict[str, bool] = {}

    def __contains__(self, dotted: str) -> bool:
        known = self._known.get(dotted)
        if known is None:
            known = self._known[dotted] = self._has(dotted)
        return known

    def _has(self, dotted: str) -> bool:
        if dotted in self._ends:
            return True
        rest = dotted
        while True:
            _, dot, rest = rest.partition(".")
            if not dot:
                return False
            if rest in self._ends:
                return True


class Catalogue:
    """One set of names for each key of ``catalogue.toml``."""

    def __init__(self, added: Mapping[str, Iterable[str]] | None = None) -> None:
        known = _shipped()
        names = {key: Names((*ends, *(added or {}).get(key, ()))) for key, ends in known.items()}
        vars(self).update(names)  # attributes as others are: asked for half a million times
        self.prefixes = tuple(known["startup_prefixes"])
        self.client_words = tuple(known["client_words"])

    def __getattr__(self, key: str) -> Names:
        raise AttributeError(key)

    @staticmethod
    def keys() -> list[str]:
        """What a project can add to."""
        return sorted(_shipped())


@cache
def _shipped() -> dict[str, Any]:
    text = resources.files("statekit.audit").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
