"""The code of docs/pools.md runs, in order."""

from __future__ import annotations

import re
from pathlib import Path

from statekit import StateKit
from statekit.pools import PoolConfig

PAGE = (Path(__file__).parents[2] / "docs" / "pools.md").read_text(encoding="utf-8")


def test_the_page_runs() -> None:
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    kit = names["kit"]
    assert isinstance(kit, StateKit)
    kit.close()


def test_the_settings_are_those_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == {*PoolConfig.__dataclass_fields__, "broken"} - {"name"}
    config = PoolConfig("p")
    for name, shown in rows:
        if shown.endswith(" s"):
            assert getattr(config, name) == float(shown.removesuffix(" s"))


def test_a_refusal_reads_as_the_page_shows() -> None:
    assert (
        "this process's own cap of per_process=1 is reached; return clients\n# sooner or raise it. Held by"
        in PAGE
    )
