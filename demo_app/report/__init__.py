"""The report: one self-contained page, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from demo_app.report.charts import CHARTS, Scale
from demo_app.report.promises import CONTEXT, PROMISES, Row, broken
from demo_app.settings import State
from demo_app.trial import Outcome

__all__ = ["document", "write"]

TITLES = {
    State.MEMORY: ("memory", "state in each process"),
    State.STICKY: ("sticky", "memory, visitors pinned to a pod"),
    State.SHARED: ("shared", "statekit on one store"),
}
CHART_ROW = {row.chart: row for row in PROMISES}


def document(outcomes: Sequence[Outcome], conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The report as JSON."""
    variants = {str(outcome.state): outcome.figures for outcome in outcomes}
    return {"version": 1, "conditions": dict(conditions), "variants": variants}


def write(folder: Path, outcomes: Sequence[Outcome], conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``index.html`` and ``report.json``; returns what the JSON says. Raises `OSError` if it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    made = document(outcomes, conditions)
    _whole(folder / "report.json", json.dumps(made, indent=2) + "\n")
    _whole(folder / "index.html", page(outcomes, made))
    return made


def page(outcomes: Sequence[Outcome], made: Mapping[str, Any]) -> str:
    """The report as HTML: nothing is loaded from anywhere, it may be mailed as it is."""
    variants: dict[str, dict[str, Any]] = made["variants"]
    lost = broken(variants[State.SHARED]) if State.SHARED in variants else ["the shared variant did not run"]
    scale = Scale.over(outcomes, list(variants.values()))
    filled = {
        "lead": escape(_lead(made["conditions"])),
        "verdict_kind": "bad" if lost else "good",
        "verdict": escape(
            f"Shared state broke {len(lost)} of its promises"
            if lost
            else f"Shared state kept all {len(PROMISES)} of its promises"
        ),
        "table": _table(variants),
        "charts": "".join(_section(name, outcomes, variants, scale) for name in CHARTS),
        "footer": _footer(made["conditions"]),
    }
    text = Path(__file__).with_name("page.html").read_text()
    for name, value in filled.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def _lead(conditions: Mapping[str, Any]) -> str:
    return (
        f"{conditions['pods']} pods of {conditions['workers']} workers behind a round-robin balancer, "
        f"{conditions['users']} visitors, pods replaced one by one in the middle. The code is the same each time; "
        "only where it keeps its state differs. Every figure is what the visitors saw, not what the app says of itself."
    )


def _table(variants: Mapping[str, Mapping[str, Any]]) -> str:
    heads = "".join(
        f"<th><b>{title}</b>{note}</th>" for title, note in (TITLES[State(name)] for name in variants)
    )
    rows = "".join(_row(row, variants) for row in (*PROMISES, *CONTEXT))
    return f"<table><thead><tr><th></th><th>promised</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _row(row: Row, variants: Mapping[str, Mapping[str, Any]]) -> str:
    cells = "".join(
        f'<td class="{_verdict(row, figures)} {name}">{escape(row.shown(figures))}</td>'
        for name, figures in variants.items()
    )
    return f'<tr><td>{escape(row.what)}</td><td class="promise">{escape(row.promise)}</td>{cells}</tr>'


def _verdict(row: Row, figures: Mapping[str, Any]) -> str:
    if row.kept is None:
        return "plain"
    return "good" if row.kept(figures) else "bad"


def _section(name: str, outcomes: Sequence[Outcome], variants: Mapping[str, Any], scale: Scale) -> str:
    chart, row = CHARTS[name], CHART_ROW[name]
    figures = "".join(
        f'<figure class="card"><figcaption><b>{outcome.state}</b>'
        f'<span class="{_verdict(row, variants[outcome.state])}">{escape(row.shown(variants[outcome.state]))}</span>'
        f"</figcaption>{chart.draw(outcome, variants[outcome.state], scale)}</figure>"
        for outcome in outcomes
    )
    return f'<section><h2>{escape(chart.question)}</h2><p>{escape(chart.legend)}</p><div class="row">{figures}</div></section>'


def _footer(conditions: Mapping[str, Any]) -> str:
    versions = " · ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return (
        f"<p>{escape(conditions['date'])} · {conditions['cores']} cores, shared by the pods, the store and the "
        f"load · store: {escape(str(conditions['server']))} · {escape(versions)}</p>"
        "<p>In the sticky variant each pod is one process with the threads of all its workers, because a balancer "
        "pins a visitor to a pod, not to a process in it: that is the kindest reading of stickiness. Response "
        "times leave out calls to the third party. How each figure is computed: <code>docs/demo.md</code>.</p>"
    )


def _whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
