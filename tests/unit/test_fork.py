"""Forks: a child goes on with the kit its parent had, and neither reads the other's replies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable

import pytest

from statekit import AsyncStateKit, Flag, StateKit, TenantSettings
from statekit.store.fork import on_fork
from statekit.store.op import command
from statekit.store.pulse import Pulse
from statekit.store.push import Push
from tests.conftest import PATIENT
from tests.servers import Server, binary, wait_until

ROUNDS = 200


class Settings(TenantSettings):
    plan: str = "free"


def in_child(work: Callable[[], object]) -> int:
    """Fork, run, and end without pytest's clean-up; returns the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def all_well(pids: list[int]) -> bool:
    return [ended(pid) for pid in pids] == [0] * len(pids)


def ended(pid: int) -> int:
    """Wait for a child's end and return its exit code; one that hangs is killed, and its code is -9."""
    deadline = time.monotonic() + 60
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(done[1])


def test_parent_and_children_never_mix_replies(server_url: str, namespace: str) -> None:
    kit = StateKit.connect(server_url, namespace, budget=PATIENT)
    counter = kit.store.keys.of("n", "forks")
    kit.ping()
    parent = kit.store.worker

    def echo() -> None:
        for number in range(ROUNDS):
            mine = f"{os.getpid()}-{number}"
            assert kit.store.run(command("ECHO", mine)) == mine.encode()
            kit.store.run(command("INCR", counter))

    def child() -> None:
        assert kit.store.worker != parent
        echo()

    pids = [in_child(child) for _ in range(3)]
    echo()
    assert all_well(pids)
    assert kit.store.run(command("GET", counter)) == b"%d" % (4 * ROUNDS)
    assert kit.store.worker == parent
    kit.close()


def test_a_child_that_ends_leaves_its_parents_connection_alone(valkey_url: str) -> None:
    kit = StateKit.connect(valkey_url, budget=PATIENT)
    kit.ping()
    before = kit.store.run(command("CLIENT", "ID"))
    assert all_well([in_child(kit.close), in_child(kit.ping)])
    assert kit.store.run(command("CLIENT", "ID")) == before
    kit.close()


def test_an_asyncio_kit_in_a_child(valkey_url: str) -> None:
    kit = AsyncStateKit.connect(valkey_url, budget=PATIENT)

    async def echo() -> None:
        for number in range(ROUNDS):
            mine = f"{os.getpid()}-{number}"
            assert await kit.store.run(command("ECHO", mine)) == mine.encode()

    asyncio.run(echo())
    pids = [in_child(lambda: asyncio.run(echo())) for _ in range(2)]
    asyncio.run(echo())
    assert all_well(pids)


def test_background_work_goes_on_in_a_child() -> None:
    kit = StateKit.in_memory()
    ours, theirs = socket.socketpair()
    beats: list[int] = []

    def beat() -> None:
        ours.send(b"%d\n" % os.getpid())  # first: the child ends as soon as it has seen the beat
        beats.append(os.getpid())

    kit.store.pulse.every(0.01, beat)
    wait_until(lambda: beats)

    def child() -> None:
        wait_until(lambda: beats[-1] == os.getpid())

    pid = in_child(child)
    assert all_well([pid])
    count = len(beats)
    wait_until(lambda: len(beats) > count)  # and in the parent
    theirs.settimeout(5)
    assert b"%d" % pid in theirs.recv(1 << 20)
    kit.close()
    ours.close()
    theirs.close()


def test_a_child_of_a_process_in_which_a_thread_holds_the_pool(valkey_url: str, namespace: str) -> None:
    kit = StateKit.connect(valkey_url, namespace, budget=PATIENT)
    kit.ping()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with kit.store.transport._pool._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        assert all_well([in_child(kit.ping)])
    finally:
        done.set()
        thread.join()
    kit.close()


def test_forking_in_the_middle_of_everything(valkey_url: str, namespace: str) -> None:
    """Threads hold connections and locks while the process forks: the child must not inherit a lock that stays shut."""
    kit = StateKit.connect(valkey_url, namespace, budget=PATIENT)
    stop = threading.Event()
    failures: list[BaseException] = []

    def busy(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                assert kit.store.run(command("ECHO", f"{name}-{number}")) == f"{name}-{number}".encode()
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=busy, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            deadline = time.monotonic() + 30
            assert all_well([in_child(kit.ping)])
            assert time.monotonic() < deadline
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    kit.close()


def test_a_greenlet_that_lives_on_in_the_child_hears_nothing_meant_for_the_parent(namespace: str) -> None:
    """Threads end with a fork, greenlets do not: the copy would read the parent's reply, and keep its connection."""
    with Server(binary("valkey")) as store:
        script = [sys.executable, "-m", "tests.greenlets_that_fork", store.url, namespace]
        subprocess.run(script, check=True, timeout=60)


def test_nothing_starts_in_a_child_before_everything_of_the_parent_is_dropped() -> None:
    class Holder:
        dropped = False
        seen = 0

        def after_fork(self) -> None:
            self.dropped = True

        def restart_after_fork(self) -> None:
            self.seen = sum(one.dropped for one in holders)

    holders = [Holder() for _ in range(20)]
    for holder in holders:
        on_fork(holder)

    def child() -> None:
        assert [holder.seen for holder in holders] == [20] * 20

    assert all_well([in_child(child)])
    assert not any(holder.dropped for holder in holders)


def test_a_beat_that_is_at_work_while_the_process_forks_is_not_lost_to_the_child() -> None:
    pulse = Pulse()
    parent = os.getpid()
    at_work, go_on = threading.Event(), threading.Event()
    ours, theirs = socket.socketpair()

    def beat() -> None:
        if os.getpid() != parent:
            ours.send(b"beat")
            return
        at_work.set()
        go_on.wait(60)

    pulse.every(0.001, beat)
    assert at_work.wait(60)
    pid = in_child(lambda: wait_until(lambda: theirs.recv(4) == b"beat"))
    assert all_well([pid])
    go_on.set()
    pulse.close()
    ours.close()
    theirs.close()


def test_the_first_use_in_a_child_asks_the_store_and_signs_for_the_answer(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a moment later, when its listener has joined: here it never does."""
    kit = StateKit.connect(valkey_url, namespace, snapshot_dir=None)
    tenants = kit.tenants(Settings)
    kit.flags.set("a", Flag(), wait=30)
    kit.flags.set("old", Flag())
    assert tenants.known() == ()
    monkeypatch.setattr(Push, "restart_after_fork", lambda _: None)
    monkeypatch.setattr(Pulse, "restart_after_fork", lambda _: None)

    def child() -> None:
        other = StateKit.connect(valkey_url, namespace, snapshot_dir=None)
        other.flags.set("a", Flag(enabled=False))
        other.tenants(Settings).update("acme", {})
        assert kit.flags.enabled("a") is False
        assert kit.flags.enabled("old") is True
        assert tenants.known() == ("acme",)
        assert kit.store.worker in {one.name for one in kit.flags.workers()}
        assert other.flags.set("a", Flag(), wait=0).workers == 3  # the parent, the child, and this one

    assert all_well([in_child(child)])
    wait_until(lambda: kit.flags.enabled("a"))
    kit.close()
