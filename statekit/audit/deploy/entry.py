"""Deployment files and configuration, from end to end: what is said about how the app is run, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from statekit.audit.deploy.balancers import BALANCERS
from statekit.audit.deploy.clusters import compose, yaml
from statekit.audit.deploy.django import django_hits
from statekit.audit.deploy.found import Hit, finding
from statekit.audit.deploy.ground import Ground
from statekit.audit.deploy.keys import secret_hits
from statekit.audit.deploy.libraries import library_hits
from statekit.audit.deploy.names import LARGEST, discovered, kind_of, offstage
from statekit.audit.deploy.papers import READERS, Paper
from statekit.audit.deploy.preload import preload_hits, started_in_python
from statekit.audit.deploy.running import Running
from statekit.audit.deploy.sessions import session_hits
from statekit.audit.deploy.urls import memory_urls
from statekit.audit.facts import FileFacts
from statekit.audit.model import Finding, Severity

__all__ = ["Deployment", "deployment"]

READING: tuple[Mapping[str, Callable[[Paper], None]], ...] = (
    READERS,
    BALANCERS,
    {"compose": compose, "yaml": yaml},
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What configuration and deployment files say."""

    findings: list[Finding]
    facts: Running
    """How many processes answer, what preloads, what is sticky: to weigh other findings with."""


def deployment(
    root: Path,
    files: Sequence[FileFacts],
    text_files: Iterable[str | tuple[str, str]] | None = None,
) -> Deployment:
    """Read what says how the app is configured and run.

    Args:
        root: What the paths of `files` are relative to.
        files: Facts of the Python files; those that configure something are parsed once more.
        text_files: Deployment files: paths relative to `root`, or pairs of such a path and where the file really is.
            None: those found below `root`. What is no deployment file is left out.

    Returns:
        Findings in order of path and line, and what is said about processes, pods and stickiness.
    """
    base = root if root.is_dir() else root.parent
    papers = list(_papers(base, text_files))
    ground = Ground(base, files, Running(tuple(one for paper in papers for one in paper.said)))
    papers += started_in_python(ground)
    ground.running = Running(tuple(one for paper in papers for one in paper.said))
    hits = [hit for paper in papers for hit in paper.hits]
    hits += _python(ground)
    found = {
        (one.path, one.line, one.rule, one.name): one
        for one in (finding(hit, ground.running) for hit in hits)
    }
    eased = (_eased(one, ground) for one in found.values())
    return Deployment(sorted(eased, key=lambda one: (one.path, one.line, one.rule)), ground.running)


def _python(ground: Ground) -> Iterator[Hit]:
    yield from memory_urls(ground)
    yield from library_hits(ground)
    yield from django_hits(ground)
    yield from secret_hits(ground)
    yield from session_hits(ground)
    yield from preload_hits(ground)


def _papers(root: Path, given: Iterable[str | tuple[str, str]] | None) -> Iterator[Paper]:
    for one in discovered(root) if given is None else given:
        path, real = (one, str(root / one)) if isinstance(one, str) else (one[0], one[1])
        kind = kind_of(path)
        if kind and not offstage(path):
            text = _text(Path(real))
            if text:
                yield _read(Paper(path, text), kind)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            return ""
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


def _read(paper: Paper, kind: str) -> Paper:
    for readers in READING:
        if kind in readers:
            readers[kind](paper)
    return paper


def _eased(one: Finding, ground: Ground) -> Finding:
    """Stickiness is what Socket.IO's long polling asks for: right to have, for that alone."""
    if one.rule in ("SK550", "SK551") and ground.imports("flask_socketio", "socketio"):
        return replace(
            one,
            severity=Severity.WARNING,
            evidence=(*one.evidence, "Socket.IO is used, whose long polling needs it"),
        )
    return one
