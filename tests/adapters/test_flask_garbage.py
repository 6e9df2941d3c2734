"""A request leaves nothing behind that only the garbage collector could clear away."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from flask import Flask, session

from statekit import Flag, StateKit, TenantSettings
from statekit_flask import StatekitFlask, by_header

REQUESTS = 50


class Settings(TenantSettings):
    plan: str = "free"


def circular(request: Callable[[], Any]) -> float:
    """How many objects each request leaves in circles."""
    for _ in range(20):
        request()
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            request()
        return gc.collect() / REQUESTS
    finally:
        gc.enable()


def caller(app: Flask, cookie: str = "") -> Callable[[], Any]:
    """Call the app as a server does: a test client has circles of its own."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "203.0.113.7",
        "HTTP_X_TENANT": "acme",
        "HTTP_COOKIE": cookie,
    }

    def request() -> bytes:
        statuses: list[str] = []
        answer = app.wsgi_app(dict(environ), lambda status, *_: statuses.append(status))
        body = b"".join(answer)
        answer.close()
        assert statuses == ["200 OK"]
        return body

    return request


def test_a_request_with_everything_leaves_what_a_bare_one_leaves(server_kit: StateKit) -> None:
    bare, app = Flask("bare"), Flask("app")
    options = {"tenants": Settings, "tenant": "header:X-Tenant", "default_limits": ["1000000/hour"]}
    sk = StatekitFlask(app, server_kit, **options)

    @app.post("/login")
    def login() -> str:
        session["user_id"] = 7
        return ""

    @app.get("/")
    @sk.limit("1000000/minute", key=by_header("X-Tenant"))
    def view() -> str:
        return f"{session['user_id']} {sk.tenants.current().plan} {sk.flags.enabled('new-checkout')}"

    bare.get("/")(lambda: "7 free True")
    server_kit.flags.set("new-checkout", Flag())
    cookie = app.test_client().post("/login").headers["Set-Cookie"].partition(";")[0]
    ours = caller(app, cookie)
    assert ours() == b"7 free True"
    assert (
        circular(ours) < circular(caller(bare)) + 10
    )  # threads of other tests leave something too; it was 45
