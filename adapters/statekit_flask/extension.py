"""The extension: one object that gives a Flask app shared sessions, limits, flags, tenants and health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction, unwrap
from typing import Any, Literal, TypeVar

from flask import Blueprint, Flask, current_app, has_app_context

from statekit import Decision, Limit, RateLimiter, Sessions, StateKit
from statekit.errors import UsageError
from statekit.sessions.model import checked_outage
from statekit.web import Marks, Rule, TrustedProxies, default_rules
from statekit_flask.callers import Caller, by_ip, caller
from statekit_flask.flags import Actor, BoundFlags, principal_in_use
from statekit_flask.rules import LIMITED, Cost, LimitSpec, mark, named
from statekit_flask.session import FlaskSession, current_session
from statekit_flask.tenancy import Resolver, resolver
from statekit_flask.visit import visit
from statekit_flask.wired import Options, Wired

__all__ = ["StatekitFlask"]

Target = TypeVar("Target", bound="Callable[..., Any] | Blueprint")


class StatekitFlask:
    """Shared state for a Flask app.

    Example::

        sk = StatekitFlask(app, kit, default_limits=["1000/hour"])

        @app.post("/login")
        @sk.limit("5/minute", key=by_ip)
        def login(): ...

    Args:
        app: the app; or call `init_app` later, also for several apps.
        kit: where the state lies; without one, ``StateKit.connect`` of the setting ``STATEKIT_URL`` with the
            namespace ``STATEKIT_NAMESPACE``.
        sessions: True for sessions with the kit's defaults, a mapping of options for ``kit.sessions``, or what
            that returned; False leaves Flask's own cookie sessions in place.
        default_limits: counted for each caller over all endpoints of the app, besides the endpoint's own.
        limit_key: who a limit counts unless it says otherwise: `by_ip`, "user", "header:X-API-Key", a function.
        trusted_proxies: the proxies in front of the app, ``["10.0.0.0/8"]``, or how many there are, so that `by_ip`
            and `client_address` tell the client's address; see `statekit.web.TrustedProxies`. By default none.
        headers: how answers announce limits: "ietf", "legacy" (``X-RateLimit-…``) or None.
        tenants: what ``kit.tenants(Settings)`` returned, or the settings class.
        tenant: finds the tenant of a request: a function, "header:X-Tenant", "view:tenant" (an argument of the
            URL rule) or "subdomain:example.com".
        actor: who flags are evaluated for; by default the session's principal if the request has already used
            its session. Pass `session_principal` to load it for that.
        sign_in_key: a key of the session whose change is a sign-in or sign-out, so that the id is renewed and
            the session listed under its user without a word in the app; "_user_id" is flask-login's.
        health: address of the liveness check, None for no such address.
        ready: address of the readiness check, None for no such address.
        draining: returns True once the process should get no more requests.

    When the store is down: limits answer as each declares (``on_outage``), sessions answer 503 with
    Retry-After to the requests that use them, flags and tenants go on from their local copy.
    """

    def __init__(  # noqa: PLR0913 - one visible signature for everything an app may choose
        self,
        app: Flask | None = None,
        kit: StateKit | None = None,
        *,
        sessions: bool | Sessions | Mapping[str, Any] = True,
        default_limits: Sequence[str | Limit | RateLimiter] = (),
        limit_key: Caller | str = by_ip,
        trusted_proxies: TrustedProxies | Sequence[str] | int | None = None,
        headers: Literal["ietf", "legacy"] | None = "ietf",
        tenants: Any = None,
        tenant: Resolver | str | None = None,
        actor: Actor = principal_in_use,
        sign_in_key: str | None = "_user_id",
        health: str | None = "/healthz",
        ready: str | None = "/readyz",
        draining: Callable[[], bool] | None = None,
    ) -> None:
        if headers not in ("ietf", "legacy", None):
            raise UsageError(f'headers={headers!r}: give "ietf", "legacy" or None')
        if tenant is not None and tenants is None:
            raise UsageError("tenant= needs tenants=: pass kit.tenants(Settings), or the settings class")
        self._given_kit = kit
        self._caller = caller(limit_key)
        self._options = Options(
            sessions=sessions,
            defaults=default_rules(default_limits, self._caller),
            headers=headers,
            proxies=TrustedProxies.of(trusted_proxies),
            tenants=tenants,
            tenant=None if tenant is None else resolver(tenant),
            actor=actor,
            sign_in_key=sign_in_key,
            health=health,
            ready=ready,
            draining=draining,
        )
        self._latest: Wired | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, kit: StateKit | None = None) -> None:
        """Wire an app. Opens no connection and starts no thread: an app made before a fork is fine."""
        if "statekit" in app.extensions:
            raise UsageError(f"statekit is already wired to the app {app.name!r}: call init_app once")
        chosen = kit or self._given_kit or _connected(app)
        if not isinstance(chosen, StateKit):
            raise UsageError(
                f"kit={chosen!r} is {type(chosen).__name__}: Flask needs a StateKit, the blocking one"
            )
        self._latest = Wired(app, chosen, self._options)
        app.extensions["statekit"] = self._latest

    # -- limits ------------------------------------------------------------------------------------------

    def limit(
        self,
        *limits: LimitSpec,
        key: Caller | str | None = None,
        cost: Cost = 1,
        name: str | None = None,
        methods: Iterable[str] | None = None,
        late: bool = False,
        **options: Any,
    ) -> Callable[[Target], Target]:
        """Limit a view (below ``@app.route``) or a blueprint; several may be stacked.

        Example::

            @app.post("/exports")
            @sk.limit("10/hour", key=by_user)
            @sk.limit("100/minute", "1000/hour", key="header:X-API-Key", cost=lambda: len(request.json["rows"]))
            def export(): ...

        All limits of a request are one decision in one round trip: all are charged, or none is and the answer
        is 429. The decision is at ``sk.decision`` and in the answer's headers.

        Args:
            limits: rates such as "5/minute", a `RateLimiter` to share with others, or a function that returns
                rates for the current request (a tenant's, a plan's).
            key: who is counted; by default what the extension was told.
            cost: what a request costs: a number or a function.
            name: the limiter's name; the same name is the same count. By default the view's dotted name.
            methods: the HTTP methods counted; by default all but OPTIONS.
            late: decide when the view is entered, not before: for a key that earlier ``before_request``
                functions make. Costs a round trip of its own.
            options: ``algorithm``, ``on_outage``, ``shadow``: see `StateKit.rate_limiter`.
        """
        who = self._caller if key is None else caller(key)
        verbs = None if methods is None else frozenset(method.upper() for method in methods)

        def decorate(target: Target) -> Target:
            rule = Rule(name or named(target, who), limits, who, cost, verbs, late, options)
            limited = target if isinstance(target, Blueprint) else _deciding(target, rule)
            mark(limited, Marks((rule,)))
            return limited

        return decorate

    def exempt(self, target: Target) -> Target:
        """Free a view or a blueprint from the default limits; limits of its own still hold."""
        mark(target, Marks(exempt=True))
        return target

    def enforce(self, decision: Decision) -> Decision:
        """Let a decision the view took itself count: into the headers, and 429 if it is a refusal."""
        self.wired.admission.conclude(decision)
        return decision

    @property
    def decision(self) -> Decision | None:
        """The current request's decision: of several, the refusal, else the one with the least left."""
        return visit().decision

    # -- sessions ----------------------------------------------------------------------------------------

    @property
    def session(self) -> FlaskSession:
        """The current request's session: `flask.session`, with its type."""
        session = current_session()
        if session is None:
            raise UsageError("this app has no statekit sessions, or no request is under way")
        return session

    def session_outage(self, on_outage: str) -> Callable[[Target], Target]:
        """Say what the session of a view or a blueprint shows while the store is away, instead of a 503.

        Example::

            @app.get("/")
            @sk.session_outage("last-seen")
            def home():
                return render_template("home.html", stale=session.age)

        ``"anonymous"``: an empty session. ``"last-seen"``: to GET and HEAD, what this process saw last under the
        visitor's id, no older than the sessions' ``last_seen_for``; if it has seen none, and to all other methods, 503,
        since others may have ended that session. Both have ``session.degraded`` true. A change of an empty one by POST,
        PUT, PATCH or DELETE is answered 503: nothing pretends to be saved. ``"raise"``: 503. A view's word counts before its blueprint's, and that before what the sessions were made with.
        """
        said = Marks(session_outage=checked_outage(on_outage))

        def decorate(target: Target) -> Target:
            mark(target, said)
            return target

        return decorate

    def sign_in(self, principal: str) -> None:
        """Sign a user in: the session keeps its data, gets a new id, and is listed under `principal`."""
        self.session.sign_in(principal)

    def sign_out(self) -> None:
        """Sign the user out: the session ends and its cookie is taken away, when the request ends."""
        self.session.sign_out()

    # -- what the kit hands out --------------------------------------------------------------------------

    @property
    def wired(self) -> Wired:
        """What belongs to the current app; outside of any, the app wired last."""
        found = current_app.extensions.get("statekit") if has_app_context() else self._latest
        if found is None:
            raise UsageError("statekit is not wired to this app: StatekitFlask(app, kit) or sk.init_app(app)")
        return found

    @property
    def kit(self) -> StateKit:
        """The kit in use."""
        return self.wired.kit

    @property
    def flags(self) -> BoundFlags:
        """Feature flags with the current request's actor and tenant filled in."""
        return self.wired.flags

    @property
    def sessions(self) -> Sessions | None:
        """The session store: ``sk.sessions.sessions_of("user:7")``, ``revoke``, ``revoke_all``."""
        return self.wired.sessions

    @property
    def tenants(self) -> Any:
        """The tenant registry."""
        return self.wired.tenants


def _connected(app: Flask) -> StateKit:
    return StateKit.connect(app.config.get("STATEKIT_URL"), app.config.get("STATEKIT_NAMESPACE", "statekit"))


def _deciding(view: Any, rule: Rule) -> Any:
    """Wrap a view: the wrapper decides what could not be decided before."""
    waits = iscoroutinefunction(view)

    @wraps(view)
    def deciding(*args: Any, **kwargs: Any) -> Any:
        if rule not in visit().decided:
            found = current_app.extensions.get("statekit")
            if found is None:
                raise UsageError(
                    "a limit holds only once StatekitFlask(app, kit) or sk.init_app(app) has run"
                )
            found.admission.enforce([rule])
        return (current_app.ensure_sync(view) if waits else view)(*args, **kwargs)

    setattr(unwrap(view), LIMITED, True)
    return deciding
