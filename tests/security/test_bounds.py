"""Bytes that somebody else wrote, into the store, a file, a cookie or a reply: bounded, and never more than data."""

from __future__ import annotations

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis

from statekit import AsyncStateKit, Budget, StateKit, StoreUnavailable, TenantSettings
from statekit.errors import CorruptValue, StatekitError, UsageError
from statekit.flags import Flag
from statekit.replica.file import LastKnownGood
from statekit.replica.protocol import EMPTY, Message
from statekit.store.codec import DEEPEST, decode, tree
from statekit.testing import Blocking
from tests.conftest import PATIENT


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


BOMBS = (
    b"[" * 100_000,
    b'{"a":' * 100_000,
    nested(DEEPEST + 2).encode(),
    b"\xff\xfe\x00",
    b"",
    b"null",
    b'"text"',
    b"9" * 5000,
    b"NaN",
    b'{"version":1e999,"at":1e999,"epoch":"x","name":"n","by":"","reason":"","before":null,"after":null}',
    b'{"__reduce__":["os.system","true"]}',
    b"cos\nsystem\n(S'true'\ntR.",
    b"!!python/object/apply:os.system [true]",
)


# -- the two readers -------------------------------------------------------------------------------------


def test_so_deep_and_no_deeper() -> None:
    deep = nested(DEEPEST)
    assert tree(deep) == json.loads(deep)
    with pytest.raises(ValueError, match="deeper than 32"):
        tree(nested(DEEPEST + 1))
    for text in (nested(DEEPEST + 2), nested(900), "[" * 100_000, '{"a":' * 100_000, '[{"a":' * 50_000):
        with pytest.raises(ValueError, match=r"deeper|Expecting|delimiter"):
            tree(text)
        with pytest.raises(CorruptValue):
            decode(text.encode())


def test_wide_is_not_deep() -> None:
    wide = json.dumps([[{}]] * 10_000)
    assert len(tree(wide)) == 10_000


def test_so_large_and_no_larger() -> None:
    assert tree('"' + "x" * 98 + '"', largest=100) == "x" * 98
    with pytest.raises(ValueError, match="at most 100"):
        tree('"' + "x" * 99 + '"', largest=100)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", '{"a":NaN}', "9" * 5000, "[1]x", "", "\ufeff1", b"\xff"]
)
def test_only_json_is_json(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        tree(text)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_message_that_cannot_be_read_says_look_at_the_store(bomb: bytes) -> None:
    assert Message.parse(bomb) is None


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_last_known_good_file_that_cannot_be_read_is_passed_over(tmp_path: Path, bomb: bytes) -> None:
    """Even one with the right digest, or with no line in it at all."""
    file = LastKnownGood(tmp_path / "state", "store", "atlas", "flags")
    file.path.parent.mkdir(mode=0o700)
    for content in (bomb, bomb + b"\n" + bomb, signed(bomb)):
        file.path.write_bytes(content)
        assert file.read() is EMPTY


def signed(body: bytes) -> bytes:
    from statekit.replica.file import _digest

    return (
        json.dumps({"format": 1, "epoch": "x", "version": 1, "digest": _digest(body)}).encode() + b"\n" + body
    )


@pytest.mark.parametrize("levels", [DEEPEST + 1, 500])
def test_what_readers_would_refuse_is_not_written(levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    with StateKit.in_memory() as kit:
        with pytest.raises((UsageError, RecursionError)):
            kit.flags.set("deep", Flag(default=value), by="ann")
        assert kit.flags.names() == ()


# -- a writer into the store -----------------------------------------------------------------------------


class Settings(TenantSettings):
    plan: str = "free"


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_writer_into_the_store_gets_errors_of_ours_or_nothing(
    valkey_url: str, namespace: str, bomb: bytes
) -> None:
    """Everything is left in the wrong place; the app goes on, or is told by a `StatekitError`."""
    raw = redis.Redis.from_url(valkey_url)
    with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        kit.flags.set("new", Flag(), by="ann")
        kit.tenants(Settings).update("acme", {"plan": "pro"}, by="ann")
        session = kit.sessions().open(None)
        session["a"] = session["b"] = 1
        kit.sessions().save(session)
        with kit.in_flight("reports", 9).hold("acme"):
            spoil(raw, f"sk1:{namespace}:", session.handle, bomb)
            with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as late:
                assert late.flags.enabled("new") in (True, False)
                assert late.tenants(Settings).get("acme").plan in ("free", "pro")
                assert kit.flags.enabled("new") is True
                assert late.sessions().open(session.id)["b"] == 1
                told(lambda: late.flags.history("new"))
                told(late.flags.workers)
                told(lambda: late.flags.set("other", Flag(), by="ann", wait=0.01))
                told(lambda: late.sessions().open(session.id)["a"])
                told(lambda: late.in_flight("reports", 9).holders("acme"))
                told(lambda: late.rate_limiter("l", "5/minute").hit("k"))
                told(lambda: late.rate_limiter("l", "5/minute", algorithm="gcra").hit("k"))
            raw.hset(f"sk1:{namespace}:replica:{{flags}}:meta", mapping={"epoch": bomb, "version": bomb})
            with StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as later:
                assert later.flags.enabled("new") is False
            assert kit.flags.enabled("new") is True
            kit.pools.register("things", open=object, per_process=1, fleet=2)
            record = f"sk1:{namespace}:session:{{{session.handle}}}"
            raw.hset(f"sk1:{namespace}:pool:{{things}}", mapping={b"evil": bomb})
            raw.hset(record, mapping=dict.fromkeys(("created", "absolute", "touched", "idle"), bomb))
            told(lambda: kit.pools.fleet("things"))
            told(lambda: kit.sessions().open(session.id)["b"])
            told(lambda: kit.sessions().revoke(session.handle))
    raw.close()


def spoil(raw: redis.Redis, prefix: str, handle: str, bomb: bytes) -> None:
    for name in ("flags", "tenants%3Atenants"):
        replica = f"{prefix}replica:{{{name}}}"
        raw.hset(f"{replica}:docs", mapping={"evil": bomb, "tenant:acme": bomb, "new": bomb})
        raw.lpush(f"{replica}:log", bomb)
        raw.publish(f"{replica}:news", bomb)
        raw.hset(f"{replica}:acks", mapping={"evil": bomb})
        raw.zadd(f"{replica}:workers", {"evil": 1e16, b"\xff": 1e16})
    raw.hset(f"{prefix}session:{{{handle}}}", "d:a", bomb)
    raw.zadd(f"{prefix}flight:{{reports:acme}}", {bomb: 1e18})
    for suffix in ("log", "gcra"):
        raw.set(f"{prefix}limit:{{l:k}}:{suffix}", bomb)


def told(ask: Callable[[], object]) -> None:
    """Ask; whatever comes of it, no error but one of ours."""
    try:
        ask()
    except StatekitError:
        return


# -- a server that lies ----------------------------------------------------------------------------------


@contextmanager
def liar(said: bytes, *, endless: bool = False) -> Iterator[str]:
    """A server that answers whatever it is asked with these bytes, over and over if `endless`."""
    over = threading.Event()

    def serve(link: socket.socket) -> None:
        link.settimeout(0.2)
        with link:
            while not over.is_set():
                try:
                    link.recv(65536)
                    link.sendall(said)
                    while endless and not over.is_set():
                        link.sendall(said)
                except TimeoutError:
                    continue
                except OSError:
                    return

    def accept(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                link, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=serve, args=(link,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            over.set()
            thread.join(5)


LIES = {
    "a string of 999 GB": b"$999999999999\r\n",
    "a string longer than any": b"$99999999999999999999\r\n",
    "a negative length": b"$-7\r\n",
    "a length that is no number": b"$1e9\r\n",
    "an array of 999 billion": b"*999999999999\r\n",
    "arrays without end": b"*1\r\n" * 100_000,
    "a line without end": b"+" + b"x" * 200_000,
    "a number without end": b":" + b"9" * 100_000 + b"\r\n",
    "another protocol": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"\0",
}
BRIEF = Budget(decision=0.3, operation=0.3, connect=0.3)


def connect(colour: str, url: str) -> Any:
    if colour == "blocking":
        return StateKit.connect(url, budget=BRIEF, snapshot_dir=None)
    return Blocking(AsyncStateKit.connect(url, budget=BRIEF, snapshot_dir=None))


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies_costs_its_budget_and_no_memory(colour: str, lie: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with liar(LIES[lie]) as url:
        kit = connect(colour, url)
        start = monotonic()
        with pytest.raises(StoreUnavailable):
            kit.ping()
        assert monotonic() - start < 10  # its budget; generous, as other tests may run beside
        kit.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
@pytest.mark.parametrize("said", [b"$5\r\nhello\r\n" * 1000, b"+" + b"x" * 10_000, b"*1\r\n" * 1000])
def test_a_server_that_never_stops_talking_fills_no_memory(colour: str, said: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with liar(said, endless=True) as url:
        kit = connect(colour, url)
        start = monotonic()
        for _ in range(5):
            told(kit.ping)
        assert monotonic() - start < 20
        kit.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
