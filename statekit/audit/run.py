"""An audit from end to end: find files, read them, judge, and say what a comment or a setting changes about it.

Everything that does not depend on how findings are shown is kept: a second audit of the same content only looks
whether the content is the same.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from statekit.audit.cache import Cache, hash_of, program
from statekit.audit.config import Config, nearest, selected
from statekit.audit.files import Source, Tree, discover, hashed
from statekit.audit.globs import Globs
from statekit.audit.model import Confidence, Finding, Report, Severity
from statekit.audit.outcome import Outcome, analysed
from statekit.audit.suppress import suppressed

__all__ = ["audit", "judged_rules", "shown"]

MILDER = {Severity.ERROR: Severity.WARNING, Severity.WARNING: Severity.NOTE, Severity.NOTE: Severity.NOTE}
FROM_LOW = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


def audit(
    paths: str | Path | Sequence[str | Path],
    config: Config | None = None,
    *,
    cache: bool = True,
    score: bool = False,
) -> Report:
    """Name the state that the processes of a project keep; nothing of it is imported or run.

    Args:
        paths: Folders or files. Paths in the report are relative to the folder, or to the nearest one above all.
        config: How; by default what the nearest ``pyproject.toml`` says.
        cache: Keep what was read in the user's cache folder, and use what is there.
        score: Work out the extraction score too.

    Returns:
        Findings of all confidences in the order of their places, those a comment suppresses with their status.

    Raises:
        UsageError: A path does not exist, or the configuration cannot be meant.
    """
    start = time.perf_counter()
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    how = config or nearest(given[0] if given else ".")
    with _no_collection():
        tree = discover(given, how.include, how.exclude)
        outcome = _outcome(tree, how, Cache(tree.root, off=not cache), score=score)
    seconds = time.perf_counter() - start
    return replace(_report(outcome, how), root=str(tree.root), prefix=_prefix(tree.root), seconds=seconds)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of small tuples that all live to the end: looking for circles among them costs more than reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _outcome(tree: Tree, config: Config, cache: Cache, *, score: bool) -> Outcome:
    sources = list(hashed(tree.python, tree.named))
    texts = list(hashed(tree.texts, tree.named))
    mark = _mark((*sources, *texts), config, score=score)
    kind = "scored" if score else "found"
    kept = Outcome.recalled(cache.outcome(kind, mark))
    if kept is not None:
        return kept
    outcome = analysed(tree.root, sources, texts, config, cache, score=score)
    cache.keep_outcome(kind, mark, outcome.record())
    return outcome


def _mark(sources: Iterable[Source], config: Config, *, score: bool) -> bytes:
    """The hash of all that an outcome depends on."""
    asked = json.dumps(
        [dict(config.lists), dict(config.score) if score else None], sort_keys=True, default=str
    )
    files = [part for one in sources for part in (one.found.path.encode(), one.digest, one.error.encode())]
    return hash_of([program(), asked.encode(), *files])


def _prefix(root: Path) -> str:
    """The way from the working directory to the root, '' where the root is not below it."""
    here = Path.cwd()
    return f"{root.relative_to(here).as_posix()}/" if root != here and root.is_relative_to(here) else ""


# -- what settings and comments change -----------------------------------------------------------------------


def judged_rules(config: Config) -> frozenset[str] | None:
    """The rules that are looked for; None for all of them."""
    if not config.select and not config.ignore:
        return None
    rules = selected("select", config.select or ("ALL",))
    return rules - selected("ignore", config.ignore)


def _report(outcome: Outcome, config: Config) -> Report:
    judged = judged_rules(config)
    findings, said = suppressed(outcome.findings, outcome.comments, judged)
    return Report(
        tuple(sorted(_wanted(findings, judged, config), key=_place)),
        outcome.unparsed,
        outcome.files,
        outcome.lines,
        notes=(*outcome.notes, *said),
        score=outcome.score,
    )


def _wanted(findings: Iterable[Finding], judged: frozenset[str] | None, config: Config) -> Iterator[Finding]:
    for one in findings:
        if (judged is None or one.rule in judged) and not _ignored(one, config):
            milder = config.intent == "single-process"
            severity = MILDER[one.severity] if milder else one.severity
            yield replace(one, severity=severity, parts=tuple(_wanted(one.parts, judged, config)))


def _ignored(finding: Finding, config: Config) -> bool:
    return any(
        finding.path in Globs((glob,)) and finding.rule in selected("per-file-ignores", names)
        for glob, names in config.per_file_ignores.items()
    )


def _place(finding: Finding) -> tuple[str, int, str, str]:
    return finding.path, finding.line, finding.rule, finding.qualified_name


def shown(report: Report, confidence: Confidence) -> Report:
    """The report without open findings of lower confidence; how many those are is told in `hidden`."""
    rank = FROM_LOW.index(confidence)
    kept = [
        replace(one, parts=tuple(part for part in one.parts if FROM_LOW.index(part.confidence) >= rank))
        for one in report.findings
        if FROM_LOW.index(one.confidence) >= rank
    ]
    left_out = [
        one.confidence
        for one in report.findings
        if FROM_LOW.index(one.confidence) < rank and one.status == "open"
    ]
    hidden = tuple((one, left_out.count(one)) for one in reversed(FROM_LOW) if one in left_out)
    return replace(report, findings=tuple(kept), hidden=hidden)
