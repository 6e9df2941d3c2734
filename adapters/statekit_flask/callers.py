"""Callers: who a request is counted for. Each function answers with the key a limit is kept under.

Rule 1: keys of different kinds never meet, whatever a client sends: an address starts with ``ip=``, a
        principal with ``user=``, a header with ``header=``.
Rule 2: no key is ever missing: who cannot be told apart otherwise is counted by address.
Rule 3: a header may be a credential, so its digest is stored, never its text.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeAlias

from flask import request

from statekit.errors import UsageError
from statekit_flask.session import current_session

__all__ = ["Caller", "by_header", "by_ip", "by_user", "caller"]

Caller: TypeAlias = Callable[[], str]

HOUSEHOLD = 64
"""Bits of an IPv6 address that name a subscriber; the rest is theirs to change at will."""


def by_ip() -> str:
    """The address of the peer, ``ip=203.0.113.7``; for IPv6 its /64, ``ip=2001:db8:1:2::/64``.

    Reads ``request.remote_addr`` and no header: behind a proxy, wrap the app in
    `werkzeug.middleware.proxy_fix.ProxyFix`, which knows how many proxies to trust. A peer without an address
    (a unix socket) is ``ip=unknown``.
    """
    return "ip=" + network(request.remote_addr or "unknown")


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
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f'header={name!r} is not the name of a header: for example by_header("X-API-Key")')
    return partial(_by_header, name, secret)


def caller(spec: Caller | str) -> Caller:
    """Read what ``key=`` may say: a function, ``"ip"``, ``"user"`` or ``"header:X-API-Key"``."""
    if callable(spec):
        return spec
    kind, _, name = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    match kind:
        case "ip" if not name:
            return by_ip
        case "user" if not name:
            return by_user
        case "header" if name:
            return by_header(name)
    raise UsageError(f'key={spec!r}: give a function, "ip", "user" or "header:X-API-Key"')


def caller_name(function: Caller) -> str:
    """A name for a caller that is the same in every process; part of the name of a limit."""
    if isinstance(function, partial) and function.func is _by_header:
        return f"by_header({function.args[0].lower()})"
    return getattr(function, "__name__", type(function).__name__)


def _by_header(name: str, secret: bool) -> str:
    value = request.headers.get(name)
    if not value:
        return by_ip()
    if secret:
        value = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"header={value}"


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Group an address: IPv4 as it is, IPv6 by /64, IPv4 written as IPv6 (``::ffff:…``) as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, HOUSEHOLD), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
