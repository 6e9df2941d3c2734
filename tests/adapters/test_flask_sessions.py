"""flask.session on the shared store: lazy, guarded, and right for what the Flask world does with it."""

from __future__ import annotations

import gc
import threading
from typing import Any

import flask
import flask_login
import pytest
from flask import flash, get_flashed_messages, session
from markupsafe import Markup
from werkzeug.test import EnvironBuilder

from statekit import StateKit
from statekit.errors import NonPrimitiveValue, UsageError
from statekit_flask import StatekitFlask


def cookie(answer: Any) -> str | None:
    """The Set-Cookie header of an answer."""
    found = answer.headers.getlist("Set-Cookie")
    assert len(found) <= 1
    return found[0] if found else None


def shop(site: Any, **options: Any) -> Any:
    built = site(**options)

    @built.app.get("/plain")
    def plain() -> str:
        return "plain"

    @built.app.get("/cart")
    def cart() -> list[str]:
        return session.get("cart", [])

    @built.app.post("/cart/<item>")
    def add(item: str) -> list[str]:
        session.setdefault("cart", []).append(item)
        return session["cart"]

    @built.app.post("/login/<user>")
    def login(user: str) -> str:
        built.sk.sign_in(user)
        return user

    @built.app.post("/logout")
    def logout() -> str:
        session.clear()
        return "bye"

    @built.app.get("/me")
    def me() -> dict[str, Any]:
        return {"principal": session.principal, "new": session.new}

    return built


def test_a_session_lasts_from_request_to_request(site: Any) -> None:
    shop_ = shop(site)
    shop_.browser.post("/cart/apple")
    assert shop_.browser.post("/cart/pear").json == ["apple", "pear"]
    assert shop_.browser.get("/cart").json == ["apple", "pear"]


def test_the_store_is_asked_only_for_what_is_touched(site: Any) -> None:
    shop_ = shop(site)
    assert shop_.trips("GET", "/plain")[1] == []
    assert shop_.trips("GET", "/cart")[1] == [], "no cookie: there is nothing to read"
    shop_.browser.post("/cart/apple")
    assert shop_.trips("GET", "/plain")[1] == []
    assert len(shop_.trips("GET", "/cart")[1]) == 1
    assert len(shop_.trips("POST", "/cart/pear")[1]) == 2
    assert len(shop_.trips("POST", "/login/user:7")[1]) == 3


def test_an_empty_session_leaves_no_cookie_and_no_key(site: Any) -> None:
    shop_ = shop(site)
    answer, trips = shop_.trips("GET", "/cart")
    assert cookie(answer) is None
    assert trips == []
    assert answer.headers["Vary"] == "Cookie"
    assert "Vary" not in shop_.browser.get("/plain").headers


def test_the_cookie_is_sent_when_the_id_is_new_and_only_then(site: Any) -> None:
    shop_ = shop(site)
    answer = shop_.browser.post("/cart/apple")
    assert answer.headers["Cache-Control"] == "no-store"
    first = cookie(answer)
    assert first is not None
    assert "HttpOnly" in first
    assert "SameSite=Lax" in first
    assert "Path=/" in first
    assert cookie(shop_.browser.post("/cart/pear")) is None
    assert cookie(shop_.browser.get("/cart")) is None
    renewed = cookie(shop_.browser.post("/login/user:7"))
    assert renewed is not None
    assert renewed != first


def test_over_https_the_cookie_is_bound_to_its_host(site: Any) -> None:
    shop_ = shop(site)
    sent = cookie(shop_.browser.post("/cart/apple", base_url="https://shop.example"))
    assert sent is not None
    assert sent.startswith("__Host-")
    assert "Secure" in sent
    assert "Domain" not in sent
    assert shop_.browser.get("/cart", base_url="https://shop.example").json == ["apple"]


def test_signing_in_makes_the_planted_id_worthless(site: Any) -> None:
    """Session fixation: whoever knows the id from before the sign-in learns nothing by it."""
    victim = shop(site, sessions={"grace": 0})
    planted = (cookie(victim.browser.post("/cart/apple")) or "").partition(";")[0]
    victim.browser.post("/login/user:7")
    assert victim.browser.get("/me").json["principal"] == "user:7"
    assert victim.browser.get("/cart").json == ["apple"]
    attacker = victim.app.test_client(use_cookies=False)
    assert attacker.get("/me", headers={"Cookie": planted}).json["principal"] is None
    assert attacker.get("/cart", headers={"Cookie": planted}).json == []


def test_an_id_nobody_issued_is_not_adopted(site: Any) -> None:
    shop_ = shop(site)
    name = (cookie(shop_.browser.post("/cart/apple")) or "").partition("=")[0]
    stranger = shop_.app.test_client(use_cookies=False)
    for made_up in ("A" * 43, "short", "x" * 10_000, '"; Path=/', "%00"):
        answer = stranger.post("/cart/pear", headers={"Cookie": f"{name}={made_up}"})
        assert answer.json == ["pear"]
        assert made_up not in (cookie(answer) or "").partition(";")[0]


def test_a_session_revoked_while_the_request_runs_stays_revoked(site: Any) -> None:
    shop_ = shop(site)

    @shop_.app.post("/slow")
    def slow() -> str:
        session["late"] = True
        shop_.sk.sessions.revoke_all("user:7")
        return "done"

    shop_.browser.post("/cart/apple")
    shop_.browser.post("/login/user:7")
    shop_.browser.post("/slow")
    assert shop_.browser.get("/me").json == {"principal": None, "new": True}
    assert shop_.browser.get("/cart").json == []
    assert shop_.sk.sessions.sessions_of("user:7") == []


def test_clear_ends_the_session_and_takes_the_cookie_away(site: Any) -> None:
    shop_ = shop(site)
    shop_.browser.post("/login/user:7")
    old = shop_.browser.get_cookie("session") or next(iter(shop_.browser._cookies.values()))
    gone = cookie(shop_.browser.post("/logout"))
    assert gone is not None
    assert "Max-Age=0" in gone
    stolen = shop_.app.test_client(use_cookies=False)
    answer = stolen.get("/me", headers={"Cookie": f"{old.key}={old.value}"})
    assert answer.json["principal"] is None


def test_what_is_assigned_after_clear_begins_another_session(site: Any) -> None:
    """The login view of Flask's own tutorial: clear, then assign."""
    shop_ = shop(site)

    @shop_.app.post("/tutorial")
    def tutorial() -> str:
        session.clear()
        session["user_id"] = 7
        return "in"

    before = cookie(shop_.browser.post("/cart/apple"))
    after = cookie(shop_.browser.post("/tutorial"))
    assert after is not None
    assert after != before
    assert shop_.browser.get("/cart").json == []


def test_flash_messages_pass(site: Any) -> None:
    site_ = site()

    @site_.app.post("/say")
    def say() -> str:
        flash("saved")
        flash(Markup("<b>bold</b>"), "warning")
        return ""

    @site_.app.get("/hear")
    def hear() -> list[Any]:
        return get_flashed_messages(with_categories=True)

    site_.browser.post("/say")
    assert [category for category, _ in site_.browser.get("/hear").json] == ["message", "warning"]
    assert site_.browser.get("/hear").json == []


def test_what_is_not_data_is_refused_where_it_is_assigned(site: Any) -> None:
    site_ = site()

    @site_.app.post("/bad")
    def bad() -> str:
        with pytest.raises(NonPrimitiveValue, match="user"):
            session["user"] = object()
        return "caught"

    answer, trips = site_.trips("POST", "/bad")
    assert answer.text == "caught"
    assert trips == []


def test_what_is_not_data_inside_a_list_is_an_error_of_the_app(site: Any) -> None:
    site_ = site()

    @site_.app.post("/bad")
    def bad() -> str:
        session["users"] = []
        session["users"].append(object())
        return "unnoticed"

    site_.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert site_.browser.post("/bad").status_code == 500


def test_permanent_gives_the_cookie_an_age(site: Any) -> None:
    site_ = site(sessions={"idle": 600, "absolute": 3600})

    @site_.app.post("/keep")
    def keep() -> str:
        session["x"] = 1
        session.permanent = True
        return ""

    sent = cookie(site_.browser.post("/keep"))
    assert sent is not None
    assert "Max-Age=3600" in sent


def test_cookie_settings_of_the_app_are_respected(kit: StateKit) -> None:
    app = flask.Flask(__name__)
    app.config.update(SESSION_COOKIE_NAME="atlas", SESSION_COOKIE_SAMESITE="Strict")
    StatekitFlask(app, kit)

    @app.post("/")
    def keep() -> str:
        session["x"] = 1
        return ""

    sent = cookie(app.test_client().post("/"))
    assert sent is not None
    assert sent.startswith("atlas=")
    assert "SameSite=Strict" in sent


def test_requests_at_the_same_time_lose_nothing(site: Any) -> None:
    site_ = site()

    @site_.app.post("/put/<key>")
    def put(key: str) -> str:
        session[key] = 1
        return ""

    @site_.app.get("/keys")
    def keys() -> list[str]:
        return sorted(key for key in session if key.startswith("k"))

    site_.browser.post("/put/first")
    header = "; ".join(f"{one.key}={one.value}" for one in site_.browser._cookies.values())

    def write(worker: int) -> None:
        browser = site_.app.test_client(use_cookies=False)
        for n in range(10):
            assert browser.post(f"/put/k{worker}-{n}", headers={"Cookie": header}).status_code == 200

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site_.browser.get("/keys").json) == 80


def test_without_sessions_flask_keeps_its_own(site: Any) -> None:
    site_ = site(sessions=False)
    assert isinstance(site_.app.session_interface, flask.sessions.SecureCookieSessionInterface)


# -- flask-login -------------------------------------------------------------------------------------------


class User(flask_login.UserMixin):
    def __init__(self, id_: str) -> None:
        self.id = id_


@pytest.fixture
def club(site: Any) -> Any:
    site_ = site()
    site_.app.secret_key = "for the remember-me cookie"
    login = flask_login.LoginManager(site_.app)
    login.user_loader(User)

    @site_.app.post("/login/<id_>")
    def sign_in(id_: str) -> str:
        session["cart"] = ["apple"]
        flask_login.login_user(User(id_))
        return ""

    @site_.app.post("/logout")
    @flask_login.login_required
    def sign_out() -> str:
        flask_login.logout_user()
        return ""

    @site_.app.get("/me")
    def me() -> dict[str, Any]:
        user = flask_login.current_user
        return {"user": user.get_id() if user.is_authenticated else None, "cart": session.get("cart")}

    return site_


def test_flask_login_signs_in_and_out(club: Any) -> None:
    club.browser.post("/login/7")
    assert club.browser.get("/me").json == {"user": "7", "cart": ["apple"]}
    assert club.browser.post("/logout").status_code == 200
    assert club.browser.get("/me").json["user"] is None


def test_a_flask_login_is_listed_and_can_be_revoked(club: Any) -> None:
    club.browser.post("/login/7")
    assert len(club.sk.sessions.sessions_of("7")) == 1
    club.sk.sessions.revoke_all("7")
    assert club.browser.get("/me").json["user"] is None


def test_a_flask_login_renews_the_id_and_its_logout_ends_it(club: Any) -> None:
    club.browser.post("/login/7")
    first = {one.value for one in club.browser._cookies.values()}
    club.browser.post("/login/8")
    second = {one.value for one in club.browser._cookies.values()}
    assert first.isdisjoint(second)
    club.browser.post("/logout")
    assert club.sk.sessions.sessions_of("8") == []
    assert club.browser.get("/me").json["cart"] == ["apple"], "what is not about the user stays"


def test_a_page_of_a_flask_login_site_costs_one_round_trip(club: Any) -> None:
    club.browser.post("/login/7")
    assert len(club.trips("GET", "/me")[1]) == 1


def test_a_session_first_read_after_its_request_says_so(site: Any) -> None:
    shop_ = shop(site)
    kept: list[Any] = []
    shop_.app._got_first_request = False
    shop_.app.get("/keep")(lambda: kept.append(session._get_current_object()) or "")
    shop_.browser.post("/cart/apple")
    shop_.app.wsgi_app(dict(EnvironBuilder(path="/keep").get_environ()), lambda *_: None).close()
    gc.collect()
    with pytest.raises(UsageError, match="request has ended"):
        len(kept[0])
