"""SARIF 2.1.0: what code hosts and editors read.

Every write is a related location; what a comment or a baseline takes out is there with its suppression, because some
readers count what is missing as fixed.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import statekit
from statekit.audit.baseline import fingerprint
from statekit.audit.model import Confidence, Finding, Report, Severity, Site
from statekit.audit.output.common import ordered, writer
from statekit.audit.rules import Rule, rules

__all__ = ["document", "render"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
PRECISION = {Confidence.HIGH: "high", Confidence.MEDIUM: "medium", Confidence.LOW: "low"}
RANKS = {Confidence.HIGH: 90.0, Confidence.MEDIUM: 60.0, Confidence.LOW: 30.0}
ROOT = "%SRCROOT%"
SUPPRESSIONS = {"suppressed": "inSource", "accepted": "inSource", "baseline": "external"}


def render(report: Report) -> str:
    """One run."""
    return json.dumps(document(report), indent=2, ensure_ascii=True) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The same as plain dicts and lists."""
    index = {id_: at for at, id_ in enumerate(rules())}
    run = {
        "tool": {"driver": _driver()},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The working directory of the audit."}}},
        "invocations": [
            {"executionSuccessful": True, "toolExecutionNotifications": [*_unread(report), *_notes(report)]}
        ],
        "results": [_result(one, report, index) for one in ordered(report.findings)],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver() -> dict[str, Any]:
    return {
        "name": "statekit audit",
        "version": statekit.__version__,
        "semanticVersion": statekit.__version__,
        "rules": [_rule(one) for one in rules().values()],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(part.title() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.breaks},
        "help": {
            "text": f"{rule.breaks}\n\nUse instead: {rule.use}.\n\nWhat stays: {rule.keep}",
            "markdown": f"{rule.breaks}\n\n```{rule.language}\n# before\n{rule.before}\n\n# after\n{rule.after}\n```\n\n**Use** {rule.use}.\n\n**What stays.** {rule.keep}",
        },
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {"tags": ["state", rule.category.value], "category": rule.category.value},
    }


def _result(one: Finding, report: Report, index: dict[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": one.rule,
        "level": LEVELS[one.severity],
        "rank": RANKS[one.confidence],
        "message": {"text": _text(one), "markdown": _markdown(one)},
        "locations": [
            {
                **_location(report, one.path, one.line),
                "logicalLocations": [
                    {"name": one.name, "fullyQualifiedName": one.qualified_name, "kind": "variable"}
                ],
            }
        ],
        "relatedLocations": [_related(report, site, at) for at, site in enumerate(one.writes, 1)],
        "partialFingerprints": {"statekit/v1": fingerprint(one)},
        "properties": {
            "category": one.category.value,
            "confidence": one.confidence.value,
            "precision": PRECISION[one.confidence],
            "name": one.name,
            "replacement": one.replacement,
            "keep": one.keep,
            "evidence": list(one.evidence),
        },
    }
    if one.rule in index:
        found["ruleIndex"] = index[one.rule]
    if one.status in SUPPRESSIONS:
        said = one.reason or ("known from the baseline" if one.status == "baseline" else one.status)
        found["suppressions"] = [{"kind": SUPPRESSIONS[one.status], "justification": said}]
    return found


def _text(one: Finding) -> str:
    stays = f"\n\nWhat stays: {one.keep}" if one.keep else ""
    return f"{one.why}\n\nInstead:\n{one.replacement}{stays}"


def _markdown(one: Finding) -> str:
    stays = f"\n\n**What stays.** {one.keep}" if one.keep else ""
    return f"{one.why}\n\n```python\n{one.replacement.replace('```', '')}\n```{stays}"


def _location(report: Report, path: str, line: int) -> dict[str, Any]:
    uri = quote((report.prefix + path).encode("utf-8", "surrogateescape"))
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri, "uriBaseId": ROOT},
            "region": {"startLine": max(line, 1)},
        }
    }


def _related(report: Report, site: Site, at: int) -> dict[str, Any]:
    return {
        "id": at,
        "message": {"text": f"written here by {writer(site)}"},
        **_location(report, site.path, site.line),
    }


def _unread(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "level": "warning",
            "message": {"text": f"not audited: {error}"},
            "locations": [_location(report, path, 1)],
        }
        for path, error in report.unparsed
    ]


def _notes(report: Report) -> list[dict[str, Any]]:
    return [{"level": "note", "message": {"text": text}} for text in report.notes]
