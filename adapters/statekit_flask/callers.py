"""Callers: who a request is counted for. Each function answers with the key a limit is kept under.

See `statekit.web.callers` for the rules that hold in every framework.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from flask import current_app, request

from statekit.web import Kind, digest, header_name, kind_of, named_kind, network
from statekit_flask.session import current_session

__all__ = ["Caller", "by_header", "by_ip", "by_user", "caller", "client_address"]

Caller: TypeAlias = Callable[[], str]


def by_ip() -> str:
    """The address of the peer, ``ip=203.0.113.7``; for IPv6 its /64, ``ip=2001:db8:1:2::/64``.

    Behind proxies that were named, ``StatekitFlask(…, trusted_proxies=["10.0.0.0/8"])``, it is the client's
    address; otherwise no header is read. A peer without an address (a unix socket) is ``ip=unknown``.
    """
    return "ip=" + network(client_address() or "unknown")


def client_address() -> str | None:
    """The address the current request comes from: the peer's, or the one that ``trusted_proxies=`` tell.

    None if there is none: a unix socket.
    """
    wired, peer = current_app.extensions.get("statekit"), request.remote_addr or None
    proxies = None if wired is None else wired.proxies
    return peer if proxies is None else proxies.client(peer, request.headers.get(proxies.header))


def by_user() -> str:
    """The principal of the session, ``user=user:7``; a visitor who is not signed in is counted by address.

    Loads the session. It cannot travel together with the limit then, because the limit's key is in it: such a
    request makes two round trips.
    """
    session = current_session()
    principal = None if session is None else session.principal
    return by_ip() if principal is None else f"user={principal}"


def by_header(name: str, *, secret: bool = True) -> Caller:
    """Make a caller of a header, ``by_header("X-API-Key")``; without the header, counted by address.

    The store sees ``header=`` and a digest of the value, as an API key is a credential; ``secret=False``
    keeps the value readable.
    """
    by = partial(_by_header, header_name(name), secret)
    return named_kind(by, f"by_header({name.lower()})")  # type: ignore[no-any-return]


def caller(spec: Caller | str) -> Caller:
    """Read what ``key=`` may say: a function, ``"ip"``, ``"user"`` or ``"header:X-API-Key"``."""
    if callable(spec):
        return spec
    kind, name = kind_of(spec)
    if kind is Kind.IP:
        return by_ip
    return by_user if kind is Kind.USER else by_header(name)


def _by_header(name: str, secret: bool) -> str:
    value = request.headers.get(name)
    if not value:
        return by_ip()
    return f"header={digest(value) if secret else value}"
