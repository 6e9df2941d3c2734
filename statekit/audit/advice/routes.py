"""How a request gets to a handler, as somebody with a terminal would say it: ``POST /v1/login``."""

from __future__ import annotations

from statekit.audit.advice.spelling import shown
from statekit.audit.facts import Value
from statekit.audit.project import FunctionIn, Var
from statekit.audit.reading.chains import root_of

__all__ = ["route_of"]

VERBS = {"get", "post", "put", "delete", "patch", "head", "options"}
ROUTED = {"route", "api_route", "websocket", "websocket_route", *VERBS}
SENT = {"on", "event", "on_message", "message", "on_event", "listener"}
PREFIXES = ("prefix", "url_prefix")


def route_of(handler: FunctionIn, role: str) -> str:
    """The handler's method and path; else what makes it a handler."""
    for decorator in handler.facts.decorators:
        last = decorator.text.rpartition(".")[2]
        said = next((one.text for one in decorator.parts if one.kind == "const"), "")
        if last in ROUTED and (said.startswith("/") or decorator.kind == "call"):
            return shown(f"{_method(decorator, last)} {_prefix(handler, decorator)}{said}".strip())
        if last in SENT and said:
            return shown(f"event {said}")
    if handler.facts.within and handler.last in VERBS:
        return handler.last.upper()
    return shown(role.removeprefix(f"{handler.facts.within} is ").removeprefix(f"{handler.facts.within} "))


def _method(decorator: Value, last: str) -> str:
    if last in VERBS:
        return last.upper()
    if last.startswith("websocket"):
        return "WS"
    methods = dict(decorator.named).get("methods")
    return "|".join(one.text for one in methods.parts if one.kind == "const") if methods else ""


def _prefix(handler: FunctionIn, decorator: Value) -> str:
    """What the router or blueprint of the handler's own module puts in front."""
    router = handler.module.vars.get(root_of(decorator.text))
    return _declared(router) if isinstance(router, Var) else ""


def _declared(router: Var) -> str:
    for binding in router.bindings:
        named = dict(binding.value.named)
        for key in PREFIXES:
            if key in named and named[key].kind == "const":
                return named[key].text.rstrip("/")
    return ""
