"""Push: every gap is heard of, a silent connection is not believed, one bad listener harms nobody."""

import gc
import itertools
import threading
import time
import weakref

import pytest

from statekit import AsyncStateKit, Flag, StateKit
from statekit.errors import StoreUnavailable
from statekit.store import push
from statekit.store.op import command
from statekit.store.push import Push, Watch, pauses
from tests.servers import wait_until


class Ear:
    """A listener that notes what it hears."""

    def __init__(self):
        self.noted = []

    def heard(self, message):
        self.noted.append(message)

    def settled(self):
        self.noted.append("settled")


class AsyncEar(Ear):
    async def settled(self):
        self.noted.append("settled")


class Scripted:
    """A subscriber that plays back what a test wrote: signals, silence (None), errors."""

    def __init__(self, *script):
        self.script = list(script)
        self.sent = []

    def connect(self):
        self.sent.append("connect")

    def subscribe(self, *channels):
        self.sent += channels

    def ping(self):
        self.sent.append("ping")

    def get(self, _timeout):
        if not self.script:
            raise StoreUnavailable("the script is over")
        played = self.script.pop(0)
        if isinstance(played, Exception):
            raise played
        return played

    def close(self):
        self.sent.append("close")


def test_a_subscription_starts_with_a_gap_and_settles_once_for_many_messages(monkeypatch):
    monkeypatch.setattr(push, "GATHER", 60.0)  # settled by silence, however slow this machine
    first = Scripted(
        ("subscribe", "c", b""), ("message", "c", b"1"), ("message", "c", b"2"), None, ("pong", "", b""), None
    )
    made = iter([first])
    later = Scripted()
    pushed, ear = Push(lambda: next(made, later)), Ear()
    pushed.subscribe("c", ear)
    wait_until(lambda: "close" in first.sent)
    pushed.close()
    assert ear.noted == [None, b"1", b"2", "settled"]
    assert first.sent[:2] == ["connect", "c"]


def test_messages_that_never_cease_do_not_keep_listeners_from_settling(monkeypatch):
    monkeypatch.setattr(push, "GATHER", 0.0)  # its time is up with the next message already
    without_pause = Scripted(*[("message", "c", b"%d" % number) for number in range(3)])
    made = iter([without_pause])
    pushed, ear = Push(lambda: next(made, Scripted())), Ear()
    pushed.subscribe("c", ear)
    wait_until(lambda: "close" in without_pause.sent)
    pushed.close()
    assert ear.noted == [b"0", "settled", b"1", "settled", b"2", "settled"]


def test_every_new_connection_is_a_gap():
    connections = [Scripted(("subscribe", "c", b""), None) for _ in range(3)]
    made = iter(connections)
    pushed, ear = Push(lambda: next(made, Scripted())), Ear()
    pushed.subscribe("c", ear)
    wait_until(lambda: ear.noted.count(None) == 3)
    pushed.close()
    assert all("close" in one.sent for one in connections)


def test_a_subscriber_that_cannot_even_be_made_is_tried_again():
    attempts = itertools.count()

    def make():
        if next(attempts) < 2:
            raise StoreUnavailable("no node answers")
        return Scripted(("subscribe", "c", b""), None)

    pushed, ear = Push(make), Ear()
    pushed.subscribe("c", ear)
    wait_until(lambda: None in ear.noted)
    pushed.close()


def test_a_listener_that_fails_does_not_deafen_the_others(monkeypatch):
    monkeypatch.setattr(push, "GATHER", 60.0)

    class Broken(Ear):
        def heard(self, message):
            raise ValueError(message)

        def settled(self):
            raise ValueError

    only = Scripted(("subscribe", "c", b""), ("message", "c", b"1"), None)
    made = iter([only])
    pushed, ear = Push(lambda: next(made, Scripted())), Ear()
    broken, other = Broken(), Ear()
    pushed._listeners["c"] = (weakref.ref(broken), weakref.ref(ear))
    pushed.subscribe("d", other)
    wait_until(lambda: "close" in only.sent)
    pushed.close()
    assert ear.noted[:3] == [None, b"1", "settled"]


def test_silence_is_asked_about_once_and_then_not_believed():
    watch = Watch()
    assert watch.silent(10.0)
    assert not watch.silent(10.0 + push.DEADLINE)
    watch.heard()
    assert watch.silent(20.0)
    with pytest.raises(StoreUnavailable, match="no sign of life"):
        watch.silent(20.1 + push.DEADLINE)


def test_pauses_grow_and_are_bounded():
    drawn = list(itertools.islice(pauses(), 20))
    assert drawn[0] <= 1.5 * push.FIRST_PAUSE
    assert all(0 < one <= 1.5 * push.LONGEST_PAUSE for one in drawn)
    assert min(drawn[10:]) >= 0.5 * push.LONGEST_PAUSE


def test_nothing_runs_before_the_first_subscription():
    kit = StateKit.in_memory()
    assert kit.store.push._thread is None
    kit.close()
    kit.close()


def test_a_listener_that_left_hears_nothing_more():
    with StateKit.in_memory() as kit:
        ear = Ear()
        kit.store.push.subscribe("c", ear)
        wait_until(lambda: ear.noted == [None, "settled"])
        kit.store.push.unsubscribe("c", ear)
        kit.store.transport.data.publish("c", "late")
        other = Ear()
        kit.store.push.subscribe("c", other)
        wait_until(lambda: "settled" in other.noted)
        assert ear.noted == [None, "settled"]


def own_threads():
    return {one for one in threading.enumerate() if one.name.startswith("statekit-")}


def connected(kit):
    return kit.store.run(command("CLIENT", "LIST", read_only=True)).count(b"\n")


def test_kits_dropped_instead_of_closed_are_collected_and_leave_no_thread_and_no_connection(
    valkey_url, namespace
):
    before = own_threads()
    with StateKit.connect(valkey_url, namespace) as watching:
        wait_until(lambda: watching.store.push.live)
        connections = connected(watching)
        before |= own_threads()
        for number in range(20):
            kit = StateKit.connect(valkey_url, namespace)
            kit.flags.set("a", Flag())
            with kit.pools.register("p", open=list, fleet=40).checkout():
                pass
            assert len(own_threads() - before) >= 2, number
            kept = weakref.ref(kit.store)
            del kit
        # polled: a thread may be at work for its kit just now, and holds it until that is done
        wait_until(lambda: gc.collect() >= 0 and kept() is None, 30)
        wait_until(lambda: gc.collect() >= 0 and not own_threads() - before, 30)
        # of 40; one or two more may be the watching kit's own, whose threads ask at the same time
        wait_until(lambda: connected(watching) <= connections + 2, 30)


def test_what_outlives_its_kit_goes_on_being_kept_current(valkey_url, namespace):
    flags = StateKit.connect(valkey_url, namespace).flags
    flags.load()
    gc.collect()
    time.sleep(push.IDLE * 1.5)
    with StateKit.connect(valkey_url, namespace) as kit:
        assert kit.flags.set("a", Flag(), wait=30).complete
        assert flags.enabled("a")


def test_a_thread_that_found_nobody_left_is_followed_by_another():
    with StateKit.in_memory() as kit:
        kit.store.push.subscribe("c", Ear())
        kit.flags._replica.close()
        wait_until(lambda: kit.store.push._thread is None, 30)
        other = Ear()
        kit.store.push.subscribe("c", other)
        wait_until(lambda: other.noted == [None, "settled"])


async def test_the_asyncio_push_hears_the_same(monkeypatch):
    monkeypatch.setattr(push, "GATHER", 0.3)
    async with AsyncStateKit.in_memory() as kit:
        ear = AsyncEar()
        await kit.store.push.subscribe("c", ear)
        while ear.noted != [None, "settled"]:
            await asyncio_tick()
        kit.store.transport.data.publish("c", "1")
        kit.store.transport.data.publish("c", "2")
        while ear.noted[2:] != [b"1", b"2", "settled"]:
            await asyncio_tick()


async def asyncio_tick():
    import asyncio

    await asyncio.sleep(0.001)
