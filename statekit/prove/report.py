"""What a proof says: as text, as JSON, as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from statekit.prove.compare import NEVER, Difference, Endpoint, Invariant
from statekit.prove.run import Proof

__all__ = ["document", "page", "text"]


def verdict(proof: Proof) -> str:
    """The outcome in one sentence."""
    count, of = len(proof.result.diverging), len(proof.result.endpoints)
    whom = f"{proof.course.pods} pods against one process"
    if count:
        return f"{whom}: {count} of {of} endpoints diverge"
    return f"{whom}: none of {of} endpoints diverges"


def document(proof: Proof) -> dict[str, Any]:
    """The report as JSON would have it."""
    course = proof.course
    return {
        "version": 1,
        "verdict": "diverges" if proof.result.diverging else "same",
        "app": proof.app,
        "pods": course.pods,
        "seconds": course.seconds,
        "users": course.users,
        "seed": course.seed,
        "replaced": proof.replaced,
        "requests": proof.requests,
        "diverging": list(proof.result.diverging),
        "endpoints": [asdict(one) for one in proof.result.endpoints],
        "invariants": [{**asdict(one), "diverges": one.diverges} for one in proof.result.invariants],
    }


def text(proof: Proof) -> str:
    """The report for a terminal."""
    lines = [verdict(proof), _lead(proof)]
    for endpoint in proof.result.endpoints:
        broken = _broken(proof, endpoint.name)
        if endpoint.differences or broken:
            lines += ["", endpoint.name]
            lines += [f"  {said(one)}" for one in endpoint.differences]
            lines += [f"  {judged(one)}" for one in broken]
    lines += ["", *_table(proof)]
    lines += ["", *(_rule(one) for one in proof.result.invariants)] if proof.result.invariants else []
    unsteady = [f"{e.name} {', '.join(e.not_judged)}" for e in proof.result.endpoints if e.not_judged]
    if unsteady:
        lines += ["not judged, because one process differs from itself:", *(f"  {one}" for one in unsteady)]
    return "\n".join(map(_harmless, lines)) + "\n"


def _harmless(line: str) -> str:
    """Write out what a terminal might obey: answers may carry anything."""
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _lead(proof: Proof) -> str:
    counts = " / ".join(f"{count:,}" for count in proof.requests.values())
    return (
        f"{counts} requests (one process / the same again / pods), {proof.course.users} visitors, "
        f"{proof.replaced} of {proof.course.pods} pods replaced under load"
    )


def _broken(proof: Proof, endpoint: str) -> list[Invariant]:
    return [one for one in proof.result.invariants if one.diverges and one.endpoint == endpoint]


def said(one: Difference) -> str:
    """A difference in words."""
    share = f"{one.count:,} of {one.of:,} answers"
    if one.kind == "status":
        return f"status: {one.pods} where one process said {one.one}: {share}"
    if one.kind == "failures":
        return f"failures: {one.what}, {share}, {one.one} with one process (first: {one.pods})"
    return f"{one.kind} of {one.what}: {one.pods} where one process said {one.one}: {share}"


def judged(one: Invariant) -> str:
    """A broken invariant in words."""
    return f"broken: {one.name}, {one.pods}; with one process {one.one}"


def _rule(one: Invariant) -> str:
    """An invariant and how it fared."""
    if one.diverges:
        return f"✗ {one.name}: with one process {one.one}, with pods {one.pods}"
    if one.broken_in_one:
        return f"! {one.name}: broken in one process already, {one.one}"
    return f"{'?' if one.pods == NEVER else '✓'} {one.name}: {one.pods}"


def _table(proof: Proof) -> Iterator[str]:
    width = max([8, *(len(one.name) for one in proof.result.endpoints)])
    yield f"{'endpoint':<{width}}  {'one process':>24}  {'p95 ms':>7}  {'pods':>24}  {'p95 ms':>7}"
    for one in proof.result.endpoints:
        cells = [(mix(side.statuses), _ms(side.p95_ms)) for side in (one.one, one.pods)]
        yield f"{one.name:<{width}}  {cells[0][0]:>24}  {cells[0][1]:>7}  {cells[1][0]:>24}  {cells[1][1]:>7}"


def mix(statuses: dict[str, int]) -> str:
    """Statuses with how many there were."""
    return " ".join(f"{status}×{count}" for status, count in statuses.items()) or "-"  # noqa: RUF001 - a times sign


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def page(proof: Proof) -> str:
    """The report as HTML: nothing is loaded from anywhere, it may be mailed as it is."""
    filled = {
        "verdict": escape(verdict(proof)),
        "kind": "bad" if proof.result.diverging else "good",
        "lead": escape(f"{proof.app} · {_lead(proof)}"),
        "rows": "".join(_row(proof, one) for one in proof.result.endpoints),
        "invariants": "".join(_invariant(one) for one in proof.result.invariants),
    }
    made = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], made)


def _row(proof: Proof, one: Endpoint) -> str:
    words = [said(each) for each in one.differences] + [judged(each) for each in _broken(proof, one.name)]
    kind = "bad" if words else "good"
    cells = "".join(
        f"<td>{escape(mix(side.statuses))}</td><td>{escape(_ms(side.p95_ms))}</td>"
        for side in (one.one, one.pods)
    )
    told = "".join(f"<li>{escape(each)}</li>" for each in words)
    more = f'<tr class="why"><td colspan="5"><ul>{told}</ul></td></tr>' if told else ""
    return f'<tr class="{kind}"><td>{escape(one.name)}</td>{cells}</tr>{more}'


def _invariant(one: Invariant) -> str:
    kind = "bad" if one.diverges else "plain" if one.broken_in_pods or one.pods == NEVER else "good"
    cells = "".join(f"<td>{escape(each)}</td>" for each in (one.name, one.endpoint, one.one, one.pods))
    return f'<tr class="{kind}">{cells}</tr>'
