"""Routes: which endpoint a request will reach, found before the app runs, so that all can be asked at once.

Starlette and FastAPI are asked through the public ``matches`` of their routes; what they said of an address is
remembered. Litestar has chosen the handler by the time a middleware runs. Elsewhere nothing is known: limits of
an endpoint are then decided when it is entered, in a round trip of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from statekit.web import Marks, Rule, marks
from statekit_asgi.rules import Build, Plan
from statekit_asgi.scope import Scope

__all__ = ["DECLARED", "USES_SESSION", "Found", "Routes"]

REMEMBERED = 4096
"""Addresses whose route is remembered; all are forgotten when there are more."""
LONGEST = 256
"""Characters of an address that is worth remembering."""
DECLARED = "__statekit_declared__"
"""On a dependency: a function that makes its rule for an endpoint."""
USES_SESSION = "__statekit_session__"
"""On a dependency: its endpoint uses the session; and what that shows if the store cannot be asked, or None."""
NOTHING: Mapping[str, Any] = {}


class Found(NamedTuple):
    """An endpoint's plan, and what its address says."""

    plan: Plan
    params: Mapping[str, Any] = NOTHING


class Routes:
    """Finds the plan of each request."""

    def __init__(self, app: Any, defaults: tuple[Rule, ...], build: Build) -> None:
        self._app = app
        self._inside = hasattr(app, "routes")
        """Whether what the middleware stands around is the app itself, and not its next middleware."""
        self._defaults = defaults
        self._build = build
        self._nowhere = Found(Plan(defaults, build))
        self._plans: dict[Any, Plan] = {}
        self._known: dict[Any, Found] = {}
        self._tables: dict[Any, _Table] = {}

    def find(self, scope: Scope) -> Found:
        """The plan of the endpoint this request will reach; of an address that leads nowhere, the defaults."""
        app = self._app if self._inside else scope.get("app") or self._app
        where = scope["type"], scope.get("method"), scope.get("root_path"), scope["path"]
        table = self._table(app)
        found = self._known.get(where) if table.repeats else None
        if found is None:
            found = self._looked_up(scope, table)
            if table.repeats and len(scope["path"]) <= LONGEST:
                self._remember(where, found)
        return found

    def _remember(self, where: Any, found: Found) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[where] = found

    def _table(self, app: Any) -> _Table:
        """The routes of an app as they are now: one that was added makes the table anew."""
        table = self._tables.get(id(app))
        if table is None or table.size != _size(app):
            table = self._tables[id(app)] = _Table(app)
            self._known.clear()
            self._plans.clear()  # known by the identity of routes, which are others now
        return table

    def _looked_up(self, scope: Scope, table: _Table) -> Found:
        handler = scope.get("route_handler")  # Litestar's
        if handler is not None:
            return Found(
                self._plan(handler, getattr(handler, "fn", handler), ""), scope.get("path_params") or NOTHING
            )
        seen: Scope = dict(scope)
        while True:
            route = table.match(seen)
            if route is None:
                return self._nowhere
            if not getattr(route, "routes", None):  # not one that leads to further routes
                plan = self._plan(route, seen.get("endpoint"), scope.get("method", "GET"))
                return Found(plan, seen.get("path_params") or NOTHING)
            table = self._table(route)

    def _plan(self, route: Any, endpoint: Any, method: str) -> Plan:
        """The plan of an endpoint, made once; a class has one for each method."""
        known = id(route), method if isinstance(endpoint, type) else ""
        plan = self._plans.get(known)
        if plan is None:
            plan = self._plans[known] = self._made(route, endpoint, method)
        return plan

    def _made(self, route: Any, endpoint: Any, method: str) -> Plan:
        endpoint = _unwrapped(endpoint)
        said = marks(endpoint)
        if isinstance(endpoint, type):
            said = said | marks(getattr(endpoint, method.lower(), None))
        rules = [*(() if said.exempt else self._defaults), *said.rules]
        calls = list(_calls(getattr(route, "dependant", None)))
        for call in calls:
            declared = getattr(call, DECLARED, None)
            if declared is not None:
                rules.append(declared(endpoint, rules))
        session = any(hasattr(call, USES_SESSION) for call in calls)
        outage = said.session_outage or next(filter(None, map(_declared, calls)), None)
        return Plan(rules, self._build, (*said.rules, *calls), session=session, on_outage=outage)


class _Table:
    """The routes of one app, in the order they are tried."""

    def __init__(self, app: Any) -> None:
        self.app = app
        """Kept, so that its identity is not another's one day."""
        self.size = _size(app)
        self._routes: list[tuple[Callable[[Scope], Any], Any]] = [
            (route.matches, route) for route in _flat(getattr(app, "routes", ())) if hasattr(route, "matches")
        ]
        self.repeats = all(_by_address(matches) for matches, _ in self._routes)
        """Whether an address leads to the same route each time."""

    def match(self, seen: Scope) -> Any:
        """The route that takes this request, None if there is none; `seen` gets what the route adds to a scope."""
        for matches, route in self._routes:
            outcome, more = matches(seen)
            if outcome.name == "FULL":
                seen.update(more)
                return route
        return None


def _size(app: Any) -> int:
    return len(getattr(app, "routes", ()))


def _flat(routes: Sequence[Any]) -> Iterable[Any]:
    """Routes in the order they are tried, those of FastAPI's included routers among them."""
    flatten = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return routes if flatten is None else flatten(routes)


def _by_address(matches: Callable[..., Any]) -> bool:
    """Whether a route is told by method and path alone: so are the frameworks' own, but for hosts."""
    kind = type(getattr(matches, "__self__", None))
    home = str(getattr(matches, "__module__", ""))
    return kind.__name__ != "Host" and home.partition(".")[0] in ("starlette", "fastapi")


def _unwrapped(endpoint: Any) -> Any:
    """The function in a partial, or in what Litestar makes of a plain function; unless it is marked itself."""
    while marks(endpoint) == Marks() and hasattr(endpoint, "func"):
        endpoint = endpoint.func
    return endpoint


def _declared(call: Any) -> str | None:
    return getattr(call, USES_SESSION, None)  # what it shows without the store, if it says so


def _calls(dependant: Any) -> Iterable[Any]:
    """The functions a FastAPI endpoint depends on, directly or not, each once; its own before its routers'."""
    seen: dict[int, Any] = {}
    todo = list(reversed(getattr(dependant, "dependencies", ())))
    while todo:
        one = todo.pop(0)
        seen.setdefault(id(one.call), one.call)
        todo.extend(one.dependencies)
    return seen.values()
