"""The replica's protocol under lost, doubled and reordered messages, flushes and restores. No I/O."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from statekit.flags import Flag
from statekit.kit import StateKit
from statekit.replica import Replica, Snapshot, core, protocol
from statekit.replica.memory import TWINS
from statekit.replica.protocol import EMPTY, Message
from statekit.store.keys import Keys
from statekit.store.memory import Data, MemoryTransport
from statekit.store.store import Store
from tests.servers import wait_until

AT = core.Address.of(Keys("t"), "flags")
NAMES = ("a", "b", "c")


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

    def deliver(self, reader: int, message: bytes) -> None:
        self.step(reader, protocol.heard(self.shown[reader], Message.parse(message)))

    def sync(self, reader: int) -> None:
        for _ in range(4):
            asked = self.shown[reader]
            who = core.Reader(f"r{reader}", 9000)
            reply = self.run(core.sync(AT, who, asked, self.fresh(), ""))
            step = protocol.synced(asked, asked.epoch, reply)
            self.step(reader, step)
            if not step.fetch and step.snapshot is asked:
                return

    def step(self, reader: int, step) -> None:
        before = self.shown[reader]
        if step.snapshot.epoch == before.epoch:
            assert step.snapshot.version >= before.version, "went back within an epoch"
        assert step.changed >= {
            name for name in NAMES if step.snapshot.documents.get(name) != before.documents.get(name)
        }
        self.shown[reader] = step.snapshot

    def flush(self) -> None:
        self.data._values.clear()


readers = st.integers(0, 2)
moves = st.one_of(
    st.tuples(st.just("write"), readers, st.sampled_from(NAMES), st.one_of(st.none(), st.integers(0, 9))),
    st.tuples(st.just("deliver"), readers, st.integers(0, 50)),
    st.tuples(st.just("sync"), readers),
    st.tuples(st.just("flush")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(moves, max_size=40))
def test_readers_never_go_back_and_converge_within_one_tick(story):
    world = World(3)
    held = None
    for move, *args in story:
        if move == "write":
            reader, name, value = args
            world.write(reader, name, None if value is None else str(value))
        elif move == "deliver" and world.wire:  # any message, again or late; others never
            world.deliver(args[0], world.wire[args[1] % len(world.wire)])
        elif move == "sync":
            world.sync(args[0])
        elif move == "flush":
            held = [dict(one.documents) for one in world.shown]
            world.flush()
            for reader in range(3):
                world.sync(reader)
            assert [dict(one.documents) for one in world.shown] == held, "a flush took something away"
    for reader in range(3):
        world.sync(reader)
    if world.data.get(AT.meta) is None:
        return  # flushed last: each keeps what it had
    stored = world.data.get(AT.docs) or {}
    for one in world.shown:
        assert {name: f"{doc.version}:{doc.text}" for name, doc in one.documents.items()} == {
            name.decode(): text.decode() for name, text in stored.items()
        }
    assert len({(one.epoch, one.version) for one in world.shown}) == 1


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
