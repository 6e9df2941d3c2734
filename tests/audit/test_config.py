"""What a project says about its audit, and how it is told what it cannot mean."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from statekit.audit.config import Config, ConfigInvalid, nearest, selected
from statekit.audit.model import Confidence


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_everything_can_be_said(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        [tool.statekit.audit]
        include = ["tests/load/**"]
        exclude = ["legacy"]
        select = ["SK1xx", "lock", "session-store-container"]
        ignore = ["SK101"]
        confidence = "low"
        fail-on = "error"
        intent = "single-process"
        clients = ["acme.Client"]
        startup-names = ["boot"]
        [tool.statekit.audit.per-file-ignores]
        "jobs/**" = ["background_worker"]
        [tool.statekit.audit.score]
        depth = 2
        """,
    )
    assert nearest(tmp_path) == Config(
        include=("tests/load/**",),
        exclude=("legacy",),
        select=("SK1xx", "lock", "session-store-container"),
        ignore=("SK101",),
        per_file_ignores={"jobs/**": ("background_worker",)},
        confidence=Confidence.LOW,
        fail_on="error",
        intent="single-process",
        lists={"clients": ("acme.Client",), "startup_names": ("boot",)},
        score={"depth": 2},
        source=str(tmp_path / "pyproject.toml"),
    )


def test_the_nearest_file_that_speaks_of_it_counts(tmp_path: Path) -> None:
    written(tmp_path, "[tool.statekit.audit]\nfail-on = 'error'")
    written(tmp_path / "packages" / "shop", "[project]\nname = 'shop'")
    assert nearest(tmp_path / "packages" / "shop" / "src").fail_on == "error"
    written(tmp_path / "packages", "[tool.statekit.audit]")
    assert nearest(tmp_path / "packages" / "shop" / "app.py") == Config(
        source=str(tmp_path / "packages" / "pyproject.toml")
    )


def test_what_lies_above_the_repository_does_not_count(tmp_path: Path) -> None:
    written(tmp_path, "[tool.statekit.audit]\nfail-on = 'error'")
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    assert nearest(tmp_path / "repo" / "src") == Config()


def test_the_catalogue_knows_what_was_added() -> None:
    known = Config.of({"clients": ["acme.Client"]}).catalogue()
    assert "acme.Client" in known.clients
    assert "httpx.Client" in known.clients


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exlude = []", "no key 'exlude' .did you mean 'exclude'"),
        ("per_file_ignore = {}", "did you mean 'per-file-ignores'"),
        ("client = []", "did you mean 'clients'"),
        ("zzz = 1", "no key 'zzz'; known: include, exclude"),
        ('exclude = "legacy"', r'exclude = .legacy. is no list of strings; write exclude = \["legacy"\]'),
        ("clients = [1]", "clients = .* is no list of strings"),
        (
            'confidence = "hihg"',
            "confidence = 'hihg' is not known .did you mean 'high'..; give one of: high, medium, low",
        ),
        ('fail-on = "errors"', "fail-on = 'errors' is not known .did you mean 'error'"),
        ("fail-on = true", "fail-on = True is not known"),
        ('intent = "single"', "give one of: single-process"),
        ('select = ["SK999999"]', "select: 'SK999999' is neither a rule nor a category"),
        ('ignore = ["rate_limitr"]', "ignore: 'rate_limitr' .*did you mean 'rate_limiter'"),
        ('per-file-ignores = ["x"]', "per-file-ignores = .* is no table"),
        ('per-file-ignores = { "a" = ["nonsense"] }', "per-file-ignores.a: 'nonsense'"),
        ('score = "x"', "score = 'x' is no table"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_cure(tmp_path: Path, text: str, said: str) -> None:
    written(tmp_path, "[tool.statekit.audit]\n" + text)
    with pytest.raises(ConfigInvalid, match=said) as caught:
        nearest(tmp_path)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


@pytest.mark.parametrize("text", ["[tool.statekit\n", "[tool.statekit]\naudit = 3", "\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigInvalid, match=r"pyproject\.toml"):
        nearest(tmp_path)


def test_other_tools_may_be_any_shape(tmp_path: Path) -> None:
    assert nearest(written(tmp_path, "tool = 3")) == Config()
    assert nearest(written(tmp_path, "[tool]\nstatekit = 'x'")) == Config()


def test_groups_are_of_one_category() -> None:
    one, ten = selected("x", ["SK1xx"]), selected("x", ["SK10xx"])
    assert "SK101" in one
    assert "SK1001" in ten
    assert not one & ten
    assert selected("x", ["SK1"]) == one == selected("x", ["rate_limiter"])
    assert selected("x", ["ALL"]) > one | ten
    assert selected("x", []) == frozenset()


def test_the_example_of_the_page_means_something() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit-ci.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    said = Config.of(tomllib.loads(example)["tool"]["statekit"]["audit"])
    assert said.intent == "single-process"
    assert said.lists["backends"] == ("acme.cache",)


def test_the_hook_for_other_projects_is_one() -> None:
    (hook,) = yaml.safe_load(
        (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    )
    assert (hook["id"], hook["entry"], hook["pass_filenames"]) == ("statekit-audit", "statekit audit", False)
