"""Forged cookies and stolen ids, as a client sends them: fixation, resurrection, replay, other apps, malformed values."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask, session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statekit import AsyncStateKit, StateKit, TenantSettings
from statekit.sessions import SessionEvent, SessionEventKind
from statekit.testing import recorded
from statekit_asgi import StatekitMiddleware
from statekit_asgi.fastapi import SessionDep
from statekit_flask import StatekitFlask
from tests.conftest import PATIENT

MALFORMED = (
    *(
        "",
        " ",
        "x",
        "a" * 42,
        "a" * 44,
        "a" * 42 + "=",
        "a" * 42 + "+",
        "a" * 42 + "/",
        "A" * 43 + "\n",
        "*" * 43,
    ),
    *(
        "a" * 100_000,
        "\uff41" * 43,
        "é" * 43,
        "\u0430" + "a" * 42,
        "\0" * 43,
        "a" * 21 + "\0" + "a" * 21,
        "../" * 14 + "a",
    ),
    *("٣" * 43, "null", "None", "0" * 64, "{" * 43, "'; DROP TABLE", "%00" * 14 + "a", '"' + "a" * 41 + '"'),
)


# -- by hand, in every store and colour ------------------------------------------------------------------


def signed_in(sessions: Any, principal: str = "user:7", cookie: str | None = None) -> str:
    one = sessions.open(cookie)
    one["secret"] = principal
    one.sign_in(principal)
    sessions.save(one)
    return str(one.id)


def test_an_id_of_one_s_own_choice_is_never_adopted(kit: Any) -> None:
    """Session fixation: the attacker plants a well-formed id, the victim signs in with it."""
    sessions, planted = kit.sessions(), secrets.token_urlsafe(32)
    victim = signed_in(sessions, cookie=planted)
    assert victim != planted
    assert sessions.open(planted).is_new
    assert sessions.open(planted).id != planted


def test_an_id_the_attacker_was_given_is_worth_nothing_after_the_victim_signs_in(kit: Any) -> None:
    """The same with an id that statekit issued: it shows what was there before, to nobody's name, and cannot write."""
    sessions = kit.sessions()
    bait = sessions.open(None)
    bait["cart"] = 1
    sessions.save(bait)
    victim = signed_in(sessions, cookie=bait.id)
    attacker = sessions.open(bait.id)
    assert attacker.principal is None
    assert "secret" not in attacker
    attacker["secret"] = "mine"
    sessions.save(attacker)
    sessions.destroy(sessions.open(bait.id))
    assert sessions.open(victim)["secret"] == "user:7"


def test_a_stolen_id_ends_with_the_logout_and_comes_back_by_nothing(kit: Any, another_kit: Any) -> None:
    sessions, elsewhere = kit.sessions(), another_kit.sessions()
    stolen = signed_in(sessions)
    slow = elsewhere.open(stolen)
    assert slow["secret"] == "user:7"
    one = sessions.open(stolen)
    one.sign_out()
    sessions.save(one)
    slow["secret"] = "again"
    elsewhere.save(slow)
    late = elsewhere.open(stolen)
    late["secret"] = "again"
    late.sign_in("user:7")
    elsewhere.save(late)
    assert late.id != stolen
    for store in (sessions, elsewhere):
        assert store.open(stolen).is_new
        assert "secret" not in store.open(stolen)


def test_an_id_from_before_a_renewal_is_read_only_and_then_nothing(frozen_kit: Any, clock: Any) -> None:
    sessions = frozen_kit.sessions(grace=30)
    old = signed_in(sessions)
    one = sessions.open(old)
    _ = one["secret"]
    one.renew()
    sessions.save(one)
    replayed = sessions.open(old)
    replayed["secret"] = "replayed"
    sessions.save(replayed)
    assert sessions.open(one.id)["secret"] == "user:7"
    clock.advance(31)
    assert sessions.open(old).is_new
    assert sessions.open(one.id)["secret"] == "user:7"


def test_an_id_of_another_namespace_names_nothing_here(new_kit: Any, namespace: str) -> None:
    theirs = signed_in(new_kit(namespace=f"{namespace}-other").sessions())
    here = new_kit().sessions()
    assert here.open(theirs).is_new
    assert here.open(theirs).principal is None
    assert here.sessions_of("user:7") == []


def test_a_malformed_cookie_is_no_cookie_and_costs_no_round_trip(kit: Any) -> None:
    with recorded(kit) as trips:
        for cookie in MALFORMED:
            one = kit.sessions().open(cookie)
            assert one.is_new
            assert one.id != cookie
    assert not trips


def test_many_guesses_are_told_to_hooks_by_handle(kit: Any) -> None:
    heard: list[Any] = []
    kit.hooks.subscribe(heard.append)
    for _ in range(5):
        assert kit.sessions().open(secrets.token_urlsafe(32)).is_new
    guessed = [
        one for one in heard if isinstance(one, SessionEvent) and one.kind is SessionEventKind.UNKNOWN_ID
    ]
    assert len({one.handle for one in guessed}) == 5


def test_ids_are_256_random_bits() -> None:
    sessions = StateKit.in_memory().sessions()
    ids = [str(sessions.open(None).id) for _ in range(4000)]
    assert len(set(ids)) == 4000
    drawn = [int.from_bytes(base64.urlsafe_b64decode(one + "="), "big") for one in ids]
    for bit in range(256):
        assert 1700 < sum(one >> bit & 1 for one in drawn) < 2300  # nine deviations


# -- through the frameworks ------------------------------------------------------------------------------


class Settings(TenantSettings):
    plan: str = "free"


@pytest.fixture(scope="module")
def flask_app() -> Any:
    app = Flask(__name__)
    StatekitFlask(app, StateKit.in_memory())

    @app.get("/")
    def view() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    return app


cookies = st.text(max_size=80) | st.sampled_from(MALFORMED)


@given(cookie=cookies, name=st.sampled_from(["session", "__Host-session", "session ", "SESSION"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flask_answers_any_cookie_with_a_session_of_its_own(flask_app: Any, cookie: str, name: str) -> None:
    header = f"{name}={cookie}".encode("utf-8", "surrogatepass").decode("latin-1")
    answer = flask_app.test_client(use_cookies=False).get(
        "/", headers=[], environ_base={"HTTP_COOKIE": header}
    )
    assert (answer.status_code, answer.text) == (200, "1")
    assert len(answer.headers.getlist("Set-Cookie")) == 1


@pytest.fixture(scope="module")
def asgi_app() -> Any:
    app = FastAPI()
    app.add_middleware(StatekitMiddleware, kit=AsyncStateKit.in_memory())

    @app.get("/")
    async def view(session: SessionDep) -> int:
        session["n"] = session.get("n", 0) + 1
        return int(session["n"])

    return app


@pytest.mark.parametrize("cookie", MALFORMED)
async def test_asgi_answers_any_cookie_with_a_session_of_its_own(asgi_app: Any, cookie: str) -> None:
    raw = cookie.encode("utf-8", "surrogatepass")
    transport = httpx.ASGITransport(asgi_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        answer = await browser.get("/", headers=[(b"cookie", b"session=" + raw)])
    assert (answer.status_code, answer.text) == (200, "1")
    assert len(answer.headers.get_list("set-cookie")) == 1


def test_an_id_in_an_address_a_form_or_a_header_is_not_read(flask_app: Any) -> None:
    first = flask_app.test_client().get("/", base_url="https://shop.example")
    id_ = first.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    fresh = flask_app.test_client(use_cookies=False)
    for name in ("session", "__Host-session", "sid"):
        answer = fresh.get(
            f"/?{name}={id_}", base_url="https://shop.example", headers={name: id_, "X-Session": id_}
        )
        assert answer.text == "1"
    carried = {"HTTP_COOKIE": f"__Host-session={id_}"}
    assert fresh.get("/", base_url="https://shop.example", environ_base=carried).text == "2"


def test_a_session_of_another_app_on_the_same_store_is_not_one_here(valkey_url: str, namespace: str) -> None:
    with (
        StateKit.connect(valkey_url, f"{namespace}-shop", budget=PATIENT) as shop,
        StateKit.connect(valkey_url, f"{namespace}-admin", budget=PATIENT) as admin,
    ):
        stolen = signed_in(shop.sessions())
        app = Flask(__name__)
        sk = StatekitFlask(app, admin)

        @app.get("/")
        def view() -> str:
            return str(sk.session.principal)

        browser = app.test_client()
        browser.set_cookie("session", stolen, domain="localhost")
        assert browser.get("/").text == "None"
        browser.set_cookie("__Host-session", stolen, domain="localhost", secure=True)
        assert browser.get("/", base_url="https://localhost").text == "None"


def test_settings_of_one_tenant_are_never_another_s(kit: Any) -> None:
    """Names that look alike, contain each other, or would meet in a careless key."""
    tenants = kit.tenants(Settings)
    names = (
        "acme",
        "acme:eu",
        "acme%3Aeu",
        "Acme",
        "acme ",
        "acmé",
        "acme\u0301",
        "tenant:acme",
        "defaults",
        "*",
    )
    for name in names:
        tenants.update(name, {"plan": f"plan of {name}"}, by="ann", wait=None)
    for name in names:
        assert tenants.get(name).plan == f"plan of {name}"
    for name in ("ACME", "acme:", "acme:eu:", "", "tenant:acme:eu", "?"):
        try:
            assert tenants.get(name).plan == "free"
        except ValueError:
            continue
