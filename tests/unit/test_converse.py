"""The blocking transport on a socket of its own, against a peer that misbehaves on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from statekit import StateKit
from statekit.errors import StoreTimeout, StoreUnavailable
from statekit.store.drive import PIECE
from statekit.store.op import Call, Op, Reply, command, together

Answer = Callable[[int, bytes], Iterable[bytes]]


class Peer:
    """A server that sends what a test says: ``answer(number of the connection, message)``, piece by piece."""

    def __init__(self, path: str) -> None:
        self.url = f"unix://{path}"
        self.connections = 0
        self.answer: Answer = echoed
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            threading.Thread(target=self._serve, args=(link, number), daemon=True).start()

    def _serve(self, link: socket.socket, number: int) -> None:
        with link:
            try:
                while message := link.recv(1 << 20):
                    for piece in self.answer(number, message):
                        if not piece:
                            return
                        link.sendall(piece)
            except OSError:
                return

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def echoed(_: int, message: bytes) -> list[bytes]:
    """Answer each ECHO of a message with its word."""
    return [b"$%d\r\n%b\r\n" % (len(word), word) for word in message.split(b"\r\n")[4::5]]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    one = Peer(str(tmp_path / "peer.sock"))
    yield one
    one.stop()


@pytest.fixture
def kit(peer: Peer) -> Iterator[StateKit]:
    one = StateKit.connect(peer.url)
    yield one
    one.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"$3\r\nabcdef"],
        [b"-LOADING the data\r\n"],
        [b"-NOAUTH Authentication required.\r\n"],
        [b"$100\r\nhalf", b""],
        [b"$1\r\nx\r\n+MORE\r\n"],
        [b"$1\r\nx\r\n$5\r\nhal"],
        [b""],
    ],
)
def test_what_cannot_be_used_fails_the_round_and_the_connection(
    peer: Peer, kit: StateKit, pieces: list[bytes]
) -> None:
    peer.answer = lambda number, message: pieces if number == 0 else echoed(number, message)
    with pytest.raises(StoreUnavailable):
        kit.store.run(command("ECHO", "a"))
    assert kit.store.run(command("ECHO", "b")) == b"b"
    assert peer.connections == 2


def test_replies_in_pieces_are_put_together(peer: Peer, kit: StateKit) -> None:
    def drip(number: int, message: bytes) -> list[bytes]:
        data = b"".join(echoed(number, message))
        return [data[at : at + 5] for at in range(0, len(data), 5)]

    peer.answer = drip
    words = [f"{n:04}" for n in range(50)]
    assert kit.store.run(together(*(command("ECHO", word) for word in words))) == tuple(
        map(str.encode, words)
    )
    assert kit.store.run(command("ECHO", "again")) == b"again"
    assert peer.connections == 1


def test_errors_inside_a_reply_stay_there(peer: Peer, kit: StateKit) -> None:
    peer.answer = lambda _number, _message: [b"*2\r\n:1\r\n-ERR no\r\n-ERR alone\r\n"]

    def both() -> Op[list[Reply]]:
        replies = yield (Call(("A",)), Call(("B",)))
        return list(replies)

    (one, inner), outer = kit.store.run(both())
    assert one == 1
    assert "no" in str(inner)
    assert "alone" in str(outer)


def test_silence_costs_the_budget_of_each_round_whatever_the_last_one_had(peer: Peer, kit: StateKit) -> None:
    assert kit.store.run(command("ECHO", "a"), budget=30) == b"a"
    peer.answer = lambda _number, _message: []
    with pytest.raises(StoreTimeout):
        kit.store.run(command("ECHO", "b"), budget=0.05)
    peer.answer = echoed
    assert kit.store.run(command("ECHO", "c"), budget=30) == b"c"
    assert peer.connections == 2


def test_a_reply_that_trickles_in_costs_one_budget(peer: Peer, kit: StateKit) -> None:
    def trickle(_: int, message: bytes) -> Iterator[bytes]:
        for sign in b"".join(echoed(0, message)):
            yield bytes((sign,))
            time.sleep(0.05)

    assert kit.store.run(command("ECHO", "a"), budget=30) == b"a"
    peer.answer = trickle
    start = time.monotonic()
    with pytest.raises(StoreTimeout):
        kit.store.run(command("ECHO", "x" * 500), budget=0.2)
    assert time.monotonic() - start < 5  # 25 s if each piece had the budget for itself


def test_a_long_reply_may_take_longer(peer: Peer, kit: StateKit) -> None:
    word = b"x" * (6 * PIECE)

    def steady(_number: int, _message: bytes) -> Iterator[bytes]:
        data = b"$%d\r\n%b\r\n" % (len(word), word)
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]
            time.sleep(0.15)

    peer.answer = steady
    assert kit.store.run(command("ECHO", "a"), budget=0.5) == word


def test_a_round_of_nothing_asks_nobody(peer: Peer, kit: StateKit) -> None:
    def nothing() -> Op[int]:
        replies = yield ()
        return len(replies)

    assert kit.store.run(together(nothing(), nothing())) == (0, 0)
    assert peer.connections == 0
