"""The twins of the replica's scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from statekit.store.memory import Data, Twins
from statekit.store.op import Arg, Reply

__all__ = ["TWINS"]


_HEAD = re.compile(rb'{"epoch":"([^"]*)","version":(\d+),"at":(\d+),')


def _bytes(value: Arg) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _text(value: Arg) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else str(value)


def _number(value: int) -> bytes:
    return str(value).encode()


def _sync(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    meta, docs, log, workers, acks = keys
    worker, epoch, version, lifetime, fresh, channel, now, at = args
    _note(data, (workers, acks), _text(worker), f"{_text(epoch)}:{int(version)}", int(lifetime), now)
    clock = _number(data.now(now))
    known = data.get(meta)
    if known is None:
        return [b"empty", clock]
    if _lost(data, known, docs):
        return [b"lost", known["epoch"].encode(), _number(known["version"]), clock]
    entries = data.get(log) or []
    if known["epoch"] == _text(epoch) and _went_back(entries, known, int(version), int(at)):
        begins = max(int(version), known["version"]) + 1
        held = begins if data.get(docs) else known["held"]
        known = {"epoch": _text(fresh), "version": begins, "held": held}
        data.put(meta, known, 0)
        data.publish(_text(channel), '{"look":true}')
    head = [known["epoch"].encode(), _number(known["version"])]
    missing = known["version"] - int(version)
    if known["epoch"] == _text(epoch) and missing == 0:
        return [b"same", *head, clock]
    if known["epoch"] == _text(epoch) and missing <= len(entries):
        return [b"delta", *head, entries[:missing], clock]
    pairs = [part for pair in (data.get(docs) or {}).items() for part in pair]
    return [b"full", *head, pairs, _number(_written(entries, known, known["version"])), clock]


def _written(entries: Sequence[bytes], known: dict[str, Any], version: int) -> int:
    """When a version was written, if the log still says so, else 0."""
    back = known["version"] - version
    said = _HEAD.match(entries[back]) if 0 <= back < len(entries) else None
    return int(said[3]) if said and (said[1].decode(), int(said[2])) == (known["epoch"], version) else 0


def _went_back(entries: Sequence[bytes], known: dict[str, Any], version: int, at: int) -> bool:
    """Whether the data set is not the one a reader of this version, written at that moment, has seen."""
    return version > known["version"] or (at != 0 and _written(entries, known, version) not in (0, at))


def _lost(data: Data, known: dict[str, Any], docs: str) -> bool:
    """Whether the documents of a data set are gone without anybody having deleted them."""
    return known["held"] == known["version"] and data.get(docs) is None


def _note(data: Data, keys: tuple[str, str], worker: str, ack: str, lifetime: int, now: Arg) -> None:
    """Note a sign of life, and forget who has given none."""
    now_ms = data.now(now) // 1000
    alive, acks = data.get(keys[0]) or {}, data.get(keys[1]) or {}
    if lifetime == 0:
        alive.pop(worker, None)
    else:
        alive[worker], acks[worker] = now_ms, ack
        alive = {name: seen if seen <= now_ms + lifetime else now_ms for name, seen in alive.items()}
        alive = {name: seen for name, seen in alive.items() if seen >= now_ms - lifetime}
        data.put(keys[0], alive, lifetime * 2)
        data.put(keys[1], {name: acks[name] for name in alive if name in acks}, lifetime * 2)


def _write(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    meta, docs, log, workers = keys
    name, text, expected, who, fresh, keep, lifetime, channel, now = args
    at = data.now(now)
    known = data.get(meta)
    if known is None and not fresh:
        return [b"empty"]
    if known is not None and _lost(data, known, docs):
        return [b"lost"]
    documents = dict(data.get(docs) or {})
    had, _, before = documents.get(_bytes(name), b"0:null").decode().partition(":")
    if expected not in ("", int(had)):
        return [b"conflict", had.encode()]
    if not text and _bytes(name) not in documents:
        return [b"absent"]
    known = known or {"epoch": _text(fresh), "version": 0, "held": 0}
    known = {**known, "version": known["version"] + 1}
    if text:
        documents[_bytes(name)] = f"{known['version']}:{_text(text)}".encode()
    else:
        documents.pop(_bytes(name), None)
    known["held"] = known["version"] if documents else known["held"]
    entries = data.get(log) or []
    since = _written(entries, {**known, "version": known["version"] - 1}, known["version"] - 1)
    told = f'"since":{since},' if since else ""
    head = f'{{"epoch":"{known["epoch"]}","version":{known["version"]},"at":{at},{told}{_text(who)}'
    tail = f',"after":{_text(text) or "null"}}}'
    entries = [f'{head},"before":{before}{tail}'.encode(), *entries]
    for key, value in ((meta, known), (docs, documents), (log, entries[: int(keep)])):
        data.put(key, value, 0)
    if not documents:  # as on a server: an empty hash is no key
        data.delete(docs)
    data.publish(_text(channel), head + tail)
    alive = at // 1000 - int(lifetime)
    live = sum(seen >= alive for seen in (data.get(workers) or {}).values())
    return [b"written", known["epoch"].encode(), _number(known["version"]), _number(at), live, _number(since)]


def _reseed(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    meta, docs = keys
    epoch, version, channel, pairs = args
    known = data.get(meta)
    if known is not None and not _lost(data, known, docs):
        return 0
    data.delete(docs)
    flat = json.loads(_text(pairs))
    names = [one.encode("utf-8", "surrogatepass") for one in flat[::2]]
    if flat:
        data.put(docs, dict(zip(names, (one.encode() for one in flat[1::2]), strict=True)), 0)
    begins = int(version) + 1
    data.put(meta, {"epoch": _text(epoch), "version": begins, "held": begins if flat else 0}, 0)
    data.publish(_text(channel), '{"look":true}')
    return 1


def _workers(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    lifetime, now = args
    now_ms = data.now(now) // 1000
    acks = data.get(keys[1]) or {}
    listed: list[bytes | int] = []
    for name, seen in sorted((data.get(keys[0]) or {}).items(), key=lambda one: (one[1], one[0])):
        if seen >= now_ms - int(lifetime):
            listed += [name.encode(), acks.get(name, ":0").encode(), max(0, now_ms - seen)]
    return listed


TWINS: Twins = {
    "replica.sync": _sync,
    "replica.write": _write,
    "replica.reseed": _reseed,
    "replica.workers": _workers,
}
