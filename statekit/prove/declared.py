"""What a locustfile may say about its app: invariants, and fields that may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from statekit.errors import UsageError

__all__ = ["AtMost", "Declared", "at_most", "ignored", "invariant", "told_to"]


@dataclass(frozen=True, slots=True)
class AtMost:
    """No more than so many answers with a status, over all visitors, within any such time."""

    limit: int
    name: str
    of: str
    status: int = 200
    within: float = 60.0


@dataclass(slots=True)
class Declared:
    """All that was said, and who is told of an invariant's outcome."""

    at_most: list[AtMost] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    judged: Callable[[str, bool, str], None] = lambda _name, _held, _of: None


_HERE: Declared = Declared()


def told_to(judged: Callable[[str, bool, str], None]) -> Declared:
    """Have invariants reported from now on; returns where the rest is collected."""
    _HERE.judged = judged
    return _HERE


def invariant(name: str, holds: object, *, of: str = "") -> bool:
    """Say whether something that must hold does, now, for this visitor; returns it as a truth value.

        invariant("the cart holds what I added", set(self.added) <= set(cart["items"]))

    It counts for the endpoint `of`, such as ``"GET /cart"``; by default the one this visitor asked last.
    """
    held = bool(holds)
    _HERE.judged(name, held, of)
    return held


def at_most(limit: int, name: str, *, of: str, status: int = 200, within: float = 60.0) -> None:
    """Promise that all visitors together get no more than so many answers of one kind within any so many seconds.

    An answer counts for a stretch of time only if it was asked for and given inside it.

        at_most(100, "calls of one key", of="GET /limited")

    Raises `UsageError` for a limit below zero or a time that is none.
    """
    if limit < 0 or within <= 0:
        raise UsageError(f"at_most({limit!r}, within={within!r}): give a limit of 0 or more, and seconds")
    _HERE.at_most.append(AtMost(limit, name, of, status, within))


def ignored(*fields: str) -> None:
    """Name fields of JSON answers that may differ: the number of workers, the version of something all write."""
    _HERE.ignored.extend(fields)
