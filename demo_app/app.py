"""The demo app: a small SaaS in Flask. What it promises over HTTP stands in ``docs/demo.md``.

Nothing here knows whether state is shared: `demo_app.state` chose the kit, the rest is the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from demo_app import services, shop
from demo_app.settings import Settings, State
from demo_app.state import kit_for
from statekit_flask import StatekitFlask

__all__ = ["create_app"]


def create_app(settings: Settings) -> Flask:
    """Build the app of one pod. Nothing is opened before the first request, so a master may fork it."""
    app = Flask(__name__)
    app.config["POD"] = settings.pod
    kit = app.extensions["kit"] = kit_for(settings)
    sk = StatekitFlask(app, kit, sessions=True, health=None, ready=None)
    app.register_blueprint(shop.blueprint(sk))
    app.register_blueprint(services.blueprint(kit, settings))
    app.after_request(_signed(settings.pod))
    app.register_error_handler(HTTPException, _refusal)
    _add_probes(app, settings)
    _add_page(app, settings)
    return app


def _add_page(app: Flask, settings: Settings) -> None:
    """Add the live page. It asks each of its peers in turn, as a balancer would; nobody else may from a browser."""
    peers = [one.strip() for one in settings.peers.split(",") if one.strip()]
    app.add_url_rule("/", "page", lambda: render_template("page.html", state=settings.state, peers=peers))

    @app.after_request
    def admit_peers(response: Response) -> Response:
        origin = request.headers.get("Origin", "")
        if origin in peers:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Allow-Headers"] = "Content-Type, X-API-Key"
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
            response.headers["Access-Control-Max-Age"] = "600"
            response.vary.add("Origin")
        return response


def _add_probes(app: Flask, settings: Settings) -> None:
    """Add what an orchestrator asks: does the process live, and may it be sent requests."""
    kit, drain = app.extensions["kit"], Path(settings.drain_file) if settings.drain_file else None

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        return {"alive": True}

    @app.get("/readyz")
    def readyz() -> tuple[dict[str, Any], int]:
        if drain is not None and drain.exists():
            return {"ready": False, "reason": "draining"}, 503
        if settings.state == State.SHARED:
            kit.ping()
        return {"ready": True}, 200


def _signed(pod: str) -> Any:
    """Put into every JSON answer who gave it."""

    def sign(response: Response) -> Response:
        document = response.get_json() if response.is_json else None
        if isinstance(document, dict):
            kind = response.content_type
            response.data = app_json({**document, "pod": pod, "pid": os.getpid()})
            response.content_type = kind
        response.headers["Cache-Control"] = "no-store"
        return response

    return sign


def app_json(document: dict[str, Any]) -> bytes:
    body: bytes = jsonify(document).data
    return body


def _refusal(error: HTTPException) -> Any:
    return {"error": error.description, "status": error.code, "path": request.path}, error.code
