"""A store, readers, and a network between them that loses, doubles, delays and reorders. Stepped by hand."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import redis

from statekit.errors import StoreUnavailable
from statekit.replica import core, protocol
from statekit.replica.local import LocalCopy
from statekit.replica.memory import TWINS
from statekit.store.memory import Data, MemoryTransport
from statekit.store.store import Store
from tests.models.replica import Documents, History, Name

NAMES = ("a", "b", "c", "ä{}:")


class Twin:
    """The store in memory."""

    def __init__(self, namespace: str) -> None:
        self.data = Data()
        self.at = core.Address.of(Store(MemoryTransport({}), namespace).keys, "flags")
        self.said: list[bytes] = []
        self.data.publish = self._publish  # type: ignore[method-assign]
        self.transport = MemoryTransport(TWINS, self.data)

    def _publish(self, _channel: str, message: str | bytes) -> int:
        self.said.append(message.encode() if isinstance(message, str) else message)
        return 1

    def run(self, calls: Any) -> tuple[list[Any], list[bytes]]:
        """Execute a round; the replies, and what was published."""
        self.said = []
        return self.transport.exchange(calls, 1), self.said

    def evict(self) -> None:
        self.data.delete(self.at.docs)

    def backup(self) -> Any:
        return copy.deepcopy(self.data._values)

    def restore(self, backup: Any) -> None:
        self.data._values = copy.deepcopy(backup)


class Real:
    """The same on a server."""

    def __init__(self, namespace: str, client: redis.Redis) -> None:
        self.client = client
        self.at = core.Address.of(Store(MemoryTransport({}), namespace).keys, "flags")
        self.keys = (self.at.meta, self.at.docs, self.at.log)
        self.listening = client.pubsub()
        self.listening.subscribe(self.at.channel)
        self.listening.get_message(timeout=10)

    def run(self, calls: Any) -> tuple[list[Any], list[bytes]]:
        with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                if call.script is None:
                    pipeline.execute_command(*call.args)
                else:
                    pipeline.execute_command("EVAL", call.script.source, call.keys, *call.args)
            pipeline.publish(self.at.channel, "end")
            replies = pipeline.execute()[:-1]
        said = []
        while (message := self.listening.get_message(timeout=30)) and message["data"] != b"end":
            said.append(message["data"])
        return replies, said

    def evict(self) -> None:
        self.client.delete(self.at.docs)

    def backup(self) -> Any:
        return {key: self.client.dump(key) for key in self.keys}

    def restore(self, backup: Any) -> None:
        self.client.delete(*self.keys, self.at.workers, self.at.acks)
        for key, value in backup.items():
            if value is not None:
                self.client.restore(key, 0, value)

    def close(self) -> None:
        self.restore({})
        self.listening.close()


class Asking:
    """An operation of a reader on its way: the round it waits for, and the replies once the store gave them."""

    def __init__(self, reader: Reader, op: Any) -> None:
        self.reader, self.op = reader, op
        self.replies: list[Any] | None = None
        self.calls: Any = None
        self.result: Any = None
        self.done = False
        self.go_on(lambda: next(op))

    def go_on(self, step: Any) -> None:
        try:
            self.calls, self.replies = step(), None
        except StopIteration as stop:
            self.result, self.done = stop.value, True
        except (StoreUnavailable, core.Absent, core.VersionConflict):
            self.done = True


class Reader(LocalCopy[Store]):
    """One process's copy, with the messages that are on their way to it."""

    def __init__(self, namespace: str) -> None:
        super().__init__(Store(MemoryTransport({}), namespace), "flags")
        self.inbox: list[bytes] = []
        self.was = protocol.EMPTY
        self.told: set[str] = set()
        self.derive(lambda change: self.told.update(change.names))


class World:
    """Everything that can happen, one method each; after each, `check` holds every reader against the history."""

    def __init__(self, server: Twin | Real, namespace: str, readers: int, luck: random.Random) -> None:
        self.server, self.luck = server, luck
        self.history = History()
        self.readers = [Reader(namespace) for _ in range(readers)]
        self.under_way: list[Asking] = []
        self.backups: list[tuple[Any, Any, bool]] = []
        self.evicted = False
        self.written = 0

    # -- what happens --------------------------------------------------------------------------------------

    def asks(self, reader: Reader) -> Asking:
        """A reconcile tick begins, or a push has settled."""
        return self._begun(Asking(reader, reader.syncing()))

    def writes(
        self, reader: Reader, name: str, *, delete: bool = False, expected: int | None = None
    ) -> Asking:
        self.written += 1
        text = None if delete else str(self.written)
        return self._begun(Asking(reader, reader.writing(name, text, by="t", if_version=expected)))

    def _begun(self, asking: Asking) -> Asking:
        self.under_way.append(asking)
        return asking

    def store_runs(self, asking: Asking) -> None:
        """A round reaches the store; what it publishes sets out to every reader."""
        if asking.replies is None and not asking.done:
            asking.replies, said = self.server.run(asking.calls)
            for call, answer in zip(asking.calls, asking.replies, strict=True):
                self._happened(call, answer)
            for reader in self.readers:
                reader.inbox += said

    def _happened(self, call: Any, answer: Any) -> None:
        """Tell the model what the store says it did."""
        verb, args = call.script.name, call.args[call.keys :]
        if verb == "replica.write" and answer[0] == b"written":
            name = Name(answer[1].decode(), int(answer[2]), int(answer[3]))
            self.history.wrote(name, args[0].decode(), args[1] or None)
        elif verb == "replica.reseed" and answer:
            self.history.put_back(args[0], int(args[1]) + 1, unpaired(json.loads(args[3])))
            self.evicted = False
        elif verb == "replica.sync" and answer[0] not in {b"empty", b"lost"}:
            told = (answer[1].decode(), int(answer[2]))
            if self.history.now is None or told != self.history.now[:2]:
                self.history.renamed(*told)
        elif verb == "replica.sync":
            assert self.history.now is None, "the store denies what it holds"

    def answer_arrives(self, asking: Asking) -> None:
        if asking.replies is not None:
            asking.go_on(lambda: asking.op.send(asking.replies))
            self._ended(asking)

    def answer_is_lost(self, asking: Asking) -> None:
        """Whether the store ran it or not."""
        asking.go_on(lambda: asking.op.throw(StoreUnavailable("lost")))
        self._ended(asking)

    def _ended(self, asking: Asking) -> None:
        if asking.done and asking in self.under_way:
            self.under_way.remove(asking)
            if isinstance(asking.result, core.Written):
                asking.reader.took(asking.result)
        self.check(asking.reader)

    def hears(self, reader: Reader, index: int, *, keep: bool) -> None:
        """Any message that is on its way, also a late one, also one it has heard (`keep`)."""
        if reader.inbox:
            at = index % len(reader.inbox)
            reader.heard(reader.inbox[at] if keep else reader.inbox.pop(at))
            self.check(reader)

    def is_cut_off(self, reader: Reader) -> None:
        """Its messages are lost, and it knows that some may be."""
        reader.inbox.clear()
        reader.heard(None)
        self.check(reader)

    def is_emptied(self) -> None:
        """FLUSHALL, or a restart without persistence."""
        self.server.restore({})
        self.history.now, self.evicted = None, False

    def is_evicted(self) -> None:
        """A full server throws the documents out from under their version."""
        if self.history.now and self.history.held[self.history.now]:
            self.server.evict()
            self.history.now, self.evicted = None, True

    def is_backed_up(self) -> None:
        """A replica is as far as this."""
        self.backups.append((self.server.backup(), self.history.now, self.evicted))

    def fails_over(self, index: int) -> None:
        """A server takes over that knows less. Messages of the old one may still arrive, answers not any more."""
        self.backups = [self.backups[index % len(self.backups)]]  # the other replicas follow the new primary
        ((backup, known, self.evicted),) = self.backups
        self.server.restore(backup)
        self.history.now = known
        for asking in list(self.under_way):
            self.answer_is_lost(asking)

    # -- what must hold --------------------------------------------------------------------------------------

    def check(self, reader: Reader) -> None:
        """A reader shows one state the store was in, whole, never an earlier one of the same epoch, and says so."""
        shown, was, told = reader.snapshot, reader.was, reader.told
        reader.was, reader.told = shown, set()
        names = shown.documents.keys() | was.documents.keys()
        differ = {name for name in names if shown.documents.get(name) != was.documents.get(name)}
        assert differ <= told, "who makes something of the documents did not hear of a change"
        if shown.epoch == was.epoch:
            assert shown.version >= was.version, f"went back from {was} to {shown}"
        assert shown.knows() or not was.knows(), "forgot everything"
        if shown.knows():
            assert documents(shown) == self.history.held[Name(shown.epoch, shown.version, shown.at)]

    def through(self, asking: Asking) -> None:
        """Nothing comes between."""
        while not asking.done:
            self.store_runs(asking)
            self.answer_arrives(asking)

    def settles(self) -> None:
        """All messages are lost, all that is under way fails. One tick later each reader shows what the store holds."""
        for asking in list(self.under_way):
            self.answer_is_lost(asking)
        before = self.history.now
        for reader in self.readers:
            reader.inbox.clear()
            self.through(self.asks(reader))
        if self.history.now != before:  # one of them found the store older than itself: that was a change
            for reader in self.readers:
                self.through(self.asks(reader))
        for reader in self.readers:
            if self.history.now:
                shown = reader.snapshot
                assert (shown.epoch, shown.version, shown.at) == self.history.now
            lost = reader.snapshot.knows() or self.evicted
            assert reader.stale is (self.history.now is None and lost)
            self.check(reader)


def unpaired(pairs: list[str]) -> Documents:
    """What was put back: names and documents in turn."""
    parted = [(name, one.partition(":")) for name, one in zip(pairs[::2], pairs[1::2], strict=True)]
    return {name: (int(version), text) for name, (version, _, text) in parted}


def documents(snapshot: protocol.Snapshot) -> Documents:
    return {name: (one.version, one.text) for name, one in snapshot.documents.items()}


def played(server: Twin | Real, namespace: str, number: int) -> int:
    """One random schedule, the same whenever it is played; returns how many steps it took."""
    luck = random.Random(number)
    world = World(server, namespace, luck.randrange(1, 5), luck)
    flushes, failovers = luck.random() < 0.3, luck.random() < 0.3
    steps = luck.randrange(10, 70)
    with patch.object(
        core, "KEEP", luck.choice((1, 3, core.KEEP))
    ):  # a short log is soon too short to catch up from
        for _ in range(steps):
            one_step(world, luck, flushes=flushes, failovers=failovers)
        world.settles()
    return steps


def one_step(world: World, luck: random.Random, *, flushes: bool, failovers: bool) -> None:
    """One of all that can happen to a reader, to something on its way, or to the store."""
    reader = luck.choice(world.readers)
    moves: list[tuple[int, Callable[[], object]]] = [
        (14, lambda: world.through(world.writes(reader, luck.choice(NAMES), delete=luck.random() < 0.2))),
        (6, lambda: world.writes(reader, luck.choice(NAMES))),
        (10, lambda: world.asks(reader)),
        (16, lambda: world.hears(reader, 0, keep=False)),
        (10, lambda: world.hears(reader, luck.randrange(99), keep=luck.random() < 0.5)),
        (2, lambda: world.is_cut_off(reader)),
        (2, lambda: reader.inbox and reader.inbox.pop(luck.randrange(len(reader.inbox)))),
    ]
    if world.under_way:
        asking = luck.choice(world.under_way)
        moves += [(15, lambda: world.store_runs(asking)), (15, lambda: world.answer_arrives(asking))]
        moves += [(4, lambda: world.answer_is_lost(asking))]
    if flushes:
        moves += [(3, world.is_emptied), (3, world.is_evicted)]
    if failovers:
        moves += [
            (2, world.is_backed_up),
            (2, lambda: world.backups and world.fails_over(luck.randrange(99))),
        ]
    weights, verbs = zip(*moves, strict=True)
    luck.choices(verbs, weights)[0]()
