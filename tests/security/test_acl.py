"""The ACL rules of docs/operations.md: each is enough for what it is for, and none holds a command too many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from statekit import Flag, StateKit, StatekitError
from tests import tour
from tests.conftest import PATIENT
from tests.security.tls import free_port
from tests.servers import SERVERS, Server, binary, wait_until
from tests.unit.test_operations_doc import PAGE

SECTION = PAGE[PAGE.index("### What the user needs") : PAGE.index("## The embedded server")]
ROWS = dict(re.findall(r"^\| ([a-z].*?) \| .*?`(.*?)`.* \|$", SECTION, re.MULTILINE))
BASE = "on >password resetkeys resetchannels -@all +ping +time +eval +evalsha"
WHOLE = next(
    line for line in PAGE.splitlines() if line.startswith("ACL SETUSER atlas on >password resetkeys ~")
)
LIMITS, LOCAL = "limits", 'limits with `on_outage="local"`, besides'
WRITTEN, READ = "flags and tenants, written here", "flags and tenants, only read"
SEEN = "the same, and seen by `Convergence`"


class WAIT:
    """Seconds that something may take which needs a permission."""

    news = 20.0
    pools = 30.0


def without(rule: str, command: str) -> str:
    return re.sub(rf" \+{command}(?![\w|])", "", rule)


def commands(rule: str) -> set[str]:
    return set(re.findall(r"\+([a-z|]+)", rule))


# -- what each row is for --------------------------------------------------------------------------------


def use_shared_limits(kit: Any, _admin: Any) -> None:
    tour.limits(kit)
    tour.shared_limits(kit)


def use_sessions(kit: Any, _admin: Any) -> None:
    tour.sessions(kit)
    store = kit.sessions(grace=0)
    one = store.open(None)
    one["a"] = one["b"] = 1
    store.save(one)
    one = store.open(one.id)
    del one["a"]
    one.sign_in("user:9")
    store.save(one)
    one = store.open(one.id)
    del one["b"]
    one.renew()
    store.save(one)
    one = store.open(one.id)
    one["c"] = 1
    store.save(one)
    one = store.open(one.id)
    del one["c"]
    store.save(one)
    assert store.destroy(one)


def write_flags(kit: Any, admin: Any) -> None:
    tour.flags(kit)
    tour.tenants(kit)
    kit.flags.set("gone", Flag(), by="ann")
    kit.flags.delete("gone", by="ann")
    kit.flags.set("kept", Flag(), by="ann")
    admin.flushall()
    assert kit.flags.restore()


def read_flags(kit: Any, admin: Any) -> None:
    """Load them, hear of a change, catch up after a message was lost, and look at the history."""
    with StateKit.connect(kit.url_of_all, "atlas", budget=PATIENT, snapshot_dir=None) as writer:
        writer.flags.set("new", Flag(), by="ann")
        assert kit.flags.enabled("new")
        writer.flags.set("new", Flag(enabled=False), by="ann")
        wait_until(lambda: not kit.flags.enabled("new"), WAIT.news, "a change of a flag was not heard of")
        assert len(kit.flags.history("new")) == 2
        assert not kit.flags.stale


def use_pools(kit: Any, _admin: Any) -> None:
    """With somebody else who keeps idle what this process wants: it is called, and gives it up."""
    with StateKit.connect(kit.url_of_all, "atlas", budget=PATIENT, snapshot_dir=None) as other:
        for one in (kit, other):
            one.pools.register("things", open=object, per_process=2, fleet=2)
        for one in (other, kit, other):
            with (
                one.pools.checkout("things", timeout=WAIT.pools),
                one.pools.checkout("things", timeout=WAIT.pools),
            ):
                one.pools.fleet("things")


USES: dict[str, Callable[[Any, Any], None]] = {
    LIMITS: lambda kit, _: tour.limits(kit),
    LOCAL: use_shared_limits,
    "slots in flight": lambda kit, _: tour.in_flight(kit),
    "sessions": use_sessions,
    WRITTEN: write_flags,
    READ: read_flags,
    SEEN: read_flags,
    "pools": use_pools,
}
RULES = {
    **{name: f"{BASE} {rule}" for name, rule in ROWS.items()},
    LOCAL: f"{BASE} {ROWS[LIMITS]} {ROWS[LOCAL]}",
    SEEN: f"{BASE} {ROWS[READ]} {ROWS[SEEN]}",
}


def test_the_page_has_a_row_for_each_use() -> None:
    assert ROWS.keys() == USES.keys()
    assert SECTION.count(BASE) == 1
    everything = commands(BASE) | set().union(*map(commands, ROWS.values())) | {"select"}
    assert commands(WHOLE) == everything


# -- on servers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(binary(request.param)) as one:
        yield one


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket)) as one:
        one.flushall()
        one.script_flush()
        one.acl_log_reset()
        one.execute_command("ACL", "SETUSER", "writer", "on", ">password", "~*", "&*", "+@all")
        yield one


def user(server: Server, admin: redis.Redis, name: str, rule: str) -> Any:
    """A kit that connects as a new user with this rule."""
    words = re.findall(r"\([^)]*\)|\S+", rule)
    admin.execute_command("ACL", "DELUSER", name)
    admin.execute_command("ACL", "SETUSER", name, *words)
    url = server.url.replace("unix://", f"unix://{name}:password@")
    kit = StateKit.connect(url, "atlas", budget=PATIENT, snapshot_dir=None)
    kit.url_of_all = server.url  # type: ignore[attr-defined]
    return kit


def denied(admin: redis.Redis, name: str) -> set[str]:
    """What a user asked for and was refused."""
    return {one["object"] for one in admin.acl_log() if one["username"] == name}


@pytest.mark.parametrize("use", USES)
def test_a_row_is_enough_and_holds_no_command_too_many(server: Server, admin: redis.Redis, use: str) -> None:
    if use == SEEN and server.program == binary("redis62"):
        pytest.skip("Redis 6.2 has no selectors")
    kit = user(server, admin, "atlas", RULES[use])
    admin.config_resetstat()
    try:
        kit.ping()
        USES[use](kit, admin)
    finally:
        kit.close()
    sent = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    assert denied(admin, "atlas") - (signing(RULES[use]) if use == READ else set()) == set()
    assert commands(RULES[use]) <= sent, "allowed, and never sent"


def signing(rule: str) -> set[str]:
    """What a reader tries and may be refused: it then goes on unsigned."""
    return commands(ROWS[SEEN]) - commands(rule)


@pytest.mark.parametrize("use", USES)
def test_without_any_one_of_them_something_is_refused(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "wait_until", lambda ask, *_, **__: wait_until(ask, 1.0))
    monkeypatch.setattr(tour, "CONFIRMED", 0.1)
    monkeypatch.setattr(WAIT, "pools", 0.5)
    monkeypatch.setattr(WAIT, "news", 1.0)
    with Server(binary("valkey")) as server, redis.Redis(unix_socket_path=str(server.socket)) as admin:
        for spared in sorted(commands(ROWS[use])):
            admin.flushall()
            admin.acl_log_reset()
            kit = user(server, admin, f"no-{spared}", without(RULES[use], spared))
            with suppress(StatekitError, AssertionError):
                USES[use](kit, admin)
            with suppress(StatekitError):
                kit.close()
            assert spared in denied(admin, f"no-{spared}"), spared


@pytest.mark.parametrize("name", SERVERS)
def test_a_cluster_takes_what_the_page_adds_and_no_more(name: str) -> None:
    paragraph = SECTION[SECTION.index("On a cluster add") :]
    added, newer = (re.findall(r"`(\+[^`]+)`", paragraph))[:2]
    added = f"{added} {newer}" if name != "redis62" else added
    slots = range(16384) if name == "redis62" else (0, 16383)
    with (
        Server(binary(name), ("--cluster-enabled", "yes"), port=free_port()) as server,
        redis.Redis(unix_socket_path=str(server.socket)) as admin,
    ):
        admin.execute_command("CLUSTER", "ADDSLOTS" if name == "redis62" else "ADDSLOTSRANGE", *slots)
        wait_until(lambda: admin.cluster("INFO")["cluster_state"] == "ok")
        admin.execute_command(*WHOLE.split(), *added.split())
        admin.config_resetstat()
        url = f"redis+cluster://atlas:password@127.0.0.1:{server.port}"
        with StateKit.connect(url, "atlas", budget=PATIENT, snapshot_dir=None) as kit:
            tour.tour(kit)
        assert denied(admin, "atlas") == set()
        sent = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
        sent |= {f"{one}|{two}" for one in sent for two in ("slots", "info")} if name == "redis62" else set()
        assert commands(added) - sent == {"asking"}  # sent while a slot moves


@pytest.mark.parametrize("use", [READ, SEEN])
def test_who_may_only_read_flags_cannot_write_them(server: Server, admin: redis.Redis, use: str) -> None:
    """Neither through statekit, nor with commands or scripts of one's own."""
    if use == SEEN and server.program == binary("redis62"):
        pytest.skip("Redis 6.2 has no selectors")
    with StateKit.connect(server.url, "atlas", budget=PATIENT, snapshot_dir=None) as writer:
        writer.flags.set("new", Flag(), by="ann")
        reader = user(server, admin, "reader", RULES[use])
        try:
            assert reader.flags.enabled("new")
            with pytest.raises(StatekitError):
                reader.flags.set("new", Flag(enabled=False), by="eve")
            with pytest.raises(StatekitError):
                reader.flags.undo(1, by="eve")
            done = writer.flags.set("other", Flag(), by="ann", wait=10 if use == SEEN else None)
            assert done.workers == (2 if use == SEEN else 1)
        finally:
            reader.close()
        path = str(server.socket)
        with redis.Redis(unix_socket_path=path, username="reader", password="password") as raw:
            docs, log = (f"sk1:atlas:replica:{{flags}}:{name}" for name in ("docs", "log"))
            for words in (
                ("HSET", docs, "new", "1:{}"),
                ("HDEL", docs, "new"),
                ("DEL", docs),
                ("LPUSH", log, "x"),
                ("PUBLISH", "sk1:atlas:replica:{flags}:news", "x"),
                ("EVAL", "return redis.call('HSET', KEYS[1], 'new', '1:{}')", 1, docs),
                ("FLUSHALL",),
                ("CONFIG", "GET", "*"),
                ("KEYS", "*"),
                ("GET", "sk1:atlas:session:{x}"),
            ):
                with pytest.raises(redis.ResponseError):
                    raw.execute_command(*words)
        assert writer.flags.enabled("new")
