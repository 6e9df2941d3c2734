"""What all formats agree on: the order, the counts, where a finding is, and text that stays on its line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath

from statekit.audit.model import Category, Confidence, Finding, Report, Severity, Site
from statekit.audit.rules import sort_of

__all__ = [
    "Row",
    "as_spoken",
    "by_category",
    "by_package",
    "counted",
    "inventory",
    "laid_out",
    "next_step",
    "opened",
    "ordered",
    "parts_of",
    "plural",
    "said",
    "visible",
    "where",
    "writer",
]

CATEGORIES = list(Category)
CONTROLS = dict.fromkeys(
    (
        *(*range(9), 11, 12, *range(14, 32), *range(127, 160)),
        *(*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF),
    ),
    "\ufffd",
)
"""Characters that would change how a line is shown: controls, and marks that reorder or hide text."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the inventory."""

    category: Category
    title: str
    count: int
    accepted: int
    severity: Severity
    problem: str

    @property
    def aside(self) -> str:
        """How much of it is accepted, in brackets; '' if nothing is."""
        return f" ({self.accepted} accepted)" if self.accepted else ""


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """By category, then package, then place."""
    return sorted(findings, key=_place)


def _place(finding: Finding) -> tuple[object, ...]:
    return (
        CATEGORIES.index(finding.category),
        _package_of(finding),
        finding.path,
        finding.line,
        finding.rule,
        finding.qualified_name,
    )


def opened(report: Report) -> list[Finding]:
    """Those that count, in order."""
    return ordered(one for one in report.findings if one.status == "open")


def by_category(findings: Iterable[Finding]) -> Iterator[tuple[Category, list[Finding]]]:
    """Ordered findings, category after category."""
    for category, several in groupby(findings, key=lambda one: one.category):
        yield category, list(several)


def by_package(findings: Iterable[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Ordered findings of a category, folder after folder; '' for the root."""
    for package, several in groupby(findings, key=_package_of):
        yield "" if package == "." else package, list(several)


def _package_of(finding: Finding) -> str:
    return PurePosixPath(finding.path).parent.as_posix()


def inventory(report: Report) -> list[Row]:
    """What there is of each category; accepted state is counted beside, it is still there."""
    found = Counter(one.category for one in report.findings if one.status == "open")
    accepted = Counter(one.category for one in report.findings if one.status == "accepted")
    worst: dict[Category, Severity] = {}
    for one in report.findings:
        if one.status == "open":
            worst[one.category] = min(
                worst.get(one.category, one.severity), one.severity, key=list(Severity).index
            )
    return [
        Row(
            category,
            sort_of(category).title,
            found[category],
            accepted[category],
            worst.get(category, Severity.NOTE),
            sort_of(category).problem,
        )
        for category in CATEGORIES
        if found[category] or accepted[category]
    ]


def counted(findings: Iterable[Finding]) -> str:
    """``3 errors, 1 warning``."""
    several = Counter(one.severity for one in findings)
    return ", ".join(plural(several[one], one.value) for one in Severity if several[one])


def plural(count: int, noun: str) -> str:
    """``1 file``, ``1,200 files``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def where(report: Report, place: Finding | Site) -> str:
    """Path and line, from the working directory where that is known."""
    return f"{visible(report.prefix + place.path)}:{place.line}"


def writer(site: Site) -> str:
    """Who writes there, and how a request gets to it."""
    function = visible(site.function) or "?"
    if not site.handler:
        return function
    through = "" if site.handler == site.function else f" from {visible(site.handler)}"
    return f"{function}{through}" + (f" ({visible(site.route)})" if site.route else "")


def said(report: Report) -> list[str]:
    """What is to be said beside the findings: what was left out, what did not fit."""
    lines = [
        f"{plural(count, 'finding')} of {confidence} confidence not shown: --confidence {confidence}"
        for confidence, count in report.hidden
    ]
    for status, words in (
        ("suppressed", "suppressed by a comment"),
        ("accepted", "accepted by a comment"),
        ("baseline", "known from the baseline"),
    ):
        count = sum(one.status == status for one in report.findings)
        lines += [f"{plural(count, 'finding')} {words}"] if count else []
    return [*lines, *report.notes]


def parts_of(finding: Finding) -> list[Finding]:
    """What the object of a finding keeps in its attributes, as far as it counts."""
    return [one for one in ordered(finding.parts) if one.status == "open"]


def next_step(report: Report) -> str:
    """One sentence: what to do now."""
    found = opened(report)
    if not found:
        hidden = next((confidence for confidence, count in report.hidden if count), None)
        return (
            f"Nothing the audit is sure of. Less certain: --confidence {hidden}."
            if hidden
            else "Nothing to do."
        )
    first = min(
        found, key=lambda one: (list(Severity).index(one.severity), list(Confidence).index(one.confidence))
    )
    return f"Start with `{visible(first.name).replace('`', chr(39))}`: `statekit audit --explain {first.rule}` says what to do; what is meant to be so is accepted with a comment, `# per-process-ok: why`."


def laid_out(code: str, width: int) -> Iterator[tuple[str, str]]:
    """Lines of code with their remarks apart; the remark of a line that is too long goes on a line before it."""
    for line in map(visible, code.split("\n")):
        code_, sign, remark = line.partition("  # ")
        if code_.lstrip().startswith("#"):
            yield "", line
        elif not sign or len(line) <= width:
            yield code_, sign + remark
        else:
            yield "", " " * (len(code_) - len(code_.lstrip())) + f"# {remark}"
            yield code_, ""


def as_spoken(sentence: str, text: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A sentence of ours, whose backticks are code: each part written as a format writes text or code."""
    parts = sentence.split("`")
    if len(parts) % 2 == 0:
        return text(sentence)
    return "".join(code(part) if at % 2 else text(part) for at, part in enumerate(parts))


def visible(text: str) -> str:
    """Text of the audited code, on one line and as it is: what would steer a terminal or hide is replaced."""
    return (
        text.replace("\n", "\u240a")
        .replace("\r", "\u240d")
        .replace("\t", " ")
        .translate(CONTROLS)
        .encode("utf-8", "replace")
        .decode()
    )
