"""The middleware: shared sessions, limits and tenants around any ASGI app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Literal

from statekit import AsyncRateLimiter, AsyncSessions, AsyncStateKit, Limit
from statekit.errors import StatekitError, UsageError
from statekit.web import TrustedProxies, default_rules
from statekit_asgi.admission import Admission
from statekit_asgi.callers import Caller, by_ip, caller
from statekit_asgi.exchange import Exchange
from statekit_asgi.health import probes
from statekit_asgi.lifespan import Lifespan
from statekit_asgi.scope import App, Receive, Scope, Send
from statekit_asgi.session import AsgiSession, CookieJar
from statekit_asgi.tenancy import Resolver, resolver
from statekit_asgi.visit import CURRENT, KEY, Visit

__all__ = ["StatekitMiddleware"]


class StatekitMiddleware:
    """Shared state for an ASGI app: Starlette, FastAPI, Litestar, or a bare function.

    Example::

        app.add_middleware(StatekitMiddleware, kit=AsyncStateKit.connect(), default_limits=["1000/hour"])

    Args:
        app: the app.
        kit: where the state lies. It is loaded when the app starts, and stays yours to close. Without one,
            ``AsyncStateKit.connect()``, which is closed when the app ends.
        sessions: True for sessions with the kit's defaults, a mapping of options for ``kit.sessions``, or what
            that returned; False: none.
        lazy: a session is not loaded for its own sake; see `AsgiSession`. Requests that do not touch theirs then
            ask the store for nothing.
        limits: False decides no limit at all, for tests.
        default_limits: counted for each caller over all of the app, besides an endpoint's own.
        limit_key: who the default limits count: `by_ip`, "user", "header:X-API-Key", a function of the scope.
        trusted_proxies: the proxies in front of the app, ``["10.0.0.0/8"]``, or how many there are, so that `by_ip`
            and `client_address` tell the client's address; see `statekit.web.TrustedProxies`. By default none.
        headers: how answers announce limits: "ietf", "legacy" (``X-RateLimit-…``) or None.
        tenants: what ``kit.tenants(Settings)`` returned, or the settings class.
        tenant: finds the tenant of a request: a function of the scope, "header:X-Tenant", "path:tenant" (a
            parameter of the route) or "subdomain:example.com".
        sign_in_key: a key of the session whose change is a sign-in or sign-out, so that the id is renewed and
            the session listed under its user without a word in the app.
        health: address of the liveness check, None for no such address.
        ready: address of the readiness check, None for no such address.
        draining: returns True once the process should get no more requests.

    When the store is down: limits answer as each declares (``on_outage``), sessions answer 503 with
    Retry-After to the requests that use them, tenants go on from their local copy.
    """

    def __init__(  # noqa: PLR0913 - one visible signature for everything an app may choose
        self,
        app: App,
        kit: AsyncStateKit | None = None,
        *,
        sessions: bool | AsyncSessions | Mapping[str, Any] = True,
        lazy: bool = False,
        limits: bool = True,
        default_limits: Sequence[str | Limit | AsyncRateLimiter] = (),
        limit_key: Caller | str = by_ip,
        trusted_proxies: TrustedProxies | Sequence[str] | int | None = None,
        headers: Literal["ietf", "legacy"] | None = "ietf",
        tenants: Any = None,
        tenant: Resolver | str | None = None,
        sign_in_key: str | None = None,
        health: str | None = "/healthz",
        ready: str | None = "/readyz",
        draining: Callable[[], bool] | None = None,
    ) -> None:
        if headers not in ("ietf", "legacy", None):
            raise UsageError(f'headers={headers!r}: give "ietf", "legacy" or None')
        if tenant is not None and tenants is None:
            raise UsageError("tenant= needs tenants=: pass kit.tenants(Settings), or the settings class")
        self.app = app
        self.kit = _kit(kit)
        self.sessions = _sessions(self.kit, sessions)
        self.tenants = self.kit.tenants(tenants) if isinstance(tenants, type) else tenants
        self._owned = kit is None
        self._resolve = None if tenant is None else resolver(tenant)
        self._jar = None if self.sessions is None else CookieJar(self.sessions.cookie)
        self._style = headers
        self._sign_in_key = sign_in_key
        rules = default_rules(default_limits, caller(limit_key))
        proxies = TrustedProxies.of(trusted_proxies)
        self._admission = Admission(app, self.kit, rules, limits=limits, lazy=lazy, proxies=proxies)
        self._probes = probes(self.kit, health, ready, draining)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http" or kind == "websocket":  # noqa: PLR1714 - asked for each request
            path, above = scope["path"], scope.get("root_path")
            probe = self._probes.get(path.removeprefix(above) if above else path)
            if probe is not None and scope.get("method") in ("GET", "HEAD"):
                await probe(scope, send)
            else:
                await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await Lifespan(self.kit, owned=self._owned).run(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if KEY in scope:
            raise UsageError(
                "two StatekitMiddleware around one request: keep the outer, it sees mounted apps too"
            )
        session = None
        if self.sessions is not None and self._jar is not None:
            session = scope["session"] = AsgiSession(
                self.sessions, self._jar.pick(scope), self._sign_in_key, scope.get("method", "WEBSOCKET")
            )
        visit = scope[KEY] = Visit(self._admission, scope, session, self.tenants)
        exchange = Exchange(visit, send, self._jar, self._style)
        before = CURRENT.get()
        CURRENT.set(visit)
        try:
            if self._resolve is None:
                await self._admission.admit(visit)
                await exchange.run(self.app, receive)
            else:
                await self._serve_tenant(self._resolve, exchange, receive)
        except StatekitError as error:
            if not await exchange.refuse(error):
                raise
        finally:
            CURRENT.set(before)
            scope.pop(KEY, None)  # they hold each other: left so, each request waits for the cycle collector

    async def _serve_tenant(self, resolve: Resolver, exchange: Exchange, receive: Receive) -> None:
        visit = exchange.visit
        found = resolve(visit.seen)
        visit.tenant = await found if isawaitable(found) else found
        if visit.tenant is None:
            await self._admission.admit(visit)
            await exchange.run(self.app, receive)
            return
        async with self.tenants.scope(visit.tenant):
            await self._admission.admit(visit)
            await exchange.run(self.app, receive)


def _kit(given: AsyncStateKit | None) -> AsyncStateKit:
    if given is None:
        return AsyncStateKit.connect()
    if not isinstance(given, AsyncStateKit):
        raise UsageError(f"kit={given!r} is {type(given).__name__}: ASGI needs an AsyncStateKit")
    return given


def _sessions(kit: AsyncStateKit, wanted: bool | AsyncSessions | Mapping[str, Any]) -> AsyncSessions | None:
    if isinstance(wanted, bool):
        return kit.sessions() if wanted else None
    return kit.sessions(**wanted) if isinstance(wanted, Mapping) else wanted
