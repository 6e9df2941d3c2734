"""Every script touches the keys it was given and no others, and those of a call share a slot: seen by a real cluster."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import redis

from statekit import StateKit
from statekit.flags import Flag
from statekit.store.op import Script
from statekit.store.slots import slot_of
from tests.chaos.fleets import Cluster, tell
from tests.conftest import PATIENT
from tests.servers import Server, wait_until
from tests.tour import tour

WORDS = re.compile(r'"((?:[^"\\]|\\.)*)"')
ENOUGH = "enough, thank you"
KEYLESS = {"TIME", "PUBLISH", "SPUBLISH"}
LUA = Path(__file__).parents[2] / "statekit"


class Monitor:
    """What a node was asked, by callers and by scripts, in order."""

    def __init__(self, node: Server) -> None:
        self.lines: list[str] = []
        self._connection = redis.Connection(port=node.port, protocol=2, decode_responses=True)
        self._connection.send_command("MONITOR")
        assert self._connection.read_response() == "OK"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while ENOUGH not in (line := str(self._connection.read_response())):
            self.lines.append(line)

    def close(self, node: Server) -> None:
        tell(node, "ECHO", ENOUGH)
        self._thread.join(30)
        self._connection.disconnect()


@contextmanager
def monitored(cluster: Cluster) -> Iterator[list[Monitor]]:
    monitors = [Monitor(node) for node in cluster.nodes]
    yield monitors
    for monitor, node in zip(monitors, cluster.nodes, strict=True):
        monitor.close(node)


def scripts() -> set[str]:
    """The names of all scripts there are."""
    paths = [
        one for one in LUA.rglob("*.lua") if not one.read_text(encoding="utf-8").startswith("-- Part of ")
    ]
    return {f"{path.parent.name}.{path.stem}" for path in paths}


def of_modules() -> Iterator[Script]:
    """All scripts that were imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith("statekit."):
            yield from (one for one in vars(module).values() if isinstance(one, Script))


def digest(shown: str) -> str:
    """What a script is called by, of its text as a monitor shows it."""
    return sha1(ast.literal_eval(f'b"{shown}"'), usedforsecurity=False).hexdigest()


def complaints(lines: list[str], sources: dict[str, Script], seen: set[str]) -> Iterator[str]:
    """Say which lines of a monitor show a key nobody declared, or keys of several slots."""
    declared: list[str] = []
    name = ""
    for line in lines:
        command, *words = WORDS.findall(line)
        if command.upper() in ("EVAL", "EVALSHA"):
            declared = words[2 : 2 + int(words[1])]
            name = sources[words[0] if command.upper() == "EVALSHA" else digest(words[0])].name
            seen.add(name)
            if len({slot_of(key) for key in declared}) != 1:
                yield f"{name}: {declared} are not of one slot"
        elif " lua]" in line and command.upper() not in KEYLESS and words[0] not in declared:
            yield f"{name}: {command} {words[0]} is not among {declared}"


def every_primitive(kit: Any, cluster: Cluster) -> None:
    """Use all there is, what only follows the loss of all data too."""
    tour(kit)
    kit.hit_all([(kit.rate_limiter(f"l{number}", "1/hour"), "ip") for number in range(20)])
    kit.hit_all([(kit.rate_limiter(f"l{number}", "1/hour"), "ip") for number in range(19, 40)])
    short = kit.in_flight("short", 1, lease=1)
    with short.hold("acme"):
        first = short.holders("acme")
        wait_until(lambda: short.holders("acme") != first, message="it was never renewed")
    kit.flags.set("kept", Flag())
    for node in cluster.nodes:
        tell(node, "FLUSHALL")
    kit.flags.set("put back", Flag(), wait=5.0)


def test_scripts_touch_what_they_declare_and_that_is_of_one_slot(namespace: str) -> None:
    seen: set[str] = set()
    found: list[str] = []
    with Cluster(replicas=0) as cluster:
        with monitored(cluster) as monitors, StateKit.connect(cluster.url, namespace, budget=PATIENT) as kit:
            every_primitive(kit, cluster)
        sources = {one.sha: one for one in of_modules()}
        for monitor in monitors:
            found += complaints(monitor.lines, sources, seen)
    assert not found
    assert seen >= scripts()
