"""The replica against the log: whatever is lost, doubled, late or in another order, and whatever the store forgets."""

from __future__ import annotations

import random

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from statekit import Flag, StateKit
from tests.conftest import PATIENT
from tests.properties.replicas import NAMES, Real, Twin, World, played

any_one = st.integers(0, 99)


class Replicas(RuleBasedStateMachine):
    """The same moves as the numbered schedules; hypothesis makes what fails short."""

    @initialize(readers=st.integers(1, 4), seed=any_one)
    def begin(self, readers, seed):
        self.world = World(Twin("t"), "t", readers, random.Random(seed))

    def reader(self, number):
        return self.world.readers[number % len(self.world.readers)]

    def asking(self, number):
        return self.world.under_way[number % len(self.world.under_way)]

    @rule(number=any_one, name=st.sampled_from(NAMES), delete=st.booleans(), at_once=st.booleans())
    def writes(self, number, name, delete, at_once):
        asking = self.world.writes(self.reader(number), name, delete=delete)
        if at_once:
            self.world.through(asking)

    @rule(number=any_one)
    def asks(self, number):
        self.world.asks(self.reader(number))

    @precondition(lambda self: self.world.under_way)
    @rule(number=any_one, verb=st.sampled_from(["store_runs", "answer_arrives", "answer_is_lost"]))
    def goes_on(self, number, verb):
        getattr(self.world, verb)(self.asking(number))

    @rule(number=any_one, index=any_one, keep=st.booleans())
    def hears(self, number, index, keep):
        self.world.hears(self.reader(number), index, keep=keep)

    @rule(number=any_one)
    def is_cut_off(self, number):
        self.world.is_cut_off(self.reader(number))

    @rule()
    def is_emptied(self):
        self.world.is_emptied()

    @rule()
    def is_evicted(self):
        self.world.is_evicted()

    @rule()
    def is_backed_up(self):
        self.world.is_backed_up()

    @precondition(lambda self: self.world.backups)
    @rule(index=any_one)
    def fails_over(self, index):
        self.world.fails_over(index)

    def teardown(self):
        self.world.settles()


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_versions_a_server_gives_out_again_are_noticed(valkey_url, namespace):
    """A server takes over without two writes and takes two others, before anybody who shows the first has asked."""
    client, options = redis.Redis.from_url(valkey_url), {"budget": PATIENT, "snapshot_dir": None}
    with StateKit.connect(valkey_url, namespace, **options) as kit:
        kit.flags.set("a", Flag(), by="t")
        keys = list(client.scan_iter(match=f"sk1:{namespace}:replica:*"))
        backup = {key: client.dump(key) for key in keys}
        kit.flags.set("a", Flag(enabled=False), by="t")
        kit.flags.set("lost", Flag(), by="t")
        kit.store.pulse.close()  # it shall neither look by itself nor hear of anything in between
        kit.store.push.close()
        for key, value in backup.items():
            client.restore(key, 0, value, replace=True)
        with StateKit.connect(valkey_url, namespace, **options) as other:
            assert other.flags.version == 1
            for name in ("b", "c"):
                other.store.run(other.flags._replica.writing(name, '{"enabled":true}', by="t"))
        kit.store.run(kit.flags._replica.syncing())
        assert kit.flags.names() == ("a", "b", "c")
        assert kit.flags.enabled("a") is True


def on_the_twin(numbers, record):
    record(
        "schedules", ("replica, in memory", len(numbers), sum(played(Twin("t"), "t", one) for one in numbers))
    )


def on_a_server(url, namespace, numbers, record):
    client, steps = redis.Redis.from_url(url), 0
    for number in numbers:
        server = Real(f"{namespace}.{number}", client)
        steps += played(server, f"{namespace}.{number}", number)
        server.close()
    record("schedules", ("replica, on a server", len(numbers), steps))


def test_every_reader_converges_and_none_goes_back(record_property):
    on_the_twin(range(1000), record_property)


def test_every_reader_converges_and_none_goes_back_on_a_server(valkey_url, namespace, record_property):
    on_a_server(valkey_url, namespace, range(100), record_property)


@pytest.mark.exhaustive
def test_ten_thousand_schedules_in_memory(record_property):
    on_the_twin(range(10_000), record_property)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shard", range(10))
def test_ten_thousand_schedules_on_a_server(valkey_url, namespace, shard, record_property):
    on_a_server(valkey_url, namespace, range(1000 * shard, 1000 * (shard + 1)), record_property)
