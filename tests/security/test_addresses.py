"""Whose request it is: an address that a client claims is never counted as its own."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

from statekit import AsyncStateKit, StateKit, UsageError
from statekit.web import TrustedProxies, network
from statekit_asgi import StatekitMiddleware
from statekit_asgi import by_ip as asgi_by_ip
from statekit_asgi import client_address as asgi_client_address
from statekit_flask import StatekitFlask, by_ip, client_address

INSIDE = TrustedProxies(["10.0.0.0/8", "2001:db8:aaaa::/48", "unix"])
ATTACKER, VICTIM = "203.0.113.66", "198.51.100.1"


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", f"{VICTIM}, {ATTACKER}", ATTACKER),
        ("10.0.0.1", f"{VICTIM}, {ATTACKER}, 10.0.0.2", ATTACKER),
        ("10.0.0.1", "10.0.0.9, 10.0.0.8", "10.0.0.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        (ATTACKER, VICTIM, ATTACKER),
        (ATTACKER, f"{VICTIM}, 10.0.0.2", ATTACKER),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:aaaa::1", "[2001:db8:1:2::7]:4711", "2001:db8:1:2::7"),
        ("10.0.0.1", "[2001:db8:1:2::7]", "2001:db8:1:2::7"),
        ("10.0.0.1", "2001:DB8:1:2::7%eth0", "2001:db8:1:2::7"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        (None, "203.0.113.7", "203.0.113.7"),
        (None, f"{VICTIM}, {ATTACKER}", ATTACKER),
        (None, None, None),
        ("testclient", "203.0.113.7", "203.0.113.7"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_s_is_the_client_s(
    peer: str | None, said: str | None, client: str | None
) -> None:
    assert INSIDE.client(peer, said) == client


NONE = [
    "unknown",
    "_hidden",
    "203.0.113",
    "0203.0.113.7",
    "203.0.113.7:",
    "203.0.113.7:99999999",
    "[203.0.113.7]x",
    "[::1",
    "::1]",
    "'203.0.113.7'",
    "²03.0.113.7",
    "ip=1.2.3.4",
    "203.0.113.7;evil",
    "for=203.0.113.7",
    "[[::1]]",
    "1e3",
    "0x7f000001",
    "2130706433",
]


@pytest.mark.parametrize("entry", ["", " ", "203.0.113.7\0", "203.0.113.7 198.51.100.1", "1" * 5000, *NONE])
def test_what_is_no_address_ends_the_walk(entry: str) -> None:
    assert INSIDE.client("10.0.0.1", f"{VICTIM}, {entry}") == "10.0.0.1"
    assert INSIDE.client("10.0.0.1", f"{VICTIM}, {entry}, 10.0.0.2") == "10.0.0.2"


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ('For="[2001:db8:1:2::7]:4711";proto=https;by=10.0.0.1', "2001:db8:1:2::7"),
        (f"for={VICTIM}, for={ATTACKER};host=a.example, for=10.0.0.2", ATTACKER),
        (
            f'for="{VICTIM}, for={ATTACKER}',
            ATTACKER,
        ),  # a quote left open does not swallow what the proxy added
        (f'for={VICTIM};for="x, for={ATTACKER}', ATTACKER),
        (f"for={VICTIM};for={ATTACKER}", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("for=_secret, for=10.0.0.2", "10.0.0.2"),
        ("proto=https", "10.0.0.1"),
        ("203.0.113.7", "10.0.0.1"),
        ('for="203.0.113.7', "10.0.0.1"),
    ],
)
def test_forwarded_of_rfc_7239(said: str, client: str) -> None:
    assert TrustedProxies(["10.0.0.0/8"], header="Forwarded").client("10.0.0.1", said) == client


def test_a_number_of_proxies_is_so_many_entries_from_the_right() -> None:
    two = TrustedProxies(2)
    assert two.client("192.0.2.1", f"{VICTIM}, {ATTACKER}, 192.0.2.2") == ATTACKER
    assert two.client("192.0.2.1", ATTACKER) == ATTACKER
    assert two.client(None, f"{ATTACKER}, 192.0.2.2") == ATTACKER
    assert two.client("192.0.2.1", None) == "192.0.2.1"


addresses = st.ip_addresses().map(str)
strangers = addresses.filter(lambda one: not INSIDE._trusts(one, 0))
inside = st.ip_addresses(network="10.0.0.0/8").map(str)
claims = st.lists(addresses | inside | st.text(max_size=40) | st.just('"'), max_size=40).map(", ".join)


@given(claims, strangers, st.lists(inside, max_size=4), inside)
@settings(max_examples=300, deadline=None)
def test_no_claim_changes_who_is_counted(claimed: str, attacker: str, hops: list[str], peer: str) -> None:
    """A proxy adds the address it saw; whatever the client has written before it does not matter."""
    honest = INSIDE.client(peer, ", ".join([attacker, *hops]))
    spoofed = INSIDE.client(peer, ", ".join([claimed, attacker, *hops]))
    assert spoofed == honest
    assert network(str(spoofed)) == network(attacker)
    assert INSIDE.client(attacker, claimed) == attacker


@given(st.none() | st.text(max_size=60), st.none() | st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_an_address_or_the_peer(peer: str | None, said: str | None) -> None:
    for proxies in (INSIDE, TrustedProxies(3), TrustedProxies(1, "Forwarded")):
        told = proxies.client(peer, said)
        if told != peer:
            ipaddress.ip_address(str(told))


@pytest.mark.parametrize(
    "spec", ["10.0.0.0/8", [], 0, -1, True, ["0.0.0.0/0"], ["::/0"], ["10.0.0.1/8"], ["proxy.local"], [7.5]]
)
def test_what_trusts_nobody_or_everybody_is_refused(spec: Any) -> None:
    with pytest.raises(UsageError, match="trusted_proxies"):
        TrustedProxies.of(spec)


def test_another_header_is_refused() -> None:
    with pytest.raises(UsageError, match="X-Forwarded-For"):
        TrustedProxies(1, "X-Real-IP")  # type: ignore[arg-type]


# -- in the frameworks -----------------------------------------------------------------------------------

TRUST = ["10.0.0.0/8"]


def flask_app(**options: Any) -> Flask:
    app = Flask(__name__)
    StatekitFlask(app, StateKit.in_memory(), **options)

    @app.get("/")
    def who() -> str:
        return f"{by_ip()} {client_address()} {request.remote_addr}"

    return app


def flask_asks(app: Flask, peer: str | None, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().get("/", environ_base={"REMOTE_ADDR": peer or ""}, headers=named).text


def test_flask_counts_the_client_behind_named_proxies_and_nobody_else() -> None:
    app = flask_app(trusted_proxies=TRUST)
    spoofed = f"{VICTIM}, {ATTACKER}"
    assert flask_asks(app, "10.0.0.1", X_Forwarded_For=spoofed) == f"ip={ATTACKER} {ATTACKER} 10.0.0.1"
    assert flask_asks(app, ATTACKER, X_Forwarded_For=VICTIM) == f"ip={ATTACKER} {ATTACKER} {ATTACKER}"
    assert flask_asks(app, "10.0.0.1", Forwarded=f"for={VICTIM}").startswith("ip=10.0.0.1 ")
    assert flask_asks(app, "10.0.0.1", X_Forwarded_For="2001:db8:1:2:3:4:5:6").startswith(
        "ip=2001:db8:1:2::/64 "
    )


def test_flask_without_named_proxies_believes_no_header() -> None:
    assert flask_asks(flask_app(), "10.0.0.1", X_Forwarded_For=VICTIM).startswith("ip=10.0.0.1 ")
    assert flask_asks(flask_app(), None, X_Forwarded_For=VICTIM).startswith("ip=unknown None")
    assert flask_asks(flask_app(trusted_proxies=["unix"]), None, X_Forwarded_For=ATTACKER).startswith(
        f"ip={ATTACKER}"
    )


def test_flask_with_proxy_fix_besides_counts_the_same() -> None:
    app = flask_app(trusted_proxies=TRUST)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=1)  # type: ignore[method-assign]
    assert flask_asks(app, "10.0.0.1", X_Forwarded_For=f"{VICTIM}, {ATTACKER}").startswith(f"ip={ATTACKER} ")
    assert flask_asks(app, ATTACKER, X_Forwarded_For=VICTIM).startswith(f"ip={ATTACKER} ")


async def who(scope: Any, _receive: Any, send: Any) -> None:
    text = f"{asgi_by_ip(scope)} {asgi_client_address(scope)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


async def asgi_asks(peer: str | None, *said: tuple[bytes, bytes], **options: Any) -> str:
    app = StatekitMiddleware(who, kit=AsyncStateKit.in_memory(), **options)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [*said],
        "client": (peer, 0) if peer else None,
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, None, send)  # type: ignore[arg-type]
    return str(sent[-1]["body"].decode())


async def test_asgi_counts_the_client_behind_named_proxies_and_nobody_else() -> None:
    field = b"x-forwarded-for"
    two = (field, VICTIM.encode()), (field, ATTACKER.encode())
    assert await asgi_asks("10.0.0.1", *two, trusted_proxies=TRUST) == f"ip={ATTACKER} {ATTACKER}"
    assert await asgi_asks(ATTACKER, two[0], trusted_proxies=TRUST) == f"ip={ATTACKER} {ATTACKER}"
    assert await asgi_asks("10.0.0.1", two[0]) == "ip=10.0.0.1 10.0.0.1"
    assert await asgi_asks(None, two[0]) == "ip=unknown None"
    assert await asgi_asks(None, two[1], trusted_proxies=1) == f"ip={ATTACKER} {ATTACKER}"
    forwarded = TrustedProxies(1, header="Forwarded")
    assert (
        await asgi_asks(None, two[0], (b"forwarded", b"for=192.0.2.7"), trusted_proxies=forwarded)
        == "ip=192.0.2.7 192.0.2.7"
    )
