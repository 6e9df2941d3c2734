"""Findings of the analyser and of this room, joined: each place once."""

from __future__ import annotations

from collections.abc import Iterable

from statekit.audit.model import Category, Finding

__all__ = ["beside"]

YIELDING = {"SK1206", "SK1213"}
"""Rules about an object, which the analyser may have seen at work."""


def beside(findings: Iterable[Finding], others: Iterable[Finding]) -> list[Finding]:
    """Findings of the analyser with those of this room, each place once.

    Where both speak of one line, a setting says more than its shape does; what a scheduler or a library's store is
    used for, the analyser knows better.
    """
    analysed = list(findings)
    known = {(one.path, one.line) for one in analysed}
    kept = [one for one in others if one.rule not in YIELDING or (one.path, one.line) not in known]
    taken = {(one.path, one.line) for one in kept if one.category is Category.MISCONFIG}
    return [*(one for one in analysed if (one.path, one.line) not in taken), *kept]
