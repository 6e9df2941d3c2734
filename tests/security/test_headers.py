"""What an answer says: no text from outside breaks out of a header field, or says more than its reader may know."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit import Limit, StateKit, TenantSettings
from statekit.errors import CorruptValue, StoreUnavailable, UnknownTenant, VersionConflict
from statekit.sessions import CookiePolicy
from statekit.web import problem_of, refusal
from statekit_flask import StatekitFlask

FIELD = re.compile(r"[\x20-\x7e]*\Z")
NASTY = (
    'a"b',
    "a\\b",
    "a\r\nSet-Cookie: session=x",
    "a\nb",
    "a\0b",
    "a\x7fb",
    "grün",
    "ü\u2028",
    "\ud800",
    "x" * 5000,
    "",
)

names = st.text(max_size=60) | st.sampled_from(NASTY)


def is_one_field(value: str) -> bool:
    return FIELD.match(value) is not None


@given(name=names, key=names, style=st.sampled_from(["ietf", "legacy"]))
@settings(max_examples=150, deadline=None)
def test_no_name_and_no_key_breaks_out_of_a_limit_s_headers(name: str, key: str, style: str) -> None:
    with StateKit.in_memory() as kit:
        limiter = kit.rate_limiter(name or "n", Limit(1, 60), Limit(5, 3600))
        for _ in range(2):
            for field, value in limiter.hit(key).headers(style).items():
                assert is_one_field(field)
                assert is_one_field(value)


@given(key=names)
@settings(max_examples=50, deadline=None)
def test_a_refusal_tells_neither_who_was_counted_nor_what_the_store_said(key: str) -> None:
    with StateKit.in_memory() as kit:
        limiter = kit.rate_limiter("login", "1/hour")
        told = [problem_of(refusal(limiter.hit(f"~secret~{key}"))) for _ in range(2)][1]
    assert told is not None
    assert b"~secret~" not in told.body
    json.loads(told.body)


@pytest.mark.parametrize("text", NASTY)
def test_a_problem_document_is_json_whatever_its_error_says(text: str) -> None:
    for error in (UnknownTenant(f"there is no tenant {text!r}"), VersionConflict(text)):
        problem = problem_of(error)
        assert problem is not None
        assert json.loads(problem.body)["status"] == error.http_status
        assert b"\r" not in problem.body[:-1]
        assert b"\n" not in problem.body[:-1]


def test_what_a_store_says_of_itself_is_not_for_the_peer() -> None:
    for error in (
        StoreUnavailable("10.1.2.3:6379 refused user atlas"),
        CorruptValue("12 bytes at sk1:atlas:x"),
    ):
        problem = problem_of(error)
        assert problem is None or (b"10.1.2.3" not in problem.body and b"sk1" not in problem.body)


class Settings(TenantSettings):
    plan: str = "free"


@pytest.mark.parametrize(
    "tenant", [text for text in NASTY if text.isprintable() and text] + ["..", "a:b", "*", "{x}"]
)
def test_an_unknown_tenant_is_told_as_data_and_never_as_a_header(tenant: str) -> None:
    app = Flask(__name__)
    with StateKit.in_memory() as kit:
        tenants = kit.tenants(Settings, strict=True)
        StatekitFlask(app, kit, tenants=tenants, tenant="view:tenant")

        @app.get("/<path:tenant>")
        def view(tenant: str) -> str:
            return tenant

        answer = app.test_client().get("/" + tenant.replace("?", "%3F").replace("#", "%23"))
    assert answer.status_code in (404, 308)
    assert all(is_one_field(value) for _, value in answer.headers if value.isascii())
    if answer.status_code == 404:
        assert answer.mimetype in ("application/problem+json", "text/html")


@pytest.mark.parametrize("wrong", ["a\r\nb", "a;b", "a b", "a=b", "ü", "", "__Host-x", 7])
def test_a_cookie_s_name_cannot_carry_another_header(wrong: Any) -> None:
    with pytest.raises(ValueError, match="cookie name"):
        CookiePolicy(name=wrong)


@pytest.mark.parametrize("wrong", ["/a\r\nb", "/a;b", "/a b", "a", "", "/ü"])
def test_a_cookie_s_path_cannot_carry_another_attribute(wrong: str) -> None:
    with pytest.raises(ValueError, match="cookie path"):
        CookiePolicy(path=wrong)
