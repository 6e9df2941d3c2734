"""The last-known-good file: whole or not at all, shared, never fatal."""

import os
import stat
import threading
from types import MappingProxyType

import pytest

from statekit.replica.file import LastKnownGood, default_directory, snapshot_directory
from statekit.replica.protocol import EMPTY, Document, Snapshot


def snapshot(version, **texts):
    documents = {name: Document(version, text) for name, text in texts.items()}
    return Snapshot("epoch", version, MappingProxyType(documents))


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state"


def file_in(directory, name="flags"):
    return LastKnownGood(directory, "server", "app", name)


def test_what_is_kept_is_read_back(directory):
    file_in(directory).keep(snapshot(3, pay='{"enabled":true}', search="1"))
    assert file_in(directory).read() == snapshot(3, pay='{"enabled":true}', search="1")


def test_only_this_user_may_read_it(directory):
    one = file_in(directory)
    one.keep(snapshot(1))
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_no_file_is_no_snapshot(directory):
    assert file_in(directory).read() is EMPTY


def test_the_empty_snapshot_is_never_kept(directory):
    file_in(directory).keep(EMPTY)
    assert not directory.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-3],
        lambda raw: raw.replace(b"true", b"null"),
        lambda raw: b"\x00\xff" + raw,
        lambda raw: raw.replace(b'"format":1', b'"format":9'),
        lambda raw: b"[]\n[]",
        lambda raw: b"{}\n{}",
    ],
)
def test_a_damaged_file_is_passed_over(directory, damage):
    one = file_in(directory)
    one.keep(snapshot(3, pay="true"))
    one.path.write_bytes(damage(one.path.read_bytes()))
    again = file_in(directory)
    assert again.read() is EMPTY
    again.keep(snapshot(4, pay="1"))
    assert file_in(directory).read() == snapshot(4, pay="1")


def test_a_directory_others_can_write_to_is_not_trusted(directory):
    file_in(directory).keep(snapshot(3, pay="true"))
    directory.chmod(0o777)
    assert file_in(directory).read() is EMPTY


def test_a_directory_that_cannot_be_written_is_no_disaster(tmp_path):
    (tmp_path / "state").write_text("a file, not a directory")
    file_in(tmp_path / "state").keep(snapshot(1))


def test_replicas_stores_and_namespaces_have_files_of_their_own(directory):
    places = {
        LastKnownGood(directory, *where).path
        for where in (("s", "a", "f"), ("s", "a", "g"), ("s", "b", "f"), ("t", "a", "f"))
    }
    assert len(places) == 4


def test_many_writers_leave_one_whole_file_and_no_litter(directory):
    def write(n):
        for version in range(20):
            file_in(directory).keep(snapshot(100 * n + version + 1, pay=f'"{"x" * 5000}"'))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert file_in(directory).read().knows()
    assert len(list(directory.iterdir())) == 1


def test_where_files_go(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "statekit"
    assert snapshot_directory("auto") == tmp_path / "statekit"
    assert snapshot_directory(None) is None
    assert snapshot_directory(tmp_path) == tmp_path
    monkeypatch.delenv("XDG_STATE_HOME")
    assert str(os.getuid()) in default_directory().name
