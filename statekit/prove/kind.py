"""``python -m statekit.prove.kind pkg.mod:app``: says whether an app is WSGI or ASGI. Run as a child: it imports it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from statekit.audit.guard.wrappers import is_asgi

__all__ = ["kind_of"]


def kind_of(target: str) -> str:
    """Import an app, or call the factory that makes it, and look."""
    module, _, path = target.partition(":")
    app: Any = import_module(module)
    for step in path.removesuffix("()").split("."):
        app = getattr(app, step)
    app = app() if path.endswith("()") else app
    if not callable(app):
        raise TypeError(f"{target} is no app: it cannot be called")
    return "asgi" if is_asgi(app) else "wsgi"


if __name__ == "__main__":
    sys.path.insert(0, "")
    sys.stdout.write(kind_of(sys.argv[1]) + "\n")
