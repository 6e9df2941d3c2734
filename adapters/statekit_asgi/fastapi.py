"""FastAPI: the session, the tenant and limits as dependencies.

::

    @app.post("/orders")
    async def order(session: SessionDep, tenant: TenantDep, _: Annotated[Decision, limit("5/minute")]): ...

The middleware looks up what an endpoint depends on before it runs, so all of it is one round trip, however many
dependencies there are and whatever their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from statekit import Decision
from statekit.errors import OutsideScope
from statekit.sessions.model import checked_outage
from statekit.web import Rule, label
from statekit_asgi.callers import Caller, by_ip, caller
from statekit_asgi.endpoints import Cost, LimitSpec, verbs
from statekit_asgi.routes import DECLARED, USES_SESSION
from statekit_asgi.session import AsgiSession
from statekit_asgi.visit import load_session, visit_of

__all__ = ["SessionDep", "TenantDep", "limit", "session"]


def limit(
    *limits: LimitSpec,
    key: Caller | str = by_ip,
    cost: Cost = 1,
    name: str | None = None,
    methods: Iterable[str] | None = None,
    **options: Any,
) -> Any:
    """Limit an endpoint, a router or an app that depends on it; see `statekit_asgi.limit` for the arguments.

    Example::

        @app.post("/login")
        async def login(decision: Annotated[Decision, limit("5/minute")]): ...

        @app.get("/search", dependencies=[limit("100/minute", key="user")])
        async def search(): ...

    Without a name each endpoint counts by itself, also where a router brings the limit; with one, all endpoints
    of that name count together. The value is the decision about the request: of all its limits, the default ones
    included; ``decision.limits`` has them one by one.
    """
    who = caller(key)
    rate = Rule(name or "unnamed", limits, who, cost, verbs(methods), options=options)  # malformed: told here

    def made(endpoint: Any, taken: Sequence[Rule] = ()) -> Rule:
        if name is not None:
            return rate
        return Rule(label(endpoint, who, taken), limits, who, cost, rate.methods, options=options)

    async def limited(connection: HTTPConnection) -> Decision | None:
        return await visit_of(connection).enforce(made, limited)

    setattr(limited, DECLARED, made)
    return Depends(limited)


def session(on_outage: str | None = None) -> Any:
    """The request's session, loaded, for a route that says what it shows while the store is away.

    Example::

        @app.get("/")
        async def home(session: Annotated[AsgiSession, session(on_outage="last-seen")]): ...

        pages = APIRouter(dependencies=[session(on_outage="anonymous")])

    See `statekit_asgi.session_outage` for the words. An endpoint's own word counts before its routers'.
    """
    said = None if on_outage is None else checked_outage(on_outage)

    async def loaded(connection: HTTPConnection) -> AsgiSession:
        if said is not None:
            visit_of(connection).declare(said)
        return await load_session(connection)

    setattr(loaded, USES_SESSION, said)
    return Depends(loaded)


SessionDep = Annotated[AsgiSession, session()]
"""The request's session, loaded: ``async def cart(session: SessionDep): return session["items"]``."""


async def _tenant(connection: HTTPConnection) -> Any:
    visit = visit_of(connection)
    if visit.tenant is None:
        raise OutsideScope("this request has no tenant: see tenant= of StatekitMiddleware")
    return visit.tenants.current()


TenantDep = Annotated[Any, Depends(_tenant)]
"""The settings of the request's tenant, in the one version that holds for the whole request."""
