"""A baseline: known findings do not count, wherever in their file they are; what is gone is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from statekit.audit.baseline import BaselineInvalid, against, fingerprint, load, save
from statekit.audit.model import Category, Confidence, Severity
from tests.audit.findings import HITS

CACHE = replace(
    HITS, rule="SK601", category=Category.MEMO_CACHE, name="CACHE", qualified_name="app.CACHE", line=9
)


def test_it_is_the_same_wherever_it_stands_and_whatever_is_said_of_it() -> None:
    moved = replace(
        HITS, line=400, why="else", confidence=Confidence.LOW, severity=Severity.NOTE, status="baseline"
    )
    assert fingerprint(moved) == fingerprint(HITS)
    for other in (replace(HITS, rule="SK102"), replace(HITS, path="b.py"), replace(HITS, qualified_name="app.f.HITS"),
                  replace(HITS, category=Category.COUNTER)):  # fmt: skip
        assert fingerprint(other) != fingerprint(HITS)


def test_what_is_known_does_not_count_and_what_is_new_does(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    assert save(file, [HITS]) == 1
    found, said = against([replace(HITS, line=77), CACHE], load(file))
    assert [one.status for one in found] == ["baseline", "open"]
    assert said == []


def test_what_is_gone_is_told_and_an_update_forgets_it(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    save(file, [HITS, CACHE])
    found, said = against([CACHE], load(file))
    assert said == ["baseline: SK101 app.HITS in app.py is not found any more; --update-baseline removes it"]
    assert save(file, found) == 1
    assert against([CACHE], load(file))[1] == []


def test_what_a_comment_speaks_of_needs_no_entry(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    assert save(file, [replace(HITS, status="suppressed"), replace(CACHE, status="accepted")]) == 0
    save(file, [HITS])
    found, said = against([replace(HITS, status="suppressed")], load(file))
    assert [one.status for one in found] == ["suppressed"]
    assert len(said) == 1


def test_rules_that_were_not_looked_for_are_not_called_stale(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    save(file, [HITS, CACHE])
    assert against([CACHE], load(file), frozenset({"SK601"}))[1] == []


def test_one_line_an_entry_in_a_stable_order(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    save(one, [CACHE, HITS, replace(HITS, path="a.py")])
    save(other, [replace(HITS, path="a.py"), HITS, CACHE, HITS])
    assert one.read_text() == other.read_text()
    lines = one.read_text().splitlines()
    assert lines[0] == '{"version": 1, "findings": ['
    assert [json.loads(line.strip().rstrip(","))["path"] for line in lines[1:-1]] == [
        "a.py",
        "app.py",
        "app.py",
    ]
    assert json.loads(one.read_text())["version"] == 1
    save(one, [])
    assert load(one) == {}


def test_entries_can_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    save(file, [HITS])
    assert save(file, [CACHE], load(file).values()) == 2


def test_names_of_any_kind_come_back(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    odd = replace(HITS, path='a"b\n\u2028.py', qualified_name="app.größe")
    save(file, [odd])
    assert against([odd], load(file))[0][0].status == "baseline"


def test_a_missing_one_is_told_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(BaselineInvalid, match=r"none.json does not exist; write it with --update-baseline"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "findings": [1]}',
        '{"version": 1, "findings": [{}]}',
        "\x00",
    ],
)
def test_what_is_no_baseline_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(BaselineInvalid, match=r"odd.json is no baseline"):
        load(file)


def test_one_of_a_later_version_is_told(tmp_path: Path) -> None:
    file = tmp_path / "new.json"
    file.write_text('{"version": 2, "findings": []}')
    with pytest.raises(BaselineInvalid, match="has version 2, this statekit reads 1"):
        load(file)


def test_one_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(BaselineInvalid, match="cannot be written"):
        save(tmp_path / "nowhere" / "x.json", [HITS])
