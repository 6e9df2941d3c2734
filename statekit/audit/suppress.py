"""Comments that speak to the audit, at a binding or on the line above it.

``# statekit: ignore[SK101] keys expire with the process`` suppresses: the finding is not one. ``# per-process-ok: a
metric of this worker`` accepts: it is one, on purpose, and stays in the inventory. Both need a reason; one without,
or one that concerns nothing, is reported.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from token import COMMENT
from tokenize import TokenError, tokenize

from statekit.audit.config import ConfigInvalid, selected
from statekit.audit.facts import FileFacts
from statekit.audit.model import Finding

__all__ = ["Comment", "addressed", "comments_in", "remarks_in", "suppressed"]

ADDRESSED = re.compile(
    r"#\s*(?:statekit:\s*ignore\b\s*(?:\[(?P<rules>[^\]]*)\])?|(?P<accepts>per-process-ok\b))(?P<reason>.*)"
)


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment, as it was written."""

    line: int
    alone: bool
    """Whether it stands above what it speaks of: on a line of its own, or behind a decorator."""
    rules: tuple[str, ...]
    """What it suppresses; empty where it accepts, or names nothing."""
    reason: str
    accepts: bool

    @property
    def wrong(self) -> str:
        """What is wrong with it, '' if nothing is."""
        if not self.accepts and not self.rules:
            return "names no rule; write # statekit: ignore[SK101] and the reason"
        try:
            selected("names", self.rules)
        except ConfigInvalid as error:
            return str(error)
        return "" if self.reason else "gives no reason, and so does nothing; write the reason behind it"

    def concerns(self, finding: Finding) -> bool:
        return self.accepts or finding.rule in selected("names", self.rules)


def addressed(facts: FileFacts) -> list[Comment]:
    """The comments of a file, as far as its facts tell: each may stand above what it speaks of."""
    found = ((line, ADDRESSED.search(f"# {text}")) for line, text in facts.comments)
    return [_comment(line, match, alone=True) for line, match in found if match]


def comments_in(source: bytes) -> list[Comment]:
    """The comments of a file, exactly: what only looks like one, in a string, is none."""
    found: list[Comment] = []
    with suppress(TokenError, SyntaxError, ValueError):  # such a file has no findings either
        for kind, text, (line, column), _, whole in tokenize(BytesIO(source).readline):
            match = ADDRESSED.search(text) if kind == COMMENT else None
            if match is not None:
                before = whole[:column].strip()
                found.append(_comment(line, match, alone=not before or before.startswith("@")))
    return found


def remarks_in(text: str) -> list[Comment]:
    """The comments of a deployment file, which begin with ``#`` as Python's do."""
    found = ((number, line, ADDRESSED.search(line)) for number, line in enumerate(text.splitlines(), 1))
    return [_comment(number, it, alone=not line[: it.start()].strip()) for number, line, it in found if it]


def _comment(line: int, match: re.Match[str], *, alone: bool) -> Comment:
    rules = tuple(one.strip() for one in (match["rules"] or "").split(",") if one.strip())
    reason = re.sub(r"(?:^|\s)#.*", "", match["reason"]).strip(" \t:-\N{EN DASH}\N{EM DASH}")
    return Comment(line, alone, rules, reason, accepts=match["accepts"] is not None)


def suppressed(
    findings: Iterable[Finding],
    comments: Mapping[str, Iterable[Comment]],
    judged: frozenset[str] | None = None,
) -> tuple[list[Finding], list[str]]:
    """Findings with their status, and what is to be said about the comments.

    `judged`: the rules that were looked for, all by default. A comment about others is not called unused.
    """
    places: dict[tuple[str, int], list[Comment]] = defaultdict(list)
    for path, several in comments.items():
        for one in several:
            if not one.wrong:
                places[path, one.line + one.alone].append(one)
                places[path, one.line].append(one)
    used: set[tuple[str, int]] = set()
    done = [_with_status(finding, places, used) for finding in findings]
    said = [
        f"{path}:{one.line}: {_spelt(one)} {one.wrong or 'concerns nothing here; remove it'}"
        for path, several in sorted(comments.items())
        for one in several
        if one.wrong or ((path, one.line) not in used and _was_judged(one, judged))
    ]
    return done, said


def _with_status(
    finding: Finding, places: Mapping[tuple[str, int], list[Comment]], used: set[tuple[str, int]]
) -> Finding:
    found = next((one for one in places.get((finding.path, finding.line), ()) if one.concerns(finding)), None)
    finding = replace(finding, parts=tuple(_with_status(one, places, used) for one in finding.parts))
    if found is None:
        return finding
    used.add((finding.path, found.line))
    return finding.with_status("accepted" if found.accepts else "suppressed", found.reason)


def _was_judged(comment: Comment, rules: frozenset[str] | None) -> bool:
    return rules is None or comment.accepts or not rules.isdisjoint(selected("names", comment.rules))


def _spelt(comment: Comment) -> str:
    return "# per-process-ok" if comment.accepts else f"# statekit: ignore[{', '.join(comment.rules)}]"
