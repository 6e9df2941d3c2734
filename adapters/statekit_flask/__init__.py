"""statekit for Flask: sessions, limits, flags and tenants of an app on a shared store.

::

    from statekit import StateKit
    from statekit_flask import StatekitFlask, by_ip

    sk = StatekitFlask(app, StateKit.connect(), default_limits=["1000/hour"])

    @app.post("/login")
    @sk.limit("5/minute", key=by_ip)
    def login(): ...

A request with a session, any number of limits, flags and a tenant asks the store once.
"""

from statekit.web import TrustedProxies
from statekit_flask.callers import by_header, by_ip, by_user, client_address
from statekit_flask.extension import StatekitFlask
from statekit_flask.flags import session_principal
from statekit_flask.problems import ReducedCapacity, TooManyRequests
from statekit_flask.session import FlaskSession

__all__ = [
    "FlaskSession",
    "ReducedCapacity",
    "StatekitFlask",
    "TooManyRequests",
    "TrustedProxies",
    "by_header",
    "by_ip",
    "by_user",
    "client_address",
    "session_principal",
]
