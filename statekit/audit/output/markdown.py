"""Markdown for a pull request: the inventory, then the findings, folded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from statekit.audit.model import Finding, Report
from statekit.audit.output.common import (
    as_spoken,
    by_category,
    by_package,
    counted,
    inventory,
    next_step,
    opened,
    parts_of,
    plural,
    said,
    visible,
    where,
    writer,
)
from statekit.audit.rules import rules, sort_of

__all__ = ["render"]

MOST = 60_000
"""Characters: a comment on GitHub may have 65,536."""
WRITES = 8
SPECIAL = re.compile(r"([\\*_\[\]|~])")
CALLING = re.compile(r"([@#])(?=\w)")
"""What would call a person or link an issue."""


def render(report: Report) -> str:
    """The whole report, as far as it fits into a comment."""
    head, foot = list(_head(report)), list(_foot(report))
    room = MOST - sum(map(len, head)) - sum(map(len, foot))
    return "\n".join([*head, *_fitting(report, room), *foot]).strip("\n") + "\n"


def _head(report: Report) -> Iterator[str]:
    found = opened(report)
    yield from (f"## State in the processes: {counted(found) or 'nothing found'}", "")
    rows = inventory(report)
    if rows:
        yield from ("| category | found | with N workers |", "|---|---:|---|")
    for row in rows:
        yield f"| {row.title} | {row.count}{row.aside} | {_text(row.problem)} |"
    if rows:
        yield f"| **all** | **{len(found)}** | {counted(found)} |"
        yield ""


def _fitting(report: Report, room: int) -> Iterator[str]:
    """Findings as long as there is room; of the rest, how many there are."""
    found = opened(report)
    done = 0
    for category, several in by_category(found):
        title = ["", f"### {sort_of(category).title}", ""]
        for package, mine in by_package(several):
            title += [f"In {_code(package)}", ""] if package else []
            for one in mine:
                block = [*title, *_finding(one, report), ""]
                room -= sum(len(line) + 1 for line in block)
                if room < 0:
                    yield f"…and {plural(len(found) - done, 'more finding')}: they do not fit into one comment.\n"
                    return
                yield from block
                title = []
                done += 1


def _finding(one: Finding, report: Report) -> Iterator[str]:
    rule = rules().get(one.rule)
    named = f"{one.rule} ({rule.title})" if rule else one.rule
    yield f"<details><summary><b>{one.severity.value}</b> <code>{_html(one.name)}</code> {_html(where(report, one))}</summary>"
    yield from ("", f"{_sentence(one.why)} {named}, {one.confidence.value} confidence.", "")
    for site in one.writes[:WRITES]:
        yield f"- written at {_code(where(report, site))} by {_code(writer(site))}"
    if len(one.writes) > WRITES:
        yield f"- and at {plural(len(one.writes) - WRITES, 'more place')}"
    for part in parts_of(one)[:WRITES]:
        title = sort_of(part.category).title.lower()
        yield f"- keeps {_code(part.name)} ({title}, {part.rule}) at {_code(where(report, part))}"
    yield from (
        "",
        "```python",
        *(visible(line).replace("```", "'''") for line in one.replacement.split("\n")),
        "```",
        "",
    )
    if one.keep:
        yield from (f"Stays: {_sentence(one.keep)}", "")
    yield "</details>"


def _foot(report: Report) -> Iterator[str]:
    yield ""
    for path, error in report.unparsed:
        yield f"- not audited: {_code(report.prefix + path)}, {_text(error)}"
    yield from (f"- {_text(line)}" for line in said(report))
    yield from ("", f"**{_sentence(next_step(report))}**")
    if report.score is not None:
        from statekit.audit.score import markdown  # noqa: PLC0415 - few ask for a score

        yield from ("", markdown(report.score))


# -- text of the audited code --------------------------------------------------------------------------------------


def _html(text: str) -> str:
    return escape(_calling_nobody(text))


def _text(text: str) -> str:
    """Nothing in it is markup, and it calls nobody."""
    return SPECIAL.sub(r"\\\1", escape(_calling_nobody(text), quote=False)).replace("`", "&#96;")


def _calling_nobody(text: str) -> str:
    return CALLING.sub("\\1\u2060", visible(text))


def _code(text: str) -> str:
    """A code span that holds any text."""
    flat = visible(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}" if flat else ""


def _sentence(text: str) -> str:
    return as_spoken(text, _text, _code)
