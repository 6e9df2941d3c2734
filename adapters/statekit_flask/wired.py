"""Wired: everything the extension keeps for one app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app
from flask.typing import ResponseReturnValue

from statekit import Sessions, StateKit
from statekit.errors import StatekitError
from statekit.web import Rule, TrustedProxies
from statekit_flask.admission import Admission
from statekit_flask.flags import Actor, BoundFlags
from statekit_flask.health import PROBES, add_health
from statekit_flask.problems import answer
from statekit_flask.session import StatekitSessionInterface
from statekit_flask.tenancy import Resolver, Tenancy
from statekit_flask.visit import current_request

__all__ = ["Options", "Wired"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the app chose; see `StatekitFlask`."""

    sessions: bool | Sessions | Mapping[str, Any]
    defaults: tuple[Rule, ...]
    headers: str | None
    proxies: TrustedProxies | None
    tenants: Any
    tenant: Resolver | None
    actor: Actor
    sign_in_key: str | None
    health: str | None
    ready: str | None
    draining: Callable[[], bool] | None


class Wired:
    """One app with one kit: registers what has to run around each request."""

    def __init__(self, app: Flask, kit: StateKit, options: Options) -> None:
        self.kit = kit
        self.proxies = options.proxies
        self.flags = BoundFlags(kit, options.actor)
        self.admission = Admission(app, kit, options.defaults, options.headers)
        self.sessions = _sessions(kit, options.sessions)
        self.tenants = kit.tenants(options.tenants) if isinstance(options.tenants, type) else options.tenants
        self._tenancy = Tenancy(self.tenants, options.tenant) if options.tenant else None
        if self.sessions is not None:
            app.session_interface = StatekitSessionInterface(
                self.sessions, self.admission.learn, options.sign_in_key, self.admission.session_outage
            )
        self._around_requests(app)
        app.context_processor(self._in_templates)
        app.register_error_handler(StatekitError, answer)
        add_health(app, kit, options.health, options.ready, options.draining)

    def _around_requests(self, app: Flask) -> None:
        """Run first before a request and last after it, whatever else the app has registered."""
        app.before_request_funcs.setdefault(None, []).insert(0, self._begin)
        app.after_request_funcs.setdefault(None, []).insert(0, self.admission.announce)
        if self._tenancy is not None:
            self._tenancy.attach(app)

    def _begin(self) -> ResponseReturnValue | None:
        endpoint = current_request().endpoint
        if endpoint in PROBES:  # answered here: what the app does before its views is not for probes
            return current_app.ensure_sync(current_app.view_functions[endpoint])()  # type: ignore[no-any-return]
        if self._tenancy is not None:
            self._tenancy.open()
        self.admission.admit()
        return None

    def _in_templates(self) -> dict[str, Any]:
        tenant = self._tenancy.current() if self._tenancy is not None else None
        return {"flag": self.flags.enabled, "flag_value": self.flags.value, "tenant": tenant}


def _sessions(kit: StateKit, wanted: bool | Sessions | Mapping[str, Any]) -> Sessions | None:
    if isinstance(wanted, bool):
        return kit.sessions() if wanted else None
    return kit.sessions(**wanted) if isinstance(wanted, Mapping) else wanted
