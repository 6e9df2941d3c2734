"""The cookie: what a browser is told, and when it would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from statekit.errors import UsageError
from statekit.sessions import CookiePolicy

HTTPS = {"secure_request": True, "host": "shop.example"}
LOCAL = {"secure_request": False, "host": "localhost:5000"}


def test_by_default_a_cookie_is_host_bound_secure_and_out_of_reach_of_scripts() -> None:
    assert CookiePolicy().header("v", **HTTPS) == "__Host-session=v; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert CookiePolicy().removal(**HTTPS) == (
        "__Host-session=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:80", "127.0.0.1:8000", "[::1]:80", "::1", "a.localhost"]
)
def test_plain_http_on_localhost_gets_a_plain_cookie(host: str) -> None:
    assert CookiePolicy().header("v", secure_request=False, host=host) == (
        "session=v; Path=/; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    "host", ["shop.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
def test_plain_http_elsewhere_is_taken_for_a_proxy_that_ended_tls(host: str) -> None:
    assert CookiePolicy().name_for(secure_request=False, host=host) == "__Host-session"


def test_a_planted_plain_cookie_is_not_read_where_a_prefixed_one_is_due() -> None:
    both = {"session": "planted", "__Host-session": "ours"}
    assert CookiePolicy().pick(both, **HTTPS) == "ours"
    assert CookiePolicy().pick({"session": "planted"}, **HTTPS) is None
    assert CookiePolicy().pick(both, **LOCAL) == "planted"


def test_secure_can_be_decided_once_for_all() -> None:
    assert CookiePolicy(secure=True).name_for(**LOCAL) == "__Host-session"
    assert "Secure" not in CookiePolicy(secure=False).header("v", **HTTPS)


def test_a_narrower_path_cannot_be_host_bound() -> None:
    assert (
        CookiePolicy(path="/shop").header("v", **HTTPS).startswith("__Secure-session=v; Path=/shop; Secure")
    )


def test_what_else_can_be_said() -> None:
    policy = CookiePolicy("sid", same_site="None", max_age=60, partitioned=True)
    assert policy.header("v", **HTTPS) == (
        "__Host-sid=v; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=None; Partitioned"
    )
    assert policy.header("v", **LOCAL) == "sid=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a;b"},
        {"name": "a\r\nSet-Cookie: x"},
        {"name": "__Host-x"},
        {"path": "shop"},
        {"path": "/;"},
        {"same_site": "lax"},
        {"same_site": "None", "secure": False},
        {"partitioned": True, "secure": False},
        {"max_age": 0},
        {"max_age": 1.5},
    ],
)
def test_what_no_browser_would_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CookiePolicy(**wrong)
