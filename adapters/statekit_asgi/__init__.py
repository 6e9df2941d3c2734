"""statekit for ASGI: sessions, limits and tenants of an app on a shared store, as one pure middleware.

::

    from statekit import AsyncStateKit
    from statekit_asgi import StatekitMiddleware

    app.add_middleware(StatekitMiddleware, kit=AsyncStateKit.connect(), default_limits=["1000/hour"])

Works with Starlette, FastAPI (`statekit_asgi.fastapi`), Litestar and bare ASGI. A request with a session, any
number of limits and a tenant asks the store once.
"""

from statekit.web import ReducedCapacity, TooManyRequests, TrustedProxies
from statekit_asgi.callers import by_header, by_ip, by_user
from statekit_asgi.endpoints import exempt, limit, session_outage
from statekit_asgi.middleware import StatekitMiddleware
from statekit_asgi.session import AsgiSession
from statekit_asgi.visit import (
    client_address,
    current_decision,
    current_session,
    current_tenant,
    load_session,
)

__all__ = [
    "AsgiSession",
    "ReducedCapacity",
    "StatekitMiddleware",
    "TooManyRequests",
    "TrustedProxies",
    "by_header",
    "by_ip",
    "by_user",
    "client_address",
    "current_decision",
    "current_session",
    "current_tenant",
    "exempt",
    "limit",
    "load_session",
    "session_outage",
]
