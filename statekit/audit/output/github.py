"""Workflow commands of GitHub Actions: a finding becomes a remark on its line of the pull request.

GitHub shows ten of each level a step; for everything there is SARIF.
"""

from __future__ import annotations

from statekit.audit.model import Finding, Report, Severity
from statekit.audit.output.common import opened, visible, where, writer
from statekit.audit.rules import rules

__all__ = ["render"]

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
WRITES = 5


def render(report: Report) -> str:
    """One line a finding; nothing if there is none."""
    lines = [_annotation(one, report) for one in opened(report)]
    lines += [
        _command("warning", {"file": report.prefix + path, "title": "not audited"}, error)
        for path, error in report.unparsed
    ]
    return "".join(line + "\n" for line in lines)


def _annotation(one: Finding, report: Report) -> str:
    rule = rules().get(one.rule)
    named = {
        "file": report.prefix + one.path,
        "line": str(max(one.line, 1)),
        "title": f"{one.rule} {rule.title if rule else one.category}",
    }
    writes = [f"written at {where(report, site)} by {writer(site)}" for site in one.writes[:WRITES]]
    parts = [
        visible(one.why),
        *writes,
        "instead:\n" + one.replacement,
        f"stays: {one.keep}" if one.keep else "",
    ]
    return _command(LEVELS[one.severity], named, "\n".join(filter(None, parts)))


def _command(level: str, named: dict[str, str], message: str) -> str:
    said = ",".join(f"{key}={_property(value)}" for key, value in named.items())
    return f"::{level} {said}::{_data(message)}"


def _data(text: str) -> str:
    """What follows ``::`` ends at the end of its line."""
    kept = "".join(char if char.isprintable() or char in "\n\r\t" else "\ufffd" for char in text)
    return kept.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
