"""From a verdict to what a reader is told: rule, severity, every write with its handler, why it breaks, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from statekit.audit.advice.examples import replacement
from statekit.audit.advice.routes import route_of
from statekit.audit.advice.sentences import keep, why
from statekit.audit.advice.subject import Subject
from statekit.audit.advice.weight import severity
from statekit.audit.engine import Analysis
from statekit.audit.judge import Verdict
from statekit.audit.model import Confidence, Finding, Site
from statekit.audit.project import FunctionIn
from statekit.audit.reach import Phase
from statekit.audit.rules import rule_of

__all__ = ["finding_of"]

ITEMS = 6
"""Keys and readers named as evidence; the rest are counted."""


def finding_of(verdict: Verdict, analysis: Analysis) -> Finding:
    """Put a verdict that found something into words. Raises `ValueError` for one that cleared its candidate."""
    subject = Subject(verdict, _sites(verdict, analysis), _started(verdict, analysis))
    state = verdict.state
    return Finding(
        rule=rule_of(subject.category, subject.shape).id,
        category=subject.category,
        confidence=verdict.confidence,
        severity=severity(subject),
        path=state.module.path,
        line=state.line,
        name=state.name,
        qualified_name=state.qualified,
        writes=subject.sites,
        why=why(subject),
        replacement=replacement(subject),
        keep=keep(subject),
        evidence=tuple(_evidence(subject)),
        parts=tuple(_parts(verdict, analysis)),
    )


def _parts(holder: Verdict, analysis: Analysis) -> Iterator[Finding]:
    """What the object keeps in its attributes; the audit is no surer of them than of the object."""
    sure = list(Confidence).index(holder.confidence)
    for part in analysis.parts.get(holder.state.var, ()) if holder.state.var else ():
        finding = finding_of(part, analysis)
        least = list(Confidence)[max(sure, list(Confidence).index(finding.confidence))]
        yield replace(finding, confidence=least, part_of=holder.state.qualified)


def _sites(verdict: Verdict, analysis: Analysis) -> tuple[Site, ...]:
    """Every place where the state is changed, once, in the order of the files."""
    found: dict[tuple[str, int], Site] = {}
    for change in verdict.changes:
        site = _site(change.function, change.write.line, analysis)
        found.setdefault((site.path, site.line), site)
    return tuple(found[place] for place in sorted(found))


def _started(verdict: Verdict, analysis: Analysis) -> Site | None:
    """Where requests start a thread or task; None for one that starts with the app, and for anything else."""
    state = verdict.state
    if state.shape != "spawn" or state.function is None:
        return None
    site = _site(state.function, state.line, analysis)
    return site if analysis.reach.phase(state.function) is Phase.RUNTIME else None


def _site(function: FunctionIn, line: int, analysis: Analysis) -> Site:
    handler = analysis.reach.handler_of(function)
    return Site(
        path=function.module.path,
        line=line,
        handler=handler.name if handler else "",
        function=function.name,
        route=route_of(handler, analysis.reach.handlers[handler]) if handler else "",
    )


def _evidence(subject: Subject) -> Iterator[str]:
    verdict = subject.verdict
    yield verdict.reason
    if verdict.natures:
        yield "holds: " + ", ".join(sorted(one.value for one in verdict.natures))
    if subject.keys:
        yield "kept per: " + _listed(subject.keys)
    if subject.ops:
        yield "changed by: " + _listed(subject.ops)
    readers = sorted(one.name for one in verdict.state.readers if not one.name.startswith("<"))
    if readers:
        yield "read in: " + _listed(readers)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - ITEMS} more" if len(names) > ITEMS else ""
    return ", ".join(names[:ITEMS]) + more
