"""Names from outside: no caller, tenant, flag, principal, pool or key leaves its namespace or kind, or becomes a pattern."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit import StateKit, StatekitError, TenantSettings
from statekit.flags import Flag
from statekit.store.keys import Keys, encoded
from tests.conftest import PATIENT
from tests.servers import Server, binary
from tests.unit.test_operations_doc import PAGE

HOSTILE = (
    *(
        "a:b",
        "{a}",
        "a}{b",
        "}",
        "{",
        "*",
        "?",
        "[a-z]",
        "[^a]",
        "\\*",
        "sk1:other:limit:{l:k}",
        "..",
        "../../etc",
    ),
    *(
        "a\nb",
        "a\r\nFLUSHALL\r\n",
        "\0",
        "a\0b",
        "\x7f",
        "\x1b[2J",
        " ",
        "  a  ",
        "%",
        "%3A",
        "%25",
        "~",
        "~" + "0" * 64,
    ),
    *("\ud800", "\udfff\ud800", "\u202e", "\ufeff", "ａ", "é", "e\u0301", "ﬁ", "İ", "ß", "\U0001f600", "а"),  # noqa: RUF001
    *("x" * 161, "ü" * 10_000, "'; DROP", '"', "`id`", "$(id)", "<script>", "-1", "0", "None", "null"),
)

texts = st.text(st.characters(exclude_categories=()), max_size=300) | st.sampled_from(HOSTILE)


# -- the spelling ----------------------------------------------------------------------------------------


@given(texts)
@settings(max_examples=500, deadline=None)
def test_a_part_of_a_key_cannot_end_its_part(text: str) -> None:
    part = encoded(text)
    assert part
    assert len(part) <= 160
    assert part.isascii()
    assert part.isprintable()
    assert not set(part) & set(':{}\\"`')


@given(texts, texts, st.sampled_from(["limit", "session", "sessions", "flight", "replica", "pool"]))
@settings(max_examples=500, deadline=None)
def test_a_key_stays_in_its_namespace_and_its_kind(one: str, two: str, kind: str) -> None:
    key = Keys("atlas").of(kind, encoded(one), encoded(two), suffix="log")
    space, tag, rest = re.fullmatch(r"(sk1:atlas:\w+:)\{([^{}:]+:[^{}:]+)\}(:log)", key).groups()  # type: ignore[union-attr]
    assert (space, rest) == (f"sk1:atlas:{kind}:", ":log")
    assert tag == f"{encoded(one)}:{encoded(two)}"
    assert not key.startswith(Keys("atlas2").prefix)


@given(texts, texts)
@settings(max_examples=500, deadline=None)
def test_what_looks_alike_or_is_the_same_when_normalised_is_another_key(one: str, two: str) -> None:
    forms = {one, two, *(unicodedata.normalize(form, one) for form in ("NFC", "NFD", "NFKC", "NFKD"))}
    forms |= {one.lower(), one.upper(), one.strip(), one.casefold()}
    assert len({encoded(form) for form in forms}) == len(forms)


def test_ten_megabytes_are_a_short_key() -> None:
    long = "a" * 10_000_000
    assert len(encoded(long)) == 65
    assert encoded(long) != encoded(long + "a")


@pytest.mark.parametrize(
    "namespace", ["*", "a*", "atlas:", "a{b}", "a b", "", ".", "-", "a" * 65, "atlas\n", "ä", "a?"]
)
def test_a_namespace_is_never_a_pattern_or_two(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Keys(namespace)


def test_the_rule_for_one_namespace_covers_no_other() -> None:
    """``~sk1:atlas:*``, as servers match it, on keys of neighbours with every name that is allowed."""
    for neighbour in ("atlas2", "atlas-", "atlas.b", "atla", "Atlas", "x"):
        assert not fnmatch.fnmatchcase(Keys(neighbour).of("limit", "a", "b"), "sk1:atlas:*")


# -- on a server -----------------------------------------------------------------------------------------


class Settings(TenantSettings):
    plan: str = "free"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(binary("valkey")) as one, redis.Redis(unix_socket_path=str(one.socket)) as admin:
        line = next(line for line in PAGE.splitlines() if line.startswith("ACL SETUSER atlas"))
        admin.execute_command(*line.split())
        yield one


def use_everything(kit: StateKit, name: str) -> None:
    """Give one name to every primitive, as every kind of name; what is refused is refused before it is sent."""

    def attempt(ask: Any) -> None:
        with suppress(StatekitError):
            ask()

    attempt(lambda: kit.rate_limiter(name, "5/minute").hit(name))
    attempt(lambda: kit.rate_limiter(name, "5/minute", algorithm="gcra").reset(name))
    attempt(lambda: kit.in_flight(name, 2).hold(name).__enter__().release())
    attempt(lambda: kit.in_flight(name, 2).holders(name))

    sessions = kit.sessions()
    session = sessions.open(None)
    session[name] = name
    attempt(lambda: session.sign_in(name))
    attempt(lambda: sessions.save(session))
    attempt(lambda: sessions.sessions_of(name))
    attempt(lambda: sessions.revoke_all(name))
    attempt(lambda: sessions.revoke(name))
    attempt(lambda: sessions.open(name).get("a"))

    attempt(lambda: kit.flags.set(name, Flag(owner=name), by=name, reason=name))
    attempt(lambda: kit.flags.enabled(name, actor=name))
    attempt(lambda: kit.flags.history(name))
    attempt(lambda: kit.tenants(Settings).update(name, {"plan": name}, by=name))
    attempt(lambda: kit.tenants(Settings, name=name).get(name))


def test_no_name_leaves_the_namespace(server: Server) -> None:
    """As a user who may touch one namespace: nothing is ever denied, and all keys are spelt as they should be."""
    spelt = re.compile(r"sk1:atlas:(limit|flight|session|sessions|replica|pool):\{[^{}\\\"`]+\}(:[a-z]+)?\Z")
    with redis.Redis(unix_socket_path=str(server.socket)) as admin:
        admin.set("sk1:other:limit:{l:k}", "theirs")
        url = server.url.replace("unix://", "unix://atlas:password@")
        with StateKit.connect(url, "atlas", budget=PATIENT, snapshot_dir=None) as kit:
            for name in HOSTILE:
                use_everything(kit, name)
            with kit.in_flight("a", 1).hold("b"):
                pass
            for name in HOSTILE[:8]:
                with suppress(StatekitError):
                    kit.pools.register(name, open=object, per_process=1, fleet=2)
                    with kit.pools.checkout(name, timeout=10):
                        pass
            assert kit.ping() < 60
        assert admin.acl_log() == []
        for key in admin.scan_iter(count=1000):
            assert key == b"sk1:other:limit:{l:k}" or spelt.match(key.decode()), key
        assert admin.get("sk1:other:limit:{l:k}") == b"theirs"
        used = admin.info("commandstats")
        patterns = {
            "cmdstat_keys",
            "cmdstat_psubscribe",
            "cmdstat_flushdb",
            "cmdstat_flushall",
            "cmdstat_sort",
        }
        assert not used.keys() & patterns


def test_another_namespace_is_out_of_reach_whatever_is_asked(server: Server) -> None:
    """Even for code that tries: the server refuses, and what is there stays as it is."""
    with StateKit.connect(server.url, "victim", budget=PATIENT, snapshot_dir=None) as theirs:
        session = theirs.sessions().open(None)
        session["secret"] = 1
        session.sign_in("user:7")
        theirs.sessions().save(session)
        theirs.flags.set("theirs", Flag(), by="ann")
    url = server.url.replace("unix://", "unix://atlas:password@")
    with StateKit.connect(url, "atlas", budget=PATIENT, snapshot_dir=None) as ours:
        assert ours.sessions().open(session.id).is_new
        assert ours.sessions().sessions_of("user:7") == []
        assert ours.sessions().revoke_all("user:7") == 0
        assert ours.sessions().revoke(session.handle) is False
        assert ours.flags.enabled("theirs") is False
    with StateKit.connect(url, "victim", budget=PATIENT, snapshot_dir=None) as spy:
        for ask in (
            lambda: spy.sessions().open(session.id)["secret"],
            lambda: spy.sessions().sessions_of("user:7"),
            lambda: spy.sessions().revoke_all("user:7"),
            lambda: spy.flags.set("theirs", Flag(enabled=False), by="eve"),
        ):
            with pytest.raises(StatekitError, match=r"(?i)permissions|NOPERM"):
                ask()
        assert spy.flags.enabled("theirs") is False
    with StateKit.connect(server.url, "victim", budget=PATIENT, snapshot_dir=None) as theirs:
        assert theirs.sessions().open(session.id)["secret"] == 1
        assert theirs.flags.enabled("theirs") is True
    with redis.Redis(unix_socket_path=str(server.socket)) as admin:
        admin.acl_log_reset()
