"""Signing in and filling a cart: what a session is for."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, request, session

__all__ = ["blueprint"]

LONGEST_NAME = 80


def blueprint(sk: Any) -> Blueprint:
    """Build the endpoints that work on a session."""
    shop = Blueprint("shop", __name__)

    @shop.post("/login")
    def login() -> dict[str, Any]:
        user = asked_for("user")
        sk.sign_in(f"user:{user}")
        session["user"] = user
        session["cart"] = []
        return {"user": user}

    @shop.post("/logout")
    def logout() -> dict[str, Any]:
        sk.sign_out()
        return {"user": None}

    @shop.get("/me")
    def me() -> dict[str, Any]:
        return {"user": signed_in()}

    @shop.get("/cart")
    def cart() -> dict[str, Any]:
        signed_in()
        return {"items": session["cart"]}

    @shop.post("/cart")
    def add() -> dict[str, Any]:
        signed_in()
        session["cart"] = [*session["cart"], asked_for("item")]
        return {"items": session["cart"]}

    add_devices(shop, sk)
    return shop


def add_devices(shop: Blueprint, sk: Any) -> None:
    """Add the endpoints with which users see where they are signed in, and end it."""

    @shop.get("/sessions")
    def sessions() -> dict[str, Any]:
        principal = f"user:{signed_in()}"
        return {
            "sessions": [
                {
                    "handle": one.handle,
                    "created": one.created.isoformat(),
                    "last_seen": one.last_seen.isoformat(),
                    "this": one.handle == sk.session.handle,
                }
                for one in sk.sessions.sessions_of(principal)
            ]
        }

    @shop.delete("/sessions/<handle>")
    def revoke(handle: str) -> dict[str, Any]:
        mine = {one.handle for one in sk.sessions.sessions_of(f"user:{signed_in()}")}
        return {"revoked": handle in mine and sk.sessions.revoke(handle)}


def signed_in() -> str:
    """The user of this session, or a 401."""
    user = session.get("user")
    if user is None:
        abort(401, "sign in first: POST /login")
    return str(user)


def asked_for(name: str) -> str:
    """A text the request's JSON body must carry, or a 400 that names it."""
    document = request.get_json(silent=True)
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        abort(400, f'send JSON with "{name}", a text of 1 to {LONGEST_NAME} characters')
    return value
