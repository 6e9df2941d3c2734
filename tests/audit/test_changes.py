"""What changed since a commit, in real repositories."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from statekit.audit.changes import ChangesUnknown, changed_since, touched
from statekit.audit.model import Site
from tests.audit import findings

Git = Callable[..., str]
HITS = replace(findings.HITS, line=2, writes=(Site("web.py", 5),))


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A repository with one commit of one file of nine lines."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def run(*arguments: str) -> str:
        who = ("-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    run("init", "-q")
    (tmp_path / "app.py").write_text("".join(f"line {number}\n" for number in range(1, 10)))
    commit(run)
    return run


def commit(git: Git, said: str = "more") -> None:
    git("add", "-A")
    git("commit", "-qm", said)


def lines(root: Path, ref: str = "HEAD") -> dict[str, list[int] | None]:
    found = changed_since(root, ref)
    return {path: ranges and [line for one in ranges for line in one] for path, ranges in found.items()}


def test_lines_changed_added_and_removed(git: Git, tmp_path: Path) -> None:
    assert lines(tmp_path) == {}
    text = (tmp_path / "app.py").read_text()
    (tmp_path / "app.py").write_text(
        text.replace("line 3\n", "line three\nand a half\n").replace("line 7\n", "")
    )
    assert lines(tmp_path) == {"app.py": [3, 4]}


def test_commits_staged_and_unstaged_changes_and_new_files(git: Git, tmp_path: Path) -> None:
    git("tag", "start")
    (tmp_path / "committed.py").write_text("X = {}\n")
    commit(git)
    (tmp_path / "staged.py").write_text("X = {}\nY = {}\n")
    git("add", "staged.py")
    (tmp_path / "untracked.py").write_text("X = {}\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    (tmp_path / "ignored.py").write_text("X = {}\n")
    found = lines(tmp_path, "start")
    assert found.pop(".gitignore") is None
    assert found == {"committed.py": [1], "staged.py": [1, 2], "untracked.py": None}


def test_what_others_did_meanwhile_is_not_ours(git: Git, tmp_path: Path) -> None:
    git("checkout", "-qb", "ours")
    (tmp_path / "ours.py").write_text("X = {}\n")
    commit(git)
    git("checkout", "-q", "main")
    (tmp_path / "app.py").write_text("all new\n")
    commit(git)
    git("checkout", "-q", "ours")
    assert lines(tmp_path, "main") == {"ours.py": [1]}


def test_a_file_that_only_moved_has_not_changed(git: Git, tmp_path: Path) -> None:
    (tmp_path / "app.py").rename(tmp_path / "web.py")
    git("add", "-A")
    assert lines(tmp_path) == {}
    (tmp_path / "web.py").write_text((tmp_path / "web.py").read_text().replace("line 4", "line four"))
    assert lines(tmp_path) == {"web.py": [4]}


def test_below_a_folder_paths_are_relative_to_it(git: Git, tmp_path: Path) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "x.py").write_text("X = {}\n")
    commit(git)
    (tmp_path / "src" / "deep" / "x.py").write_text("Y = {}\n")
    (tmp_path / "src" / "new.py").write_text("")
    (tmp_path / "app.py").write_text("other\n")
    assert lines(tmp_path / "src") == {"deep/x.py": [1], "new.py": None}


def test_content_that_looks_like_a_diff_is_content(git: Git, tmp_path: Path) -> None:
    text = "++ b/fake.py\n@@ -1 +900 @@\n-- a/x\n"
    (tmp_path / "app.py").write_text(text + "line 9")
    assert lines(tmp_path) == {"app.py": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "name", ["with space.py", "größe.py", 'quo"te.py', "tab\there.py", "new\nline.py", "back\\slash.py"]
)
def test_names_of_any_kind(git: Git, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("X = {}\n")
    commit(git)
    (tmp_path / name).write_text("Y = {}\n")
    assert lines(tmp_path) == {name: [1]}


def test_a_configuration_that_changes_the_shape_of_diffs_changes_nothing(git: Git, tmp_path: Path) -> None:
    for key, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "color.ui": "always",
        "diff.external": "false",
    }.items():
        git("config", key, value)
    (tmp_path / "app.py").write_text("one\n")
    assert lines(tmp_path) == {"app.py": [1]}


def test_without_a_repository_or_a_commit_it_is_told(
    git: Git, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(ChangesUnknown, match="is in no git repository"):
        changed_since(tmp_path_factory.mktemp("elsewhere"), "HEAD")
    with pytest.raises(ChangesUnknown, match="--diff nowhere: git knows no such commit; fetch it first"):
        changed_since(tmp_path, "nowhere")
    with pytest.raises(ChangesUnknown, match="no commit is called that"):
        changed_since(tmp_path, "--output=x")


def test_without_git_it_is_told(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ChangesUnknown, match="not installed"):
        changed_since(tmp_path, "HEAD")


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"app.py": [range(2, 3)]}, True),
        ({"app.py": [range(1, 2), range(3, 9)]}, False),
        ({"web.py": [range(4, 6)]}, True),
        ({"web.py": None}, True),
        ({"other.py": None}, False),
        ({}, False),
    ],
)
def test_a_finding_is_touched_at_its_binding_or_a_write(changed: dict, kept: bool) -> None:
    assert bool(touched([HITS], changed)) is kept


def test_findings_without_writes_are_judged_by_their_binding() -> None:
    assert touched([replace(HITS, writes=())], {"web.py": None}) == []
