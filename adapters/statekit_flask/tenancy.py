"""Tenancy: one tenant scope a request, opened before the first limit and closed when the request ends.

A response streamed with ``stream_with_context`` is produced after Flask has ended the request; Flask pushes
the contexts once more for it, and the scope is opened again with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from flask import Flask, appcontext_pushed, g, request

from statekit.errors import UsageError
from statekit_flask.visit import Visit, current_request, current_visit, visit

__all__ = ["Resolver", "Tenancy", "resolver"]

Resolver: TypeAlias = Callable[[], str | None]


class Tenancy:
    """Opens and closes the scope of the tenant a request belongs to."""

    def __init__(self, tenants: Any, resolve: Resolver) -> None:
        self._tenants = tenants
        self._resolve = resolve

    def attach(self, app: Flask) -> None:
        """Close the scope with the request, whatever became of it."""
        app.teardown_request(self._close)
        appcontext_pushed.connect(self._streaming, app)

    def open(self) -> None:
        """Find the current request's tenant and enter its scope; no tenant, no scope."""
        current = visit()
        current.tenant = self._resolve()
        self._enter(current)

    def current(self) -> Any:
        """The settings of the current request's tenant; None where there is no tenant."""
        found = current_visit()
        return self._tenants.current() if found is not None and found.scope is not None else None

    def _enter(self, current: Visit) -> None:
        if current.tenant is not None and current.scope is None:
            scope = self._tenants.scope(current.tenant)
            scope.__enter__()
            current.scope = scope

    def _streaming(self, _app: Flask, **_: Any) -> None:
        current: Visit | None = g.get("statekit")
        if current is not None:
            self._enter(current)

    def _close(self, _error: BaseException | None = None) -> None:
        current = visit()
        if current.scope is not None and current.is_at_home():
            scope, current.scope = current.scope, None
            scope.__exit__(None, None, None)


def resolver(spec: Resolver | str) -> Resolver:
    """Read what ``tenant=`` may say: a function, or ``header:…``, ``view:…``, ``subdomain:…``."""
    if callable(spec):
        return spec
    kind, _, name = spec.partition(":")
    if name and kind in _KINDS:
        return lambda: _KINDS[kind](name)
    raise UsageError(
        f'tenant={spec!r}: give a function, "header:X-Tenant", "view:tenant" (an argument of the URL rule) '
        'or "subdomain:example.com"'
    )


def _of_header(name: str) -> str | None:
    return current_request().headers.get(name) or None


def _of_view(name: str) -> str | None:
    value = (request.view_args or {}).get(name)
    return None if value is None else str(value)


def _of_subdomain(base: str) -> str | None:
    host = request.host.partition(":")[0].lower()
    label, _, rest = host.partition(".")
    return label if rest == base.lower() else None


_KINDS: dict[str, Callable[[str], str | None]] = {
    "header": _of_header,
    "view": _of_view,
    "subdomain": _of_subdomain,
}
