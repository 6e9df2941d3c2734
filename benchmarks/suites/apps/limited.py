"""The same Flask view three times: bare, limited by statekit, limited by Flask-Limiter. Called in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from flask import request as current

from benchmarks.suites.limiters import plus_redis

__all__ = ["bare", "burnt", "flask_limiter", "headed", "request", "with_statekit"]

HEADERS = {"HTTP_X_API_KEY": "key-3", "REMOTE_ADDR": "203.0.113.7"}
ROOMY = ("1000000/minute", "2000000/hour", "3000000/day")
TIGHT = ("2/hour", "5/minute", "2000/day")
"""Two a user, five a key: what the first refuses must not use up the second."""


def by_address() -> str:
    return str(current.remote_addr)


def by_user() -> str:
    return current.headers["X-User"]


def by_key() -> str:
    return current.headers["X-Api-Key"]


KEYS = (by_user, by_key, by_address)


def hello() -> dict[str, str]:
    return {"hello": "world"}


def bare() -> Flask:
    app = Flask("bare")
    app.get("/")(hello)
    return app


def with_statekit(kit: Any, *, tight: bool = False) -> Flask:
    """docs/flask.md: limits are stacked below the route."""
    from statekit_flask import StatekitFlask

    app = Flask("ours")
    sk = StatekitFlask(app, kit, sessions=False)
    view: Callable[..., Any] = hello
    for limit, key in zip(TIGHT if tight else ROOMY, KEYS, strict=True):
        view = sk.limit(limit, key=key)(view)
    app.get("/")(view)
    return app


def flask_limiter(url: str, strategy: str, *, tight: bool = False, prefix: str = "bench") -> Flask:
    """https://flask-limiter.readthedocs.io: one decorator a limit, headers enabled, storage by URI."""
    from flask_limiter import Limiter

    app = Flask("theirs")
    limiter = Limiter(
        by_address,
        app=app,
        storage_uri=plus_redis(url),
        strategy=strategy,
        headers_enabled=True,
        key_prefix=f"{prefix}-{strategy}",
    )
    view: Callable[..., Any] = hello
    for limit, key in zip(TIGHT if tight else ROOMY, KEYS, strict=True):
        view = limiter.limit(limit, key_func=key)(view)
    app.get("/")(view)
    return app


# -- calling them ----------------------------------------------------------------------------------------


def request(app: Flask, user: str = "user-7") -> Callable[[], dict[str, str]]:
    """A request to an app without a server: its environ is made once, and copied as a server would make one."""
    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder("/", environ_overrides=HEADERS | {"HTTP_X_USER": user}).get_environ()
    wsgi = app.wsgi_app

    def called() -> dict[str, str]:
        answer: dict[str, str] = {}

        def started(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            answer["status"] = status
            answer.update(headers)

        body = wsgi(environ.copy(), started)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return answer

    return called


def headed(call: Callable[[], dict[str, str]], field: str) -> str | None:
    """What is wrong with an answer: it is no success, or does not tell its limits."""
    answer = call()
    if answer["status"] != "200 OK":
        return f"it answered {answer['status']}"
    return None if field in answer else f"there is no {field} in {sorted(answer)}"


def burnt(app: Flask) -> str | None:
    """One user makes ten requests, of which two pass; three are left for the others who use the same key."""
    greedy, second, third = (request(app, user) for user in ("user-1", "user-2", "user-3"))
    for _ in range(10):
        greedy()
    passed = sum(call()["status"].startswith("200") for call in (second, second, third, third))
    return (
        None
        if passed == 3
        else f"of 3 requests still to be had, {passed} passed: refused ones had been charged"
    )
