"""Tests that break servers and processes under load. They want the machine for themselves: `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that no test of it can be forgotten."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.chaos)
