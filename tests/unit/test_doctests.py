"""The examples in docstrings run."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, name_of, sources

WITH_EXAMPLES = [
    path for path in sources("statekit", "adapters") if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_run(path: Path, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> None:
    monkeypatch.setenv("STATEKIT_URL", valkey_url)  # an example may call connect()
    monkeypatch.chdir(ROOT)
    done = doctest.testmod(import_module(name_of(path)), optionflags=doctest.ELLIPSIS)
    assert done.attempted
    assert not done.failed
