"""The code of docs/in-flight.md runs, in order, and what it shows is what one gets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from statekit.inflight import InFlight

PAGE = (Path(__file__).parents[2] / "docs" / "in-flight.md").read_text(encoding="utf-8")


def test_the_page_runs() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert str(names["refused"].value) in PAGE.replace("\n# ", " ")
    names["db"].close()
    names["kit"].close()


def test_the_verbs_are_those_there_are() -> None:
    rows = re.findall(r"^\| ((?:`[\w.(), =]+`(?:, )?)+) \|", PAGE[: PAGE.index("## Waiting")], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)[`(]", row)}
    verbs = {name for name in dir(InFlight) if not name.startswith("_")} - {"limit", "name", "rule"}
    assert named == verbs
