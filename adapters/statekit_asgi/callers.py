"""Callers: who a request is counted for. Each function takes the ASGI scope and returns the limit's key.

See `statekit.web.callers` for the rules that hold in every framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from statekit.web import Kind, digest, header_name, kind_of, named_kind, network
from statekit_asgi.scope import Scope, header
from statekit_asgi.visit import client_address, load_session

__all__ = ["Caller", "by_header", "by_ip", "by_user", "caller"]

Caller: TypeAlias = Callable[[Any], "str | Awaitable[str]"]


def by_ip(scope: Scope) -> str:
    """The address of the peer, ``ip=203.0.113.7``; for IPv6 its /64, ``ip=2001:db8:1:2::/64``.

    Behind proxies that were named, ``StatekitMiddleware(…, trusted_proxies=["10.0.0.0/8"])``, it is the client's
    address; otherwise no header is read. A peer without an address (a unix socket) is ``ip=unknown``.
    """
    return "ip=" + network(client_address(scope) or "unknown")


async def by_user(scope: Scope) -> str:
    """The principal of the session, ``user=user:7``; a visitor who is not signed in is counted by address.

    Loads the session. It cannot travel together with the limit then, because the limit's key is in it: such a
    request makes two round trips.
    """
    session = await load_session(scope)
    principal = session.principal
    return by_ip(scope) if principal is None else f"user={principal}"


def by_header(name: str, *, secret: bool = True) -> Caller:
    """Make a caller of a header, ``by_header("X-API-Key")``; without the header, counted by address.

    The store sees ``header=`` and a digest of the value, as an API key is a credential; ``secret=False``
    keeps the value readable.
    """
    field = header_name(name).lower().encode()

    def by(scope: Scope) -> str:
        value = header(scope, field)
        if not value:
            return by_ip(scope)
        return f"header={digest(value) if secret else value}"

    return named_kind(by, f"by_header({name.lower()})")  # type: ignore[no-any-return]


def caller(spec: Caller | str) -> Caller:
    """Read what ``key=`` may say: a function, ``"ip"``, ``"user"`` or ``"header:X-API-Key"``."""
    if callable(spec):
        return spec
    kind, name = kind_of(spec)
    if kind is Kind.IP:
        return by_ip
    return by_user if kind is Kind.USER else by_header(name)
