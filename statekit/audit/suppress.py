"""Comments that speak to the audit, at a binding or on the line above it.

``# statekit: ignore[SK101] keys expire with the process`` suppresses: the finding is not one. ``# per-process-ok: a
metric of this worker`` accepts: it is one, on purpose, and stays in the inventory. Both need a reason; one without,
or one that concerns nothing, is reported.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from statekit.audit.config import ConfigInvalid, selected
from statekit.audit.facts import FileFacts
from statekit.audit.model import Finding

__all__ = ["Comment", "addressed", "suppressed"]

IGNORE = re.compile(r"statekit:\s*ignore\s*(?:\[(?P<rules>[^\]]*)\])?(?P<reason>.*)")
ACCEPT = re.compile(r"per-process-ok\b(?P<reason>.*)")


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment, as it was written."""

    line: int
    alone: bool
    """Whether it has the line to itself, and so speaks of the next."""
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
    """The comments of a file."""
    if not facts.comments:
        return []
    taken = _lines_of_code(facts)
    return [_comment(line, text, alone=line not in taken) for line, text in facts.comments]


def _lines_of_code(facts: FileFacts) -> set[int]:
    lines = {one.line for kept in (facts.bindings, facts.functions, facts.classes) for one in kept}
    for function in facts.functions:
        lines.update(function.calls.values())
        lines.update(write.line for write in function.writes)
        lines.update(line for _, line, _ in function.holds)
    return lines


def _comment(line: int, text: str, *, alone: bool) -> Comment:
    match = IGNORE.match(text) or ACCEPT.match(text)
    if match is None:  # pragma: no cover - the reader keeps no others
        return Comment(line, alone, (), "", accepts=False)
    rules = match.groupdict().get("rules") or ""
    reason = re.sub(r"(?:^|\s)#.*", "", match["reason"]).strip(" \t:-\N{EN DASH}\N{EM DASH}")
    named = tuple(one.strip() for one in rules.split(",") if one.strip())
    return Comment(line, alone, named, reason, accepts=match.re is ACCEPT)


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
    if found is None:
        return finding
    used.add((finding.path, found.line))
    return replace(finding, status="accepted" if found.accepts else "suppressed", reason=found.reason)


def _was_judged(comment: Comment, rules: frozenset[str] | None) -> bool:
    return rules is None or comment.accepts or not rules.isdisjoint(selected("names", comment.rules))


def _spelt(comment: Comment) -> str:
    return "# per-process-ok" if comment.accepts else f"# statekit: ignore[{', '.join(comment.rules)}]"
