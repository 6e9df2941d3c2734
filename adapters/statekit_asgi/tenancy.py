"""Tenancy: one tenant scope a request, opened before the first limit and closed when the app has returned.

The scope is a context variable of the request's task: it holds in the endpoint, in its dependencies, in threads
started with the context, and while a streamed answer is produced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from statekit.errors import UsageError
from statekit_asgi.scope import Scope, header

__all__ = ["Resolver", "resolver"]

Resolver: TypeAlias = Callable[[Any], Any]
"""From the scope to a tenant's id, or None; may be a coroutine function."""


def resolver(spec: Resolver | str) -> Resolver:
    """Read what ``tenant=`` may say: a function, or ``header:…``, ``path:…``, ``subdomain:…``."""
    if callable(spec):
        return spec
    kind, _, name = spec.partition(":")
    if name and kind in _KINDS:
        return _KINDS[kind](name)
    raise UsageError(
        f'tenant={spec!r}: give a function, "header:X-Tenant", "path:tenant" (a parameter of the route) '
        'or "subdomain:example.com"'
    )


def _of_header(name: str) -> Resolver:
    field = name.lower().encode()
    return lambda scope: header(scope, field) or None


def _of_path(name: str) -> Resolver:
    def of(scope: Scope) -> str | None:
        value = (scope.get("path_params") or {}).get(name)
        return None if value is None else str(value)

    return of


def _of_subdomain(base: str) -> Resolver:
    wanted = base.lower()

    def of(scope: Scope) -> str | None:
        host = (header(scope, b"host") or "").partition(":")[0].lower()
        label, _, rest = host.partition(".")
        return label if rest == wanted else None

    return of


_KINDS: dict[str, Callable[[str], Resolver]] = {
    "header": _of_header,
    "path": _of_path,
    "subdomain": _of_subdomain,
}
