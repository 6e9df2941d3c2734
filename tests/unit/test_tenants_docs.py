"""The page about tenants runs from top to bottom, and so do the examples in the docstrings."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from statekit.tenants import faces, settings

PAGE = Path(__file__).parents[2] / "docs" / "tenants.md"


def test_the_page_runs() -> None:
    names: dict[str, Any] = {"__name__": "docs"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("module", [faces, settings])
def test_the_docstrings_run(module: Any) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=options)
    assert (result.failed, result.attempted > 0) == (0, True)
