"""What is kept between two audits, and what is not believed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from statekit.audit import cache as caches
from statekit.audit import outcome as outcomes
from statekit.audit.cache import MAGIC, Cache, hash_of
from statekit.audit.config import Config
from statekit.audit.run import audit


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "statekit" / "audit"


APP = """
from flask import Flask, request
app = Flask(__name__)
HITS = {}
@app.route("/login")
def login():
    HITS[request.remote_addr] = HITS.get(request.remote_addr, 0) + 1
    return str(HITS)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "app.py").write_text(APP)
    (root / "other.py").write_text("SEEN = []\ndef f():\n    SEEN.append(1)\n")
    return root


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are really read."""
    seen: list[str] = []
    real = outcomes._read

    def counted(new):
        seen.extend(one.found.path for one in new)
        return real(new)

    monkeypatch.setattr(outcomes, "_read", counted)
    return seen


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The audits that really analyse."""
    seen: list[Path] = []
    real = outcomes.analysed

    def counted(root, *rest, **how):
        seen.append(root)
        return real(root, *rest, **how)

    monkeypatch.setattr("statekit.audit.run.analysed", counted)
    return seen


def same(one, other) -> bool:
    return (one.findings, one.unparsed, one.files, one.lines, one.notes) == (
        other.findings, other.unparsed, other.files, other.lines, other.notes,
    )  # fmt: skip


def test_the_second_time_nothing_is_read_and_all_is_said(
    project: Path, read: list[str], analysed: list[Path]
) -> None:
    first = audit(project)
    second = audit(project)
    assert first.findings
    assert same(first, second)
    assert read == ["app.py", "other.py"]
    assert len(analysed) == 1


def test_what_changed_is_read_again_and_only_that(
    project: Path, read: list[str], analysed: list[Path]
) -> None:
    audit(project)
    (project / "app.py").write_text(APP.replace("HITS", "COUNTS"))
    found = audit(project)
    assert read == ["app.py", "other.py", "app.py"]
    assert len(analysed) == 2
    assert any(one.name == "COUNTS" for one in found.findings)


def test_a_file_that_moved_is_not_read_but_has_its_new_path(project: Path, read: list[str]) -> None:
    audit(project)
    (project / "app.py").rename(project / "web.py")
    found = audit(project)
    assert len(read) == 2
    assert any(one.path == "web.py" for one in found.findings)
    assert not any(one.path == "app.py" for one in found.findings)


def test_other_names_in_the_catalogue_are_another_question(project: Path, analysed: list[Path]) -> None:
    audit(project, Config())
    audit(project, Config(lists={"clients": ("acme.Client",)}))
    assert len(analysed) == 2
    audit(
        project, Config(lists={"clients": ("acme.Client",)}, select=("lock",))
    )  # what is shown needs no new answer
    assert len(analysed) == 2


def test_without_a_cache_nothing_is_kept(project: Path, home: Path, analysed: list[Path]) -> None:
    audit(project, cache=False)
    audit(project, cache=False)
    assert len(analysed) == 2
    assert not home.exists()


def test_only_its_owner_may_look_into_it(project: Path, home: Path) -> None:
    audit(project)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in home.iterdir()} == {0o600}
    assert {one.suffix for one in home.iterdir()} == {".facts", ".found"}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign", "header"])
def test_a_damaged_cache_is_as_good_as_none(project: Path, home: Path, damage: str) -> None:
    first = audit(project)
    for one in home.iterdir():
        data = bytearray(one.read_bytes())
        if damage == "cut":
            data = data[: len(data) // 2]
        elif damage == "flip":
            data[-3] ^= 0xFF
        elif damage == "empty":
            data.clear()
        elif damage == "foreign":
            data = bytearray(b"something else entirely " * 10)
        else:
            data = data[: len(MAGIC) + 5]
        one.write_bytes(data)
    assert same(audit(project), first)
    assert same(audit(project), first)


def test_what_others_could_have_written_is_not_believed(
    project: Path, home: Path, analysed: list[Path]
) -> None:
    audit(project)
    for one in home.iterdir():
        one.chmod(0o666)
    audit(project)
    assert len(analysed) == 2
    home.chmod(0o777)
    assert caches.folder() is None
    audit(project)
    assert len(analysed) == 3


def test_another_program_or_python_asks_anew(
    project: Path, analysed: list[Path], read: list[str], monkeypatch
) -> None:
    audit(project)
    monkeypatch.setattr("statekit.audit.run.program", lambda: b"another")
    monkeypatch.setattr(caches, "program", lambda **_: b"x" * 16)
    audit(project)
    assert len(analysed) == 2
    assert len(read) == 4


def test_no_place_to_keep_anything_is_no_error(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert audit(project).findings


def test_what_nobody_asks_for_is_forgotten(project: Path, home: Path) -> None:
    audit(project)
    old = home / "old.facts"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    (project / "other.py").write_text("")
    audit(project)
    assert not old.exists()


def test_two_lists_of_parts_never_look_alike() -> None:
    assert hash_of([b"ab", b"c"]) != hash_of([b"a", b"bc"])
    assert Cache(Path("/x"), off=True).facts() == {}
