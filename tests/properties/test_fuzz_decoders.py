"""Every reader of bytes, given nearly right ones: it returns what it promises, or raises what it promises.

A sample is damaged at random, up to three times, and read. A case that fails says its number; `played` plays it again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pytest

from statekit import Encryption, Flag, Limit
from statekit.cli._common import json_object
from statekit.errors import (
    CorruptValue,
    DocumentInvalid,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UsageError,
)
from statekit.inflight.core import Holder, _holder
from statekit.pools.core import ProcessShare, _process
from statekit.replica import core as replica
from statekit.replica.file import LastKnownGood, _digest
from statekit.replica.protocol import (
    EMPTY,
    Document,
    Message,
    Snapshot,
    Step,
    document,
    dumped,
    heard,
    synced,
)
from statekit.sessions.model import SessionInfo, well_formed
from statekit.sessions.record import Ended, Record
from statekit.store.codec import decode, encode, tree
from statekit.store.connect import Address
from statekit.store.keys import encoded
from statekit.store.resp import Replies
from statekit.tenants.layers import parsed
from statekit.web.addresses import TrustedProxies
from tests.properties.damage import damaged

SHA = "a" * 64
VALUE = {
    "cart": [1, -2.5, None, True, "ä€😀"],
    "at": datetime(2030, 1, 1, tzinfo=UTC),
    "on": date(2030, 1, 2),
}
VALUE |= {"raw": b"\0\xff", "pair": (1, ("x",)), "~t": {"~b": 1}, "nan": float("inf")}
MESSAGE = (
    b'{"epoch":"e1","version":2,"at":1893456002000000,"name":"new","by":"bob","reason":"","after":{"a":[1]}}'
)
ENTRY = MESSAGE.replace(b'"after"', b'"before":null,"after"')
FLAG = json.dumps(
    {
        "enabled": True,
        "rollout": 25,
        "variants": {"a": {"value": 1, "weight": 2}},
        "default": "a",
        "owner": "x",
    }
    | {"rules": [{"when": {"plan": {"eq": "pro"}}, "serve": "a"}], "starts": "2030-01-01T00:00:00+00:00"}
).encode()
FILE = json.dumps({"a": [1, "{}"], "b": [2, "[]"]}).encode()
VAULT = Encryption([bytes(range(7, 231, 7))]).vault("record", "id")
WIRE = b'*3\r\n$2\r\nab\r\n:-7\r\n*2\r\n$-1\r\n+OK\r\n-ERR no\r\n$11\r\n{"a":[1,2]}\r\n:0\r\n*0\r\n'
HEAD = b"live 1893456000000000 1893456300000000 1893456000000000 0 100000000 6 5 1 4 2\nuser:7d:abc1d:ab42"


class Reader(NamedTuple):
    """What is read, by what, what comes of it, and what may be raised."""

    sample: bytes
    read: Callable[[bytes], Any]
    gives: Any = object
    raises: tuple[type[Exception], ...] = ()


def text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda raw: read(raw.decode("utf-8", "replace"))


def both_ways(raw: bytes) -> Any:
    """What can be decoded is a value: it is encoded and decoded to the same."""
    value = decode(raw)
    assert encode(decode(encode(value))) == encode(value)
    return value


def loaded(raw: bytes) -> Record:
    head, _, rest = raw.partition(b"\n")
    return Record.parsed(SHA, head, rest)


def sealed(raw: bytes) -> bytes:
    return VAULT.open("k", raw)


def told(raw: bytes) -> Step:
    """The store's answer to a reader: some of its parts are these bytes."""
    shown = Snapshot("e1", 1, {"a": Document(1, "{}")})
    for kind in (b"same", b"delta", b"full"):
        synced(EMPTY, "", [kind, raw, b"2", [raw, raw], b"0"])
        synced(shown, "e1", [kind, b"e1", raw, [raw] * 2, b"0"])
    synced(shown, "e1", [b"full", b"e2", b"2", [raw, b"1:{}", b"b", raw], b"0"])
    return heard(shown, Message.parse(raw))


def from_file(tmp_path: Any) -> Callable[[bytes], Snapshot]:
    file = LastKnownGood(tmp_path / "state", "store", "t", "flags")
    file.path.parent.mkdir(mode=0o700)

    def read(raw: bytes) -> Snapshot:
        head = {"format": 1, "epoch": "e", "version": 1, "digest": _digest(raw)}
        file.path.write_bytes(json.dumps(head).encode() + b"\n" + raw)
        for one in (found := file.read()).documents.values():
            assert isinstance(one, Document)
        file.path.write_bytes(raw + b"\n" + FILE)
        file.read()
        return found

    return read


def refused(said: str) -> StoreError:
    return StoreUnavailable(said) if said.startswith("LOADING") else StoreRejected(said)


def replies(raw: bytes) -> list[Any]:
    """What is read does not depend on where the bytes were cut."""
    at_once, in_pieces = Replies(refused), Replies(refused)
    whole = at_once.feed(raw)
    pieces = [one for at in range(0, len(raw), 3) for one in in_pieces.feed(raw[at : at + 3])]
    assert repr(pieces) == repr(whole)
    assert (at_once.broken is None) == (in_pieces.broken is None)
    return whole


def flag(said: str) -> Flag:
    """From the command line: what makes a flag makes the same flag again."""
    given = Flag.of(json_object(said))
    assert Flag.of(tree(dumped(given.document()))).document() == given.document()
    return given


PROXIES = TrustedProxies.of(["10.0.0.0/8"])
READERS: dict[str, Reader] = {
    "values": Reader(encode(VALUE), both_ways, object, (CorruptValue,)),
    "JSON": Reader(FLAG, tree, object, (ValueError,)),
    "messages": Reader(MESSAGE, Message.parse, Message | None),
    "answers to a reader": Reader(MESSAGE, told, Step),
    "documents": Reader(b'12:{"enabled":true}', document, Document),
    "entries of a history": Reader(ENTRY, replica.entry, replica.Entry, (CorruptValue,)),
    "records of sessions": Reader(HEAD, loaded, Record, (CorruptValue,)),
    "retired records": Reader(
        b"created 1 absolute 2 touched 3 principal u d:a 1",
        lambda raw: Record.read(SHA, raw.split(b" ")),
        Record,
        (CorruptValue,),
    ),
    "lists of sessions": Reader(
        b"1893456000000000 1893456000000000 1893456300000000 100000000",
        lambda raw: SessionInfo.read(SHA, raw.split(b" ")),
        SessionInfo | None,
    ),
    "ended sessions": Reader(
        b"user:7 " + SHA.encode() + b" ",
        lambda raw: Ended.read(SHA, [1, *[*raw.split(b" "), b"", b""][:3]]),
        Ended,
    ),
    "encrypted values": Reader(VAULT.seal("k", b"42"), sealed, bytes, (CorruptValue,)),
    "cookies": Reader(b"A" * 43, text(well_formed), bool),
    "reports of a pool": Reader(
        b"2 2 1 0 2 1893456006000000 6 7 0 0",
        lambda raw: _process(b"w", raw, 0),
        ProcessShare,
        (CorruptValue,),
    ),
    "slots": Reader(
        b"1893456000000000 host-7-ab12cd34 1",
        lambda raw: _holder(raw, 1893456000000000),
        Holder,
        (CorruptValue,),
    ),
    "replies": Reader(WIRE, replies, list),
    "flags": Reader(FLAG, text(flag), Flag, (DocumentInvalid,)),
    "tenants": Reader(b'{"limits":{"rps":7},"plan":"pro"}', text(parsed), dict, (ValueError,)),
    "limits": Reader(b"100 per 15 minutes", text(Limit.parse), Limit, (UsageError,)),
    "names in keys": Reader(b"user:7 \xc3\xa4{}", text(encoded), str, (UsageError,)),
    "forwarded addresses": Reader(
        b'203.0.113.7, "[2001:db8::1]:80", 10.1.2.3',
        text(lambda said: PROXIES and PROXIES.client("10.0.0.1", said)),
        str | None,
    ),
    "URLs": Reader(
        b"redis+sentinel://u:p@h1:26379,[::1]/main/3?x=1", text(Address.parse), Address, (UsageError,)
    ),
}


def played(name: str, number: int, reader: Reader) -> None:
    luck, raw = random.Random(number), reader.sample
    for _ in range(luck.randrange(1, 4)):
        raw = damaged(raw, luck)
    try:
        given = reader.read(raw)
    except reader.raises:
        return
    except Exception as error:
        raise AssertionError(f"{name}, case {number}: {raw!r} raises {error!r}") from error
    assert isinstance(given, reader.gives), f"{name}, case {number}: {raw!r} gives {given!r}"


@pytest.mark.parametrize("name", READERS)
def test_what_is_damaged_is_refused_as_declared(name):
    reader = READERS[name]
    reader.read(reader.sample)
    for number in range(500):
        played(name, number, reader)


def test_a_damaged_file_is_passed_over(tmp_path):
    reader = Reader(FILE, from_file(tmp_path), Snapshot)
    assert len(reader.read(FILE).documents) == 2
    for number in range(150):
        played("last-known-good files", number, reader)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", READERS)
def test_many_thousand_times(name, record_property):
    for number in range(1000, 31_000):
        played(name, number, READERS[name])
    record_property("schedules", (f"reader of {name}", 30_000, 30_000))
