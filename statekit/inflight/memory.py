"""The twins of the in-flight scripts, for one process: same members, same scores, same replies as the Lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from statekit.store.memory import Data, Twins
from statekit.store.op import Arg, Reply

__all__ = ["TWINS"]

Ends: TypeAlias = dict[str, int]
"""What the sorted set holds: the end of each lease; "" and "?" are no slots and lie below zero."""


def _stored(data: Data, key: str) -> Ends:
    found: Ends | None = data.get(key)
    return {} if found is None else found


def _slots(ends: Ends, after: int = -1) -> list[tuple[int, str]]:
    """The slots whose lease ends after a moment, in the order of a sorted set."""
    return sorted((end, member) for member, end in ends.items() if end >= 0 and end > after)


def _kept(data: Data, key: str, ends: Ends, now: int, lease: int) -> None:
    longest = max(ends.values())
    data.put(key, ends, -(-(longest - now + lease) // 1000))


def _dropped(data: Data, key: str, ends: Ends, *members: str) -> int:
    """Remove members; a set without any is gone."""
    dropped = sum(ends.pop(member, None) is not None for member in members)
    if not ends:
        data.delete(key)
    return dropped


def _expired(data: Data, key: str, ends: Ends, now: int) -> None:
    _dropped(data, key, ends, *(member for end, member in _slots(ends) if end <= now))


def acquire(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of acquire.lua; see its header for the arguments."""
    key, (limit, lease), token = keys[0], map(int, args[:2]), str(args[2])
    announce, now = int(args[3]), data.now(args[4])
    ends = _stored(data, key)
    last = -ends.get("", 0)
    if last > now + lease:
        _expired(data, key, ends, now)
        ends.update({member: min(end, now + lease) for member, end in ends.items()})
    slots = _slots(ends, now)
    if len(slots) < limit:
        _expired(data, key, ends, now)
        fence = max(now, last + 1)
        ends |= {"": -fence, f"{fence} {token}": now + lease}
        _kept(data, key, ends, now, lease)
        return [b"held", fence, len(slots) + 1]
    if limit == 0:
        return [b"full", len(slots), -1]
    if announce:
        ends["?"] = -(now + announce)
    return [b"full", len(slots), slots[len(slots) - limit][0] - now]


def renew(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of renew.lua."""
    key, lease, now = keys[0], int(args[0]), data.now(args[1])
    ends, members = _stored(data, key), list(map(str, args[2:]))
    _expired(data, key, ends, now)
    renewed = {member: now + lease for member in members if member in ends}
    if renewed:
        ends |= renewed
        _kept(data, key, ends, now, lease)
    return [int(member in renewed) for member in members]


def release(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of release.lua."""
    key, channel, now = keys[0], str(args[0]), data.now(args[1])
    ends = _stored(data, key)
    announced = -ends.get("?", 0) > now
    reply, freed = [], 0
    for member in map(str, args[2:]):
        slot = _found(ends, member)
        reply.append(int(ends.get(slot, 0) > now))
        freed += _dropped(data, key, ends, slot)
    if freed and announced:
        data.publish(channel, key)
    return reply


def _found(ends: Ends, member: str) -> str:
    fence, blank, token = member.partition(" ")
    if fence != "0":
        return member
    return next((one for _, one in _slots(ends) if one.endswith(blank + token)), member)


def view(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of view.lua."""
    slots = _slots(_stored(data, keys[0]), data.now(args[1]))
    rows = slots if int(args[0]) else []
    return [len(slots), *(part for end, member in rows for part in (member.encode(), end))]


TWINS: Twins = {
    "inflight.acquire": acquire,
    "inflight.renew": renew,
    "inflight.release": release,
    "inflight.view": view,
}
