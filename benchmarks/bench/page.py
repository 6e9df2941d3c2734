"""The report: bench.json, a self-contained bench.html, an overview as bench.png, the peers as peers.png."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.bench.bars import bars
from benchmarks.bench.text import allowed, measured, promised, totals

__all__ = ["html", "written"]

STYLE = (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")
MARKS = {True: ("kept", "✓ kept"), False: ("missed", "✗ missed"), None: ("void", "? no verdict")}


def written(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write the report; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page, picture = (folder / f"bench.{kind}" for kind in ("json", "html", "png"))
    others = folder / "peers.png"
    data.write_text(json.dumps(report, indent=1), encoding="utf-8")
    page.write_text(html(report), encoding="utf-8")
    try:
        from benchmarks.bench import overview, peers
    except ImportError:  # matplotlib comes with the extra `bench`
        return [data, page]
    drawn = [(picture, overview.drawn(report, picture)), (others, peers.drawn(report, others))]
    return [data, page, *(path for path, done in drawn if done)]


def html(report: dict[str, Any]) -> str:
    """The page, as one file without references."""
    body = "\n".join((*_head(report), *(part for result in report["results"] for part in _case(result))))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>statekit beside its peers</title><style>{STYLE}</style><main>{body}</main></html>"
    )


def _head(report: dict[str, Any]) -> Iterator[str]:
    told, counted = report["conditions"], totals(report["results"])
    server = told["server"]
    yield "<h1>statekit beside its peers</h1>"
    yield (
        "<p>Same server, same run, contenders interleaved; shorter bars are better unless said otherwise. A contender"
        " that does its work wrongly gets no bar. What a promise compares is the median of the ratios within each"
        " round, with quartiles.</p>"
    )
    yield f'<p class="sum">{counted["kept"]} promises kept, {counted["missed"]} missed, {counted["void"]} without verdict</p>'
    yield "<details><summary>Conditions</summary><dl>"
    rows = {"server": f"{server['name']} {server['version']} over {server['transport']}"}
    rows |= {key: told[key] for key in ("cpu", "cores", "system", "python", "date", "commit", "method")}
    rows["load"] = f"{told['load_before']:.2f} before, {told.get('load_after', 0):.2f} after"
    rows["packages"] = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    yield from (f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in rows.items())
    yield "</dl></details><nav>"
    yield from (f'<a href="#{escape(one["name"])}">{escape(one["name"])}</a>' for one in report["results"])
    yield "</nav>"
    yield from _promises(report)


def _promises(report: dict[str, Any]) -> Iterator[str]:
    yield "<table><tr><th>case</th><th>promise</th><th>allowed</th><th>measured</th><th></th></tr>"
    for result in report["results"]:
        for part in result["results"]:
            for promise in part["promises"]:
                kind, mark = MARKS[promise["kept"]]
                cells = (
                    f"{promise['who']}, {part['label']}",
                    allowed(promise, part["unit"]),
                    measured(promise, part["unit"]),
                )
                row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                name = escape(result["name"])
                link = f'<td><a href="#{name}">{name}</a></td>'
                yield f'<tr class="{kind}">{link}{row}<td><b>{mark}</b></td></tr>'
    yield "</table>"


def _case(result: dict[str, Any]) -> Iterator[str]:
    name = escape(result["name"])
    yield f'<section id="{name}"><h2>{escape(result["question"])}</h2><p class="name">{name}</p>'
    if "skipped" in result:
        yield f'<p class="void">Left out: {escape(result["skipped"])}</p>'
    if "error" in result:
        yield f'<p class="missed">It failed.</p><pre>{escape(result["error"])}</pre>'
    for part in result["results"]:
        yield from _part(part)
    yield "</section>"


def _part(part: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(part['label'])}</h3>"
    if part["note"]:
        yield f"<p>{escape(part['note'])}</p>"
    yield bars(part)
    yield from _remarks(part["series"])
    yield "<ul>" if part["promises"] or part["checks"] else ""
    for promise in part["promises"]:
        kind, mark = MARKS[promise["kept"]]
        yield f'<li class="{kind}"><b>{mark}</b> {escape(promised(promise, part["unit"]))}</li>'
    for check in part["checks"]:
        kind, mark = ("checked", "✓ checked") if check["passed"] else ("missed", "✗ not so")
        detail = f": {check['detail']}" if check["detail"] else ""
        yield f'<li class="{kind}"><b>{mark}</b> {escape(check["who"])} {escape(check["what"] + detail)}</li>'
    yield "</ul>" if part["promises"] or part["checks"] else ""


def _remarks(series: list[dict[str, Any]]) -> Iterator[str]:
    notes = [f"{one['name']}: {one['note']}" for one in series if one.get("note")]
    notes += [f"{one['name']} is left out: {one['why']}" for one in series if one["role"] == "absent"]
    if notes:
        yield f'<p class="note">{escape(" · ".join(notes))}</p>'
