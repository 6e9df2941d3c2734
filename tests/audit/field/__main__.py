"""The audit in the field: how much of what reviewers labelled it finds, and how much of what they cleared.

Labels are JSON lines, a file a project: ``labels/`` was looked at while the analyser was tuned, ``heldout/`` was held
back for its first measurement. ``also`` names other categories under which an equally careful reviewer could file a
place. ``second-reader.jsonl`` has the categories that other reviewers gave the same places later, who knew neither the first
ones nor the audit's. Nothing of the projects is kept here. Fetch wheels without running anything, unpack each into
``FOLDER/<name>-<version>``, and ask:

    pip download --no-deps --only-binary :all: -d wheels chainlit==2.12.0
    python -m zipfile -e wheels/chainlit-2.12.0-*.whl FOLDER/chainlit-2.12.0
    python -m tests.audit.field FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from statekit.audit import Config, Finding, Site, audit

HERE = Path(__file__).parent
Place = tuple[str, str, int, str]
"""Project, path, line and name."""
SHOWN = {"high", "medium"}


def main(folder: Path) -> None:
    for name in ("labels", "heldout"):
        total: Counter[str] = Counter()
        for file in sorted((HERE / name).glob("*.jsonl")):
            head, *labels = map(json.loads, file.read_text(encoding="utf-8").splitlines())
            root = folder / f"{head['project']}-{head['version']}"
            if root.exists():
                found = audit([root], Config(), cache=False).findings
                shown = [
                    each for one in found for each in (one, *one.parts) if each.confidence.value in SHOWN
                ]
                total.update(_counted(root, labels, shown))
                total.update(_read_again(head["project"], labels, shown))
        _told(name, total)


def _counted(root: Path, labels: list[dict[str, Any]], shown: list[Finding]) -> Iterator[str]:
    """What became of each label. A name bound on several lines is labelled on one and found on one, perhaps another."""
    by_line = {(one.path, one.line): one for one in shown}
    labelled = {(label["path"], label["line"]) for label in labels}
    by_name = {(one.path, one.name): one for one in shown if (one.path, one.line) not in labelled}
    told = {(write.path, name) for one in shown for write in one.writes for name in _changed(root, write)}
    for label in labels:
        if label.get("sure", True):
            one = by_line.get((label["path"], label["line"])) or by_name.get((label["path"], label["name"]))
            yield label["label"]
            if one:
                yield f"{label['label']} found"
                yield f"{label['label']} found {one.confidence.value}"
                if one.category.value == label["category"]:
                    yield f"{label['label']} category"
                if one.category.value in (label["category"], *label.get("also", ())):
                    yield f"{label['label']} category or alike"
            elif (label["path"], label["name"]) in told:
                yield f"{label['label']} within"


def _read_again(project: str, labels: list[dict[str, Any]], shown: list[Finding]) -> Iterator[str]:
    """How the categories of the second readers compare with what was found, and with those of the first."""
    found = {(one.path, one.line): one.category.value for one in shown}
    for label in labels:
        place = label["path"], label["line"], label["name"]
        again = _second().get((project, *place))
        category = found.get(place[:2])
        if again and category:
            yield "again"
            yield from ["again category"] * (category == again["category"])
            yield from ["again category or alike"] * (category in (again["category"], *again["also"]))
            agreed = again["category"] == label["category"]
            yield from ["agreed"] * agreed
            yield from ["agreed category"] * (agreed and category == label["category"])


@cache
def _second() -> dict[Place, dict[str, Any]]:
    rows = map(json.loads, (HERE / "second-reader.jsonl").read_text(encoding="utf-8").splitlines())
    return {(one["project"], one["path"], one["line"], one["name"]): one for one in rows}


@cache
def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _changed(root: Path, write: Site) -> list[str]:
    """The attributes named on a line that a finding lists among its writes."""
    lines = _lines(root / write.path)
    return re.findall(r"self\.(\w+)", lines[write.line - 1]) if write.line <= len(lines) else []


def _told(name: str, total: Counter[str]) -> None:
    state, clear = total["state found"], total["clear found"]
    high, high_clear = total["state found high"], total["clear found high"]
    print(f"{name}: {total['state']} places that are state, {total['clear']} that are not")
    print(
        f"  recall {state / max(1, total['state']):.3f}, precision {state / max(1, state + clear):.3f}",
        end="",
    )
    print(f", false positives {clear / max(1, total['clear']):.3f} of what is clear", end="")
    print(f", category {total['state category'] / max(1, state):.3f}", end="")
    print(f" ({total['state category or alike'] / max(1, state):.3f} with those that fit as well)")
    again, agreed = max(1, total["again"]), max(1, total["agreed"])
    print(f"  by a second reader: category {total['again category'] / again:.3f}", end="")
    print(
        f" ({total['again category or alike'] / again:.3f} with those that fit as well) of {again};", end=""
    )
    print(f" where both readers agree {total['agreed category'] / agreed:.3f} of {agreed}")
    print(
        f"  told among the writes of the object they belong to: {total['state within']} more of the state,",
        end="",
    )
    print(f" {total['clear within']} of what is clear")
    print(f"  high confidence alone: {high} found, precision {high / max(1, high + high_clear):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
