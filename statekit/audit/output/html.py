"""A page of its own: inventory, filters, findings. One file, nothing loaded from anywhere, light and dark.

All that comes from the audited code is escaped, and the page's own rules allow no script but the one it was made with.
Without scripts everything is shown and nothing can be filtered.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from importlib import resources

import statekit
from statekit.audit.model import Category, Confidence, Finding, Report, Severity, Site
from statekit.audit.output.common import (
    Row,
    as_spoken,
    by_category,
    by_package,
    counted,
    inventory,
    laid_out,
    next_step,
    opened,
    ordered,
    parts_of,
    plural,
    said,
    visible,
    where,
)
from statekit.audit.rules import rules, sort_of

__all__ = ["render"]

WIDE = 78
"""Columns of code before it has to be scrolled."""
STATUSES = {"open": "open", "accepted": "accepted", "suppressed": "suppressed", "baseline": "known"}
CHOSEN = {"open"}
"""Statuses that are shown before anybody filters."""


def render(report: Report) -> str:
    """The page."""
    script = _resource("page.js")
    parts = {
        "title": f"State in the processes: {_headline(report)}",
        "script_hash": "sha256-" + b64encode(sha256(script.encode()).digest()).decode(),
        "style": _resource("page.css"),
        "script": script,
        "headline": _headline(report),
        "lead": _sentence(next_step(report)),
        "inventory": _inventory(report),
        "ways": _ways(report),
        "score": _score(report),
        "filters": _filters(report),
        "findings": "".join(_sections(report)),
        "remarks": _remarks(report),
        "footer": _footer(report),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _resource("page.html"))


def _resource(name: str) -> str:
    return resources.files("statekit.audit.output").joinpath(name).read_text(encoding="utf-8")


def _headline(report: Report) -> str:
    return escape(counted(opened(report)) or "nothing found")


def _score(report: Report) -> str:
    if report.score is None:
        return ""
    from statekit.audit.score import html  # noqa: PLC0415 - few ask for a score

    return html(report.score)


def _ways(report: Report) -> str:
    """Links to what stands far below."""
    if report.score is None or not report.findings:
        return ""
    return '<p class="ways soft"><a href="#score">What to move first, and who shares what</a></p>'


def _footer(report: Report) -> str:
    return f"{plural(report.files, 'file')}, {plural(report.lines, 'line')} read by statekit {escape(statekit.__version__)}; nothing of it was run. What a rule means: <code>statekit audit --explain SK101</code>."


# -- inventory and filters ------------------------------------------------------------------------------------------


def _inventory(report: Report) -> str:
    rows = inventory(report)
    if not rows:
        return ""
    total = f'<tr><td>All</td><td class="n">{sum(row.count for row in rows)}</td><td class="p">{escape(counted(opened(report)))}</td></tr>'
    return (
        '<div class="inventory card scroll"><table><thead><tr><th>category</th><th class="n">found</th><th>what happens with several workers</th></tr></thead>'
        f"<tbody>{''.join(map(_row, rows))}</tbody><tfoot>{total}</tfoot></table></div>"
    )


def _row(row: Row) -> str:
    dot = row.severity.value if row.count else "none"
    accepted = f' <span class="soft">+{row.accepted} accepted</span>' if row.accepted else ""
    return (
        f'<tr><td class="c"><span class="dot {dot}"></span><button type="button" aria-pressed="false" data-category="{row.category}">{escape(row.title)}</button></td>'
        f'<td class="n">{row.count}{accepted}</td><td class="p">{escape(row.problem)}</td></tr>'
    )


def _filters(report: Report) -> str:
    if not report.findings:
        return ""
    groups = "".join(
        (
            _group("severity", "Severity", [one.value for one in Severity], report),
            _group("confidence", "Confidence", [one.value for one in Confidence], report),
            _group("status", "Status", list(STATUSES), report),
        )
    )
    return (
        '<div class="filters" role="search" hidden><input type="search" placeholder="Name, path, handler, rule" aria-label="Search findings">'
        f'{groups}<button type="button" class="all" hidden>show all</button><output></output></div>'
        '<p class="none card" hidden>Nothing fits these filters.</p>'
    )


def _group(name: str, title: str, values: Iterable[str], report: Report) -> str:
    """Boxes for the values there are; none where there is nothing to choose."""
    there = {str(getattr(one, name)) for one in report.findings}
    values = [one for one in values if one in there]
    if len(values) < 2:
        return ""
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}" value="{value}"{_checked(name, value, there)}>{STATUSES.get(value, value)}{" confidence" if name == "confidence" else ""}</label>'
        for value in values
    )
    return f"<fieldset><legend>{title}</legend>{boxes}</fieldset>"


def _checked(name: str, value: str, there: set[str]) -> str:
    """Before anybody chooses: all severities and confidences, and of the statuses the open ones."""
    on = value in CHOSEN or not there & CHOSEN if name == "status" else True
    return " checked" if on else ""


# -- findings ----------------------------------------------------------------------------------------------------------


def _sections(report: Report) -> Iterator[str]:
    for category, several in by_category(ordered(report.findings)):
        yield "".join(_section(category, several, report))


def _section(category: Category, several: list[Finding], report: Report) -> Iterator[str]:
    sort = sort_of(category)
    yield f'<section data-group><h2>{escape(sort.title)}</h2><p class="soft">{escape(sort.breaks)}</p>'
    for package, mine in by_package(several):
        shown = f"{_text(package)}/" if package else ""
        yield f"<div data-group><h3>{shown}</h3>{''.join(_finding(one, report) for one in mine)}</div>"
    yield "</section>"


def _finding(one: Finding, report: Report) -> str:
    data = f'data-category="{one.category}" data-severity="{one.severity}" data-confidence="{one.confidence}" data-status="{_text(one.status)}"'
    return (
        f'<article class="finding card" {data}>{_title(one, report)}<p class="why">{_sentence(one.why)}</p>'
        f"{_body(one, report)}{_keep(one)}{_evidence(one)}</article>"
    )


def _title(one: Finding, report: Report) -> str:
    rule = rules().get(one.rule)
    named = f'<abbr title="{escape(rule.title)}">{escape(one.rule)}</abbr>' if rule else _text(one.rule)
    status = (
        f'<span class="pill status">{escape(STATUSES.get(one.status, one.status))}</span>'
        if one.status != "open"
        else ""
    )
    return (
        f'<header><span class="pill {one.severity}">{one.severity}</span>{status}<b title="{_text(one.qualified_name)}">{_text(one.name)}</b>'
        f'<code class="at">{_text(where(report, one))}</code><span class="sure">{named} · {one.confidence} confidence</span></header>'
    )


def _body(one: Finding, report: Report) -> str:
    writes = "".join(
        f"<li><code>{_text(where(report, site))}</code> <span>{_writer(site)}</span></li>"
        for site in one.writes
    )
    written = f"<div><h4>Written at</h4><ul>{writes}</ul>{_parts(one, report)}</div>" if writes else ""
    instead = f"<div><h4>Instead</h4><pre><code>{_code(one.replacement)}</code></pre></div>"
    return f'<div class="two{"" if written else " one"}">{written}{instead}</div>'


def _parts(one: Finding, report: Report) -> str:
    """What the object keeps, attribute by attribute."""
    rows = "".join(
        f"<li><code>{_text(where(report, part))}</code> <span>{_text(part.name)}: {escape(sort_of(part.category).title.lower())}</span></li>"
        for part in parts_of(one)
    )
    return f"<h4>Keeps</h4><ul>{rows}</ul>" if rows else ""


def _writer(site: Site) -> str:
    through = f" from {_text(site.handler)}" if site.handler and site.handler != site.function else ""
    route = f" · {_text(site.route)}" if site.route else ""
    return f"{_text(site.function)}{through}{route}"


def _code(code: str) -> str:
    """Code with its remarks set back."""
    lines = laid_out(code, WIDE)
    return "\n".join(_text(line) + (f"<i>{_text(remark)}</i>" if remark else "") for line, remark in lines)


def _keep(one: Finding) -> str:
    reason = (
        f'<p class="keep"><b>{escape(one.status.title())}:</b> {_text(one.reason)}</p>' if one.reason else ""
    )
    return (f'<p class="keep"><b>Stays:</b> {_sentence(one.keep)}</p>' if one.keep else "") + reason


def _evidence(one: Finding) -> str:
    if not one.evidence:
        return ""
    return f"<details><summary>Why the audit believes it</summary><ul>{''.join(f'<li>{_text(line)}</li>' for line in one.evidence)}</ul></details>"


def _remarks(report: Report) -> str:
    lines = [_text(line) for line in said(report)]
    lines += [
        f"Not audited: <code>{_text(report.prefix + path)}</code>, {_text(error)}"
        for path, error in report.unparsed
    ]
    return (
        f'<section class="remarks"><h2>Beside that</h2><ul>{"".join(f"<li>{line}</li>" for line in lines)}</ul></section>'
        if lines
        else ""
    )


# -- text of the audited code ---------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return escape(visible(text))


def _sentence(text: str) -> str:
    return as_spoken(text, _text, lambda part: f"<code>{_text(part)}</code>")
