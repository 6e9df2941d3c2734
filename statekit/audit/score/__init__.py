"""The extraction score: which package to move out first, and what keeps the others.

Score = (Domain Clarity x Async Viability) / Shared State Coupling, each factor derived from what the code says and
shown with what it was derived from. See docs/audit-score.md.
"""

from __future__ import annotations

from statekit.audit.score.model import Candidate, Factor, Grip, Hold, Part, Score, SharedState
from statekit.audit.score.page import html
from statekit.audit.score.picture import picture
from statekit.audit.score.record import as_json, recalled
from statekit.audit.score.scoring import score
from statekit.audit.score.settings import BadSetting, Override, Settings, settings_from
from statekit.audit.score.words import markdown, text

__all__ = [
    "BadSetting",
    "Candidate",
    "Factor",
    "Grip",
    "Hold",
    "Override",
    "Part",
    "Score",
    "Settings",
    "SharedState",
    "as_json",
    "html",
    "markdown",
    "picture",
    "recalled",
    "score",
    "settings_from",
    "text",
]
