"""Limits on endpoints of Starlette, Litestar and bare ASGI; FastAPI's are dependencies (`statekit_asgi.fastapi`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import iscoroutinefunction, isroutine, unwrap
from typing import Any, TypeVar

from statekit import AsyncRateLimiter, Limit
from statekit.errors import UsageError
from statekit.sessions.model import checked_outage
from statekit.web import Marks, Rule, label, mark, marks
from statekit_asgi.callers import Caller, by_ip, caller
from statekit_asgi.visit import visit

__all__ = ["Cost", "LimitSpec", "exempt", "limit", "session_outage", "verbs"]

T = TypeVar("T", bound=Callable[..., Any])
LimitSpec = str | Limit | AsyncRateLimiter | Callable[[Any], Any]
Cost = int | Callable[[Any], Any]


def limit(
    *limits: LimitSpec,
    key: Caller | str = by_ip,
    cost: Cost = 1,
    name: str | None = None,
    methods: Iterable[str] | None = None,
    **options: Any,
) -> Callable[[T], T]:
    """Limit an endpoint; several may be stacked.

    Example::

        @limit("10/hour", key=by_user)
        @limit("100/minute", "1000/hour", key="header:X-API-Key")
        async def export(request): ...

    All limits of a request, the middleware's `default_limits` included, are one decision in one round trip: all
    are charged, or none is and the answer is 429. It is made before the endpoint runs and before the body is read.

    Args:
        limits: rates such as "5/minute", a limiter of the kit to share with others, or a function of the scope
            that returns rates (a tenant's, a plan's).
        key: who is counted: `by_ip`, "user", "header:X-API-Key", or a function of the scope.
        cost: what a request costs: a number or a function of the scope.
        name: the limiter's name; the same name is the same count. By default the endpoint's dotted name.
        methods: the HTTP methods counted; by default all but OPTIONS. A websocket's handshake is a GET.
        options: ``algorithm``, ``on_outage``, ``shadow``: see `AsyncStateKit.rate_limiter`.

    Functions may be coroutine functions. In the scope they get, ``path_params`` are filled in.
    """
    who = caller(key)

    def decorate(endpoint: T) -> T:
        taken = marks(endpoint).rules
        rule = Rule(name or label(endpoint, who, taken), limits, who, cost, verbs(methods), options=options)
        limited: T = _deciding(endpoint, rule)
        mark(limited, Marks((rule,)))
        return limited

    return decorate


def exempt(target: T) -> T:
    """Free an endpoint, or an app that is mounted (static files), from the default limits; its own still hold."""
    mark(target, Marks(exempt=True))
    return target


def session_outage(on_outage: str) -> Callable[[T], T]:
    """Say what the session of an endpoint shows while the store is away, instead of a 503.

    Example::

        @session_outage("last-seen")
        async def home(request): ...

    ``"anonymous"``: an empty session. ``"last-seen"``: to GET and HEAD, what this process saw last under the visitor's
    id, no older than the sessions' ``last_seen_for``; if it has seen none, and to all other methods, 503, since others
    may have ended that session. Both have ``session.degraded`` true. A change of an empty one by POST, PUT, PATCH or
    DELETE is answered 503: nothing pretends to be saved. ``"raise"``: 503. A websocket counts as a POST. In FastAPI it
    may be said by a dependency: `statekit_asgi.fastapi.session`.
    """
    said = checked_outage(on_outage)

    def decorate(endpoint: T) -> T:
        declaring: T = _declaring(endpoint, said)
        mark(declaring, Marks(session_outage=said))
        return declaring

    return decorate


def verbs(methods: Iterable[str] | None) -> frozenset[str] | None:
    """Spell methods as requests do."""
    return None if methods is None else frozenset(method.upper() for method in methods)


def _deciding(endpoint: Any, rule: Rule) -> Any:
    """Wrap an endpoint: the wrapper decides what the middleware could not see from outside."""
    if not callable(endpoint) or isinstance(endpoint, type):
        raise UsageError(f"limit(…) takes a function, not {endpoint!r}: put it on the methods of a class")
    if not iscoroutinefunction(unwrap(endpoint)):
        return _decided(endpoint, rule)

    @wraps(endpoint)
    async def deciding(*args: Any, **kwargs: Any) -> Any:
        await visit().enforce(rule)
        return await endpoint(*args, **kwargs)

    return deciding


def _decided(endpoint: Any, rule: Rule) -> Any:
    """A plain function runs in a thread, where nothing can be awaited: it must have been decided before."""

    @wraps(endpoint)
    def checking(*args: Any, **kwargs: Any) -> Any:
        if not visit().has_decided(rule):
            raise UsageError(
                f"the limit of {endpoint.__qualname__} was not seen when the request came: make it the outermost "
                "decorator of the endpoint, or make the endpoint a coroutine function"
            )
        return endpoint(*args, **kwargs)

    return checking


def _declaring(endpoint: Any, said: str) -> Any:
    """Wrap a function: the wrapper says what the middleware could not see from outside."""
    if not isroutine(endpoint):
        return endpoint
    if not iscoroutinefunction(unwrap(endpoint)):

        @wraps(endpoint)
        def calling(*args: Any, **kwargs: Any) -> Any:
            visit().declare(said)
            return endpoint(*args, **kwargs)

        return calling

    @wraps(endpoint)
    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        visit().declare(said)
        return await endpoint(*args, **kwargs)

    return awaiting
