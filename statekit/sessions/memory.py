"""The twins of the session scripts, over the per-process store. Each does what the Lua of its name does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from statekit.store.memory import Data, Twins
from statekit.store.op import Arg, Reply

__all__ = ["TWINS"]

Fields: TypeAlias = dict[bytes, bytes]


def _bytes(arg: Arg) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


def _number(arg: Arg) -> int | None:
    return None if arg in ("", b"") else int(arg)


def _pairs(args: Sequence[Arg]) -> Fields:
    return {_bytes(name): _bytes(value) for name, value in zip(args[::2], args[1::2], strict=True)}


def _flat(tag: bytes, record: Fields) -> list[bytes]:
    return [tag, *(part for pair in record.items() for part in pair)]


def _told(record: Fields, now: int, idle: int) -> bytes:
    parts = [part for pair in record.items() if pair[0][:1] == b"d" for part in pair]
    principal = record.get(b"principal", b"")
    head = [b"live", *(record[name] for name in (b"created", b"absolute", b"touched"))]
    left = min(int(record[b"touched"]) + idle, int(record[b"absolute"])) - now
    head += [b"%d" % size for size in (b"retired" in record, left, len(principal), *map(len, parts))]
    return b"%b\n%b%b" % (b" ".join(head), principal, b"".join(parts))


def _past_deadline(record: Fields, now: int, idle: int) -> bool:
    return now >= int(record[b"touched"]) + idle or now >= int(record[b"absolute"])


def _open(record: Fields | None, now: int, idle: int) -> bool:
    """Whether this is a session that has not ended; a retired one still counts."""
    return record is not None and b"absolute" in record and not _past_deadline(record, now, idle)


def _ttl(record: Fields, now: int, idle: int) -> int:
    return -(-min(idle, int(record[b"absolute"]) - now) // 1000)


def _load(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, idle, touch_after = data.now(args[0]), int(args[1]), int(args[2])
    record: Fields | None = data.get(keys[0])
    if record is None:
        return b"absent"
    if b"ended" in record:
        return b"ended"
    if _past_deadline(record, now, idle) or now >= int(record.get(b"retired", now + 1)):
        return b"expired"
    reply = _told(record, now, idle)
    if b"retired" not in record and now - int(record[b"touched"]) >= touch_after:
        record = {**record, b"touched": b"%d" % now, b"idle": b"%d" % idle}
        data.put(keys[0], record, _ttl(record, now, idle))
    return reply


def _save(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, idle, count = data.now(args[0]), int(args[1]), int(args[2])
    record: Fields | None = data.get(keys[0])
    if record is None or not _open(record, now, idle):
        return b"gone"
    if b"retired" in record:
        return b"retired"
    moment = b"%d" % now
    record = {**record, **_pairs(args[3 : 3 + 2 * count])}
    for name in args[3 + 2 * count :]:
        record.pop(_bytes(name), None)
    record |= {b"touched": moment, b"idle": b"%d" % idle}
    data.put(keys[0], record, _ttl(record, now, idle))
    return b"saved"


def _create(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, idle = data.now(args[0]), int(args[1])
    there: Fields | None = data.get(keys[0])
    if there is not None:
        return b"gone" if b"ended" in there else b"taken"
    deadline, not_after = _number(args[4]), _number(args[7])
    absolute = now + int(args[2]) if deadline is None else deadline
    if now >= absolute or (not_after is not None and now > not_after):
        return b"gone"
    moment = b"%d" % now
    record = {b"created": _bytes(args[3]) or moment, b"absolute": b"%d" % absolute, b"touched": moment}
    record[b"idle"] = b"%d" % idle
    record |= {name: _bytes(arg) for name, arg in ((b"principal", args[5]), (b"before", args[6])) if arg}
    record |= _pairs(args[8:])
    data.put(keys[0], record, _ttl(record, now, idle))
    return b" ".join((b"created", record[b"created"], record[b"absolute"], moment))


def _retire(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, idle, grace = data.now(args[0]), int(args[1]), int(args[2])
    record: Fields | None = data.get(keys[0])
    if record is None or not _open(record, now, idle) or now >= int(record.get(b"retired", now + 1)):
        return [b"gone"]
    if b"retired" in record:
        return _flat(b"retired", record)
    after, stays = {b"after": _bytes(args[4])} if args[4] else {}, int(args[3])
    if grace == 0:
        data.put(keys[0], {b"ended": b"1", **after}, stays)
    else:
        left = min(grace, int(record[b"touched"]) + idle - now, int(record[b"absolute"]) - now)
        retired = {**record, b"retired": b"%d" % (now + left), **after}
        data.put(keys[0], retired, max(stays, -(-left // 1000)))
    return _flat(b"live", record)


def _revoke(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    record: Fields = data.get(keys[0]) or {}
    live = _open(record, data.now(args[0]), int(record.get(b"idle", 0))) and b"retired" not in record
    data.put(keys[0], {b"ended": b"1"}, int(args[1]))
    return [int(live), *(record.get(name, b"") for name in (b"principal", b"before", b"after"))]


def _glance(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    record: Fields = data.get(keys[0]) or {}
    if not _open(record, data.now(args[0]), int(record.get(b"idle", 0))) or b"retired" in record:
        return []
    return [record[b"created"], record[b"touched"], record[b"absolute"], record[b"idle"]]


def _enroll(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, name, deadline = data.now(args[0]), _bytes(args[1]), _number(args[3])
    index: dict[bytes, int] = data.get(keys[0]) or {}
    absolute = now + int(args[2]) if deadline is None else deadline
    index = {**index, name: -(-absolute // 1000)}
    index = {known: score for known, score in index.items() if score > now // 1000}
    data.put(keys[0], index, max((score - now // 1000 for score in index.values()), default=1))
    return b"%d" % now


def _roster(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    now, most = data.now(args[0]), int(args[1])
    index: dict[bytes, Any] = data.get(keys[0]) or {}
    names = sorted((name for name in index if index[name] > now // 1000), reverse=True)
    names.sort(key=lambda name: -index[name])
    return names if most < 0 else names[:most]


def _withdraw(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    index: dict[bytes, int] = data.get(keys[0]) or {}
    removed = sum(index.pop(_bytes(name), None) is not None for name in args)
    if not index:
        data.delete(keys[0])
    return removed


TWINS: Twins = {
    "sessions.load": _load,
    "sessions.save": _save,
    "sessions.create": _create,
    "sessions.retire": _retire,
    "sessions.revoke": _revoke,
    "sessions.glance": _glance,
    "sessions.enroll": _enroll,
    "sessions.roster": _roster,
    "sessions.withdraw": _withdraw,
}
