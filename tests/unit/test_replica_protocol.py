"""The replica's protocol, one case at a time; `tests/properties` plays thousands of random ones. No I/O."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.errors import StoreUnavailable
from statekit.flags import Flag
from statekit.kit import StateKit
from statekit.replica import Replica, Snapshot, core, protocol
from statekit.replica.documents import Documents
from statekit.replica.memory import TWINS
from statekit.replica.protocol import EMPTY, Message
from statekit.store.keys import Keys
from statekit.store.memory import Data, MemoryTransport
from statekit.store.store import Store
from tests.servers import wait_until

AT = core.Address.of(Keys("t"), "flags")


class World:
    """A store, and readers whose messages the test delivers as it likes."""

    def __init__(self, readers: int) -> None:
        self.data = Data()
        self.transport = MemoryTransport(TWINS, self.data)
        self.shown = [EMPTY] * readers
        self.wire: list[bytes] = []
        self.epochs = 0
        self.data.publish = self.publish  # type: ignore[method-assign]

    def publish(self, _channel, message) -> int:
        self.wire.append(message.encode())
        return 1

    def run(self, op):
        try:
            calls = next(op)
            while True:
                calls = op.send(self.transport.exchange(calls, 1))
        except StopIteration as stop:
            return stop.value

    def fresh(self) -> str:
        self.epochs += 1
        return f"e{self.epochs}"

    def write(self, reader: int, name: str, text: str | None) -> None:
        draw = (self.fresh(), 9000, "")
        with contextlib.suppress(core.Absent):
            self.run(core.write(AT, name, text, ("", ""), None, self.shown[reader], draw))

    def sync(self, reader: int) -> None:
        for _ in range(4):
            asked = self.shown[reader]
            who = core.Reader(f"r{reader}", 9000)
            reply = self.run(core.sync(AT, who, asked, self.fresh(), ""))
            step = protocol.synced(asked, asked.epoch, reply)
            self.shown[reader] = step.snapshot
            if not step.fetch and step.snapshot is asked:
                return


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes_are_a_message_or_a_reason_to_look(raw):
    message = Message.parse(raw)
    assert message is None or isinstance(message, Message)
    assert protocol.heard(EMPTY, message).fetch


def test_a_gap_asks_for_more_and_an_old_message_for_nothing():
    world = World(1)
    for n in range(3):
        world.write(0, "a", str(n))
    world.sync(0)
    shown = world.shown[0]
    assert shown.version == 3
    old, _, _ = world.wire
    assert protocol.heard(shown, Message.parse(old)) == protocol.Step(shown)
    world.write(0, "a", "7")
    world.write(0, "a", "8")
    assert protocol.heard(shown, Message.parse(world.wire[-1])).fetch
    assert protocol.heard(shown, Message.parse(world.wire[-2])).snapshot.version == 4


def test_a_write_that_follows_another_one_of_that_version_is_not_built_on():
    """A server took over and gave version 1 out again: what comes after it needs the whole."""
    shown = Snapshot("e", 1, {}, at=100)
    next_one = Message("e", 2, "a", "{}", at=300, since=200)
    assert protocol.heard(shown, next_one) == protocol.Step(shown, fetch=True)
    assert protocol.heard(shown, Message("e", 2, "a", "{}", 300, since=100)).snapshot.at == 300
    entry = b'{"epoch":"e","version":2,"at":300,"since":200,"name":"a","before":null,"after":{}}'
    caught_up = protocol.synced(shown, "e", [b"delta", b"e", b"2", [entry], b"0"])
    assert (caught_up.snapshot, caught_up.fetch, caught_up.whole) == (shown, True, True)


def test_a_store_that_loses_documents_as_fast_as_they_are_put_back_says_so():
    op = core.write(AT, "a", "{}", ("ann", ""), None, Snapshot("e", 1, Documents()), ("fresh", 1, ""))
    calls = next(op)
    with pytest.raises(StoreUnavailable, match="lost the documents of 'flags'"):
        while True:
            calls = op.send([1 if calls[0].script is core.RESEED else [b"lost"]])


def test_catching_up_far_behind_takes_the_whole_set():
    world = World(2)
    world.write(0, "a", "1")
    world.sync(1)
    for _ in range(core.KEEP + 5):
        world.write(0, "b", "2")
    reply = world.run(core.sync(AT, core.Reader("r1", 9000), world.shown[1], "x", ""))
    assert reply[0] == b"full"
    assert len(world.data.get(AT.log)) == core.KEEP
    world.sync(1)
    assert world.shown[1].version == core.KEEP + 6


def test_an_answer_that_was_overtaken_is_asked_for_again():
    world = World(1)
    world.write(0, "a", "1")
    reply = world.run(core.sync(AT, core.Reader("r", 9000), EMPTY, "x", ""))
    world.sync(0)
    assert protocol.synced(world.shown[0], "", reply) == protocol.Step(world.shown[0], fetch=True)


def test_changes_that_cannot_be_read_are_replaced_by_everything():
    kit = StateKit.in_memory()
    kit.flags.set("a", Flag())
    data, at = kit.store.transport.data, core.Address.of(kit.store.keys, "flags")
    later = Replica(Store(MemoryTransport(TWINS, data), kit.namespace), "flags")
    later.load()
    kit.flags.set("b", Flag())
    entries = data.get(at.log)
    data.put(at.log, [b'{"batch":[]}', *entries[1:]], 0)  # as a newer release might have written it
    stuck = Replica(Store(MemoryTransport(TWINS, data), kit.namespace), "flags")
    stuck.snapshot = Snapshot(kit.flags.epoch, 1, {})
    stuck.load()
    assert sorted(stuck.snapshot.documents) == ["a", "b"]
    wait_until(lambda: {one.version for one in stuck.workers()} == {2})
    for one in (later, stuck, kit):
        one.close()
