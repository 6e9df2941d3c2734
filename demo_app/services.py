"""A limited API, feature flags, a third party behind a connection pool, and tenants with their own settings."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, request

from demo_app.settings import Settings
from statekit import Flag, Limit, TenantSettings
from statekit.errors import UsageError

__all__ = ["Pricing", "blueprint"]

LIMIT = Limit(100, 60)
"""What `/limited` grants each API key, in any window of sixty seconds, over all pods."""
PER_PROCESS, FLEET = 4, 12
"""Connections to the third party: how many a process may hold, and how many it granted this app in all."""
LIST_PRICE = 100


class Pricing(TenantSettings):
    """What a tenant may set."""

    plan: str = "free"
    discount: int = 0
    """Percent off the list price, as agreed with the tenant."""


def blueprint(kit: Any, settings: Settings) -> Blueprint:
    """Build the endpoints that share limits, flags, connections and tenant settings."""
    services = Blueprint("services", __name__)
    _add_limited(services, kit)
    _add_flags(services, kit)
    _add_upstream(services, kit, settings.upstream)
    _add_tenants(services, kit)
    return services


def _add_limited(services: Blueprint, kit: Any) -> None:
    by_key = kit.rate_limiter("api", LIMIT)

    @services.get("/limited")
    def limited() -> Response:
        key = request.headers.get("X-API-Key") or abort(400, "send a header X-API-Key")
        decision = by_key.hit(key)
        answer = {
            "allowed": decision.allowed,
            "remaining": decision.remaining,
            "retry_after": decision.retry_after,
        }
        response = jsonify(answer)
        response.status_code = 200 if decision.allowed else 429
        response.headers.update(decision.headers("ietf"))
        return response


def _add_flags(services: Blueprint, kit: Any) -> None:
    @services.get("/flags/<name>")
    def flag(name: str) -> dict[str, Any]:
        actor = request.args.get("actor")
        return {"enabled": kit.flags.enabled(name, actor=actor), "version": kit.flags.version}

    @services.put("/flags/<name>")
    def set_flag(name: str) -> dict[str, Any]:
        asked = document()
        try:
            wanted = Flag(enabled=asked.get("enabled", True), rollout=asked.get("rollout", 100))
        except UsageError as error:
            abort(422, str(error))
        done = kit.flags.set(name, wanted, by="demo", reason=asked.get("reason", "PUT /flags"), wait=1.0)
        return {
            "enabled": wanted.enabled,
            "version": done.version,
            "workers": done.workers,
            "acknowledged": done.acknowledged,
            "seconds": done.seconds,
        }


def _add_upstream(services: Blueprint, kit: Any, upstream: str) -> None:
    where = urlsplit(upstream)

    def open_connection() -> http.client.HTTPConnection:
        return http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5)

    kit.pools.register(
        "upstream",
        open=open_connection,
        close=lambda connection: connection.close(),
        per_process=PER_PROCESS,
        fleet=FLEET,
        idle=30,
        lifetime=3600,
    )

    @services.get("/upstream")
    def call() -> dict[str, Any]:
        with kit.pools.checkout("upstream", timeout=3.0) as connection:
            connection.request("GET", "/pay")
            return {"upstream": json.loads(connection.getresponse().read())}

    @services.get("/pools")
    def fleet() -> dict[str, Any]:
        view = kit.pools.fleet("upstream")
        return {
            "budget": view.budget,
            "shares": [
                {
                    "worker": one.worker,
                    "share": one.share,
                    "open": one.open,
                    "in_use": one.in_use,
                    "waiting": one.waiting,
                }
                for one in view.shares
            ],
        }


def _add_tenants(services: Blueprint, kit: Any) -> None:
    tenants = kit.tenants(Pricing)

    @services.get("/tenants/<name>/config")
    def config(name: str) -> dict[str, Any]:
        return {"tenant": name, "config": tenants.get(name).model_dump()}

    @services.put("/tenants/<name>/config")
    def set_config(name: str) -> dict[str, Any]:
        done = tenants.update(name, document(), by="demo", reason="PUT /tenants", wait=1.0)
        return {"tenant": name, "config": tenants.get(name).model_dump(), "version": done.version}

    @services.post("/tenants/<name>/quote")
    def quote(name: str) -> dict[str, Any]:
        extra = document().get("discount", 0)
        if isinstance(extra, bool) or not isinstance(extra, int) or not 0 <= extra <= 100:
            abort(400, '"discount" is a whole number of percent, 0 to 100')
        mine = tenants.draft(name)
        mine.discount = mine.discount + extra  # this request's own copy; nobody else is to see it
        return {
            "tenant": name,
            "discount": mine.discount,
            "price": LIST_PRICE * max(0, 100 - mine.discount) / 100,
        }


def document() -> dict[str, Any]:
    """The request's JSON object, or a 400."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(400, "send a JSON object")
    return body
