"""One small shop for Flask, three times: bare, with statekit, with Flask-Limiter and Flask-Session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from statekit import Flag, StateKit, TenantSettings

CART = ["apple", "pear"]
DEFAULT, OWN = "1000000/hour", "100000/minute"
"""Two limits that refuse nobody here."""
SCARCE = 20
"""What the endpoint that shows whether limits hold lets through."""


class Settings(TenantSettings):
    plan: str = "free"
    discount: int = 0


def bare() -> Any:
    """The shop without any state."""
    from flask import Flask

    app = Flask("bare")

    @app.get("/cart")
    def cart() -> dict[str, Any]:
        return {"items": CART, "discount": 5, "new": True}

    @app.post("/fill")
    def fill() -> str:
        return ""

    return app


def with_statekit(kit: StateKit, *, limits: bool = True, session: bool = True) -> Any:
    """A session, two limits, a flag and a tenant. docs/flask.md."""
    from flask import Flask
    from flask import session as visit

    from statekit_flask import StatekitFlask

    app = Flask("statekit")
    options: dict[str, Any] = {"tenants": Settings, "tenant": "header:X-Tenant"}
    sk = StatekitFlask(app, kit, default_limits=[DEFAULT] if limits else [], **options)

    @app.get("/cart")
    @_if(limits, sk.limit(OWN))
    def cart() -> dict[str, Any]:
        items = visit["items"] if session else CART
        return {
            "items": items,
            "discount": sk.tenants.current().discount,
            "new": sk.flags.enabled("new-checkout"),
        }

    @app.post("/fill")
    def fill() -> str:
        visit["items"] = CART
        return ""

    @app.get("/scarce")
    @_if(limits, sk.limit(f"{SCARCE}/hour"))
    def scarce() -> str:
        return ""

    kit.flags.set("new-checkout", Flag())
    sk.tenants.update("acme", {"discount": 5})
    return app


def with_peers(
    url: str, *, strategy: str = "moving-window", limits: bool = True, session: bool = True
) -> Any:
    """A session and two limits.

    https://flask-limiter.readthedocs.io (Quickstart, "Configuring a storage backend", headers enabled) and
    https://flask-session.readthedocs.io/en/latest/usage.html (Quickstart), with their defaults: msgpack.
    """
    import redis
    from flask import Flask
    from flask import session as visit
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address
    from flask_session import Session

    app = Flask("peers")
    if session:
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url))
        Session(app)
    limiter = Limiter(
        get_remote_address,
        app=app if limits else None,
        application_limits=[DEFAULT],
        storage_uri=url.replace("unix:", "redis+unix:"),
        strategy=strategy,
        headers_enabled=True,
        key_prefix=strategy,  # the strategies write different types under the same names
    )

    @app.get("/cart")
    @_if(limits, limiter.limit(OWN))
    def cart() -> dict[str, Any]:
        return {"items": visit["items"] if session else CART, "discount": 5, "new": True}

    @app.post("/fill")
    def fill() -> str:
        if session:
            visit["items"] = CART
        return ""

    @app.get("/scarce")
    @_if(limits, limiter.limit(f"{SCARCE}/hour"))
    def scarce() -> str:
        return ""

    return app


def caller(app: Any, path: str = "/cart", address: str = "203.0.113.9") -> Callable[[], tuple[str, bytes]]:
    """Call the app as a WSGI server would, with a visitor's cookie; everything is prepared once."""
    from werkzeug.test import Client, EnvironBuilder

    browser = Client(app)
    filled = browser.post("/fill", headers={"X-Tenant": "acme"})
    cookie = "; ".join(line.partition(";")[0] for line in filled.headers.getlist("Set-Cookie"))
    headers = {"X-Tenant": "acme", "Cookie": cookie, "User-Agent": "bench", "Accept": "*/*"}
    environ = EnvironBuilder(path=path, headers=headers, environ_base={"REMOTE_ADDR": address}).get_environ()

    def call() -> tuple[str, bytes]:
        begun: list[str] = []

        def start_response(status: str, _: Sequence[tuple[str, str]], __: Any = None) -> Any:
            begun.append(status)

        answer = app(dict(environ), start_response)
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        return begun[0], body

    return call


def _if(wanted: bool, decorator: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return decorator if wanted else lambda view: view
