"""Header fields: the decisions of one request, as its answer announces them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statekit.ratelimit.decision import Decision

__all__ = ["announced", "governing"]


def governing(decisions: Sequence[Decision]) -> Decision | None:
    """Of several decisions the refusal, else the one with the least left; None if there is none."""
    if len(decisions) == 1:
        return decisions[0]
    return min(decisions, key=lambda one: (one.allowed, one.remaining), default=None)


def announced(decisions: Sequence[Decision], style: str | None) -> Iterator[tuple[str, str]]:
    """Name and value of each field: "ietf" lists all policies, "legacy" the governing one, None none.

    Each name comes once, as a request may be decided in more than one go.
    """
    if style is None or not decisions:
        return
    if len(decisions) == 1:
        yield from decisions[0].headers(style).items()
        return
    if style == "legacy":
        yield from min(decisions, key=lambda one: (one.allowed, one.remaining)).headers(style).items()
        return
    fields: dict[str, list[str]] = {}
    for decision in decisions:
        for name, value in decision.headers(style).items():
            fields.setdefault(name, []).append(value)
    for name, values in fields.items():  # lists of RFC 9651 may be joined; Retry-After is one number
        yield name, max(values, key=int) if name == "Retry-After" else ", ".join(values)
