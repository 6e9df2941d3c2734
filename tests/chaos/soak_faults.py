"""What befalls the store and the workers in the soak: each fault breaks something, and mends it again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from statekit.testing import Proxy
from tests.servers import Server, wait_until
from tests.webservers import WebServer

LONGEST = 3.0
"""Seconds for which the store may be away in one piece; well below what leases last."""


@dataclass(frozen=True, slots=True)
class World:
    """What can be broken."""

    server: Server
    proxy: Proxy
    webs: tuple[WebServer, ...]
    dice: random.Random

    def for_a_while(self, most: float = LONGEST) -> None:
        time.sleep(self.dice.uniform(0.2, most))


def killed(world: World) -> None:
    """kill -9; what it had acknowledged comes back from its append-only file."""
    world.server.kill()
    world.for_a_while(1.0)
    world.server.start()


def stopped(world: World) -> None:
    with world.server.frozen():
        world.for_a_while()


def clients_killed(world: World) -> None:
    world.server.ask("CLIENT", "KILL", "TYPE", "normal")


def subscribers_killed(world: World) -> None:
    world.server.ask("CLIENT", "KILL", "TYPE", "pubsub")


def scripts_flushed(world: World) -> None:
    world.server.ask("SCRIPT", "FLUSH")


def out_of_memory(world: World) -> None:
    with world.server.filled():
        world.for_a_while(1.5)


def read_only(world: World) -> None:
    with world.server.read_only():
        world.for_a_while(1.5)


def stalled(world: World) -> None:
    with world.proxy.stalled():
        world.for_a_while()


def slow(world: World) -> None:
    with world.proxy.delayed(world.dice.uniform(0.01, 0.2), jitter=0.01):
        world.for_a_while()


def trickling(world: World) -> None:
    with world.proxy.trickled(20_000):
        world.for_a_while(1.5)


def refused(world: World) -> None:
    with world.proxy.refused():
        world.for_a_while()


def cut(world: World) -> None:
    """Every connection is reset, some in the middle of a reply."""
    world.proxy.cut(after=world.dice.choice((0, 1, 7, 100)))


def half_open(world: World) -> None:
    """The peer vanishes without a word: connections stay open, and nothing comes."""
    world.proxy.half_open()


def worker_killed(world: World) -> None:
    """kill -9 of a worker of a web server, which puts another in its place."""
    web = world.dice.choice(world.webs)
    victim = world.dice.choice(sorted(web.pids()))
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(web.pids() - {victim}) == web.workers, 60, "no worker takes its place")


FAULTS: tuple[Callable[[World], None], ...] = (
    killed,
    stopped,
    clients_killed,
    subscribers_killed,
    scripts_flushed,
    out_of_memory,
    read_only,
    stalled,
    slow,
    trickling,
    refused,
    cut,
    half_open,
    worker_killed,
)
