"""How a finding of this room is put together: the rule says how much it weighs, the case says what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from statekit.audit.deploy.running import Running
from statekit.audit.model import Category, Confidence, Finding, Severity, Site
from statekit.audit.rules import rules

__all__ = ["REDIS", "Hit", "Place", "finding"]

REDIS = 'os.environ["REDIS_URL"]'
"""The address of what is shared, as replacements spell it: it fails where it is missing."""


class Place(NamedTuple):
    """Where a setting stands: its file, line and name, and the class or function around it."""

    path: str
    line: int
    name: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """Something worth a finding."""

    rule: str
    place: Place
    why: str
    """What breaks, in this project's names; how the app is run is added."""
    replacement: str
    confidence: Confidence = Confidence.HIGH
    keep: str = ""
    severity: Severity | None = None
    """Where it is not the rule's own."""
    evidence: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()


def finding(hit: Hit, running: Running) -> Finding:
    """Say it as a finding, heavier where several processes are configured, lighter where exactly one is."""
    rule = rules()[hit.rule]
    severity = hit.severity or rule.severity
    configured = rule.category is Category.MISCONFIG
    told = f"; {running.why}" if configured and running.why and hit.rule != "SK1210" else ""
    return Finding(
        rule=rule.id,
        category=rule.category,
        confidence=hit.confidence,
        severity=running.weigh(severity) if configured and hit.rule != "SK1210" else severity,
        path=hit.place.path,
        line=hit.place.line,
        name=hit.place.name,
        qualified_name=_qualified(hit.place),
        writes=hit.sites,
        why=f"{hit.why}{told}.",
        replacement=hit.replacement,
        keep=hit.keep or rule.keep,
        evidence=hit.evidence or (rule.title,),
    )


def _qualified(place: Place) -> str:
    if not place.path.endswith(".py"):
        return f"{place.path}:{place.name}"
    module = place.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return ".".join(filter(None, (module, place.owner, place.name)))
