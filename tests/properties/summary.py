"""What was tried is told at the end: schedules, steps, differences. Also by tests that pass, also from other workers."""

from __future__ import annotations

from collections import defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up the property ``schedules`` of all tests: ``(what, schedules, steps)``, and numbers with a name."""
    told: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "schedules":
                    what, schedules, steps = value
                    for index, number in enumerate((schedules, steps, outcome == "failed")):
                        told[what][index] += number
    for what, (schedules, steps, failed) in sorted(told.items()):
        terminalreporter.write_line(f"{what}: {schedules:,} schedules, {steps:,} steps, {failed} differences")
