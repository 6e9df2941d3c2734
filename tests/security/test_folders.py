"""Files and sockets on this machine: readable by their owner alone, and believed only where nobody else can write."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from statekit import StateKit, UsageError
from statekit.flags import Flag
from statekit.replica.documents import Documents
from statekit.replica.file import LastKnownGood, default_directory
from statekit.replica.protocol import EMPTY, Document, Snapshot
from statekit.store import folders
from statekit.store.embedded import Embedded

KNOWN = Snapshot("ab" * 8, 7, Documents({"new": Document(7, '{"enabled":true}')}))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder all users of a machine share."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return shared


def another_user_owns(monkeypatch: pytest.MonkeyPatch, theirs: Path) -> None:
    """Let this path, not what it may link to, belong to somebody else: a test cannot give files away."""

    def seen(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        status = os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116 - what is replaced here
        linked = follow_symlinks and os.path.islink(path)  # noqa: PTH114 - same
        uid = status.st_uid + 4242 if path == theirs and not linked else status.st_uid
        return os.stat_result((*status[:4], uid, *status[5:10]))

    monkeypatch.setattr(Path, "stat", seen)
    monkeypatch.setattr(Path, "lstat", lambda path: seen(path, follow_symlinks=False))


def test_the_last_known_good_file_is_its_owner_s_alone(
    temporary: Path, valkey_url: str, namespace: str
) -> None:
    before = os.umask(0)
    try:
        with StateKit.connect(valkey_url, namespace) as kit:
            kit.flags.set("new", Flag(rollout=25), by="ann")
    finally:
        os.umask(before)
    folder = temporary / f"statekit-{os.getuid()}"
    assert folder == default_directory()
    assert mode(folder) == 0o700
    assert [mode(path) for path in folder.iterdir()] == [0o600]


def kept(directory: Path) -> LastKnownGood:
    file = LastKnownGood(directory, "store", "atlas", "flags")
    file.keep(KNOWN)
    return file


def read_anew(directory: Path) -> Snapshot:
    return LastKnownGood(directory, "store", "atlas", "flags").read()


def test_a_file_that_was_altered_is_not_believed(tmp_path: Path) -> None:
    path = kept(tmp_path / "state").path
    assert read_anew(tmp_path / "state").version == 7
    whole = path.read_bytes()
    assert b"true" in whole
    path.write_bytes(whole.replace(b"true", b"fals"))
    assert read_anew(tmp_path / "state") is EMPTY


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777])
def test_a_folder_others_may_write_to_is_not_believed(tmp_path: Path, bits: int) -> None:
    kept(tmp_path / "state")
    (tmp_path / "state").chmod(bits)
    assert read_anew(tmp_path / "state") is EMPTY


def test_a_folder_of_somebody_else_is_not_believed(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = default_directory()
    kept(folder)
    assert read_anew(folder).version == 7
    another_user_owns(monkeypatch, folder)
    assert read_anew(folder) is EMPTY


def test_a_link_somebody_else_made_is_not_followed(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    default_directory().symlink_to(mine)
    kept(default_directory())
    assert len(list(mine.iterdir())) == 1  # a link of one's own is one's own business
    another_user_owns(monkeypatch, default_directory())
    with pytest.raises(PermissionError, match="link"):
        folders.own(default_directory())
    assert read_anew(default_directory()) is EMPTY
    LastKnownGood(default_directory(), "store", "atlas", "tenants").keep(KNOWN)
    assert len(list(mine.iterdir())) == 1


def test_the_embedded_server_is_its_owner_s_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    server = Embedded(tmp_path / ".statekit")
    try:
        server.start()
        assert mode(server.home) == 0o700
        assert mode(server.socket) == 0o700
        assert stat.S_ISSOCK(server.socket.lstat().st_mode)
    finally:
        os.umask(before)
        server.stop()


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A home whose path is too long for a socket, which then lies among the temporary files."""
    return tmp_path / ("deep" * 30)


def test_a_socket_planted_among_the_temporary_files_is_not_asked(
    far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        monkeypatch.setattr(tempfile, "tempdir", shared)
        server = Embedded(far)
        assert server.socket.parent == Path(shared) / f"statekit-{os.getuid()}"
        server.socket.parent.mkdir(mode=0o777)
        server.socket.parent.chmod(0o777)
        with socket.socket(socket.AF_UNIX) as planted:
            planted.bind(str(server.socket))
            planted.listen()
            planted.settimeout(0)
            for ask in (server.start, lambda: server.pid):
                with pytest.raises(UsageError, match="writable by others"):
                    ask()
            with pytest.raises(BlockingIOError):
                planted.accept()


def test_the_folder_of_sockets_is_made_for_its_owner_alone(
    far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        monkeypatch.setattr(tempfile, "tempdir", shared)
        server = Embedded(far)
        try:
            server.start()
            assert mode(server.socket.parent) == 0o700
        finally:
            server.stop()
