"""One round trip for a whole request; flags and tenants in views, templates and streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import (
    copy_current_request_context,
    render_template_string,
    request,
    session,
    stream_with_context,
)

from statekit import Flag, TenantSettings
from statekit.errors import OutsideScope, UsageError
from statekit_flask import StatekitFlask, by_header, session_principal


class Settings(TenantSettings):
    plan: str = "free"
    discount: int = 0


@pytest.fixture
def saas(site: Any) -> Any:
    """An app that uses all of it: a session, two limits, a flag, a tenant."""
    site_ = site(tenants=Settings, tenant="header:X-Tenant", default_limits=["1000/hour"])

    @site_.app.post("/login")
    def login() -> str:
        site_.sk.sign_in("user:7")
        session["cart"] = ["apple"]
        return ""

    @site_.app.get("/")
    @site_.sk.limit("100/minute", key=by_header("X-Tenant"))
    def view() -> dict[str, Any]:
        return {
            "cart": session["cart"],
            "plan": site_.sk.tenants.current().plan,
            "flag": site_.sk.flags.enabled("new-checkout"),
        }

    @site_.app.get("/health-of-search")
    @site_.sk.limit("100/minute")
    def sessionless() -> str:
        return "fine"

    site_.kit.flags.set("new-checkout", Flag(rollout=100), by="test")
    site_.sk.tenants.update("acme", {"plan": "pro"}, by="test")
    site_.browser.post("/login", headers={"X-Tenant": "acme"})
    site_.app._got_first_request = False  # tests add views of their own
    return site_


ACME = {"X-Tenant": "acme"}


def test_session_two_limits_a_flag_and_a_tenant_are_one_round_trip(saas: Any) -> None:
    answer, trips = saas.trips("GET", "/", headers=ACME)
    assert answer.json == {"cart": ["apple"], "plan": "pro", "flag": True}
    assert answer.headers["RateLimit-Policy"].count(";q=") == 2
    assert len(trips) == 1
    assert set(trips[0]) == {"ratelimit.hit", "sessions.load"}


def test_an_endpoint_that_never_touches_its_session_soon_stops_asking_for_it(saas: Any) -> None:
    asked = [saas.trips("GET", "/health-of-search")[1] for _ in range(12)]
    assert all(len(trips) == 1 for trips in asked)
    assert "sessions.load" in asked[0][0]
    assert "sessions.load" not in asked[-1][0]


def test_an_endpoint_that_takes_to_its_session_again_gets_it_in_the_same_trip_again(saas: Any) -> None:
    wanted = False

    @saas.app.get("/moody")
    @saas.sk.limit("100/minute")
    def moody() -> Any:
        return session["cart"] if wanted else []

    for _ in range(12):
        saas.browser.get("/moody")
    wanted = True
    counts = [len(saas.trips("GET", "/moody")[1]) for _ in range(3)]
    assert counts == [2, 1, 1]


def test_refusals_teach_nothing_about_the_session(saas: Any) -> None:
    @saas.app.get("/rare")
    @saas.sk.limit("1/hour", name="rare")
    def rare() -> Any:
        return session["cart"]

    for _ in range(12):
        saas.browser.get("/rare")
    saas.kit.rate_limiter("rare", "1/hour").reset("ip=127.0.0.1")
    _, trips = saas.trips("GET", "/rare")
    assert "sessions.load" in trips[0]


# -- tenants -----------------------------------------------------------------------------------------------


def test_each_request_has_its_own_tenant_or_none(saas: Any) -> None:
    @saas.app.get("/plan")
    def plan() -> str:
        return saas.sk.tenants.current().plan

    assert saas.browser.get("/plan", headers=ACME).text == "pro"
    assert saas.browser.get("/plan", headers={"X-Tenant": "other"}).text == "free"
    with pytest.raises(OutsideScope):
        saas.browser.get("/plan")


def test_the_scope_is_closed_even_when_the_view_fails(saas: Any) -> None:
    @saas.app.get("/fails")
    def fails() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        saas.browser.get("/fails", headers=ACME)
    with pytest.raises(OutsideScope):
        saas.sk.tenants.current()


def test_a_stream_keeps_session_and_tenant(saas: Any) -> None:
    @saas.app.get("/stream")
    def stream() -> Any:
        def lines() -> Iterator[str]:
            yield saas.sk.tenants.current().plan
            yield session["cart"][0]
            yield str(saas.sk.flags.enabled("new-checkout"))

        return stream_with_context(lines())

    assert saas.browser.get("/stream", headers=ACME).text == "proappleTrue"
    with pytest.raises(OutsideScope):
        saas.sk.tenants.current()


def test_a_stream_that_nobody_reads_to_its_end_closes_its_scope(saas: Any) -> None:
    @saas.app.get("/endless")
    def endless() -> Any:
        def lines() -> Iterator[str]:
            while True:
                yield saas.sk.tenants.current().plan

        return stream_with_context(lines())

    answer = saas.browser.get("/endless", headers=ACME, buffered=False)
    assert next(answer.iter_encoded()) == b"pro"
    answer.close()
    with pytest.raises(OutsideScope):
        saas.sk.tenants.current()


def test_a_thread_with_a_copy_of_the_request_does_not_close_its_scope(saas: Any) -> None:
    @saas.app.get("/threads")
    def threads() -> str:
        @copy_current_request_context
        def work() -> None:
            assert request.headers["X-Tenant"] == "acme"

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return saas.sk.tenants.current().plan

    assert saas.browser.get("/threads", headers=ACME).text == "pro"
    with pytest.raises(OutsideScope):
        saas.sk.tenants.current()


@pytest.mark.parametrize(
    ("resolver", "path", "base"),
    [
        ("view:tenant", "/of/acme", "http://localhost"),
        ("subdomain:shop.example", "/of/x", "http://acme.shop.example"),
        (lambda: "acme", "/of/x", "http://localhost"),
    ],
)
def test_where_a_tenant_is_found(site: Any, resolver: Any, path: str, base: str) -> None:
    site_ = site(tenants=Settings, tenant=resolver)
    site_.sk.tenants.update("acme", {"plan": "pro"}, by="test")

    @site_.app.get("/of/<tenant>")
    def view(tenant: str) -> str:
        return site_.sk.tenants.current().plan

    assert site_.browser.get(path, base_url=base).text == "pro"


def test_a_tenants_limit_comes_from_its_settings(site: Any) -> None:
    site_ = site(tenants=Settings, tenant="header:X-Tenant")
    site_.sk.tenants.update("acme", {"discount": 3}, by="test")

    @site_.app.get("/")
    @site_.sk.limit(lambda: f"{site_.sk.tenants.current().discount or 1}/hour", key=by_header("X-Tenant"))
    def view() -> str:
        return "in"

    assert [site_.browser.get("/", headers=ACME).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert [site_.browser.get("/", headers={"X-Tenant": "b"}).status_code for _ in range(2)] == [200, 429]


def test_bad_settings_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="tenants="):
        StatekitFlask(tenant="header:X-Tenant")
    with pytest.raises(UsageError, match="subdomain:example"):
        StatekitFlask(tenants=Settings, tenant="cookie:x")
    with pytest.raises(UsageError, match="headers="):
        StatekitFlask(headers="fancy")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="list"):
        StatekitFlask(default_limits="5/minute")
    with pytest.raises(UsageError):
        StatekitFlask().limit()(lambda: "")


# -- flags -------------------------------------------------------------------------------------------------


def test_templates_know_flags_and_tenant(saas: Any) -> None:
    @saas.app.get("/page")
    def page() -> str:
        return render_template_string(
            "{{ flag('new-checkout') }} {{ flag_value('size', 20) }} {{ tenant.plan if tenant else 'nobody' }}"
        )

    assert saas.browser.get("/page", headers=ACME).text == "True 20 pro"
    assert saas.browser.get("/page").text == "True 20 nobody"


def test_a_flag_knows_its_actor_from_a_session_in_use_and_never_loads_one(saas: Any) -> None:
    saas.kit.flags.set("half", Flag(rollout=50), by="test")
    expected = saas.kit.flags.enabled("half", actor="user:7")

    @saas.app.get("/used")
    def used() -> list[bool]:
        return [bool(session["cart"]), saas.sk.flags.enabled("half")]

    @saas.app.get("/unused")
    def unused() -> list[bool]:
        return [saas.sk.flags.enabled("half")]

    assert saas.browser.get("/used").json == [True, expected]
    saas.app.config["STATEKIT_LIMITS"] = False
    answer, trips = saas.trips("GET", "/unused")
    assert answer.json == [False], "no actor, no share of a rollout"
    assert trips == []


def test_a_flag_may_be_told_to_load_its_actor(site: Any) -> None:
    site_ = site(actor=session_principal)
    site_.kit.flags.set("half", Flag(rollout=50), by="test")

    @site_.app.post("/login/<user>")
    def login(user: str) -> str:
        site_.sk.sign_in(user)
        return ""

    @site_.app.get("/")
    def view() -> list[bool]:
        return [site_.sk.flags.enabled("half"), site_.kit.flags.enabled("half", actor=session_principal())]

    for user in ("a", "b", "c", "d", "e"):
        site_.browser.post(f"/login/{user}")
        one, other = site_.browser.get("/").json
        assert one == other


def test_outside_a_request_the_flags_are_the_kits(saas: Any) -> None:
    assert saas.sk.flags.enabled("new-checkout")
    assert saas.sk.flags.version == saas.kit.flags.version
