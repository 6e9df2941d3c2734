"""The flags of a process: read when they change, or at first use when very many arrive at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from statekit import Flag, StateKit
from statekit.flags import FlagInvalid, Reason, shelf
from statekit.replica import Change
from statekit.replica.documents import Documents
from statekit.replica.protocol import Document, Snapshot, dumped
from tests.conftest import PATIENT

MANY = shelf.FEW + 50
ON, OFF = dumped(Flag().document()), dumped(Flag(enabled=False).document())


class Process:
    """A shelf, and the snapshot that its changes come from."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.shelf = shelf.Shelf(self.find, int, self.told.append)
        self.snapshot = Snapshot("e", 0, Documents())

    def find(self, name: str) -> Any:
        return self.shelf.find(name)

    def change(self, **texts: str | None) -> None:
        news = {n: None if text is None else Document(1, text) for n, text in texts.items()}
        documents = Documents(self.snapshot.documents).succeeded(news)
        self.snapshot = Snapshot("e", self.snapshot.version + 1, documents)
        self.shelf.take(Change(frozenset(news), self.snapshot))

    def on(self, name: str) -> bool | None:
        decide = self.shelf.find(name)
        return None if decide is None else decide(None, {}).enabled


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the flags that are compiled."""
    seen: list[str] = []
    compiled = shelf.compiled

    def noted(name: str, *rest: Any) -> Any:
        seen.append(name)
        return compiled(name, *rest)

    monkeypatch.setattr(shelf, "compiled", noted)
    return seen


def filled(**texts: str | None) -> Process:
    process = Process()
    process.change(**{f"f{n}": ON for n in range(MANY)}, **texts)
    return process


def test_of_very_many_only_what_is_used_is_read(reads: list[str]) -> None:
    process = filled()
    assert reads == []
    assert len(process.shelf.names()) == MANY
    assert process.on("f7") is True
    assert process.on("f7") is True
    assert process.on("none") is None
    assert reads == ["f7"]
    assert process.shelf.flag("f8") == Flag()
    assert reads == ["f7", "f8"]


def test_few_are_read_when_they_arrive(reads: list[str]) -> None:
    process = Process()
    process.change(a=ON, b=OFF)
    assert sorted(reads) == ["a", "b"]
    assert set(process.shelf.rules) == {"a", "b"}


def test_a_change_of_one_reads_one(reads: list[str]) -> None:
    process = filled()
    process.change(f7=OFF)
    assert reads == ["f7"]
    assert process.on("f7") is False
    process.change(f8=None)
    assert process.on("f8") is None
    assert reads == ["f7"]
    assert len(process.shelf.names()) == MANY - 1


def test_a_large_change_reads_again_what_is_in_use(reads: list[str]) -> None:
    process = filled()
    assert process.on("f7") is True
    reads.clear()
    process.change(**{f"f{n}": OFF for n in range(MANY)})
    assert reads == ["f7"]
    assert process.shelf.rules["f7"](None, {}).enabled is False
    assert process.on("f8") is False


def test_a_document_that_makes_no_flag_is_told_at_first_use_and_once() -> None:
    process = filled(bad="[]")
    assert process.told == []
    assert process.on("bad") is None
    assert process.on("bad") is None
    assert [type(event) for event in process.told] == [FlagInvalid]
    assert "bad" in process.shelf.errors
    process.change(bad=ON)
    assert process.on("bad") is True
    assert process.shelf.errors == {}


def test_what_was_not_read_yet_stays_in_force_when_its_successor_makes_no_flag() -> None:
    process = filled()
    process.change(f7='{"enabled": 3}')
    assert [event.name for event in process.told] == ["f7"]
    assert process.on("f7") is True
    assert len(process.told) == 1 + 1, "told again: it was asked for the first time"


def test_a_prerequisite_is_read_when_it_is_needed(reads: list[str]) -> None:
    process = filled(needs=dumped(Flag(prerequisites=["f7"]).document()))
    assert process.on("needs") is True
    assert reads == ["needs", "f7"]


def test_readers_that_come_first_at_the_same_time_get_the_same() -> None:
    process = filled()
    answers: list[bool | None] = []
    gate = threading.Barrier(8)

    def read() -> None:
        gate.wait()
        answers.extend(process.on(f"f{n}") for n in range(200))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for n in range(200, 260):
        process.change(**{f"f{n}": OFF, f"f{n + 1}": OFF})
    for thread in threads:
        thread.join()
    assert answers == [True] * 1600
    assert all(process.on(f"f{n}") is False for n in range(200, 261))


def test_a_kit_that_finds_thousands_answers_as_the_one_that_wrote_them(
    valkey_url: str, namespace: str, reads: list[str]
) -> None:
    with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        for n in range(MANY):
            kit.flags.set(f"f{n}", Flag(rollout=100 if n % 2 else 0))
        reads.clear()
        other = StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)
        other.flags.load()
        assert reads == []
        assert other.flags.enabled("f1", actor="u")
        assert not other.flags.enabled("f2", actor="u")
        assert other.flags.explain("nothing").reason is Reason.UNKNOWN
        assert reads == ["f1", "f2"]
        assert other.flags.all() == kit.flags.all()
        assert other.flags.names() == kit.flags.names()
        other.close()
