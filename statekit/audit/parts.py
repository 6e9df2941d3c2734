"""What names, base classes and signatures say about the part a function plays: lists, no logic."""

from __future__ import annotations

import re

__all__ = [
    "BY_BASE",
    "COMMON",
    "HANDLER_PARAMS",
    "HANDLER_TYPES",
    "LIFESPAN",
    "MAKERS",
    "SERVING",
    "SPECIAL",
    "STARTING",
    "VAGUE",
    "VERBS",
]

COMMON = 4
"""A method name that more classes than these have says nothing about who is called."""
VAGUE = {
    "get", "set", "add", "update", "pop", "remove", "clear", "append", "delete", "close", "open", "read", "write", "run", "start", "stop",
    "save", "load", "send", "copy", "keys", "items", "values", "join", "split", "format", "execute", "create", "insert", "extend", "find",
    "register", "setup", "init", "configure", "exists", "commit", "filter", "all", "first", "count", "index", "put", "post", "patch", "connect",
}  # fmt: skip
VERBS = {
    "get", "post", "put", "patch", "delete", "head", "options", "dispatch", "dispatch_request", "list", "retrieve", "create", "update", "partial_update",
    "destroy", "prepare", "on_finish", "open", "on_message", "on_close", "get_queryset", "form_valid", "get_context_data", "connect", "disconnect", "perform_create",
    "perform_update", "perform_destroy", "post_save", "get_object", "setup", "initialize", "__call__", "handle", "resolve",
}  # fmt: skip
"""Methods that frameworks call on a view."""
STARTING = re.compile(
    r"worker_init|worker_process_init|worker_ready|beat_init|celeryd|setup_logging|on_after|appcontext_pushed|post_migrate|class_prepared|app_ready"
)
MAKERS = {"Flask", "FastAPI", "Starlette", "Quart", "Sanic", "Application", "Litestar", "Celery"}
"""Who calls one of these is putting an application together."""
SERVING = ("View", "Handler", "Consumer", "ViewSet", "Endpoint", "Resource")
"""How classes end that have an object for each request."""
BY_BASE = (
    (("Namespace",), re.compile(r"on_\w+"), "serves messages"),
    (("Task",), re.compile(r"run|(on|before|after)_\w+"), "is a task"),
    (
        ("Middleware", "MiddlewareMixin"),
        re.compile(r"__call__|dispatch|process_(request|response|view|exception)|(before|after)_request"),
        "is a middleware",
    ),
    (("BaseCommand",), re.compile(r"handle"), "command"),
    (("AppConfig",), re.compile(r"ready"), "starter"),
    (("Thread", "Process"), re.compile(r"run"), "runs in the background"),
)
"""Ends of base classes, the methods that get a part by them, and the part."""
SPECIAL = tuple(ending for endings, _, _ in BY_BASE for ending in endings)
HANDLER_PARAMS = ({"request"}, {"environ", "start_response"}, {"scope", "receive", "send"}, {"websocket"})
HANDLER_TYPES = {
    "Request",
    "WebSocket",
    "HttpRequest",
    "HTTPConnection",
    "HTTPServerRequest",
    "ServerConnection",
}
LIFESPAN = re.compile(
    r"lifespan|cleanup_ctx|on_?start|startup|before_first|before_serving|shutdown|on_?stop|on_cleanup"
)
