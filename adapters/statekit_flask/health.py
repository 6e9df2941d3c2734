"""Health: two addresses for whoever runs the process.

``/healthz`` says that the process answers; it never asks the store, so a store that is down does not make an
orchestrator kill every pod. ``/readyz`` says whether to send requests here: it pings the store, and answers
503 while the process is being drained.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify

from statekit import StateKit
from statekit.errors import StoreError
from statekit.web import Problem
from statekit_flask.problems import problem

__all__ = ["PROBES", "add_health"]

Draining = Callable[[], bool]
PROBES = frozenset({"statekit_health", "statekit_ready"})
"""The endpoints; no limit, no tenant and no session concerns them."""


def add_health(
    app: Flask, kit: StateKit, health: str | None, ready: str | None, draining: Draining | None
) -> None:
    """Register the two views."""
    if health:
        app.add_url_rule(health, "statekit_health", _alive, methods=["GET"])
    if ready:
        app.add_url_rule(ready, "statekit_ready", lambda: _ready(kit, draining), methods=["GET"])


def _alive() -> Response:
    return _uncached(jsonify(status="ok", pid=os.getpid()))


def _ready(kit: StateKit, draining: Draining | None) -> Response:
    if draining is not None and draining():
        return _uncached(
            problem(Problem(503, "This process is being drained", "Send requests to another one."))
        )
    try:
        seconds = kit.ping()
    except StoreError as error:
        return _uncached(problem(Problem(503, "The store does not answer", str(error), retry_after=1)))
    return _uncached(jsonify(status="ok", pid=os.getpid(), store_ms=round(seconds * 1000, 3)))


def _uncached(response: Any) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response  # type: ignore[no-any-return]
