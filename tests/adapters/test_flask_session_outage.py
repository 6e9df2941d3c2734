"""What a Flask route shows of its session while the store is away, and what becomes of a change."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import Blueprint, session
from flask.views import MethodView

from statekit import Encryption, StateKit
from statekit.errors import StoreFull, UsageError
from statekit.store.outage import Budget
from statekit.testing import Proxy, store_down
from tests.adapters.conftest import Site


def show() -> dict[str, Any]:
    return {"x": session.get("x"), "who": session.principal, "degraded": session.degraded, "age": session.age}


def put() -> str:
    session["x"] = session.get("x", 0) + 1
    return "put"


@pytest.fixture
def pages(site: Any) -> Any:
    site_ = site()
    app, sk = site_.app, site_.sk
    app.testing = False
    app.add_url_rule("/raise", view_func=show, endpoint="raise")
    app.add_url_rule("/put", view_func=put, endpoint="put", methods=["GET", "POST"])
    for policy in ("anonymous", "last-seen"):

        @sk.session_outage(policy)
        def see() -> Any:
            return show()

        @sk.limit("100/hour", name=policy)
        @sk.session_outage(policy)
        def change() -> Any:
            return put()

        @sk.session_outage(policy)
        def sign(how: str) -> Any:
            session.sign_in(
                "user:8"
            ) if how == "in" else session.sign_out() if how == "out" else session.renew()
            return "signed"

        @sk.session_outage(policy)
        def login(user: str) -> Any:
            session["_user_id"] = user
            return "in"

        app.add_url_rule(f"/{policy}", view_func=see, endpoint=policy)
        app.add_url_rule(
            f"/{policy}/put", view_func=change, endpoint=f"{policy}-put", methods=["GET", "POST"]
        )
        app.add_url_rule(f"/{policy}/sign/<how>", view_func=sign, endpoint=f"{policy}-sign")
        app.add_url_rule(f"/{policy}/login/<user>", view_func=login, endpoint=f"{policy}-login")
    site_.browser.post("/put")
    assert site_.browser.get("/last-seen").json["x"] == 1
    return site_


def test_each_route_answers_as_it_declared(pages: Any) -> None:
    with store_down(pages.kit):
        assert pages.browser.get("/raise").status_code == 503
        assert pages.browser.get("/anonymous").json == {"x": None, "who": None, "degraded": True, "age": None}
        told = pages.browser.get("/last-seen").json
    assert (told["x"], told["degraded"]) == (1, True)
    assert 0 <= told["age"] < 60
    for path in ("/raise", "/anonymous", "/last-seen"):
        assert pages.browser.get(path).json == {"x": 1, "who": None, "degraded": False, "age": None}


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
def test_a_change_that_cannot_be_saved_is_no_success(pages: Any, policy: str) -> None:
    with store_down(pages.kit):
        answer = pages.browser.post(f"/{policy}/put")
        assert answer.status_code == 503
        assert answer.mimetype == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert "Set-Cookie" not in answer.headers
        assert pages.app.test_client().post(f"/{policy}/put").status_code == 503, "nor a session begun"
    assert pages.browser.get("/raise").json["x"] == 1


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
def test_a_page_that_notes_something_in_passing_is_shown_and_the_loss_counted(
    pages: Any, policy: str
) -> None:
    with store_down(pages.kit):
        for browser in (pages.browser, pages.app.test_client()):
            before = pages.kit.hooks.degraded.get("sessions", 0)
            answer = browser.get(f"/{policy}/put")
            assert (answer.status_code, answer.text) == (200, "put")
            assert "Set-Cookie" not in answer.headers
            assert pages.kit.hooks.degraded["sessions"] > before
        assert pages.browser.get("/put").status_code == 503, "where nothing was declared"
    assert pages.browser.get("/raise").json["x"] == 1


@pytest.mark.parametrize("policy", ["anonymous", "last-seen"])
@pytest.mark.parametrize("way", ["sign/in", "sign/out", "sign/renew", "login/8"])
def test_nobody_is_signed_in_or_out_in_appearance_only(pages: Any, policy: str, way: str) -> None:
    with store_down(pages.kit):
        assert pages.browser.get(f"/{policy}/{way}").status_code == 503
        if way in ("sign/in", "login/8"):
            assert pages.app.test_client().get(f"/{policy}/{way}").status_code == 503
    assert pages.browser.get("/raise").json == {"x": 1, "who": None, "degraded": False, "age": None}


def test_a_store_that_takes_no_writes_serves_pages_that_may_do_without(pages: Any) -> None:
    with refusing_writes(pages.kit):
        assert pages.browser.get("/anonymous").json["x"] == 1, "it can be read"
        assert pages.browser.get("/anonymous/put").status_code == 200
        assert pages.browser.post("/anonymous/put").status_code == 503
        assert pages.browser.get("/put").status_code == 503
        assert pages.browser.get("/anonymous/sign/out").status_code == 503


class refusing_writes:  # noqa: N801 - reads as what it does
    def __init__(self, kit: StateKit) -> None:
        self.transport: Any = kit.store.transport
        self.exchange = self.transport.exchange

    def __enter__(self) -> None:
        def exchange(calls: Any, budget: float) -> Any:
            if all(call.read_only or (call.script and call.script.name == "ratelimit.hit") for call in calls):
                return self.exchange(calls, budget)
            return [StoreFull("OOM") for _ in calls]

        self.transport.exchange = exchange

    def __exit__(self, *_: object) -> None:
        self.transport.exchange = self.exchange


def test_nothing_is_done_in_the_name_of_a_session_that_may_have_been_ended(site: Any) -> None:
    site_ = site(sessions={"on_outage": "last-seen"})
    done: list[str] = []

    def pay() -> str:
        done.append(session["x"])
        return "paid"

    def search() -> str:
        return "nobody" if session.get("x") is None else "somebody"

    site_.app.add_url_rule("/put", view_func=put, endpoint="put", methods=["POST"])
    site_.app.add_url_rule("/pay", view_func=pay, endpoint="pay", methods=["GET", "POST", "DELETE"])
    anonymous = site_.sk.session_outage("anonymous")(search)
    site_.app.add_url_rule("/search", view_func=anonymous, endpoint="search", methods=["POST"])
    site_.app.testing = False
    site_.browser.post("/put")
    site_.browser.get("/pay")
    with store_down(site_.kit):
        assert site_.browser.get("/pay").text == "paid"
        assert site_.browser.post("/pay").status_code == site_.browser.delete("/pay").status_code == 503
        assert site_.browser.post("/search").text == "nobody"
    assert done == [1, 1]


def test_a_word_near_the_view_counts_before_one_further_off(site: Any) -> None:
    site_ = site(sessions={"on_outage": "anonymous"})
    sk, blueprint = site_.sk, Blueprint("b", "b")
    sk.session_outage("raise")(blueprint)

    class Page(MethodView):
        def get(self) -> Any:
            return show()

        @sk.session_outage("anonymous")
        def put(self) -> Any:
            return show()

    blueprint.add_url_rule("/blueprint", view_func=show, endpoint="show")
    blueprint.add_url_rule(
        "/view", view_func=sk.session_outage("last-seen")(lambda: {**show()}), endpoint="view"
    )
    blueprint.add_url_rule("/class", view_func=Page.as_view("page"))
    marked = sk.session_outage("last-seen")(Page.as_view("marked"))
    blueprint.add_url_rule("/marked", view_func=marked)
    site_.app.register_blueprint(blueprint)
    site_.app.add_url_rule("/app", view_func=show, endpoint="app")
    site_.app.add_url_rule("/", view_func=put, endpoint="put", methods=["POST"])
    site_.app.testing = False
    site_.browser.post("/")
    site_.browser.get("/view")
    with store_down(site_.kit):
        assert site_.browser.get("/app").json["degraded"]
        assert site_.browser.get("/blueprint").status_code == 503
        assert site_.browser.get("/view").json["x"] == 1
        assert site_.browser.get("/class").status_code == 503
        assert site_.browser.put("/class").json["degraded"]
        assert site_.browser.get("/marked").json["x"] == 1
        assert site_.browser.put("/marked").json["x"] is None, "a method's word before its class's"
        assert site_.browser.get("/nowhere").status_code == 404


def test_what_was_signed_out_here_is_not_shown_by_a_slow_request_either(site: Any) -> None:
    """A request reads its session, the visitor signs out in another, the first saves: then the store goes."""
    site_ = site(sessions={"on_outage": "last-seen"})
    read, left = threading.Event(), threading.Event()

    @site_.app.get("/slow")
    def slow() -> Any:
        seen = session["x"]
        read.set()
        assert left.wait(30)
        session["y"] = seen
        return "slow"

    @site_.app.post("/leave")
    def leave() -> str:
        session.clear()
        return "bye"

    site_.app.add_url_rule("/", view_func=show, endpoint="show")
    site_.app.add_url_rule("/put", view_func=put, endpoint="put", methods=["POST"])
    site_.app.testing = False
    answer = site_.browser.post("/put")
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    carrying = {"headers": {"Cookie": cookie}}
    first = threading.Thread(target=lambda: site_.app.test_client(use_cookies=False).get("/slow", **carrying))
    first.start()
    assert read.wait(30)
    stranger = site_.app.test_client(use_cookies=False)
    assert stranger.post("/leave", **carrying).text == "bye"
    left.set()
    first.join(30)
    with store_down(site_.kit):
        assert stranger.get("/", **carrying).status_code == 503
    assert stranger.get("/", **carrying).json["x"] is None


def test_words_are_checked_where_they_are_written(site: Any) -> None:
    with pytest.raises(UsageError, match="anonymous"):
        site().sk.session_outage("allow")


def test_made_up_methods_leave_nothing_behind(pages: Any) -> None:
    for index in range(20):
        pages.browser.open("/nowhere", method=f"M{index}")
        pages.browser.open("/raise", method=f"M{index}")
    assert all(method in ("GET", "POST", "HEAD") for _, method in pages.sk.wired.admission._outages)


def test_an_encrypted_session_seen_last_is_shown_too(site: Any) -> None:
    keys = [Encryption.new_key()]
    site_ = site(sessions={"on_outage": "last-seen", "encryption": Encryption(keys)})
    site_.app.add_url_rule("/", view_func=show, endpoint="show")
    site_.app.add_url_rule("/put", view_func=put, endpoint="put", methods=["POST"])
    site_.browser.post("/put")
    site_.browser.get("/")
    with store_down(site_.kit):
        assert site_.browser.get("/").json["x"] == 1


def test_a_store_that_hangs_costs_a_page_its_budget_and_no_more(valkey_url: str, namespace: str) -> None:
    budget = Budget(decision=0.3, operation=0.9, connect=1)
    with Proxy(valkey_url) as proxy:
        kit = StateKit.connect(proxy.url, namespace, budget=budget)
        site_ = Site(kit)
        site_.app.testing = False
        see = site_.sk.session_outage("last-seen")(lambda: {**show()})
        site_.app.add_url_rule("/", view_func=see, endpoint="see")
        site_.app.add_url_rule("/raise", view_func=show, endpoint="show")
        site_.app.add_url_rule("/put", view_func=put, endpoint="put", methods=["POST"])
        eventually(lambda: site_.browser.post("/put").status_code == 200)
        eventually(lambda: site_.browser.get("/").json["degraded"] is False)
        with proxy.stalled():
            spent = {}
            for path, status in (("/", 200), ("/raise", 503)):
                start = time.monotonic()
                assert site_.browser.get(path).status_code == status
                spent[path] = time.monotonic() - start
        print({path: f"{seconds * 1000:.0f} ms" for path, seconds in spent.items()})
        slack = 1.0  # of a loaded machine
        assert spent["/"] < budget.decision + slack
        assert spent["/raise"] < budget.operation + slack
        kit.close()


def eventually(holds: Any) -> None:
    """A machine under load may miss a small budget; it does not miss it for ever."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
