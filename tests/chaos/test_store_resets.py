"""The server forgets its scripts, throws its clients out, pauses them, or is still loading, under load."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.testing import Blocking
from tests.chaos.diary import Diary, Outcome
from tests.chaos.load import load
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.conftest import PATIENT
from tests.servers import Server, binary
from tests.tour import tour

SECONDS = 2.0


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(binary("valkey")) as server:
        yield server


def again_and_again(server: Server, namespace: str, act: Callable[[Server], object]) -> Diary:
    with load(server.url, namespace, budget=PATIENT) as running:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            act(server)
            time.sleep(0.05)
    print(f"\n{running.diary}")
    return running.diary


def unharmed(diary: Diary) -> None:
    assert not diary.complaints
    assert not diary.miscounted(HITS)
    assert diary.most_at_once("slots") <= SLOTS
    assert diary.most_at_once("clients") <= FLEET


def test_scripts_are_flushed_and_listeners_thrown_out(server: Server, namespace: str) -> None:
    """Nobody notices."""

    def flush(server: Server) -> None:
        server.ask("SCRIPT", "FLUSH")
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")

    diary = again_and_again(server, namespace, flush)
    unharmed(diary)
    assert diary.count(Outcome.DEGRADED, Outcome.REFUSED) == 0


def test_clients_are_thrown_out(server: Server, namespace: str) -> None:
    """What was under way is told as it is: unknown. What was not goes on over another connection."""

    def throw_out(server: Server) -> None:
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(0.05)
        for number in re.findall(rb"\bid=(\d+)", server.ask("CLIENT", "LIST")):
            server.ask("CLIENT", "KILL", "ID", number)

    diary = again_and_again(server, namespace, throw_out)
    unharmed(diary)
    assert diary.count(Outcome.RIGHT) > 20 * diary.count(Outcome.DEGRADED, Outcome.REFUSED)


def test_clients_are_paused(server: Server, namespace: str) -> None:
    """As during a failover that somebody asked for: connections stay, and nothing is answered for a while."""
    with load(server.url, namespace) as running:
        time.sleep(0.5)
        begin = time.monotonic()
        server.ask("CLIENT", "PAUSE", 1000, "ALL")
        time.sleep(max(0.0, begin + 1.0 - time.monotonic()))
        back = time.monotonic()
        time.sleep(1.3)
        end = time.monotonic()
    diary = running.diary
    print(f"\n{diary}\nfull service after {diary.back(back, end) * 1000:.0f} ms")
    unharmed(diary)
    assert diary.counts["hit", Outcome.DEGRADED] > 10
    assert diary.back(back, end) < 1.0


def test_commands_are_taken_away(namespace: str) -> None:
    """Whoever offers servers as a service takes from them what has to do with their administration."""
    options = [word for name in ADMINISTRATION for word in ("--rename-command", name, "")]
    with Server(binary("valkey"), tuple(options)) as server:
        with StateKit.connect(server.url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
            tour(kit)
        other = AsyncStateKit.connect(server.url, f"{namespace}-async", budget=PATIENT, snapshot_dir=None)
        with Blocking(other) as kit:
            tour(kit)


ADMINISTRATION = (
    "CLIENT",
    "COMMAND",
    "CONFIG",
    "DEBUG",
    "FLUSHALL",
    "HELLO",
    "INFO",
    "KEYS",
    "MULTI",
    "SCRIPT",
)
SLOW = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")


def test_the_server_is_still_loading(namespace: str) -> None:
    """It accepts, answers everything with LOADING, and then is there, with what it had saved."""
    with (
        Server(binary("valkey"), SLOW) as server,
        load(server.url, namespace, terms=Terms(keeps=False)) as running,
    ):
        time.sleep(0.3)
        server.ask("EVAL", "for n = 1, 3000 do redis.call('SET', 'ballast:' .. n, ('x'):rep(100)) end", 0)
        server.ask("SAVE")
        server.kill()
        server.start(wait=False)
        begin = time.monotonic()
        while not server.answers():
            time.sleep(0.005)
        back = time.monotonic()
        time.sleep(1.3)
        end = time.monotonic()
    diary = running.diary
    print(
        f"\n{diary}\nloaded for {back - begin:.1f} s, full service after {diary.back(back, end) * 1000:.0f} ms"
    )
    assert back - begin > 1
    assert not diary.complaints
    assert diary.counts["hit", Outcome.DEGRADED] > 10
    assert diary.back(back, end) < 1.0
