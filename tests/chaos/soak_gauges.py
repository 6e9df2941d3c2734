"""What must not grow: memory, descriptors and threads of each process, connections and lasting keys of the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from time import monotonic

import psutil

from tests.servers import Server

MB = 1 << 20
LASTING = re.compile(r"sk1:[^:]+:replica:\{[^}]+\}:(meta|docs|log)")
"""The three keys of each replica that have no TTL; nothing else may lack one."""
SPARE = {"connections": 5, "descriptors": 3, "threads": 0}
"""A process keeps as many connections as it had calls at once, which is another number each time; a leak is more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The largest of the processes of one role at one moment."""

    at: float
    pids: frozenset[int]
    rss: int
    descriptors: int
    threads: int


def reading(pids: Iterable[int]) -> Reading:
    found = []
    for pid in pids:
        try:
            one = psutil.Process(pid)
            with one.oneshot():
                found.append((one.memory_info().rss, one.num_fds(), one.num_threads()))
        except psutil.Error:  # killed meanwhile
            continue
    rss, descriptors, threads = map(max, zip(*found, strict=True)) if found else (0, 0, 0)
    return Reading(monotonic(), frozenset(pids), rss, descriptors, threads)


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one role, before and after."""

    role: str
    what: str
    before: float
    after: float
    allowed: float

    @property
    def grew(self) -> bool:
        return self.after - self.before > self.allowed


class Gauges:
    """Readings of every role, taken again and again."""

    def __init__(self, roles: Mapping[str, Callable[[], Iterable[int]]], server: Server) -> None:
        self._roles = roles
        self._server = server
        self.readings: dict[str, list[Reading]] = {role: [] for role in roles}
        self.connections: list[tuple[float, int]] = []

    def read(self) -> None:
        for role, pids in self._roles.items():
            self.readings[role].append(reading(tuple(pids())))

    def count_connections(self) -> None:
        """Only while the server is well."""
        known = self._server.ask("INFO", "clients")["connected_clients"]
        self.connections.append((monotonic(), known - 1))  # one is this question's

    def lasting_keys(self) -> set[str]:
        found, cursor = set(), 0
        while True:
            cursor, keys = self._server.ask("SCAN", cursor, "COUNT", 1000)
            found |= {key.decode() for key in keys if self._server.ask("PTTL", key) == -1}
            if not int(cursor):
                return found

    # -- what came of it -----------------------------------------------------------------------------------

    def changes(self, before: tuple[float, float], after: tuple[float, float], memory: float) -> list[Change]:
        """Compare two spans of time; `memory` bytes more are taken for noise.

        Of memory the medians, and only of processes that lived all the time; of what can be counted the largest.
        """
        found = [self._connections(before, after)]
        for role, readings in self.readings.items():
            early, late = within(readings, before), within(readings, after)
            for what in ("descriptors", "threads"):
                most = [max(getattr(one, what) for one in span) for span in (early, late)]
                found.append(Change(role, what, *most, SPARE[what]))
            if early[0].pids == late[-1].pids:
                sizes = [median(one.rss for one in span) for span in (early, late)]
                found.append(Change(role, "memory", *sizes, memory))
        return found

    def _connections(self, before: tuple[float, float], after: tuple[float, float]) -> Change:
        most = [
            max(count for at, count in self.connections if begin <= at <= end)
            for begin, end in (before, after)
        ]
        return Change("server", "connections", *most, SPARE["connections"])

    def slopes(self, since: float) -> dict[str, float]:
        """Bytes an hour each role gained since a moment, by the straight line that fits best."""
        found = {}
        for role, readings in self.readings.items():
            points = [(one.at, one.rss) for one in readings if one.at >= since and one.rss]
            found[role] = _slope(points) * 3600
        return found


def within(readings: list[Reading], span: tuple[float, float]) -> list[Reading]:
    return [one for one in readings if span[0] <= one.at <= span[1] and one.rss]


def _slope(points: list[tuple[float, int]]) -> float:
    middle = sum(at for at, _ in points) / len(points)
    height = sum(value for _, value in points) / len(points)
    across = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (value - height) for at, value in points) / across if across else 0.0
