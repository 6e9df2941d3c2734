"""A real cluster on the loopback: three masters, a replica each, gone with the process that started them."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from time import monotonic
from typing import Any, Self

import redis

from tests.servers import ANY, Server, binary, wait_until

SLOTS = 16_384
NODE_TIMEOUT = 2.0
"""Seconds a node may be silent before the others take it for dead."""


def slot_of(key: str) -> int:
    """The slot of a key, by the rule of the cluster specification."""
    start = key.find("{") + 1
    end = key.find("}", start) if start else -1
    return crc_hqx((key[start:end] if end > start else key).encode(), 0) % SLOTS


def tell(node: Server, *words: str | int) -> Any:
    """Say one command to one node, on a connection of its own, and return the bare reply as text."""
    connection = redis.Connection(
        port=node.port, protocol=2, socket_timeout=10, decode_responses=True, encoding_errors="replace"
    )
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


class Cluster:
    """Servers that form a cluster; a killed master's replica takes over within about `NODE_TIMEOUT` and a second.

    `coverage`: whether all slots refuse while one has no master, as servers do unless told otherwise.
    """

    def __init__(
        self, name: str = "valkey", *, masters: int = 3, replicas: int = 1, coverage: bool = True
    ) -> None:
        program = binary(name)
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(int(NODE_TIMEOUT * 1000)))
        options += (
            "--cluster-require-full-coverage",
            "yes" if coverage else "no",
            "--repl-diskless-sync-delay",
            "0",
        )
        self.nodes = [Server(program, options, ANY) for _ in range(masters * (1 + replicas))]
        self._first = masters
        self._ids: dict[int, str] = {}
        self._away: list[Server] = []
        """Nodes that were killed or frozen."""

    @property
    def url(self) -> str:
        """Two of the nodes: the others must be found."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    # -- begin and end -----------------------------------------------------------------------------------

    def start(self) -> Self:
        for node in self.nodes:
            node.start()
        self._ids = {node.port: tell(node, "CLUSTER", "MYID") for node in self.nodes}
        masters, replicas = self.nodes[: self._first], self.nodes[self._first :]
        for index, node in enumerate(masters):
            edges = [SLOTS * one // len(masters) for one in (index, index + 1)]
            tell(node, "CLUSTER", "ADDSLOTS", *range(*edges))
            tell(node, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            tell(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(lambda: all(_knows(node, len(self.nodes)) for node in self.nodes), 60, "they never met")
        for index, node in enumerate(replicas):
            tell(node, "CLUSTER", "REPLICATE", self._ids[masters[index % len(masters)].port])
        self.wait_ok()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- looking -----------------------------------------------------------------------------------------

    @property
    def living(self) -> list[Server]:
        return [node for node in self.nodes if node not in self._away]

    @property
    def masters(self) -> list[Server]:
        """Who serves slots, as the living see it; the dead too, until they have been replaced."""
        ports = {entry[2][1] for entry in self._slots()}
        return [node for node in self.nodes if node.port in ports]

    def master_of(self, key: str) -> Server:
        slot = slot_of(key)
        port = next(entry[2][1] for entry in self._slots() if entry[0] <= slot <= entry[1])
        return next(node for node in self.nodes if node.port == port)

    def replicas_of(self, master: Server) -> list[Server]:
        ports = {port for entry in self._slots() if entry[2][1] == master.port for _, port, *_ in entry[3:]}
        return [node for node in self.nodes if node.port in ports]

    def _slots(self) -> Any:
        return tell(self.living[0], "CLUSTER", "SLOTS")

    def ok(self) -> bool:
        """Whether all slots are served by the living, and all of the living say so; seen from outside."""
        try:
            return all(self._is_ok(node) for node in self.living)
        except (redis.RedisError, OSError):
            return False

    def _is_ok(self, node: Server) -> bool:
        if "cluster_state:ok" not in tell(node, "CLUSTER", "INFO"):
            return False
        slots = tell(node, "CLUSTER", "SLOTS")
        alive = {one.port for one in self.living}
        whole = sum(last - first + 1 for first, last, *_ in slots) == SLOTS
        return whole and all(entry[2][1] in alive for entry in slots)

    def wait_ok(self, seconds: float = 60.0) -> float:
        """Wait until the cluster is whole and its replicas follow; returns the moment (monotonic) it was whole."""
        wait_until(self.ok, seconds, "the cluster is not whole again")
        whole = monotonic()
        wait_until(lambda: all(_follows(node) for node in self.living), seconds, "a replica does not follow")
        return whole

    # -- breaking ----------------------------------------------------------------------------------------

    def kill(self, node: Server) -> Server:
        """End a node with -9; its files stay for `revive`."""
        node.kill()
        self._away.append(node)
        return node

    def revive(self, node: Server) -> None:
        """Start a killed node again; the others make a replica of it if it was replaced."""
        node.start()
        self._away.remove(node)

    def freeze(self, node: Server) -> Server:
        """Let a node answer nothing while its sockets stay open; the others take it for dead."""
        node.freeze()
        self._away.append(node)
        return node

    def thaw(self, node: Server) -> None:
        node.thaw()
        self._away.remove(node)

    def hand_over(self, master: Server) -> None:
        """Let a replica take a master's place as one does before an upgrade: both live, and nothing is lost."""
        replica = self.replicas_of(master)[0]
        tell(replica, "CLUSTER", "FAILOVER")
        wait_until(lambda: "role:master" in tell(replica, "INFO", "replication"), 30, "nobody took over")

    def move_slot(self, key: str, to: Server, pause: Any = lambda: None) -> None:
        """Move the slot of a key, with all that lies in it, as an administrator would.

        `pause` is called while the slot is half moved: once before its keys move, once after.
        """
        slot, source = slot_of(key), self.master_of(key)
        if source is to:
            return
        self._open(slot, source, to)
        pause()
        while keys := tell(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            tell(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        pause()
        self._close(slot, [to, source, *self.masters])

    def _open(self, slot: int, source: Server, to: Server) -> None:
        tell(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[source.port])
        tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[to.port])

    def _close(self, slot: int, told: Iterable[Server]) -> None:
        to, *_ = told = list(told)
        for node in dict.fromkeys(one.port for one in told):
            tell(self._node(node), "CLUSTER", "SETSLOT", slot, "NODE", self._ids[to.port])

    def _node(self, port: int) -> Server:
        return next(node for node in self.nodes if node.port == port)


def _knows(node: Server, count: int) -> bool:
    return f"cluster_known_nodes:{count}\r\n" in tell(node, "CLUSTER", "INFO")


def _follows(node: Server) -> bool:
    """Whether a node is a master, or a replica that is up to date."""
    text = tell(node, "INFO", "replication")
    return "role:master" in text or "master_link_status:up" in text
