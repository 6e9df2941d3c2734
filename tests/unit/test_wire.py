"""A wire and its line, against a peer that misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from statekit import AsyncStateKit
from statekit.errors import StoreRejected, StoreTimeout, StoreUnavailable
from statekit.store.coalescing import CONNECTIONS, SLICE, WINDOW
from statekit.store.op import Call, Op, Reply, command, together
from statekit.store.wire import DELIVERED, Asked, Wire


class Peer:
    """A server that answers what a test says: ``answer(number of the connection, message)``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "peer.sock"
        self.url = f"unix://{self.path}"
        self.answer: Any = None
        self.writers: list[asyncio.StreamWriter] = []
        self.messages: list[list[bytes]] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.writers)
        self.writers.append(writer)
        self.messages.append([])
        with contextlib.suppress(OSError):
            while message := await reader.read(1 << 20):
                self.messages[number].append(message)
                writer.write(self.answer(number, message))
        writer.close()

    async def stop(self) -> None:
        self._server.close()
        for writer in self.writers:
            writer.close()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    one = Peer(tmp_path)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def kit(peer: Peer) -> AsyncIterator[AsyncStateKit]:
    one = AsyncStateKit.connect(peer.url)
    yield one
    await one.close()


def echoed(_: int, message: bytes) -> bytes:
    """Answer each ECHO of a message with its word."""
    parts = message.split(b"\r\n")
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in parts[4::5])


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$3\r\nabcdef",
        b"%1\r\n+a\r\n+b\r\n",
        b"-LOADING the data\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"$100\r\nhalf",
        b"",
    ],
)
async def test_a_reply_that_cannot_be_used_fails_its_caller_and_the_connection(
    peer: Peer, kit: AsyncStateKit, reply: bytes
) -> None:
    peer.answer = lambda number, message: reply if number == 0 else echoed(number, message)
    asking = asyncio.create_task(kit.store.run(command("ECHO", "a")))
    while not peer.messages or not peer.messages[0]:  # noqa: ASYNC110 - the peer has no better way to say it
        await asyncio.sleep(0.001)
    if not reply or reply == b"$100\r\nhalf":
        await asyncio.sleep(0.01)
        peer.writers[0].close()
    with pytest.raises(StoreUnavailable):
        await asking
    assert await kit.store.run(command("ECHO", "b")) == b"b"
    assert len(peer.writers) == 2


async def test_what_nobody_asked_ends_the_connection(peer: Peer, kit: AsyncStateKit) -> None:
    peer.answer = lambda number, message: echoed(number, message) + (b"+MORE\r\n" if number == 0 else b"")
    assert await kit.store.run(command("ECHO", "a")) == b"a"
    assert await kit.store.run(command("ECHO", "b")) == b"b"  # not MORE
    assert len(peer.writers) == 2


async def test_replies_in_pieces_reach_their_callers(peer: Peer, kit: AsyncStateKit) -> None:
    async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
        for at in range(0, len(data), 7):
            writer.write(data[at : at + 7])
            await asyncio.sleep(0)

    peer.answer = lambda number, message: _later(drip(peer.writers[number], echoed(number, message)))
    replies = await asyncio.gather(*(kit.store.run(command("ECHO", f"{n:03}")) for n in range(10)))
    assert replies == [f"{n:03}".encode() for n in range(10)]


_tasks: set[asyncio.Task[None]] = set()


def _later(work: Any) -> bytes:
    _tasks.add(asyncio.create_task(work))
    return b""


async def test_a_silent_connection_gets_no_new_rounds_and_may_still_answer(
    peer: Peer, kit: AsyncStateKit
) -> None:
    peer.answer = lambda number, message: b"" if number == 0 else echoed(number, message)
    patient = asyncio.create_task(kit.store.run(command("ECHO", "patient"), budget=30))
    await asyncio.sleep(0)
    with pytest.raises(StoreTimeout, match=r"nothing after 0\.05 s"):
        await kit.store.run(command("ECHO", "hasty"), budget=0.05)
    assert await kit.store.run(command("ECHO", "other"), budget=30) == b"other"
    assert len(peer.writers) == 2
    peer.answer = echoed
    peer.writers[0].write(b"$7\r\npatient\r\n$5\r\nhasty\r\n")
    assert await patient == b"patient"
    assert await kit.store.run(command("ECHO", "again"), budget=30) == b"again"


async def test_however_many_go_silent_there_are_never_more_than_four(peer: Peer, kit: AsyncStateKit) -> None:
    peer.answer = lambda _number, _message: b""
    patient = []
    for _ in range(CONNECTIONS + 2):
        patient.append(asyncio.create_task(kit.store.run(command("ECHO", "patient"), budget=30)))
        with pytest.raises(StoreUnavailable):
            await kit.store.run(command("ECHO", "hasty"), budget=0.02)
        kit.store.breaker.succeeded()
    assert len(peer.writers) == CONNECTIONS
    for task in patient:
        task.cancel()
    await asyncio.gather(*patient, return_exceptions=True)


async def test_a_loop_held_up_is_no_slow_store(valkey_url: str) -> None:
    """Rounds sent, in line, and just asked for, when other code keeps the loop for longer than their budget."""
    kit = AsyncStateKit.connect(valkey_url)
    await kit.store.run(command("ECHO", "warm"), budget=30)
    tasks = [asyncio.create_task(kit.store.run(command("ECHO", n), budget=1.0)) for n in range(900)]
    await asyncio.sleep(0)
    time.sleep(1.2)  # noqa: ASYNC251 - that is the point
    assert await asyncio.gather(*tasks) == [b"%d" % n for n in range(900)]
    await kit.close()


async def test_waiting_for_a_connection_counts(peer: Peer, tmp_path: Path) -> None:
    """A server that takes connections and never greets costs one budget, not one for the line and one for the trip."""
    peer.answer = lambda _number, _message: b""
    kit = AsyncStateKit.connect(f"{peer.url}?db=3")
    start = time.monotonic()
    with pytest.raises(StoreTimeout):
        await kit.store.run(command("ECHO", "a"), budget=0.2)
    assert time.monotonic() - start >= 0.19
    lane = next(iter(kit.store.transport._lanes.values()))  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        while lane._opening is not None:  # noqa: ASYNC110 - nobody waits for it any more: it ends soon
            await asyncio.sleep(0.01)
    await kit.close()


async def test_rounds_above_a_slice_let_others_pass(peer: Peer, kit: AsyncStateKit) -> None:
    peer.answer = echoed
    await kit.store.run(command("ECHO", "warm"))

    def large() -> Op[list[Reply]]:
        return (yield tuple(Call(("ECHO", f"L{n:05}")) for n in range(SLICE * 8)))  # type: ignore[return-value]

    asking = asyncio.create_task(kit.store.run(large()))
    await asyncio.sleep(0)
    small = await kit.store.run(command("ECHO", "small"))
    assert small == b"small"
    assert not asking.done()
    assert await asking == [b"L%05d" % n for n in range(SLICE * 8)]
    words = [word for message in peer.messages[0] for word in message.split(b"\r\n")[4::5]]
    assert words.index(b"small") <= 1 + 2 * SLICE


async def test_a_round_of_nothing_asks_nobody(kit: AsyncStateKit, peer: Peer) -> None:
    def nothing() -> Op[int]:
        replies = yield ()
        return len(replies)

    assert await kit.store.run(nothing()) == 0
    assert await kit.store.run(together(nothing(), nothing())) == (0, 0)
    assert not peer.writers


async def test_no_more_than_a_window_is_on_its_way(peer: Peer, kit: AsyncStateKit) -> None:
    peer.answer = lambda _number, _message: b""
    tasks = [asyncio.create_task(kit.store.run(command("ECHO", f"{n:05}"), budget=30)) for n in range(2000)]
    asked = 0
    while asked < WINDOW:
        await asyncio.sleep(0.001)
        asked = sum(message.count(b"ECHO") for message in (peer.messages or [[]])[0])
    await asyncio.sleep(0.02)
    assert sum(message.count(b"ECHO") for message in peer.messages[0]) == WINDOW
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Stub:
    """A connection with a transport that goes nowhere."""

    def __init__(self) -> None:
        self._writer = self.transport = self
        self.sent: list[bytes] = []
        self.write = self.sent.append

    def get_protocol(self) -> Any:
        return asyncio.Protocol()

    def set_protocol(self, protocol: Any) -> None: ...
    def abort(self) -> None: ...


async def test_replies_of_one_moment_are_handed_over_a_few_a_tick() -> None:
    loop = asyncio.get_running_loop()
    wire = Wire(loop, Stub(), lambda _, text: StoreRejected(text), lambda _: None)
    batch = [Asked(b"", 1, loop.create_future(), 1.0, 0.0) for _ in range(WINDOW)]
    wire.send(batch)
    wire.data_received(b"".join(b":%d\r\n" % n for n in range(WINDOW)))
    steps = []
    while wire.load:
        steps.append(sum(asked.future.done() for asked in batch))
        await asyncio.sleep(0)
    steps.append(sum(asked.future.done() for asked in batch))
    assert steps == list(range(DELIVERED, WINDOW + 1, DELIVERED))
    assert [asked.future.result() for asked in batch] == [[n] for n in range(WINDOW)]


async def test_a_kit_dropped_without_close_leaves_no_connection(peer: Peer) -> None:
    peer.answer = echoed
    kit = AsyncStateKit.connect(peer.url)
    assert await kit.store.run(command("ECHO", "a")) == b"a"
    gone = weakref.ref(kit.store.transport)
    del kit
    gc.collect()
    assert gone() is None
    for _ in range(2000):
        if peer.writers[0].is_closing():
            break
        await asyncio.sleep(0.001)
    assert peer.writers[0].is_closing()


async def test_closing_waits_for_what_is_under_way(peer: Peer) -> None:
    peer.answer = echoed
    kit = AsyncStateKit.connect(peer.url)
    tasks = [asyncio.create_task(kit.store.run(command("ECHO", "a"))) for _ in range(20)]
    await asyncio.sleep(0)
    await kit.close()
    assert await asyncio.gather(*tasks) == [b"a"] * 20
    kit = AsyncStateKit.connect(peer.url)
    peer.answer = lambda _number, _message: b""
    late = asyncio.create_task(kit.store.run(command("ECHO", "a"), budget=60))
    await asyncio.sleep(0)
    await kit.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await late


async def test_a_line_that_moves_is_no_slow_store(peer: Peer, kit: AsyncStateKit) -> None:
    """Who waits in line waits longer than his budget, as long as others are answered meanwhile."""
    peer.answer = lambda _number, _message: b""
    ahead = [asyncio.create_task(kit.store.run(command("ECHO", "x"), budget=60)) for _ in range(2 * WINDOW)]
    await asyncio.sleep(0)
    start = time.monotonic()
    behind = asyncio.create_task(kit.store.run(command("ECHO", "y"), budget=1.0))
    while not peer.writers:  # noqa: ASYNC110 - the peer has no better way to say it
        await asyncio.sleep(0.001)
    for _ in range(15):
        await asyncio.sleep(0.1)
        peer.writers[0].write(b":0\r\n")
    assert time.monotonic() - start > 1.4
    assert not behind.done()
    peer.writers[0].write(b":0\r\n" * (2 * WINDOW - 15) + b":7\r\n")
    await asyncio.gather(*ahead)
    assert await behind == 7


async def test_a_line_before_a_silent_store_costs_one_budget(peer: Peer, kit: AsyncStateKit) -> None:
    peer.answer = lambda _number, _message: b""
    ahead = [asyncio.create_task(kit.store.run(command("ECHO", "x"), budget=60)) for _ in range(WINDOW)]
    await asyncio.sleep(0)
    with pytest.raises(StoreTimeout):
        await kit.store.run(command("ECHO", "y"), budget=0.05)
    assert not any(task.done() for task in ahead)
    for task in ahead:
        task.cancel()
    await asyncio.gather(*ahead, return_exceptions=True)


async def test_answers_without_the_store_let_the_loop_turn(tmp_path: Path) -> None:
    """A caller that asks in a loop while the breaker is open must not keep the event loop to itself."""
    kit = AsyncStateKit.connect(f"unix://{tmp_path}/nobody.sock")
    limiter = kit.rate_limiter("x", "5/minute")
    while not kit.store.breaker.open:
        assert (await limiter.hit("k")).degraded
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(other())
    for _ in range(100):
        assert (await limiter.hit("k")).degraded
    assert turns >= 90
    turning.cancel()
    await kit.close()
