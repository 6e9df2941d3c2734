"""JSON, as `schema.json` beside this file describes it. Stable: the same content gives the same bytes."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from statekit.audit.baseline import fingerprint
from statekit.audit.model import Finding, Report
from statekit.audit.output.common import inventory, ordered
from statekit.audit.rules import rules

__all__ = ["VERSION", "document", "render", "schema"]

VERSION = 1
"""Raised when a key changes its meaning or goes; new keys may come at any time."""


def render(report: Report) -> str:
    """The whole report."""
    return json.dumps(document(report), indent=2, ensure_ascii=True) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of what `render` writes."""
    text = resources.files("statekit.audit.output").joinpath("schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def document(report: Report) -> dict[str, Any]:
    """The same as plain dicts and lists."""
    found: dict[str, Any] = {
        "version": VERSION,
        "files": report.files,
        "lines": report.lines,
        "inventory": [
            {
                "category": row.category.value,
                "count": row.count,
                "accepted": row.accepted,
                "problem": row.problem,
            }
            for row in inventory(report)
        ],
        "findings": [
            _finding(each) for one in ordered(report.findings) for each in (one, *ordered(one.parts))
        ],
        "hidden": {confidence.value: count for confidence, count in report.hidden},
        "notes": list(report.notes),
        "unparsed": [{"path": path, "error": error} for path, error in report.unparsed],
    }
    if report.score is not None:
        from statekit.audit.score import as_json  # noqa: PLC0415 - few ask for a score

        found["score"] = as_json(report.score)
    return found


def _finding(one: Finding) -> dict[str, Any]:
    rule = rules().get(one.rule)
    return {
        "rule": one.rule,
        "rule_name": rule.name if rule else "",
        "category": one.category.value,
        "confidence": one.confidence.value,
        "severity": one.severity.value,
        "path": one.path,
        "line": one.line,
        "name": one.name,
        "qualified_name": one.qualified_name,
        "writes": [
            {
                "path": site.path,
                "line": site.line,
                "handler": site.handler,
                "function": site.function,
                "route": site.route,
            }
            for site in one.writes
        ],
        "why": one.why,
        "replacement": one.replacement,
        "keep": one.keep,
        "evidence": list(one.evidence),
        "status": one.status,
        "reason": one.reason,
        "part_of": one.part_of,
        "fingerprint": fingerprint(one),
        "help": rule.url if rule else "",
    }
