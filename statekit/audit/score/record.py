"""The score as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statekit.audit.model import Category, Confidence
from statekit.audit.score.model import Candidate, Factor, Grip, Hold, Part, Score, SharedState

__all__ = ["as_json", "recalled"]


def as_json(score: Score) -> dict[str, Any]:
    """What stands under ``"score"`` in the audit's JSON: every factor with its inputs."""
    return {
        "formula": "clarity * viability / coupling",
        "candidates": [_candidate(one) for one in score.candidates],
        "states": [_state(one) for one in score.states],
        "passed_over": list(score.passed_over),
        "excluded": list(score.excluded),
        "notes": list(score.notes),
    }


def recalled(said: Mapping[str, Any]) -> Score:
    """The score that `as_json` was given."""
    return Score(
        candidates=tuple(_recalled(one) for one in said["candidates"]),
        states=tuple(_recalled_state(one) for one in said["states"]),
        passed_over=tuple(said["passed_over"]),
        excluded=tuple(said["excluded"]),
        notes=tuple(said["notes"]),
    )


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "package": one.name,
        "score": one.score,
        "files": one.files,
        "functions": one.functions,
        "handlers": one.handlers,
        "clarity": _factor(one.clarity),
        "viability": _factor(one.viability),
        "coupling": _factor(one.coupling),
        "shares": [{"state": name, "cost": round(cost, 3)} for name, cost in one.shares],
        "partners": list(one.partners),
        "own_states": one.own,
    }


def _factor(one: Factor) -> dict[str, Any]:
    parts = [
        {"input": part.name, "share": round(part.share, 4), "weight": part.weight, "said": part.said}
        for part in one.parts
    ]
    return {"value": one.value, "derived": one.derived, "inputs": parts, "overridden": one.reason}


def _state(one: SharedState) -> dict[str, Any]:
    return {
        "state": one.name,
        "category": str(one.category),
        "confidence": str(one.confidence),
        "path": one.path,
        "line": one.line,
        "weight": one.weight,
        "object": one.object,
        "holds": [
            {
                "package": hold.package,
                "grip": str(hold.grip),
                "functions": list(hold.functions),
                "count": hold.count,
            }
            for hold in one.holds
        ],
    }


def _recalled(one: Mapping[str, Any]) -> Candidate:
    return Candidate(
        name=one["package"],
        files=one["files"],
        functions=one["functions"],
        handlers=one["handlers"],
        clarity=_recalled_factor(one["clarity"]),
        viability=_recalled_factor(one["viability"]),
        coupling=_recalled_factor(one["coupling"]),
        shares=tuple((row["state"], row["cost"]) for row in one["shares"]),
        partners=tuple(one["partners"]),
        own=one["own_states"],
    )


def _recalled_factor(one: Mapping[str, Any]) -> Factor:
    parts = tuple(Part(row["input"], row["share"], row["weight"], row["said"]) for row in one["inputs"])
    return Factor(one["value"], one["derived"], parts, one["overridden"])


def _recalled_state(one: Mapping[str, Any]) -> SharedState:
    holds = tuple(
        Hold(row["package"], Grip(row["grip"]), tuple(row["functions"]), row["count"]) for row in one["holds"]
    )
    return SharedState(
        name=one["state"],
        category=Category(one["category"]),
        confidence=Confidence(one["confidence"]),
        path=one["path"],
        line=one["line"],
        weight=one["weight"],
        object=one["object"],
        holds=holds,
    )
