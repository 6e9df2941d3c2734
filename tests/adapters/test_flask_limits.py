"""Limits of a Flask app: found, decided together, announced, refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import flask
import pytest
from flask import Blueprint
from flask.views import MethodView

from statekit.errors import LimitExceeded, UsageError
from statekit.web import marks
from statekit_flask import StatekitFlask, TooManyRequests, by_header, by_ip, by_user


def test_a_limit_lets_so_many_through_and_no_more(site: Any) -> None:
    site_ = site()

    @site_.app.get("/")
    @site_.sk.limit("3/hour")
    def view() -> str:
        return "in"

    assert [site_.browser.get("/").status_code for _ in range(5)] == [200, 200, 200, 429, 429]


def test_a_refusal_explains_itself(site: Any) -> None:
    site_ = site()

    @site_.app.get("/")
    @site_.sk.limit("1/hour", name="one")
    def view() -> str:
        return "in"

    site_.browser.get("/")
    answer = site_.browser.get("/")
    assert answer.status_code == 429
    assert answer.mimetype == "application/problem+json"
    body = json.loads(answer.data)
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert body["status"] == 429
    assert body["title"]
    assert body["detail"]
    assert body["violated-policies"]
    assert all("one" in name for name in body["violated-policies"])
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert "one" in answer.headers["RateLimit-Policy"]
    assert ";r=0" in answer.headers["RateLimit"]
    assert body["violated-policies"][0] in answer.headers["RateLimit-Policy"]


def test_every_limited_answer_carries_the_headers_and_no_other(site: Any) -> None:
    site_ = site()

    @site_.app.get("/limited")
    @site_.sk.limit("5/minute")
    def limited() -> str:
        return "in"

    @site_.app.get("/free")
    def free() -> str:
        return "in"

    assert ";r=4" in site_.browser.get("/limited").headers["RateLimit"]
    assert "RateLimit" not in site_.browser.get("/free").headers
    assert "RateLimit" not in site_.browser.get("/healthz").headers


def test_legacy_headers(site: Any) -> None:
    site_ = site(headers="legacy")

    @site_.app.get("/")
    @site_.sk.limit("5/minute", "100/hour")
    def view() -> str:
        return "in"

    answer = site_.browser.get("/")
    assert answer.headers["X-RateLimit-Limit"] == "5"
    assert answer.headers["X-RateLimit-Remaining"] == "4"
    assert "RateLimit" not in answer.headers


def test_no_headers(site: Any) -> None:
    site_ = site(headers=None, default_limits=["1/hour"])
    site_.app.add_url_rule("/", view_func=lambda: "in", endpoint="root")
    site_.browser.get("/")
    answer = site_.browser.get("/")
    assert answer.status_code == 429
    assert "RateLimit" not in answer.headers
    assert int(answer.headers["Retry-After"]) > 3500


def test_stacked_limits_are_one_decision_all_or_nothing(site: Any) -> None:
    site_ = site(default_limits=["1000/hour"])

    @site_.app.get("/")
    @site_.sk.limit("2/hour", key=by_ip)
    @site_.sk.limit("100/hour", "500/day", key="header:X-API-Key", name="keys")
    def view() -> str:
        return "in"

    headers = {"X-API-Key": "a"}
    answer, trips = site_.trips("GET", "/", headers=headers)
    assert answer.status_code == 200
    assert len(trips) == 1
    for _ in range(5):
        site_.browser.get("/", headers=headers)
    keys = site_.kit.rate_limiter("keys", "100/hour")
    with site_.app.test_request_context("/", headers=headers):
        assert keys.peek(by_header("X-API-Key")()).remaining == 98, "a refusal charges no limit"


def test_a_request_pays_its_cost(site: Any) -> None:
    site_ = site()

    @site_.app.get("/<int:n>")
    @site_.sk.limit("10/hour", cost=lambda: flask.request.view_args["n"])
    def view(n: int) -> str:
        return str(n)

    assert site_.browser.get("/7").status_code == 200
    assert site_.browser.get("/4").status_code == 429
    assert site_.browser.get("/3").status_code == 200
    refused = site_.browser.get("/11")
    assert refused.status_code == 429
    assert "never" in refused.json["detail"]


def test_default_limits_count_over_all_endpoints(site: Any) -> None:
    site_ = site(default_limits=["2/hour"])
    site_.app.add_url_rule("/a", view_func=lambda: "a", endpoint="a")
    site_.app.add_url_rule("/b", view_func=lambda: "b", endpoint="b")
    site_.app.add_url_rule("/free", view_func=site_.sk.exempt(lambda: "free"), endpoint="free")
    assert [site_.browser.get(path).status_code for path in ("/a", "/b", "/a")] == [200, 200, 429]
    assert site_.browser.get("/free").status_code == 200
    assert site_.browser.get("/healthz").status_code == 200
    assert site_.browser.get("/nowhere").status_code == 429, "a scan of addresses is counted too"


def test_methods(site: Any) -> None:
    site_ = site()

    @site_.app.route("/", methods=["GET", "POST"])
    @site_.sk.limit("1/hour", methods=["POST"])
    def view() -> str:
        return "in"

    assert [site_.browser.post("/").status_code for _ in range(2)] == [200, 429]
    assert site_.browser.get("/").status_code == 200


def test_preflights_are_not_counted(site: Any) -> None:
    site_ = site(default_limits=["1/hour"])
    site_.app.add_url_rule("/", view_func=lambda: "in", endpoint="root")
    for _ in range(3):
        assert site_.browser.options("/").status_code == 200
    assert site_.browser.get("/").status_code == 200


def test_a_decorator_that_hides_the_limit_does_not_lift_it(site: Any) -> None:
    site_ = site()

    def foreign(view: Any) -> Any:
        def unmarked() -> Any:
            return view()

        return unmarked

    @foreign
    @site_.sk.limit("1/hour")
    def view() -> str:
        return "in"

    site_.app.add_url_rule("/", view_func=view, endpoint="root")
    assert [site_.browser.get("/").status_code for _ in range(2)] == [200, 429]


def test_a_late_limit_knows_what_earlier_functions_found_out(site: Any) -> None:
    site_ = site()

    @site_.app.before_request
    def find_out() -> None:
        flask.g.team = flask.request.args["team"]

    @site_.app.get("/")
    @site_.sk.limit("1/hour", key=lambda: flask.g.team, late=True)
    @site_.sk.limit("10/hour")
    def view() -> str:
        return "in"

    assert site_.browser.get("/?team=a").status_code == 200
    assert site_.browser.get("/?team=b").status_code == 200
    answer = site_.browser.get("/?team=a")
    assert answer.status_code == 429
    assert answer.headers["RateLimit-Policy"].count(";q=") == 2


def test_limits_may_be_worked_out_for_each_request(site: Any) -> None:
    site_ = site()

    @site_.app.get("/<plan>")
    @site_.sk.limit(lambda: {"free": "1/hour", "pro": ["3/hour", "9/day"]}[flask.request.view_args["plan"]])
    def view(plan: str) -> str:
        return plan

    assert [site_.browser.get("/free").status_code for _ in range(2)] == [200, 429]
    assert [site_.browser.get("/pro").status_code for _ in range(3)] == [200, 200, 429], "usage is kept"


def test_a_limiter_can_be_shared_with_other_code(site: Any) -> None:
    site_ = site()
    mail = site_.kit.rate_limiter("mail", "2/hour")

    @site_.app.get("/")
    @site_.sk.limit(mail, key=lambda: "everyone")
    def view() -> str:
        return "sent"

    assert mail.hit("everyone").allowed
    assert [site_.browser.get("/").status_code for _ in range(2)] == [200, 429]


def test_a_blueprint_can_be_limited_and_exempted(site: Any) -> None:
    site_ = site(default_limits=["1/hour"])
    api, inner = Blueprint("api", __name__), Blueprint("inner", __name__)
    site_.sk.exempt(site_.sk.limit("2/hour")(api))
    api.add_url_rule("/x", view_func=lambda: "x", endpoint="x")
    inner.add_url_rule("/y", view_func=lambda: "y", endpoint="y")
    api.register_blueprint(inner, url_prefix="/inner")
    site_.app.register_blueprint(api, url_prefix="/api")
    assert [site_.browser.get(path).status_code for path in ("/api/x", "/api/inner/y", "/api/x")] == [
        200,
        200,
        429,
    ]


def test_a_class_based_view_is_limited_as_a_whole_or_by_method(site: Any) -> None:
    site_ = site()

    class View(MethodView):
        decorators = [site_.sk.limit("5/hour", name="whole")]  # noqa: RUF012

        def get(self) -> str:
            return "got"

        @site_.sk.limit("1/hour", name="posts")
        def post(self) -> str:
            return "posted"

    site_.app.add_url_rule("/", view_func=View.as_view("view"))
    answer, trips = site_.trips("POST", "/")
    assert answer.text == "posted"
    assert len(trips) == 1
    assert site_.browser.post("/").status_code == 429
    assert [site_.browser.get("/").status_code for _ in range(5)] == [200, 200, 200, 200, 429]


def test_a_coroutine_view_can_be_limited(site: Any) -> None:
    site_ = site()
    site_.app.async_to_sync = lambda view: lambda: asyncio.run(view())

    @site_.app.get("/")
    @site_.sk.limit("1/hour")
    async def view() -> str:
        return "in"

    assert [site_.browser.get("/").status_code for _ in range(2)] == [200, 429]


def test_the_app_may_answer_refusals_its_own_way(site: Any) -> None:
    by_class, by_status, by_parent = site(), site(), site()
    by_class.app.register_error_handler(
        TooManyRequests, lambda error: (f"wait {error.decision.retry_after > 0}", 429)
    )
    by_status.app.register_error_handler(429, lambda _: ("slow down", 429))
    by_parent.app.register_error_handler(LimitExceeded, lambda _: ("too many", 429))
    for one, text in ((by_class, "wait True"), (by_status, "slow down"), (by_parent, "too many")):
        one.app.add_url_rule("/", view_func=one.sk.limit("1/hour", name=text)(lambda: "in"))
        one.browser.get("/")
        answer = one.browser.get("/")
        assert answer.status_code == 429
        assert answer.text == text
        assert "Retry-After" in answer.headers


def test_the_decision_is_at_hand_in_the_view(site: Any) -> None:
    site_ = site()

    @site_.app.get("/")
    @site_.sk.limit("5/hour")
    def view() -> dict[str, Any]:
        return {"one": site_.sk.decision.remaining, "other": flask.g.statekit.decision.remaining}

    assert site_.browser.get("/").json == {"one": 4, "other": 4}


def test_a_view_can_take_a_decision_itself(site: Any) -> None:
    site_ = site()
    tries = site_.kit.rate_limiter("tries", "1/hour")

    @site_.app.get("/")
    def view() -> str:
        site_.sk.enforce(tries.hit("ann"))
        return "in"

    assert "RateLimit" in site_.browser.get("/").headers
    assert site_.browser.get("/").status_code == 429


def test_limits_can_be_switched_off_for_tests(site: Any) -> None:
    site_ = site(default_limits=["1/hour"])
    site_.app.config["STATEKIT_LIMITS"] = False
    site_.app.add_url_rule("/", view_func=lambda: "in", endpoint="root")
    answer, trips = site_.trips("GET", "/")
    assert [site_.browser.get("/").status_code for _ in range(3)] == [200, 200, 200]
    assert trips == []
    assert "RateLimit" not in answer.headers


HOME = {"REMOTE_ADDR": "127.0.0.1"}


# -- who is counted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "ip=203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "ip=2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "ip=203.0.113.7"),
        ("fe80::1%eth0", "ip=fe80::/64"),
        ("not an address", "ip=not an address"),
        (None, "ip=unknown"),
    ],
)
def test_by_ip(address: str | None, key: str) -> None:
    with flask.Flask(__name__).test_request_context("/", environ_overrides={"REMOTE_ADDR": address}):
        assert by_ip() == key


def test_by_ip_believes_no_header() -> None:
    forged = {"X-Forwarded-For": "198.51.100.9", "Forwarded": "for=198.51.100.9", "X-Real-IP": "198.51.100.9"}
    with flask.Flask(__name__).test_request_context("/", headers=forged, environ_base=HOME):
        assert by_ip() == "ip=127.0.0.1"


def test_by_header_never_shows_a_credential_and_never_meets_another_kind() -> None:
    app = flask.Flask(__name__)
    with app.test_request_context("/", headers={"X-API-Key": "ip=127.0.0.1"}, environ_base=HOME):
        key = by_header("X-API-Key")()
        assert key.startswith("header=")
        assert "127.0.0.1" not in key
        assert by_header("X-API-Key", secret=False)() == "header=ip=127.0.0.1"
    with app.test_request_context("/", environ_base=HOME):
        assert by_header("X-API-Key")() == "ip=127.0.0.1"


def test_by_user_counts_a_user_on_every_device_and_a_visitor_by_address(site: Any) -> None:
    site_ = site()

    @site_.app.post("/login")
    def login() -> str:
        site_.sk.sign_in("ann")
        return ""

    @site_.app.get("/")
    @site_.sk.limit("1/hour", key=by_user)
    def view() -> str:
        return by_user()

    phone, desk, visitor = (site_.app.test_client() for _ in range(3))
    phone.post("/login")
    desk.post("/login")
    assert phone.get("/").text == "user=ann"
    assert desk.get("/").status_code == 429
    assert visitor.get("/").text == "ip=127.0.0.1"


@pytest.mark.parametrize("key", ["cookie:x", "header:", "ip:x", ""])
def test_a_key_that_means_nothing_is_refused_at_once(key: str) -> None:
    with pytest.raises(UsageError, match="X-API-Key"):
        StatekitFlask().limit("1/hour", key=key)


def test_a_limit_without_an_extension_is_not_silently_open() -> None:
    app = flask.Flask(__name__)
    app.testing = True
    app.add_url_rule("/", view_func=StatekitFlask().limit("1/hour")(lambda: "in"))
    with pytest.raises(UsageError, match="init_app"):
        app.test_client().get("/")


def test_a_limit_above_the_route_is_not_silently_open(site: Any) -> None:
    site_ = site()

    @site_.sk.limit("1/hour")
    @site_.sk.limit("10/day", key="user")
    @site_.app.get("/")
    def view() -> str:
        return "in"

    with pytest.raises(UsageError, match=r"below @app\.route"):
        site_.browser.get("/")


def test_one_function_may_be_limited_differently_in_two_places(site: Any) -> None:
    site_ = site()

    def view() -> str:
        return "in"

    site_.app.add_url_rule("/few", "few", site_.sk.limit("1/hour", name="few")(view))
    site_.app.add_url_rule("/many", "many", site_.sk.limit("3/hour", name="many")(view))
    assert [site_.browser.get("/few").status_code for _ in range(2)] == [200, 429]
    assert [site_.browser.get("/many").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_names_are_the_same_in_every_process_and_differ_in_one() -> None:
    sk = StatekitFlask()

    def view() -> str:
        return ""

    limited = sk.limit("1/hour")(sk.limit("1/hour", key="user")(sk.limit("2/hour")(view)))
    where = f"{__name__}.test_names_are_the_same_in_every_process_and_differ_in_one.view"
    assert [rule.name for rule in marks(limited).rules] == [
        f"{where}/by_ip",
        f"{where}/by_user",
        f"{where}/by_ip#2",
    ]
