"""The score as a part of the HTML report: the table, every factor's inputs to unfold, and the picture."""

from __future__ import annotations

from html import escape

from statekit.audit.score.model import Candidate, Factor, Score
from statekit.audit.score.picture import picture
from statekit.audit.score.words import (
    FORMULA,
    NOTHING,
    factors_of,
    held_back_by,
    inputs_of,
    listed,
    printable,
    short_names,
)

__all__ = ["html"]

STYLE = """
.sk-score { --s-ink: var(--ink, #1c2126); --s-soft: var(--soft, #626b74); --s-hair: var(--hair, #e4e1d9); --s-calm: var(--calm, #1f7a6d) }
.sk-score table { border-collapse: collapse; width: 100%; min-width: 760px; table-layout: fixed; font-variant-numeric: tabular-nums }
.sk-score col.s { width: 76px } .sk-score col.f { width: 84px } .sk-score col.h { width: 24% }
.sk-score .card { margin: 14px 0 12px; overflow-x: auto }
.sk-score th, .sk-score td { padding: 8px 12px; text-align: right; border-top: 1px solid var(--s-hair); vertical-align: top }
.sk-score thead th { border-top: 0; font-size: 13px; font-weight: 600; color: var(--s-soft); vertical-align: bottom }
.sk-score .w { text-align: left }
.sk-score td { white-space: normal; font-weight: 400 } .sk-score td.w { overflow-wrap: anywhere }
.sk-score .sum, .sk-score summary { font-weight: 600 }
.sk-score .bar { display: block; height: 4px; border-radius: 2px; background: var(--s-calm); margin-top: 5px; min-width: 1px }
.sk-score summary { cursor: pointer }
.sk-score summary:focus-visible { outline: 2px solid var(--s-calm); outline-offset: 2px }
.sk-score dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 8px 0 4px; font-size: 13.5px; font-weight: 400 }
.sk-score dt { color: var(--s-soft) } .sk-score dd { margin: 0 } .sk-score dd div + div { margin-top: 2px }
.sk-score .soft { color: var(--s-soft); font-size: 13.5px }
.sk-score figure { margin: 8px 0 0; overflow-x: auto } .sk-score svg { display: block; width: 100%; min-width: 760px; height: auto }
"""

COLUMN = {
    "clarity": "Is it about one thing, and does the rest respect that? From 1 to 10",
    "viability": "Could those who use it leave a message and go on? From 1 to 10",
    "coupling": "1, and what sharing state with other packages costs",
}
COLUMNS = (
    '<colgroup><col class="s"><col><col class="f"><col class="f"><col class="f"><col class="h"></colgroup>'
)


def html(score: Score) -> str:
    """A ``<section>`` that brings its own style; it takes the page's colours where the page names them as we do."""
    if not score.candidates:
        return f'<section class="sk-score"><p>{NOTHING}</p></section>'
    short = short_names(score)
    highest = max(one.score for one in score.candidates) or 1.0
    rows = "".join(_row(one, score, short, highest) for one in score.candidates)
    head = "".join(f'<th title="{what}">{name}</th>' for name, what in COLUMN.items())
    return (
        f'<section class="sk-score" id="score"><style>{STYLE}</style>'
        f'<h2>What to move first</h2><p class="soft">{_said(FORMULA)}</p>'
        f'<div class="card scroll"><table>{COLUMNS}<thead><tr><th>score</th><th class="w">package</th>{head}'
        f'<th class="w">held back by</th></tr></thead><tbody>{rows}</tbody></table></div>{_notes(score)}'
        f"<h2>Who shares which state</h2><figure>{picture(score, embedded=True)}</figure></section>"
    )


def _row(one: Candidate, score: Score, short: dict[str, str], highest: float) -> str:
    bar = f'<span class="bar" style="width:{100 * one.score / highest:.0f}%"></span>'
    figures = "".join(f"<td>{_figure(factor)}</td>" for _, factor in factors_of(one))
    return (
        f'<tr><td class="sum">{one.score:.1f}{bar}</td><td class="w">{_unfolding(one, score, short)}</td>{figures}'
        f'<td class="w">{_said(held_back_by(one, short))}</td></tr>'
    )


def _figure(factor: Factor) -> str:
    mark = f' <span title="{_said(factor.reason)}">*</span>' if factor.reason else ""
    return f"{factor.value:.1f}{mark}"


def _unfolding(one: Candidate, score: Score, short: dict[str, str]) -> str:
    rows = "".join(
        f"<dt>{name} {factor.value:.1f}</dt><dd>{_lines(inputs_of(one, factor, score, short))}</dd>"
        for name, factor in factors_of(one)
    )
    return f"<details><summary>{_said(one.name)}</summary><dl>{rows}</dl></details>"


def _lines(rows: list[str]) -> str:
    return "".join(f"<div>{_said(row)}</div>" for row in rows)


def _notes(score: Score) -> str:
    rows = list(score.notes)
    if score.passed_over:
        rows.insert(
            0, f"No candidates, for they serve nothing and hold nothing: {listed(score.passed_over, 12)}."
        )
    if score.excluded:
        rows.append(f"Excluded by configuration: {listed(score.excluded, 12)}.")
    return "".join(f'<p class="soft">{_said(row)}</p>' for row in rows)


def _said(said: str) -> str:
    return escape(printable(said))
