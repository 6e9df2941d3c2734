"""One finding to make others from, and what the JSON of every finding holds."""

from __future__ import annotations

from statekit.audit.model import Category, Confidence, Finding, Severity

HITS = Finding(
    "SK101", Category.RATE_LIMITER, Confidence.HIGH, Severity.ERROR, "app.py", 4, "HITS", "app.HITS", (), "why", "use"
)  # fmt: skip
PROMISED = {
    "rule", "category", "confidence", "severity", "path", "line", "name", "qualified_name", "writes", "why", "replacement",
}  # fmt: skip
"""Keys that other programs read: none of them ever goes."""
