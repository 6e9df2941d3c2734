"""What a Flask app answers while the store is away, and how it says whether it is well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import session

from statekit import StateKit
from statekit.errors import UsageError, VersionConflict
from statekit.store.outage import Budget
from statekit.testing import OutageSimulator, store_down
from statekit_flask import StatekitFlask
from tests.adapters.conftest import Site


@pytest.fixture
def pages(site: Any) -> Any:
    site_ = site()
    site_.app.testing = False

    @site_.app.get("/plain")
    def plain() -> str:
        return "plain"

    @site_.app.post("/put")
    def put() -> str:
        session["x"] = session.get("x", 0) + 1
        return "put"

    @site_.app.get("/limited")
    @site_.sk.limit("5/minute")
    def limited() -> str:
        return "limited"

    @site_.app.get("/denied")
    @site_.sk.limit("5/minute", on_outage="deny")
    def denied() -> str:
        return "limited"

    site_.browser.post("/put")
    return site_


def unavailable(answer: Any) -> bool:
    body = json.loads(answer.data)
    return (
        answer.status_code == body["status"] == 503
        and answer.mimetype == "application/problem+json"
        and int(answer.headers["Retry-After"]) >= 1
        and answer.content_length == len(answer.data)
    )


def test_who_needs_nothing_of_the_store_notices_nothing(pages: Any) -> None:
    with store_down(pages.kit):
        assert pages.browser.get("/plain").text == "plain"


def test_who_reads_a_session_is_told_to_come_back(pages: Any) -> None:
    with store_down(pages.kit):
        assert unavailable(pages.browser.post("/put"))
    assert pages.browser.post("/put").text == "put"


def test_a_session_that_could_not_be_saved_is_no_success(pages: Any) -> None:
    with store_down(pages.kit):
        answer = pages.app.test_client().post("/put")
    assert unavailable(answer)
    assert "Set-Cookie" not in answer.headers


def test_a_stream_whose_session_could_not_be_saved_is_not_sent(site: Any) -> None:
    site_ = site()

    @site_.app.get("/")
    def stream() -> Any:
        session["seen"] = True
        answer = flask.Response(
            iter(["much ", "to ", "tell"]), headers={"ETag": '"1"', "Cache-Control": "public"}
        )
        answer.set_cookie("other", "1")
        return answer

    with store_down(site_.kit):
        answer = site_.browser.get("/")
    assert unavailable(answer)
    assert not {"ETag", "Cache-Control", "Set-Cookie"} & set(answer.headers.keys())
    assert site_.browser.get("/").text == "much to tell"


def test_a_store_that_hangs_holds_up_no_limit_and_no_session_for_long(
    valkey_url: str, namespace: str
) -> None:
    with OutageSimulator(valkey_url) as outage:
        kit = StateKit.connect(outage.url, namespace, budget=Budget(decision=0.2, operation=0.4, connect=5))
        site_ = Site(kit)

        @site_.app.post("/")
        @site_.sk.limit("100/hour")
        def view() -> dict[str, Any]:
            session["n"] = session.get("n", 0) + 1
            return {"n": session["n"]}

        @site_.app.get("/")
        @site_.sk.limit("100/hour")
        def untouched() -> str:
            return "in"

        _eventually(lambda: site_.browser.post("/").status_code == 200)
        with outage.stalled():
            answer = site_.browser.get("/")
            assert answer.text == "in"
            assert "RateLimit" not in answer.headers, "nothing is known about what is left"
            assert unavailable(site_.browser.post("/"))
        _eventually(lambda: site_.browser.post("/").status_code == 200)
        kit.close()


def _eventually(holds: Callable[[], bool]) -> None:
    """A machine under load may miss a small budget; it does not miss it for ever."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_may_be_declared_dispensable(site: Any) -> None:
    site_ = site(sessions={"on_outage": "anonymous"})

    @site_.app.get("/")
    def view() -> dict[str, Any]:
        return {"x": session.get("x"), "degraded": session.degraded}

    @site_.app.post("/")
    def put() -> str:
        session["x"] = 1
        return ""

    site_.browser.post("/")
    with store_down(site_.kit):
        answer = site_.browser.get("/")
        assert answer.json == {"x": None, "degraded": True}
        assert "Set-Cookie" not in answer.headers
    assert site_.browser.get("/").json == {"x": 1, "degraded": False}


def test_limits_answer_as_they_declare(pages: Any) -> None:
    with store_down(pages.kit):
        assert pages.browser.get("/limited").text == "limited"
        assert pages.browser.get("/denied").status_code == 503


def test_liveness_does_not_ask_the_store_and_readiness_does(pages: Any) -> None:
    assert pages.trips("GET", "/healthz")[1] == []
    answer, trips = pages.trips("GET", "/readyz")
    assert answer.json["status"] == "ok"
    assert trips == [("PING",)]
    with store_down(pages.kit):
        assert pages.browser.get("/healthz").status_code == 200
        assert unavailable(pages.browser.get("/readyz"))
    assert pages.browser.get("/readyz").headers["Cache-Control"] == "no-store"


def test_a_process_being_drained_says_so(site: Any) -> None:
    draining = False
    site_ = site(draining=lambda: draining, health="/alive", ready="/ready")
    assert site_.browser.get("/ready").status_code == 200
    draining = True
    answer = site_.browser.get("/ready")
    assert answer.status_code == 503
    assert "drained" in answer.json["title"]
    assert site_.browser.get("/alive").status_code == 200
    assert site_.browser.get("/healthz").status_code == 404


def test_health_addresses_can_be_left_out(site: Any) -> None:
    site_ = site(health=None, ready=None)
    assert site_.browser.get("/healthz").status_code == 404
    assert site_.browser.get("/readyz").status_code == 404


def test_probes_are_not_for_the_apps_own_gatekeepers(site: Any) -> None:
    site_ = site()
    site_.app.before_request(lambda: ("sign in first", 401))
    assert site_.browser.get("/anything").status_code == 401
    assert site_.browser.get("/healthz").status_code == 200
    assert site_.browser.get("/readyz").status_code == 200


def test_errors_of_statekit_become_problems_and_mistakes_stay_mistakes(site: Any) -> None:
    site_ = site()
    site_.app.testing = False

    @site_.app.get("/conflict")
    def conflict() -> str:
        raise VersionConflict("version 3 was expected, version 4 is there")

    @site_.app.get("/mistake")
    def mistake() -> str:
        raise UsageError("limit='x'")

    answer = site_.browser.get("/conflict")
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert json.loads(answer.data)["detail"] == "version 3 was expected, version 4 is there"
    assert site_.browser.get("/mistake").mimetype == "text/html"
    site_.app.testing = True
    with pytest.raises(UsageError):
        site_.browser.get("/mistake")


def test_an_extension_may_serve_several_apps_made_by_a_factory(kit: StateKit) -> None:
    sk = StatekitFlask()

    def create_app() -> flask.Flask:
        app = flask.Flask(__name__)
        app.add_url_rule("/", view_func=sk.limit("1/hour", name="both")(lambda: "in"), endpoint="root")
        sk.init_app(app, kit)
        return app

    first, second = create_app().test_client(), create_app().test_client()
    assert first.get("/").status_code == 200
    assert second.get("/").status_code == 429, "the same name is the same count"
    with pytest.raises(UsageError, match="already"):
        sk.init_app(first.application, kit)


def test_an_app_may_be_wired_by_its_settings(namespace: str, valkey_url: str) -> None:
    app = flask.Flask(__name__)
    app.config.update(STATEKIT_URL=valkey_url, STATEKIT_NAMESPACE=namespace)
    sk = StatekitFlask(app)
    assert sk.kit.namespace == namespace
    assert app.test_client().get("/readyz").status_code == 200
    sk.kit.close()
