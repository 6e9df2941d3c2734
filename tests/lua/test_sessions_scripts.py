"""The session scripts against their twins: random stories, the same replies and the same records."""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis

from statekit.errors import StoreFull, StoreReadOnly
from statekit.kit import StateKit
from statekit.sessions import core, ending, memory
from statekit.store.memory import Data
from statekit.store.op import Script
from tests.servers import wait_until

START = 1_800_000_000_000_000
SECOND = 1_000_000


def plain(reply: Any) -> Any:
    return [plain(one) for one in reply] if isinstance(reply, list) else reply


def sorted_pairs(reply: Any) -> Any:
    """A hash has no order: compare what it holds."""
    if isinstance(reply, list) and reply and reply[0] in (b"live", b"retired") and len(reply) > 1:
        return [reply[0], *sorted(zip(reply[1::2], reply[2::2], strict=True))]
    return reply


class Pair:
    """A server and the per-process store, told the same."""

    def __init__(self, url: str, namespace: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.data = Data()
        self.namespace = namespace

    def run(self, script: Script, key: str, *args: Any) -> Any:
        key = f"{self.namespace}:{key}"
        told = plain(self.client.eval(script.source, 1, key, *args))
        known = plain(memory.TWINS[script.name](self.data, [key], args))
        assert sorted_pairs(told) == sorted_pairs(known), (script.name, args)
        return told

    def check(self, key: str) -> None:
        key = f"{self.namespace}:{key}"
        known = self.data.get(key)
        if self.client.type(key) == b"zset":
            assert {
                name: int(score) for name, score in self.client.zrange(key, 0, -1, withscores=True)
            } == known
        else:
            assert self.client.hgetall(key) == (known or {})
        assert bool(self.client.exists(key)) == (known is not None)
        assert self.client.pttl(key) != -1, "every key has a deadline"


@pytest.mark.parametrize("seed", range(25))
def test_scripts_and_twins_agree(  # noqa: C901, PLR0912 - one branch a script
    server_url: str, namespace: str, seed: int
) -> None:
    pair, rng, now = Pair(server_url, namespace), random.Random(seed), START
    idle, lifetime, grace = 1000 * SECOND, 2500 * SECOND, 100 * SECOND
    names = ["a", "b", "c"]
    fields = [b"d:x", b"d:y", b"d:\xed\xa0\x80", b"d:ended"]
    for _ in range(60):
        now += rng.choice([0, 1, SECOND, 90 * SECOND, 250 * SECOND, 900 * SECOND])
        name = rng.choice(names)
        content = [
            part
            for field in rng.sample(fields, rng.randint(0, 3))
            for part in (field, b"%d" % rng.randint(0, 9))
        ]
        match rng.randint(0, 8):
            case 0 | 1:
                head = (
                    rng.choice(["", now - SECOND]),
                    rng.choice(["", now + 300 * SECOND]),
                    rng.choice(["", "user:7", b"\xed\xa0\x80"]),
                    rng.choice(["", "b"]),
                    rng.choice(["", now - 1, now + SECOND]),
                )
                pair.run(core.CREATE, name, now, idle, lifetime, *head, *content)
            case 2:
                pair.run(core.LOAD, name, now, idle, rng.choice([0, idle // 4]))
            case 3:
                gone = rng.sample(fields, rng.randint(0, 2))
                pair.run(core.SAVE, name, now, idle, len(content) // 2, *content, *gone)
            case 4:
                pair.run(
                    core.RETIRE, name, now, idle, rng.choice([0, grace, grace]), 60_000, rng.choice(["", "c"])
                )
            case 5:
                if rng.random() < 0.3:
                    pair.run(ending.REVOKE, name, now, 60_000)
                    if rng.random() < 0.7:  # a minute later
                        pair.client.delete(f"{namespace}:{name}")
                        pair.data.delete(f"{namespace}:{name}")
            case 6:
                pair.run(ending.GLANCE, name, now)
            case 7:
                deadline = rng.choice(["", now + 200 * SECOND])
                assert (
                    int(pair.run(core.ENROLL, "index", now, f"{name}{rng.randint(0, 3)}", lifetime, deadline))
                    == now
                )
            case 8:
                listed = pair.run(ending.ROSTER, "index", now, rng.choice([-1, 2]))
                if listed and rng.random() < 0.5:
                    pair.run(ending.WITHDRAW, "index", *rng.sample(listed, 1), "nobody")
        for key in (name, "index"):
            pair.check(key)
    pair.client.close()


def test_the_record_is_written_like_this(server_url: str, namespace: str) -> None:
    """Golden bytes: the wire format of a session. A change here is a change for every release that shares it."""
    now = START
    kit = StateKit.connect(server_url, namespace, clock=lambda: now)
    sessions = kit.sessions(idle=7200, absolute=43200)
    session = sessions.open(None)
    session._mint = lambda: "A" * 43
    session["cart"] = [("sku", 1)]
    session["grüße"] = b"\x00"
    session.sign_in("user:7")
    sessions.save(session)
    client = redis.Redis.from_url(server_url)
    name = session.handle
    record, index = f"sk1:{namespace}:session:{{{name}}}", f"sk1:{namespace}:sessions:{{user%3A7}}"
    assert sorted(key.decode() for key in client.keys(f"sk1:{namespace}:*")) == sorted([record, index])
    assert client.hgetall(record) == {
        b"created": b"1800000000000000",
        b"absolute": b"1800043200000000",
        b"touched": b"1800000000000000",
        b"idle": b"7200000000",
        b"principal": b"user:7",
        b"d:cart": b'[{"~t":["sku",1]}]',
        "d:grüße".encode(): b'{"~b":"AA=="}',
    }
    assert client.zrange(index, 0, -1, withscores=True) == [(name.encode(), 1800043200000.0)]
    assert 7_100_000 < client.pttl(record) <= 7_200_000
    assert 43_100_000 < client.pttl(index) <= 43_200_000
    now += 3_600_000_000
    session.renew()
    old, session._mint = record, lambda: "B" * 43
    sessions.save(session)
    record = f"sk1:{namespace}:session:{{{session.handle}}}"
    assert client.hmget(old, "retired", "after") == [b"1800003610000000", session.handle.encode()]
    assert 50_000 < client.pttl(old) <= 60_000
    assert client.hmget(record, "created", "before") == [b"1800000000000000", name.encode()]
    sessions.destroy(session)
    for key in (old, record):
        assert client.hgetall(key) == {b"ended": b"1"}
        assert 50_000 < client.pttl(key) <= 60_000
    assert not client.exists(index)
    client.close()
    kit.close()


def test_no_key_and_no_value_holds_an_id(server_url: str, namespace: str) -> None:
    kit = StateKit.connect(server_url, namespace)
    sessions, ids = kit.sessions(), []
    session = sessions.open(None)
    session["k"] = 1
    for change in (lambda: None, lambda: session.sign_in("user:7"), session.renew):
        change()
        sessions.save(session)
        ids.append(session.id)
    assert len(set(ids)) == 3
    client = redis.Redis.from_url(server_url)
    stored = b""
    for key in client.keys(f"sk1:{namespace}:*"):
        values = client.hgetall(key) if client.type(key) == b"hash" else client.zrange(key, 0, -1)
        stored += key + repr(values).encode()
    assert stored
    assert not any(id_.encode() in stored for id_ in ids)
    client.close()
    kit.close()


REFUSALS = {
    "full": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], StoreFull),
    "read-only": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], StoreReadOnly),
}


def refuses(client: redis.Redis, namespace: str) -> bool:
    """Whether the server has come to refuse writes: told so, it may take a moment."""
    try:
        client.set(f"{namespace}:probe", "1", px=60_000)
    except redis.ResponseError:
        return True
    return False


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_store_that_refuses_writes(server_url: str, namespace: str, refusal: str) -> None:
    """It still says who is signed in, loses nothing, and (full) still ends sessions."""
    now = START
    kit = StateKit.connect(server_url, namespace, clock=lambda: now)
    sessions = kit.sessions(idle=100, absolute=1000)
    session = sessions.open(None)
    session["k"] = 1
    session.sign_in("user:7")
    sessions.save(session)
    now += 90 * SECOND
    client = redis.Redis.from_url(server_url)
    begin, end, error = REFUSALS[refusal]
    client.execute_command(*begin)
    try:
        wait_until(lambda: refuses(client, namespace), 30, "it goes on taking writes")
        found = sessions.open(session.id)
        assert found.principal == "user:7"
        for change in (lambda: found.update(k=2), found.renew, lambda: found.sign_in("user:8")):
            change()
            with pytest.raises(error):
                sessions.save(found)
            assert dict(sessions.open(session.id)) == {"k": 1}
        assert not client.exists(f"sk1:{namespace}:sessions:{{user%3A8}}"), "a failed sign-in leaves no trace"
        new = sessions.open(None)
        new["k"] = 1
        with pytest.raises(error):
            sessions.save(new)
        if refusal == "full":
            assert sessions.revoke(session.handle)
            assert sessions.open(session.id).is_new
    finally:
        client.execute_command(*end)
        client.close()
        kit.close()
