"""What a request is called: its method, and the pattern of its path where the framework knows one."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from statekit.prove.paths import guessed

__all__ = ["of_environ", "of_scope"]


def of_environ(environ: Mapping[str, Any]) -> str:
    """The name of a WSGI request; asked after the app has routed it."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    path = rule if isinstance(rule, str) else guessed(str(environ.get("PATH_INFO", "/")))
    return f"{environ.get('REQUEST_METHOD', 'GET')} {path}"


def of_scope(scope: MutableMapping[str, Any]) -> str:
    """The name of an ASGI request or connection; asked after the app has routed it."""
    method = scope.get("method") or str(scope.get("type", "")).upper()
    path, template = str(scope.get("path", "/")), getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return f"{method} {template}"
    return f"{method} {_filled(path, scope.get('path_params') or {})}"


def _filled(path: str, params: Mapping[str, Any]) -> str:
    """A path with what the router took from it put back under its name; the rest guessed."""
    names = {str(value): name for name, value in params.items()} if isinstance(params, dict) else {}
    return "/".join(f"{{{names[one]}}}" if one in names else guessed(one) for one in path.split("/"))
