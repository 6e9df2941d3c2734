"""Run one case to its results, as plain data for JSON; and many cases, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.bench.lab import Lab
from benchmarks.bench.model import Absent, Case, Check, Comparison, Contender, Figure, Figures, Skip
from benchmarks.bench.paired import Lane, Pace, paired
from benchmarks.bench.score import judged, spread

__all__ = ["ran", "ran_apart"]

ROOT = Path(__file__).parents[2]
FEW = 10
"""Calls a batch must have for its slowest hundredth to mean anything."""


# -- here ------------------------------------------------------------------------------------------------


def ran(case: Case, url: str, *, quick: bool) -> dict[str, Any]:
    """Run a case in this process; what goes wrong is part of the result."""
    told: dict[str, Any] = {"name": case.name, "question": case.question, "results": []}
    start = perf_counter()
    try:
        with Lab(url, quick=quick) as lab:
            for part in case.run(lab):
                told["results"].append(_compared(lab, part) if isinstance(part, Comparison) else _taken(part))
    except Skip as skip:
        told["skipped"] = str(skip)
    except ModuleNotFoundError as error:
        told["skipped"] = f"{error.name} is not installed; `pip install 'statekit[bench]'` brings all peers"
    except Exception:  # noqa: BLE001 - the other cases are still worth having
        told["error"] = traceback.format_exc(limit=-6)
    return told | {"seconds": round(perf_counter() - start, 2)}


def _compared(lab: Lab, comparison: Comparison) -> dict[str, Any]:
    checks, failed = _checked(comparison.checks)
    fit = [one for one in comparison.contenders if isinstance(one, Contender) and one.name not in failed]
    pace = Pace.of(quick=lab.quick)
    if comparison.rounds and not lab.quick:
        pace = Pace(comparison.rounds, pace.batch, pace.warm)
    lanes = {lane.contender.name: lane for lane in paired(lab, fit, pace)}
    rounds = {name: lane.rounds for name, lane in lanes.items()}
    singles = {name: lane.p50 or lane.rounds for name, lane in lanes.items()}
    return {
        "label": comparison.label,
        "kind": "comparison",
        "unit": "s",
        "more_is_better": False,
        "note": comparison.note,
        "rounds": pace.rounds,
        "series": [
            _line(one, rounds, failed) | _singles(lanes.get(one.name)) for one in comparison.contenders
        ],
        "promises": [judged(promise, rounds, singles, failed) for promise in comparison.promises],
        "checks": checks,
    }


def _taken(figures: Figures) -> dict[str, Any]:
    checks, failed = _checked(figures.checks)
    present = [one for one in figures.figures if isinstance(one, Figure)]
    failed |= {one.name: one.failed for one in present if one.failed}
    rounds = {one.name: _listed(one.values) for one in present if one.name not in failed}
    return {
        "label": figures.label,
        "kind": "figures",
        "unit": figures.unit,
        "more_is_better": figures.more_is_better,
        "note": figures.note,
        "rounds": max(map(len, rounds.values()), default=0),
        "series": [_line(one, rounds, failed) for one in figures.figures],
        "promises": [judged(promise, rounds, rounds, failed) for promise in figures.promises],
        "checks": checks,
    }


def _listed(values: Any) -> list[float]:
    return [float(values)] if isinstance(values, int | float) else [float(value) for value in values]


def _checked(checks: Iterable[Check]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Run the checks; say who failed, and how."""
    told: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for check in checks:
        wrong = check.fn()
        told.append({"who": check.who, "what": check.what, "passed": not wrong, "detail": wrong or ""})
        if wrong and check.fatal:
            failed.setdefault(check.who, wrong)
    return told, failed


def _line(
    one: Contender | Figure | Absent, rounds: dict[str, list[float]], failed: dict[str, str]
) -> dict[str, Any]:
    if isinstance(one, Absent):
        return {"name": one.name, "role": "absent", "why": one.why}
    told = {"name": one.name, "role": _role(one), "note": one.note}
    if one.name in failed:
        return told | {"failed": failed[one.name]}
    return told | spread(rounds[one.name]) | {"values": rounds[one.name]}


def _role(one: Contender | Figure) -> str:
    if one.floor:
        return "floor"
    if one.twin:
        return "twin"
    return "statekit" if one.name.startswith("statekit") else "peer"


def _singles(lane: Lane | None) -> dict[str, Any]:
    """How many calls a batch had; where they were timed one by one and are not too few, how the single calls lie."""
    if lane is None:
        return {}
    if not lane.p50 or lane.size < FEW:
        return {"batch": lane.size}
    return {"batch": lane.size, "p50": spread(lane.p50)["median"], "p99": spread(lane.p99)["median"]}


# -- each in a process of its own ------------------------------------------------------------------------


def ran_apart(
    cases: Iterable[Case], url: str, *, quick: bool, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run each case in a fresh process: no threads, modules or garbage of the one before."""
    results = []
    for case in cases:
        tell(case.name)
        results.append(_apart(case, url, quick=quick))
        tell(_summary(results[-1]))
    return results


def _apart(case: Case, url: str, *, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="statekit-bench-") as folder:
        out = Path(folder) / "case.json"
        command = [sys.executable, "-m", "benchmarks", "--one", case.name, "--url", url, "--json", str(out)]
        try:
            subprocess.run(
                [*command, *(["--quick"] if quick else [])], check=False, timeout=case.seconds, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            return _broken(case, f"it was given up after {case.seconds:g} s")
        if not out.exists():
            return _broken(case, "its process died; see above")
        return json.loads(out.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _broken(case: Case, why: str) -> dict[str, Any]:
    return {"name": case.name, "question": case.question, "results": [], "error": why}


def _summary(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"  failed: {result['error'].strip().splitlines()[-1]}"
    if "skipped" in result:
        return f"  left out: {result['skipped']}"
    from benchmarks.bench.text import lines

    return "\n".join(lines(result))
