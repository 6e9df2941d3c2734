"""Text for a terminal: the inventory as a table, then every finding by category and package, then what to do next.

Between 80 and 100 columns wide, with colours only where they are seen. Written without a library, for a report of a
thousand findings must not take longer than the audit.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from textwrap import wrap

from statekit.audit.model import Finding, Report
from statekit.audit.output.common import (
    by_category,
    by_package,
    counted,
    inventory,
    laid_out,
    next_step,
    opened,
    parts_of,
    plural,
    said,
    visible,
    where,
    writer,
)
from statekit.audit.rules import sort_of

__all__ = ["render"]

NARROWEST, WIDEST = 80, 100
MARGIN = 11
WRITES = 6
"""Sites that are listed; of the rest it is told how many there are."""
CODES = {
    "bold": "1",
    "soft": "2",
    "error": "1;31",
    "warning": "33",
    "note": "36",
    "code": "32",
    "head": "1;4",
}


def render(report: Report, *, terminal: bool = False) -> str:
    """The whole report. `terminal`: measure and colour for the standard output of this process."""
    pen = _Pen(_columns() if terminal else WIDEST, colours=terminal and _colours())
    lines = [*_head(report, pen), *_table(report, pen), *_findings(report, pen), *_end(report, pen)]
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n" + _score(report)


def _columns() -> int:
    return min(max(shutil.get_terminal_size((WIDEST, 24)).columns, NARROWEST), WIDEST)


def _colours() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


class _Pen:
    """Writes lines of a width, coloured or plain."""

    def __init__(self, width: int, *, colours: bool) -> None:
        self.width = width
        self._colours = colours

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{CODES[style]}m{text}\x1b[0m" if self._colours and text else text

    def wrapped(self, text: str, indent: int, label: str = "", style: str = "") -> Iterator[str]:
        """A paragraph, its label hanging in the margin."""
        room = self.width - indent
        for at, line in enumerate(wrap(text, room, break_on_hyphens=False) or [""]):
            margin = f"{label:>{indent - 2}}  " if at == 0 and label else " " * indent
            yield self("soft", margin) + (self(style, line) if style else line)


# -- the inventory ---------------------------------------------------------------------------------------------


def _head(report: Report, pen: _Pen) -> Iterator[str]:
    size = f"{plural(report.files, 'file')}, {plural(report.lines, 'line')}"
    took = f", {report.seconds:.1f} s" if report.seconds >= 0.05 else ""
    yield f"{pen('bold', 'statekit audit')}  {pen('soft', size + took)}"
    yield ""


def _table(report: Report, pen: _Pen) -> Iterator[str]:
    rows = inventory(report)
    if not rows:
        return
    wide = max(len(row.title) for row in rows)
    room = pen.width - wide - 13
    yield pen("soft", f"  {'category':<{wide}}  {'found':>5}  with N workers")
    yield pen("soft", f"  {'─' * wide}  {'─' * 5}  {'─' * (room + 1)}")
    for row in rows:
        first, *others = wrap(row.problem + row.aside, room) or [""]
        count = pen(row.severity.value, f"{row.count:>5}") if row.count else pen("soft", f"{'ok':>5}")
        yield f"  {row.title:<{wide}}  {count}  {first}"
        yield from (f"  {'':<{wide}}  {'':>5}  {line}" for line in others)
    yield pen("soft", f"  {'─' * wide}  {'─' * 5}")
    yield f"  {'':<{wide}}  {pen('bold', f'{sum(row.count for row in rows):>5}')}  {counted(opened(report))}"
    yield ""


# -- findings ----------------------------------------------------------------------------------------------------


def _findings(report: Report, pen: _Pen) -> Iterator[str]:
    for category, several in by_category(opened(report)):
        yield from ("", pen("head", sort_of(category).title), "")
        for package, mine in by_package(several):
            if package:
                yield from (pen("soft", f"  {visible(package)}/"), "")
            for one in mine:
                yield from (*_finding(one, report, pen), "")


def _finding(one: Finding, report: Report, pen: _Pen) -> Iterator[str]:
    mark = pen(one.severity.value, f"{one.rule:<6} {one.severity.value:<7}")
    sure = "" if one.confidence == "high" else pen("soft", f"  ({one.confidence} confidence)")
    yield f"  {mark}  {pen('bold', visible(one.name))}  {where(report, one)}{sure}"
    yield from pen.wrapped(visible(one.why), MARGIN)
    yield from _writes(one, report, pen)
    yield from _parts(one, report, pen)
    yield from _code(one.replacement, pen)
    if one.keep:
        yield from pen.wrapped(visible(one.keep), MARGIN, "stays", "soft")


def _writes(one: Finding, report: Report, pen: _Pen) -> Iterator[str]:
    for at, site in enumerate(one.writes[:WRITES]):
        yield from pen.wrapped(f"{where(report, site)}  {writer(site)}", MARGIN, "written" if at == 0 else "")
    if len(one.writes) > WRITES:
        yield from pen.wrapped(f"and {plural(len(one.writes) - WRITES, 'more place')}", MARGIN)


def _parts(one: Finding, report: Report, pen: _Pen) -> Iterator[str]:
    parts = parts_of(one)
    for at, part in enumerate(parts[:WRITES]):
        title = sort_of(part.category).title.lower()
        line = f"{where(report, part)}  {visible(part.name)}: {title} ({part.rule})"
        yield from pen.wrapped(line, MARGIN, "keeps" if at == 0 else "")
    if len(parts) > WRITES:
        yield from pen.wrapped(f"and {plural(len(parts) - WRITES, 'more attribute')}", MARGIN)


def _code(code: str, pen: _Pen) -> Iterator[str]:
    for at, (line, remark) in enumerate(laid_out(code, pen.width - MARGIN)):
        yield (
            pen("soft", f"{'instead' if at == 0 else '':>{MARGIN - 2}}  ")
            + pen("code", line)
            + pen("soft", remark)
        )


# -- the end --------------------------------------------------------------------------------------------------------


def _end(report: Report, pen: _Pen) -> Iterator[str]:
    if report.unparsed:
        yield pen("warning", f"{plural(len(report.unparsed), 'file')} could not be read:")
        for path, error in report.unparsed:
            yield from pen.wrapped(f"{visible(report.prefix + path)}: {visible(error)}", 2)
        yield ""
    remarks = said(report)
    for line in remarks:
        yield from pen.wrapped(visible(line), 0, style="soft")
    if remarks:
        yield ""
    yield from pen.wrapped(visible(next_step(report)), 0, style="bold")


def _score(report: Report) -> str:
    if report.score is None:
        return ""
    from statekit.audit.score import text  # noqa: PLC0415 - few ask for a score

    return f"\n{text(report.score)}"
