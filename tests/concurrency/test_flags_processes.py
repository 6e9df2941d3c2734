"""Flags across real processes: convergence with proof, lost messages, lost data, restarts, forks."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from statekit import AsyncStateKit, StateKit
from statekit.flags import Flag
from statekit.replica import core
from statekit.store.op import command
from statekit.testing import OutageSimulator
from tests.conftest import PATIENT
from tests.servers import Server, binary, wait_until

READER = Path(__file__).parent / "flag_reader.py"


class Reader:
    """Another process that follows the flags."""

    def __init__(self, url, namespace):
        self.process = subprocess.Popen(
            [sys.executable, str(READER), url, namespace, str(core.RECONCILE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def sees(self, name):
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def impatient(monkeypatch):
    """Reconcile often, so that what waits for a tick need not wait long."""
    monkeypatch.setattr(core, "RECONCILE", 0.4)


@pytest.fixture
def reader():
    """Start readers; all are ended with the test."""
    started = []

    def start(*args):
        started.append(Reader(*args))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def connect(namespace):
    """Make kits of this test's namespace, closed with it."""
    kits = []

    def make(url, **options):
        options = {"budget": PATIENT, "snapshot_dir": None, **options}
        kits.append(StateKit.connect(url, namespace, **options))
        return kits[-1]

    yield make
    for kit in kits:
        kit.close()


def test_eight_processes_confirm_every_write(valkey_url, namespace, reader, connect):
    readers = [reader(valkey_url, namespace) for _ in range(8)]
    for one in readers:
        one.sees("pay")
    kit = connect(valkey_url)
    for n in range(10):
        came = kit.flags.set("pay", Flag(enabled=n % 2 == 0), wait=30)
        assert (came.workers, came.acknowledged) == (9, 9)
        assert [one.sees("pay")["on"] for one in readers] == [n % 2 == 0] * 8
    assert {one.version for one in kit.flags.workers()} == {10}


def test_a_killed_process_is_named_as_lagging_and_then_forgotten(
    valkey_url, namespace, reader, connect, impatient
):
    victim, survivor = reader(valkey_url, namespace), reader(valkey_url, namespace)
    for one in (victim, survivor):
        one.sees("pay")
    kit = connect(valkey_url)
    assert kit.flags.set("pay", Flag(), wait=30).workers == 3
    victim.process.kill()
    victim.process.wait()
    came = kit.flags.set("pay", Flag(enabled=False), wait=0.5)
    assert (came.workers, came.acknowledged) == (3, 2)
    assert f"-{victim.process.pid}-" in came.lagging[0]
    wait_until(lambda: len(kit.flags.workers()) == 2, 30)
    assert kit.flags.set("pay", Flag(), wait=30).complete


def test_a_process_that_ends_without_closing_its_kit_is_not_waited_for(valkey_url, namespace, connect):
    kit = connect(valkey_url)
    kit.flags.load()
    ending = f"from statekit import StateKit; StateKit.connect({valkey_url!r}, {namespace!r}).flags.load()"
    subprocess.run([sys.executable, "-c", ending], check=True)
    assert len(kit.flags.workers()) == 1


def test_a_cut_subscription_heals_and_misses_nothing(server_url, connect):
    writer, follower = connect(server_url), connect(server_url)
    follower.flags.load()
    server = redis.Redis.from_url(server_url)
    for n in range(5):
        server.client_kill_filter(_type="pubsub")
        writer.flags.set("pay", Flag(rollout=n))
        wait_until(lambda n=n: follower.flags.get("pay") == Flag(rollout=n), 20)
    server.close()


def test_lost_messages_are_found_by_the_reconcile_tick(valkey_url, connect, monkeypatch, impatient):
    writer, follower = connect(valkey_url), connect(valkey_url)
    follower.flags.load()
    replica = follower.flags._replica
    wait_until(lambda: follower.store.push.live is not None)
    follower.store.push.unsubscribe(replica._at.channel, replica)
    writer.flags.set("pay", Flag())
    wait_until(lambda: follower.flags.enabled("pay"), 20)


def test_a_flush_turns_nothing_off(server_url, connect, impatient):
    writer, follower = connect(server_url), connect(server_url)
    writer.flags.set("pay", Flag())
    writer.flags.set("search", Flag())
    follower.flags.load()
    server = redis.Redis.from_url(server_url)
    server.delete(*server.keys(f"sk1:{writer.namespace}:*"))
    wait_until(lambda: follower.flags.stale and writer.flags.stale, 20)
    assert follower.flags.enabled("pay")
    assert follower.flags.enabled("search")
    epoch = follower.flags.epoch

    came = writer.flags.set("new", Flag(), wait=30)
    assert (came.workers, came.acknowledged) == (2, 2)
    assert follower.flags.names() == ("new", "pay", "search")
    assert follower.flags.epoch != epoch
    assert came.version > 2
    wait_until(lambda: not follower.flags.stale, 20)
    server.close()


def test_restore_puts_the_flags_back_once(valkey_url, connect, impatient):
    first, second = connect(valkey_url), connect(valkey_url)
    first.flags.set("pay", Flag())
    second.flags.load()
    server = redis.Redis.from_url(valkey_url)
    server.delete(*server.keys(f"sk1:{first.namespace}:*"))
    assert second.flags.restore() is True
    assert first.flags.restore() is False
    assert connect(valkey_url).flags.enabled("pay")
    server.close()


def test_a_store_set_back_in_time_is_taken_over_as_a_new_data_set(server_url, connect, impatient):
    writer, follower = connect(server_url), connect(server_url)
    writer.flags.set("pay", Flag(rollout=1))
    server = redis.Redis.from_url(server_url)
    keys = server.keys(f"sk1:{writer.namespace}:*")
    backup = {key: server.dump(key) for key in keys}
    writer.flags.set("pay", Flag(rollout=2))
    writer.flags.set("late", Flag())
    follower.flags.load()
    epoch = follower.flags.epoch
    with server.pipeline() as at_once:
        for key, value in backup.items():
            at_once.restore(key, 0, value, replace=True)
        at_once.execute()
    wait_until(lambda: follower.flags.epoch != epoch and writer.flags.epoch == follower.flags.epoch, 30)
    for kit in (writer, follower):
        assert kit.flags.get("pay") == Flag(rollout=1)
        assert kit.flags.version > 3
        assert not kit.flags.enabled("late")
    assert writer.flags.set("pay", Flag(rollout=3), wait=30).complete
    server.close()


def test_a_restarted_server_is_found_again(connect):
    with Server(binary("valkey"), options=("--appendonly", "yes")) as server:
        writer, follower = connect(server.url), connect(server.url)
        writer.flags.set("pay", Flag())
        follower.flags.load()
        server.stop(keep=True)
        assert follower.flags.enabled("pay")
        server.start()
        wait_until(lambda: _written(writer, Flag(enabled=False)), 30)
        wait_until(lambda: not follower.flags.enabled("pay"), 30)


def _written(kit, flag):
    from statekit.errors import StoreError

    try:
        return kit.flags.set("pay", flag)
    except StoreError:
        return None


def test_a_silent_store_makes_the_flags_stale_and_they_recover(valkey_url, connect, impatient):
    with OutageSimulator(valkey_url) as outage:
        kit = connect(outage.url)
        kit.flags.set("pay", Flag())
        assert not kit.flags.stale
        with outage.stalled():
            wait_until(lambda: kit.flags.stale, 40)
            assert kit.flags.enabled("pay")
            connect(valkey_url).flags.set("pay", Flag(enabled=False))
        wait_until(lambda: not kit.flags.enabled("pay") and not kit.flags.stale, 40)


def test_a_half_open_connection_is_noticed(valkey_url, connect):
    """The subscription hangs while nothing is closed: it is dropped after two silent intervals."""
    with OutageSimulator(valkey_url) as outage:
        kit = connect(outage.url)
        kit.flags.load()
        wait_until(lambda: kit.store.push.live is not None)
        hung = kit.store.push.live
        with outage.stalled():
            wait_until(lambda: kit.store.push.live is not hung, 30)


def test_a_process_starts_from_the_file_while_the_store_is_down(valkey_url, namespace, tmp_path, connect):
    with Server(binary("valkey")) as server:
        first = connect(server.url, snapshot_dir=tmp_path)
        first.flags.set("pay", Flag())
        first.flags.set("search", Flag(rollout=50))
        first.close()
        server.stop(keep=True)
        start = time.monotonic()
        second = connect(server.url, snapshot_dir=tmp_path)
        assert second.flags.enabled("pay")
        assert time.monotonic() - start < 2
        assert second.flags.stale
        assert second.flags.version == 2
        assert second.flags.get("search") == Flag(rollout=50)


async def test_an_asyncio_kit_answers_from_the_file_before_anything_was_awaited(
    tmp_path, valkey_url, namespace
):
    async with AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=tmp_path) as kit:
        await kit.flags.set("pay", Flag(), wait=10)
    later = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=tmp_path)
    assert later.flags.enabled("pay")
    assert later.flags.stale
    await later.flags.load()
    assert not later.flags.stale
    await later.close()


def test_a_forked_child_hears_of_changes(server_url, connect):
    kit = connect(server_url)
    kit.flags.set("pay", Flag())
    ready, tell = os.pipe()
    done, leave = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(leave)
            wait_until(lambda: any(f"-{os.getpid()}-" in one.name for one in kit.flags.workers()), 30)
            os.write(tell, b"x")
            wait_until(lambda: not kit.flags.enabled("pay"), 30)
            os.read(done, 1)  # not before it has said what it heard
            status = 0
        finally:
            os._exit(status)
    os.read(ready, 1)
    came = kit.flags.set("pay", Flag(enabled=False), wait=30)
    os.close(leave)
    assert (came.workers, came.acknowledged) == (2, 2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in (ready, tell, done):
        os.close(end)


def test_concurrent_writers_lose_nothing(server_url, connect):
    kits = [connect(server_url) for _ in range(4)]

    def write(index, kit):
        for n in range(25):
            kit.flags.set(f"f{index}-{n}", Flag(rollout=n))

    threads = [threading.Thread(target=write, args=pair) for pair in enumerate(kits)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    expected = {f"f{index}-{n}" for index in range(4) for n in range(25)}
    for kit in kits:
        wait_until(lambda kit=kit: set(kit.flags.names()) == expected, 30)
        assert kit.flags.version == 100
    assert {one.version for one in kits[0].flags.history(limit=1000)} == set(range(1, 101))


def test_compare_and_set_lets_one_of_many_win(server_url, connect):
    from statekit.errors import VersionConflict

    kits = [connect(server_url) for _ in range(4)]
    version = kits[0].flags.set("pay", Flag()).version
    won = []

    def race(kit, n):
        with contextlib.suppress(VersionConflict):
            won.append(kit.flags.set("pay", Flag(rollout=n), if_version=version))

    threads = [threading.Thread(target=race, args=(kit, n)) for n, kit in enumerate(kits)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(won) == 1


def test_a_full_store_goes_on_answering_its_readers(connect):
    with Server(binary("valkey"), options=("--maxmemory-policy", "noeviction")) as server:
        from statekit.errors import StoreFull

        writer = connect(server.url)
        writer.flags.set("pay", Flag())
        writer.store.run(command("CONFIG", "SET", "maxmemory", "1"))
        with pytest.raises(StoreFull):
            writer.flags.set("pay", Flag(enabled=False))
        late = connect(server.url)
        assert late.flags.enabled("pay")
        assert not late.flags.stale
