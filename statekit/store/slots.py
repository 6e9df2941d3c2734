"""Slots: which node of a cluster a call belongs to, and where it goes when that has changed; no I/O.

Rule 1: a call goes to the node that owns the slot of its keys; calls for several nodes travel at the same time.
Rule 2: a node that knows better is believed. MOVED names the new owner of a slot, ASK the one it is moving to, TRYAGAIN
        says that its keys are on both sides for a moment, READONLY that the node is a primary no more. In all four
        cases nothing was applied, so the call is sent again, until its budget is spent.
Rule 3: a node that cannot be reached fails its own calls and nobody else's. They are sent again only if that is safe (they
        read, or were never sent) and if another node owns the slot by now.
Rule 4: the map never goes back: an answer of an older epoch than the map's counts only if all nodes are as old.

Protocol: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from statekit.errors import StoreError, StoreReadOnly, StoreRejected, StoreUnavailable
from statekit.store.op import Call, Reply, Round

__all__ = ["ASK_FOR_MAP", "Answer", "Node", "Parcel", "Route", "SlotMap", "key_of", "slot_of"]

SLOTS: Final = 16_384
KEYLESS = frozenset({"PING", "PUBLISH", "TIME", "INFO", "CONFIG", "SCRIPT", "COMMAND", "CLIENT", "CLUSTER"})
ASKING = Call(("ASKING",))
ASK_FOR_MAP: Final = (
    Call(("CLUSTER", "SLOTS"), read_only=True),
    Call(("CLUSTER", "INFO"), read_only=True),
    Call(("COMMAND", "INFO", "SPUBLISH"), read_only=True),
)
"""What a node is asked for a `SlotMap`, in one round."""

Node: TypeAlias = tuple[str, int]
"""Host and port."""
Answer: TypeAlias = Sequence[Reply] | StoreUnavailable
"""What became of a parcel: its replies, or why there are none."""


def slot_of(key: str) -> int:
    """The slot of a key: of what stands between its first braces, if anything does.

    >>> slot_of("sk1:atlas:session:{ab}") == slot_of("sk1:atlas:limit:{ab}:log")
    True
    """
    start = key.find("{") + 1
    end = key.find("}", start) if start else -1
    return crc_hqx((key[start:end] if end > start else key).encode(), 0) % SLOTS


def key_of(call: Call) -> str | None:
    """The key that decides where a call goes; None if any node will do."""
    if call.script is not None:
        return str(call.args[0]) if call.keys else None
    if str(call.args[0]).upper() in KEYLESS or len(call.args) < 2:
        return None
    words = [word.upper() if isinstance(word, str) else word for word in call.args]
    at = words.index("STREAMS") + 1 if "STREAMS" in words else 1
    key = call.args[at]
    return key.decode() if isinstance(key, bytes) else str(key)


@dataclass(slots=True)
class SlotMap:
    """Who owns which slot, as one node told it; single slots are corrected as others know better."""

    owners: list[Node | None]
    primaries: tuple[Node, ...]
    replicas: tuple[Node, ...]
    epoch: int
    sharded: bool
    """Whether that node knows sharded publishing."""

    @classmethod
    def read(cls, replies: Sequence[Reply], asked: Node, renamed: Callable[[Node], Node]) -> SlotMap:
        """Read the answer to `ASK_FOR_MAP`. Raises `StoreUnavailable` for what is none."""
        ranges, info, known = replies
        if isinstance(ranges, StoreError):
            raise StoreUnavailable(f"{asked[0]}:{asked[1]} is no node of a cluster: {ranges}")
        owners: list[Node | None] = [None] * SLOTS
        nodes: dict[Node, bool] = {}
        for first, last, *members in ranges:
            there = [renamed((_host(host, asked), port)) for host, port, *_ in members]
            owners[first : last + 1] = there[:1] * (last + 1 - first)
            nodes = {**dict.fromkeys(there[1:], False), **nodes, there[0]: True}
        if not nodes:
            raise StoreUnavailable(f"{asked[0]}:{asked[1]} knows of no slot: its cluster is not made yet")
        primaries = tuple(node for node, leads in nodes.items() if leads)
        replicas = tuple(node for node, leads in nodes.items() if not leads)
        return cls(owners, primaries, replicas, _epoch(info), isinstance(known, list) and bool(known[0]))


def _host(host: Any, asked: Node) -> str:
    """A node that does not know its own name is where it was asked."""
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    return asked[0] if name in ("", "?") else name


def _epoch(info: Any) -> int:
    """The newest epoch a node has heard of; 0 if it may not say."""
    text = info if isinstance(info, bytes) else str(info).encode()
    digits = text.partition(b"cluster_current_epoch:")[2].partition(b"\r")[0]
    return int(digits) if digits.isdigit() else 0


@dataclass(slots=True)
class Parcel:
    """What one node gets of a round."""

    node: Node
    asking: bool
    indexes: list[int] = field(default_factory=list)

    def round(self, calls: Round) -> Round:
        """What is sent: the calls, each asked for by name where the slot is only arriving; a question comes last."""
        mine = [calls[index] for index in self.indexes]
        if self.asking:
            mine = [part for call in mine for part in (ASKING, call)]
        return (*mine, calls[-1]) if calls[-1].waits else tuple(mine)


class Route:
    """A round on its way through a cluster: which replies are in, and where the other calls go next."""

    def __init__(self, calls: Round, renamed: Callable[[Node], Node] = lambda node: node) -> None:
        self.calls = calls
        self.stale = False
        """Whether the map has proved wrong, or may have."""
        self.early = False
        """Whether somebody was told to try again: a moment should pass first."""
        self.moved: list[tuple[int, Node]] = []
        """Slots and the owners we were told of."""
        self._renamed = renamed
        self._asks = bool(calls) and calls[-1].waits  # of every node that writes, once it has written
        self._confirmed: list[Reply] = []
        self._replies: list[Reply] = [None] * (len(calls) - self._asks)
        self._todo: dict[int, tuple[Node, bool] | None] = dict.fromkeys(range(len(self._replies)))
        self._failed: dict[int, tuple[Node, StoreError]] = {}

    @property
    def arrived(self) -> bool:
        return not self._todo

    def parcels(self, owner: Callable[[Call], Node | None]) -> list[Parcel]:
        """Sort what is left by node; what nobody owns, or nobody but the node that failed, is answered now."""
        self.early = False
        parcels: dict[tuple[Node, bool], Parcel] = {}
        for index, where in list(self._todo.items()):
            node, asking = where or (owner(self.calls[index]), False)
            failed = self._failed.get(index)
            if node is None:
                self._give_up(
                    index, StoreUnavailable("no node of the cluster serves this slot now"), "the slot"
                )
            elif failed is not None and failed[0] == node:
                self._give_up(index, failed[1], _named(node))
            else:
                parcels.setdefault((node, asking), Parcel(node, asking)).indexes.append(index)
        return list(parcels.values())

    def take(self, parcel: Parcel, answer: Answer, *, sent: bool = True) -> None:
        """Keep the replies to a parcel; note who has to go elsewhere."""
        if isinstance(answer, StoreUnavailable):
            self.stale = True
            for index in parcel.indexes:
                self._todo[index] = None
                self._failed[index] = (parcel.node, answer)
                if sent and not self.calls[index].read_only:
                    self._give_up(index, answer, _named(parcel.node))
            return
        if self._asks:
            *answer, confirmed = answer
        for index, reply in zip(parcel.indexes, answer[1::2] if parcel.asking else answer, strict=True):
            if not isinstance(reply, StoreRejected) or not self._redirected(index, reply, parcel.node):
                self._replies[index] = reply
                del self._todo[index]
        if self._asks and not self._todo.keys() >= set(parcel.indexes):
            self._confirmed.append(confirmed)

    def _redirected(self, index: int, reply: StoreRejected, by: Node) -> bool:
        """Whether a refusal says that the call belongs elsewhere, or nowhere now."""
        word, *rest = str(reply.args[0]).split(" ")
        if word in ("MOVED", "ASK"):
            host, _, port = rest[1].rpartition(":")
            there = self._renamed((host or by[0], int(port)))
            self._todo[index] = (there, word == "ASK")
            if word == "MOVED":
                self.stale = True
                self.moved.append((int(rest[0]), there))
        elif word == "TRYAGAIN":
            self.early = True
            self._todo[index] = None
        elif isinstance(reply, StoreReadOnly) and "READONLY" in reply.args[0]:
            self.stale = True
            self._todo[index] = None
            self._failed[index] = (by, reply)
        elif word == "CLUSTERDOWN":
            self.stale = True
            self._give_up(index, StoreUnavailable(f"the store cannot be reached: {reply}"), _named(by))
        else:
            return False
        return True

    def give_up(self, error: StoreUnavailable) -> None:
        """End the journey of all that is still on its way."""
        for index in list(self._todo):
            self._give_up(index, self._failed.get(index, (None, error))[1], "a slot")

    def _give_up(self, index: int, error: StoreError, part: str) -> None:
        if isinstance(error, StoreUnavailable):
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            own.part = part
            error = own
        self._replies[index] = error
        del self._todo[index]

    def result(self) -> list[Reply]:
        """The replies, errors of single shards in place; raises if there is nothing but those."""
        replies = self._replies
        if replies and all(isinstance(reply, StoreUnavailable) for reply in replies):
            raise replies[0]
        if not self._asks:
            return replies
        failures = [reply for reply in self._confirmed if isinstance(reply, StoreError)]
        return [*replies, failures[0] if failures else min(self._confirmed, default=0)]


def _named(node: Node) -> str:
    return f"{node[0]}:{node[1]}"
