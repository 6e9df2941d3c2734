"""Golden bytes: what each primitive writes, and that what earlier releases wrote is read. docs/wire-format.md holds.

A literal changed here is a change of the wire format: read "What may change, and when" on that page first.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from hashlib import blake2b
from pathlib import Path
from string import ascii_letters, digits
from types import MappingProxyType
from typing import Any

import pytest
import redis

from statekit import AsyncStateKit, Encryption, StateKit, TenantSettings
from statekit.flags import Flag
from statekit.pools.core import PoolConfig, Report, releasing, renewing
from statekit.replica.file import LastKnownGood
from statekit.replica.protocol import Document, Snapshot
from statekit.sessions.model import handle_of
from statekit.store.codec import _READERS
from statekit.store.keys import encoded
from statekit.store.store import Worker
from statekit.testing import Blocking, FrozenClock
from tests.conftest import PATIENT
from tests.servers import wait_until
from tests.tour import tour

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")
NOW = 1_893_456_000_000_000
HOUR_MS = 3_600_000
EPOCH = "00112233445566ff"
WORKER = "host-1-0123abcd"
IDS = ["A" * 43, "B" * 43, "C" * 43]
SHAS = [handle_of(id_) for id_ in IDS]

RING = (
    "01130002 00000003 00000002 00000002 0006ba16945e0360 00000003"
    "0000000003938700 0006ba1694472000 00000002 00000000"
    "00000000d693a400 0006ba1694472000 00000002 00000000"
    "d0b4a23900000000 d0b4a2f01b000002 0000000000000000"
)
ROWS = {
    "fixed-window": b"60000000 1893456000000000 3 0 3600000000 1893456000000000 3 0",
    "sliding-counter": b"60000000 1893456000000000 3 0 3600000000 1893456000000000 3 0",
    "gcra": b"60000000 12000000000 1893456001500000 34500000000 3600000000 36000000000 1893456001500000 106500000000",
}
HELD_RING = (
    "02130002 00000005 00000002 00000002 0006ba16945e0360 00000003"
    "0000000000000000 0000000000000000 00000000 00000000"
    "0000000000000000 0000000000000000 00000000 00000000"
    "d0b4a23900000000 d0b4a2f01b000002 0000000000000000 0000000000000000 0000000000000000"
)
HOLDS_HEAD = b"=%07d %016d 1893456001500000"
HOLDS = ["a1b2c3d4e5f60718", "0123456789abcdef"]
SET_ASIDE = [
    b"|a1b2c3d4e5f60718 0000000001 1893456001500000 1893456031500000",
    b"|0123456789abcdef 0000000001 1893456001500000 1893456002000000",
]
SUFFIXES = {"sliding-log": "log", "fixed-window": "fixed", "sliding-counter": "counter", "gcra": "gcra"}
VALUES = {
    "none": (None, b"null"),
    "cart": ([("sku", 1)], b'[{"~t":["sku",1]}]'),
    "blob": (b"x", b'{"~b":"eA=="}'),
    "seen": (datetime(2030, 1, 1, tzinfo=UTC), b'{"~dt":"2030-01-01T00:00:00+00:00"}'),
    "day": (date(2030, 1, 1), b'{"~d":"2030-01-01"}'),
    "most": (float("inf"), b'{"~f":"inf"}'),
    "mine": ({"~t": 1}, b'{"~o":{"~t":1}}'),
    "grüße": ({"a": 1.5, "b": True}, b'{"a":1.5,"b":true}'),
    "text": ("äöü", '"äöü"'.encode()),
}


class Settings(TenantSettings):
    plan: str = "free"
    seats: int = 1


class Held:
    """What a server holds under a namespace, without statekit in between."""

    def __init__(self, url: str, namespace: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.prefix = f"sk1:{namespace}:"

    def names(self) -> set[str]:
        return {
            key.decode().removeprefix(self.prefix) for key in self.client.scan_iter(f"{self.prefix}*", 1000)
        }

    def __getitem__(self, name: str) -> Any:
        key = self.prefix + name
        readers: dict[bytes, Callable[[], Any]] = {
            b"none": lambda: None,
            b"string": lambda: self.client.get(key),
            b"hash": lambda: self.client.hgetall(key),
            b"list": lambda: self.client.lrange(key, 0, -1),
            b"zset": lambda: dict(self.client.zrange(key, 0, -1, withscores=True)),
        }
        return readers[self.client.type(key)]()

    def __setitem__(self, name: str, value: Any) -> None:
        key = self.prefix + name
        if isinstance(value, bytes):
            self.client.set(key, value)
        elif isinstance(value, list):
            self.client.rpush(key, *value)
        elif all(isinstance(one, int) for one in value.values()):
            self.client.zadd(key, value)
        else:
            self.client.hset(key, mapping=value)

    def lives(self, name: str) -> int:
        """Milliseconds until a key expires; -1: never."""
        return int(self.client.pttl(self.prefix + name))


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn at random elsewhere: ids of sessions, epochs, names of processes."""
    ids = itertools.cycle(IDS)
    monkeypatch.setattr("statekit.sessions.faces._new_id", lambda: next(ids))
    monkeypatch.setattr("statekit.replica.local.fresh", lambda: EPOCH)
    monkeypatch.setattr(Worker, "name", property(lambda _: WORKER))


@pytest.fixture
def kit(no_chance: None, server_url: str, namespace: str, clock: FrozenClock) -> Iterator[StateKit]:
    """Writes to each real server in turn."""
    kit = StateKit.connect(server_url, namespace, clock=clock, budget=PATIENT, snapshot_dir=None)
    yield kit
    kit.close()


@pytest.fixture
def held(server_url: str, namespace: str) -> Iterator[Held]:
    held = Held(server_url, namespace)
    yield held
    held.client.close()


# -- what is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SUFFIXES)
def test_limits_are_written_like_this(kit: StateKit, held: Held, clock: FrozenClock, algorithm: str) -> None:
    api = kit.rate_limiter("api", "5/minute", "100/hour", algorithm=algorithm)
    api.hit("10.0.0.1:80", 2)
    clock.advance(1.5)
    api.hit("10.0.0.1:80")
    (name,) = held.names()
    assert name == f"limit:{{api:10.0.0.1%3A80}}:{SUFFIXES[algorithm]}"
    assert held[name] == ROWS.get(algorithm, bytes.fromhex(RING))
    # Under a clock held still a key is given an hour more.
    assert 0 < held.lives(name) <= 2 * HOUR_MS + HOUR_MS


@pytest.mark.parametrize("algorithm", SUFFIXES)
def test_units_set_aside_are_written_like_this(
    kit: StateKit, held: Held, clock: FrozenClock, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(HOLDS)
    monkeypatch.setattr("statekit.ratelimit.reservation.token_hex", lambda _: next(ids))
    api = kit.rate_limiter("api", "5/minute", "100/hour", algorithm=algorithm)
    api.hit("ip", 2)
    clock.advance(1.5)
    api.hit("ip")
    first, second = (kit.run(api.reserving("ip", 1, ttl)) for ttl in (30, 0.5))
    name = f"limit:{{api:ip}}:{SUFFIXES[algorithm]}"
    state = ROWS.get(algorithm) or bytes.fromhex(HELD_RING)
    both = state + HOLDS_HEAD % (2, 2) + SET_ASIDE[1] + SET_ASIDE[0]
    assert held[name].rstrip(b" ") == both
    assert held.lives(name) > HOUR_MS + 30_000
    second.settle(0)
    assert held[name].rstrip(b" ") == state + HOLDS_HEAD % (1, 1) + SET_ASIDE[0]
    first.settle(0)
    if algorithm == "sliding-log":
        assert held[name][:1] == b"\x01"
    else:
        assert held[name] == state


@pytest.mark.parametrize("algorithm", SUFFIXES)
def test_what_a_refund_leaves_is_as_if_there_had_been_no_hit(
    kit: StateKit, held: Held, clock: FrozenClock, algorithm: str
) -> None:
    kit.store.keys.slotted = True
    api = kit.rate_limiter("api", "5/minute", "100/hour", algorithm=algorithm)
    closed = kit.rate_limiter("closed", "0/hour", algorithm=algorithm)
    api.hit("ip", 2)
    clock.advance(1.5)
    assert not kit.hit_all([(api, "ip", 3), (closed, "ip")]).allowed
    api.hit("ip")
    ring = bytes.fromhex(RING)
    name = f"limit:{{api:ip}}:{SUFFIXES[algorithm]}"
    told = held[name]
    # Room that was made for the hit stays; the words, and what the header says of them, are the same.
    same = (told[12:28], told[76:92]) == (ring[12:28], ring[76:92])
    assert same if algorithm == "sliding-log" else told == ROWS[algorithm]


def test_the_roster_is_written_like_this(kit: StateKit, held: Held) -> None:
    kit.store.roster.sign()
    assert held.names() == {"workers:{limits}"}
    assert held["workers:{limits}"] == {WORKER.encode(): NOW}
    assert 0 < held.lives("workers:{limits}") <= 15_000


def test_the_general_way_writes_the_ring_the_common_way_writes(
    kit: StateKit, held: Held, clock: FrozenClock
) -> None:
    api = kit.rate_limiter("api", "5/minute", "100/hour")
    other = kit.rate_limiter("other", "9/minute", algorithm="gcra")
    kit.hit_all([(api, "ip", 2)])
    clock.advance(1.5)
    kit.hit_all([(api, "ip"), (other, "ip")])
    assert held["limit:{api:ip}:log"] == bytes.fromhex(RING)


def test_slots_in_flight_are_written_like_this(
    kit: StateKit, held: Held, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statekit.inflight.ledger._numbers", itertools.count(1))
    reports = kit.in_flight("reports", 2, lease=30)
    with reports.hold("user:7"):
        clock.advance(1.5)
        with reports.hold("user:7"):
            name = "flight:{reports:user%3A7}"
            assert held.names() == {name}
            slots = {
                b"1893456000000000 host-1-0123abcd 1": 1_893_456_030_000_000,
                b"1893456001500000 host-1-0123abcd 2": 1_893_456_031_500_000,
            }
            assert held[name] == slots | {b"": -1_893_456_001_500_000}
            assert 0 < held.lives(name) <= 60_000
            reports.acquire("user:7", timeout=0.01)
            wait_until(lambda: held[name].get(b"?") == -1_893_456_003_500_000)
    assert held[name] == {b"": -1_893_456_001_500_000, b"?": -1_893_456_003_500_000}


def test_sessions_are_written_like_this(kit: StateKit, held: Held, clock: FrozenClock) -> None:
    store = kit.sessions(idle=7200, absolute=43200)
    s = store.open(None)
    for key, (value, _) in VALUES.items():
        s[key] = value
    store.save(s)
    record, content = f"session:{{{SHAS[0]}}}", {f"d:{key}".encode(): raw for key, (_, raw) in VALUES.items()}
    first = {
        b"created": b"1893456000000000",
        b"absolute": b"1893499200000000",
        b"touched": b"1893456000000000",
    }
    first[b"idle"] = b"7200000000"
    assert held[record] == first | content
    assert HOUR_MS < held.lives(record) <= 2 * HOUR_MS

    clock.advance(1)
    s.sign_in("user:7")
    store.save(s)
    assert held[record] == first | content | {b"retired": b"1893456011000000"}
    assert 0 < held.lives(record) <= 60_000
    signed_in = {key: str(int(value) + 1_000_000).encode() for key, value in first.items()}
    signed_in |= {b"idle": b"7200000000", b"principal": b"user:7", b"before": SHAS[0].encode()}
    assert held[f"session:{{{SHAS[1]}}}"] == signed_in | content
    assert held["sessions:{user%3A7}"] == {SHAS[1].encode(): 1_893_499_201_000}
    assert 11 * HOUR_MS < held.lives("sessions:{user%3A7}") <= 12 * HOUR_MS

    s.renew()
    store.save(s)
    left = {b"retired": b"1893456011000000", b"after": SHAS[2].encode()}
    assert held[f"session:{{{SHAS[1]}}}"] == signed_in | content | left
    assert held[f"session:{{{SHAS[2]}}}"] == signed_in | content | {b"before": SHAS[1].encode()}

    clock.advance(1)
    s["cart"] = 1
    del s["blob"]
    store.save(s)
    renewed = held[f"session:{{{SHAS[2]}}}"]
    assert (renewed[b"touched"], renewed[b"d:cart"], renewed.get(b"d:blob")) == (
        b"1893456002000000",
        b"1",
        None,
    )

    store.revoke(s.handle)
    assert held.names() == {f"session:{{{sha}}}" for sha in SHAS}
    assert [held[f"session:{{{sha}}}"] for sha in SHAS] == [{b"ended": b"1"}] * 3
    assert 0 < held.lives(f"session:{{{SHAS[2]}}}") <= 60_000


FLAG = Flag(variants={"a": 1, "b": 2}, default="a", rollout=25.5, owner="ü", prerequisites=["base"])
FLAG_JSON = (
    '{"enabled":true,"rollout":25.5,"variants":{"a":{"value":1},"b":{"value":2}},"default":"a",'
    '"prerequisites":{"base":true},"owner":"\\u00fc"}'
)


def entry(version: int, name: str, who: str, before: str | None, after: str) -> bytes:
    since = '"since":1893456000000000,' if version > 1 else ""
    head = f'{{"epoch":"{EPOCH}","version":{version},"at":1893456000000000,{since}"name":"{name}",{who},'
    tail = f'"after":{after}}}'
    return (head + tail if before is None else f'{head}"before":{before},{tail}').encode()


def test_flags_are_written_like_this(kit: StateKit, held: Held) -> None:
    flags = "replica:{flags}:"
    with held.client.pubsub() as news:
        news.subscribe(f"{held.prefix}{flags}news")
        assert news.get_message(timeout=10)
        kit.flags.set("base", Flag(), by="ann")
        kit.flags.set("grün", FLAG, by="ann", reason='a "test"')
        kit.flags.delete("base", by="bob")
        told: list[bytes] = []
        wait_until(lambda: told.extend(one["data"] for one in [news.get_message()] if one) or len(told) == 3)
    ann, bob = '"by":"ann","reason":""', '"by":"bob","reason":""'
    why = '"by":"ann","reason":"a \\"test\\""'
    writes = [
        (3, "base", bob, '{"enabled":true}', "null"),
        (2, "gr\\u00fcn", why, "null", FLAG_JSON),
        (1, "base", ann, "null", '{"enabled":true}'),
    ]
    assert held[f"{flags}meta"] == {b"epoch": EPOCH.encode(), b"version": b"3", b"held": b"3"}
    assert held[f"{flags}docs"] == {"grün".encode(): f"2:{FLAG_JSON}".encode()}
    assert held[f"{flags}log"] == [entry(*write) for write in writes]
    assert told == [
        entry(version, name, who, None, after) for version, name, who, _, after in reversed(writes)
    ]
    wait_until(lambda: held[f"{flags}acks"] == {WORKER.encode(): f"{EPOCH}:3".encode()})
    assert held[f"{flags}workers"] == {WORKER.encode(): 1_893_456_000_000}
    assert [held.lives(flags + part) for part in ("meta", "docs", "log")] == [-1, -1, -1]
    assert all(0 < held.lives(flags + part) <= 18_000 for part in ("workers", "acks"))
    assert held.names() == {flags + part for part in ("meta", "docs", "log", "workers", "acks")}
    kit.close()
    assert held.names() == {flags + part for part in ("meta", "docs", "log")}


def test_tenants_are_written_like_this(kit: StateKit, held: Held) -> None:
    tenants = kit.tenants(Settings, group_by="plan")
    tenants.update("acme:1", {"plan": "pro"}, by="ann")
    tenants.update_defaults({"seats": 2}, by="ann")
    tenants.update_defaults({"seats": 5}, group="pro", by="ann")
    assert held["replica:{tenants%3Atenants}:docs"] == {
        b"tenant:acme:1": b'1:{"plan":"pro"}',
        b"defaults": b'2:{"seats":2}',
        b"defaults:pro": b'3:{"seats":5}',
    }
    other = kit.tenants(Settings, name="other")
    other.update("a", {"seats": 3})
    meta = {b"epoch": EPOCH.encode(), b"version": b"1", b"held": b"1"}
    assert held["replica:{tenants%3Aother}:meta"] == meta
    other.delete("a")
    assert held["replica:{tenants%3Aother}:meta"] == {**meta, b"version": b"2"}


def test_pools_are_written_like_this(kit: StateKit, held: Held, clock: FrozenClock) -> None:
    pool = kit.pools.register("billing", open=object, per_process=2, fleet=4)
    config = PoolConfig("billing", per_process=2, fleet=4)
    kit.store.run(renewing(pool._key, config, Report("w1", 7, 0, 0, 0, 1, 2), NOW))
    kit.store.run(renewing(pool._key, config, Report("w2", 1, 0, 0, 0, 1, 4), NOW + 1))
    assert held["pool:{billing}"] == {
        b"": b"1893456000000000 0 1893456000000001",
        b"w1": b"2 0 0 1 2 1893456006000000 4 7 1893456000000000 0",
        b"w2": b"2 0 0 1 4 1893456006000001 4 1 1893456000000001 1893456000000001",
    }
    assert 0 < held.lives("pool:{billing}") <= 12_001
    assert kit.store.run(releasing(pool._key, "w1", 8))
    assert set(held["pool:{billing}"]) == {b"", b"w2"}


SPELT = {
    "user:7": "user%3A7",
    "": "%",
    "ü": "%C3%BC",
    "a{b}%~": "a%7Bb%7D%25%7E",
    "a b|c/d?e=f@g": "a b|c/d?e=f@g",
    "\0": "%00",
    "\ud800": "%ED%A0%80",
    "x" * 160: "x" * 160,
    "x" * 161: "~ab02f8783a74568743be547ceb0eeb1556f2077fb88736d50abf7308bd3b9d9b",
    "ü" * 27: "~" + blake2b(b"%C3%BC" * 27, digest_size=32).hexdigest(),
}


def test_parts_of_keys_are_spelt_like_this() -> None:
    assert {text: encoded(text) for text in SPELT} == SPELT
    kept = "".join(chr(code) for code in range(256) if encoded(chr(code)) == chr(code))
    told = re.search(r"digits, blanks and ``(.*)`` stay as they are", PAGE)
    assert told
    assert set(kept) == set(ascii_letters + digits + told[1])


def test_a_session_is_named_like_this() -> None:
    assert SHAS[0] == "0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a"


FILE = (
    b'{"format":1,"epoch":"00112233445566ff","version":2,"digest":"1f11613a4eb1a141fda1cb6b7b9536f2"}\n'
    b'{"new":[2,"{\\"enabled\\":true}"],"\\u00fc":[1,"\\"\\u00fc\\""]}'
)


def test_the_last_known_good_file_is_written_and_read_like_this(tmp_path: Path) -> None:
    documents = {"new": Document(2, '{"enabled":true}'), "ü": Document(1, '"ü"')}
    snapshot = Snapshot(EPOCH, 2, MappingProxyType(documents))
    written, read = (LastKnownGood(tmp_path / part, "store", "app", "flags") for part in ("one", "two"))
    written.keep(snapshot)
    assert written.path.read_bytes() == FILE
    read.path.parent.mkdir(mode=0o700)
    read.path.write_bytes(FILE)
    assert read.read() == snapshot
    written.keep(Snapshot(EPOCH, 3, snapshot.documents, 1893456000000000))
    assert b'"version":3,"at":1893456000000000,"digest"' in written.path.read_bytes()
    assert read.path.write_bytes(written.path.read_bytes())
    assert read.read().at == 1893456000000000


# -- what is read ----------------------------------------------------------------------------------------


@pytest.fixture(params=["blocking", "asyncio"])
def reader(
    request: pytest.FixtureRequest, no_chance: None, valkey_url: str, namespace: str, clock: FrozenClock
) -> Iterator[Any]:
    """A kit of another process, in either colour."""
    options: dict[str, Any] = {"clock": clock, "budget": PATIENT, "snapshot_dir": None}
    if request.param == "blocking":
        kit: Any = StateKit.connect(valkey_url, namespace, **options)
    else:
        kit = Blocking(AsyncStateKit.connect(valkey_url, namespace, **options))
    yield kit
    kit.close()


@pytest.fixture
def by_hand(valkey_url: str, namespace: str) -> Iterator[Held]:
    held = Held(valkey_url, namespace)
    yield held
    held.client.close()


@pytest.mark.parametrize("algorithm", SUFFIXES)
def test_limits_written_by_hand_are_read(
    reader: Any, by_hand: Held, clock: FrozenClock, algorithm: str
) -> None:
    by_hand[f"limit:{{api:ip}}:{SUFFIXES[algorithm]}"] = ROWS.get(algorithm, bytes.fromhex(RING))
    clock.advance(1.5)
    api = reader.rate_limiter("api", "5/minute", "100/hour", algorithm=algorithm)
    assert [one.remaining for one in api.peek("ip").limits] == [2, 97]
    assert [api.hit("ip").allowed for _ in range(3)] == [True, True, False]


def test_a_ring_made_from_the_page_is_read(reader: Any, by_hand: Held, clock: FrozenClock) -> None:
    """Packed here as the page tells: other widths, no edges, a ring that has turned round."""
    bits, units = 12, [5, 1, 3]
    ticks = [NOW - 50_000_000, NOW - 20_000_000, NOW - 10_000_000]
    charged = [4094, 4099, 4100]  # before each hit: a sum since the ring began, kept modulo 2^12
    words = [
        struct.pack(">Q", (tick % 2 ** (64 - bits)) * 2**bits + before % 2**bits)
        for tick, before in zip(ticks, charged, strict=True)
    ]
    total = (charged[-1] + units[-1]) % 2**bits
    header = struct.pack(">BBBBIIIQI", 1, bits, 0, 0, 4, 1, 3, ticks[-1], total)
    by_hand["limit:{api:ip}:log"] = header + words[2] + bytes(8) + words[0] + words[1]
    api = reader.rate_limiter("api", "10/minute")
    assert api.peek("ip").remaining == 1
    assert api.peek("ip", 2).retry_after == 10.0
    clock.advance(10)
    assert [api.hit("ip", 2).remaining, api.hit("ip", 4).remaining, api.hit("ip").allowed] == [4, 0, False]


@pytest.mark.parametrize("algorithm", SUFFIXES)
def test_units_set_aside_by_hand_are_read(
    reader: Any, by_hand: Held, clock: FrozenClock, algorithm: str
) -> None:
    held = b"=0000001 0000000000000040 1893456000000000"
    held += b"|a1b2c3d4e5f60718 0000000040 1893456000000000 1893456030000000"
    state = ROWS.get(algorithm) or b"\x02" + bytes.fromhex(RING)[1:]
    by_hand[f"limit:{{api:ip}}:{SUFFIXES[algorithm]}"] = state + held + (b"" if algorithm in ROWS else b" ")
    clock.advance(1.5)
    api = reader.rate_limiter("api", "100/minute", "100/hour", algorithm=algorithm)
    assert api.peek("ip").remaining == 57
    assert api.peek("ip", 97).limits[0].retry_after == pytest.approx(88.5)


def test_signs_of_life_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    by_hand["workers:{limits}"] = {"other": NOW - 14_999_999, "gone": NOW - 15_000_000}
    for _ in range(2):
        reader.store.roster.sign()
    assert reader.rate_limiter("api", "9/hour", on_outage="local").workers == 2


def test_sessions_written_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    deadline = 1_893_499_200_000
    by_hand[f"session:{{{SHAS[0]}}}"] = {
        "created": "1893456000000000",
        "absolute": "1893499200000000",
        "touched": "1893456000000000",
        "idle": "7200000000",
        "principal": "user:7",
        "from-the-future": "1",
        **{f"d:{key}": raw for key, (_, raw) in VALUES.items()},
    }
    by_hand[f"session:{{{SHAS[1]}}}"] = {"ended": "1"}
    by_hand["sessions:{user%3A7}"] = {SHAS[0]: deadline}
    store = reader.sessions(idle=7200, absolute=43200)
    s = store.open(IDS[0])
    assert {key: s[key] for key in s} == {key: value for key, (value, _) in VALUES.items()}
    assert (s.principal, s.created) == ("user:7", datetime(2030, 1, 1, tzinfo=UTC))
    assert store.open(IDS[1]).is_new
    (info,) = store.sessions_of("user:7")
    assert (info.handle, info.absolute_deadline.timestamp()) == (SHAS[0], deadline / 1000)
    s["cart"] = []
    store.save(s)
    assert by_hand[f"session:{{{SHAS[0]}}}"][b"from-the-future"] == b"1"
    assert store.revoke_all("user:7") == 1
    assert by_hand.names() == {f"session:{{{sha}}}" for sha in SHAS[:2]}


def test_encrypted_values_are_written_and_read_like_this(
    monkeypatch: pytest.MonkeyPatch, no_chance: None
) -> None:
    envelope = PAGE[PAGE.index("### Encrypted values") :].split("```")[1].strip().encode()
    monkeypatch.setattr("statekit.sessions.encryption.urandom", lambda size: bytes(range(size)))
    kit = StateKit.in_memory("atlas")
    sessions = kit.sessions(encryption=Encryption([bytes(range(32)).hex()]))
    session = sessions.open(None)
    session["card"] = "4242"
    sessions.save(session)
    assert session.id == IDS[0]
    data: Any = kit.store.transport.data  # type: ignore[attr-defined]
    name = f"sk1:atlas:session:{{{SHAS[0]}}}"
    assert data.get(name)[b"d:card"] == envelope
    data.get(name)[b"d:card"] = b'{"~e":"920038a8.AAECAwQFBgcICQoL9Lkut7ozzMhoLBfLcc7qcVGn2/+BCw=="}'
    assert sessions.open(IDS[0])["card"] == "4242"


def test_slots_in_flight_written_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    by_hand["flight:{reports:user%3A7}"] = {
        "1893456000000000 host-1-0123abcd 1": NOW + 30_000_000,
        "1893455999000000 host-2-4567cdef 9": NOW,
        "": -(NOW + 5),
        "?": -(NOW + 1),
        "from-the-future": -1,
    }
    reports = reader.in_flight("reports", 2)
    (holder,) = reports.holders("user:7")
    assert (holder.worker, holder.fence) == ("host-1-0123abcd", NOW)
    assert holder.until == datetime(2030, 1, 1, 0, 0, 30, tzinfo=UTC)
    hold = reports.acquire("user:7")
    assert (hold.fence, hold.in_flight) == (NOW + 6, 2)
    assert not reports.acquire("user:7")


def test_flags_written_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    flags, ann = "replica:{flags}:", '"by":"ann","reason":"","from-the-future":1'
    by_hand[f"{flags}meta"] = {"epoch": EPOCH, "version": "2", "from-the-future": "1"}
    by_hand[f"{flags}docs"] = {"base": '1:{"enabled":true}', "grün": f"2:{FLAG_JSON}"}
    by_hand[f"{flags}log"] = [
        entry(2, "gr\\u00fcn", ann, "null", FLAG_JSON),
        entry(1, "base", ann, "null", '{"enabled":true}'),
    ]
    reader.flags.load()
    assert reader.flags.version == 2
    assert reader.flags.enabled("base")
    assert [one.by for one in reader.flags.history("grün")] == ["ann"]
    # A message is the next version of a document.
    message = entry(3, "base", ann, None, '{"enabled":false,"from-the-future":1}')
    by_hand.client.hset(f"{by_hand.prefix}{flags}meta", "version", 3)
    by_hand.client.hset(f"{by_hand.prefix}{flags}docs", "base", '3:{"enabled":false,"from-the-future":1}')
    by_hand.client.lpush(f"{by_hand.prefix}{flags}log", entry(3, "base", ann, "null", '{"enabled":false}'))
    wait_until(lambda: by_hand.client.publish(f"{by_hand.prefix}{flags}news", message))
    wait_until(lambda: not reader.flags.enabled("base"))
    assert reader.flags.version == 3


def test_tenants_written_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    at = "replica:{tenants%3Atenants}:"
    by_hand[f"{at}meta"] = {"epoch": EPOCH, "version": "2"}
    by_hand[f"{at}docs"] = {
        "tenant:acme:1": '1:{"plan":"pro","from-the-future":1}',
        "defaults": '2:{"seats":2}',
    }
    tenants = reader.tenants(Settings)
    tenants.load()
    assert tenants.get("acme:1") == Settings(plan="pro", seats=2)
    tenants.update("acme:1", {"seats": 7})
    assert by_hand[f"{at}docs"][b"tenant:acme:1"] == b'3:{"from-the-future":1,"plan":"pro","seats":7}'


def test_pools_written_by_hand_are_read(reader: Any, by_hand: Held) -> None:
    by_hand["pool:{billing}"] = {
        "": "1893456000000000 0",
        "w1": "2 2 1 0 2 1893456006000000 4 7 1893456000000000 0",
        "w2": "1 1 0 3 4 1893456003000000 3 9 1893456000000000 1893456000000000 99 99",
    }
    reader.pools.register("billing", open=object, per_process=2, fleet=4)
    fleet = reader.pools.fleet("billing")
    assert (fleet.budget, fleet.open, fleet.settling, fleet.conflict) == (3, 3, False, True)
    one, two = fleet.processes
    assert (one.worker, one.share, one.open, one.in_use, one.lease_left) == ("w1", 2, 2, 1, 6.0)
    assert (two.worker, two.share, two.waiting, two.budget, two.lease_left) == ("w2", 1, 3, 3, 3.0)
    with pytest.raises(TimeoutError):
        reader.pools.checkout("billing", timeout=0.05).__enter__()


# -- what the page says ----------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The rows of the first table whose head begins so."""
    rows = PAGE[PAGE.index(heading) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


KEYS = {row[0].strip("`"): (row[1], row[2]) for row in table("| key | type |")}
CHANNELS = [row[0].strip("`") for row in table("| channel |")]


def pattern(spelling: str) -> re.Pattern[str]:
    """What a key of the page looks like."""
    parts = re.split(r"(<\w+>)", spelling)
    encoded = r"(?:[A-Za-z0-9_.@+/=,;!*'()$&?#\[\]^|<> %~-]+)"
    return re.compile("".join(encoded if part[:1] == "<" else re.escape(part) for part in parts) + r"\Z")


def test_the_bytes_on_the_page_are_the_bytes_of_a_ring() -> None:
    rows = table("| offset | bytes |")
    told = [row[1].strip("`") for row in rows]
    assert "".join(told) == RING.replace(" ", "")
    offsets = itertools.accumulate((len(one) // 2 for one in told[:-1]), initial=0)
    assert [int(row[0]) for row in rows] == list(offsets)
    assert {row[0].strip("`"): row[1].strip("`").encode() for row in table("| algorithm | value |")} == {
        SUFFIXES[algorithm]: row for algorithm, row in ROWS.items()
    }


def test_nothing_touches_what_the_page_does_not_list(
    valkey_url: str, namespace: str, clock: FrozenClock
) -> None:
    """Every key and channel that a tour of all primitives names, and how long it lives."""
    touched: set[str] = set()
    kit = StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)
    exchange = kit.store.transport.exchange
    subscribe = kit.store.push.subscribe

    def noting(calls: Any, budget: float) -> Any:
        touched.update(arg for call in calls for arg in call.args if str(arg).startswith("sk"))
        return exchange(calls, budget)

    def hearing(channel: str, listener: Any) -> None:
        touched.add(channel)
        subscribe(channel, listener)

    kit.store.transport.exchange = noting  # type: ignore[method-assign]
    kit.store.push.subscribe = hearing  # type: ignore[method-assign]
    tour(kit)
    kit.hit_all([(kit.rate_limiter("a", "5/minute", algorithm=one), "ip") for one in SUFFIXES])
    held = Held(valkey_url, namespace)
    known = {pattern(spelling): spelling for spelling in (*KEYS, *CHANNELS)}
    met = {spelling for look, spelling in known.items() if any(look.match(one) for one in touched)}
    assert not {one for one in touched if not any(look.match(one) for look in known)}
    assert met == {*KEYS, *CHANNELS}
    for name in held.names():
        (spelling,) = (
            known[look] for look in known if known[look] in KEYS and look.match(held.prefix + name)
        )
        kind, lives = KEYS[spelling]
        assert held.client.type(held.prefix + name).decode() in (kind, "none")
        assert held.lives(name) == -1 if lives.startswith("kept for ever") else held.lives(name) != -1
    held.client.close()
    kit.close()


def test_every_tag_of_a_value_is_on_the_page() -> None:
    assert set(re.findall(r'`{"(~\w+)":', PAGE)) == {*_READERS, "~t", "~o", "~e"}


def test_every_script_is_on_the_page() -> None:
    writers = {"ratelimit.hit", "ratelimit.hold"}  # written by the parts they include
    for path in Path(__file__).parents[2].joinpath("statekit").rglob("*.lua"):
        text = path.read_text(encoding="utf-8")
        if not text.startswith("-- Part of ") and re.search(
            r"p?call\('(SET|DEL|HSET|HDEL|ZADD|ZREM|LPUSH|PUBLISH)'", text
        ):
            writers.add(f"{path.parent.name}.{path.stem}")
    told = set()
    for row in table("| key | type |") + table("| channel |"):
        names = re.findall(r"`([\w.]+)`", row[-1])
        kind = names[0].partition(".")[0]
        told |= {name if name[0] != "." else kind + name for name in names}
    assert told == writers
