"""The audit's runtime companion, for staging: what did a request *really* change?

`guard` wraps a WSGI or ASGI app. Before and after each request it takes a fingerprint of the state the audit named,
within a budget, and keeps count: which state, changed by which kind of request, how. It reads `sys.modules` and
imports nothing, and runs no line of the app's own code to look at a value (`prints`).

What it cannot see: a change undone before the request ends, the middle of containers too large to be read at once
(said in the report), state in C extensions, attributes of objects that `gc.freeze` took out of sight, and state the
audit did not name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from statekit.audit.guard.named import Findings, Named, named
from statekit.audit.guard.report import Change, Overhead, Report, Watched
from statekit.audit.guard.watch import Watch
from statekit.audit.guard.workers import configured_workers
from statekit.audit.guard.wrappers import ASGIGuard, Guard, WSGIGuard, is_asgi
from statekit.errors import StateNotShared, UsageError

__all__ = ["ASGIGuard", "Change", "Guard", "Overhead", "Report", "WSGIGuard", "Watched", "guard"]

NAMED_IN_A_REFUSAL = 5


def guard(
    app: Any,
    findings: Findings,
    *,
    budget: float = 0.001,
    on_change: Callable[[Change], None] | None = None,
    write: str | Path | None = None,
    refuse: bool = False,
) -> Guard:
    """Wrap an app so that it tells which state of its process requests really change.

        app = statekit.guard(app, findings="audit.json")            # WSGI or ASGI, whichever it is
        app.wsgi_app = statekit.guard(app.wsgi_app, "audit.json")   # Flask, keeping the Flask object
        app.add_middleware(statekit.guard, findings="audit.json")   # Starlette, FastAPI

    `findings` is the JSON of `statekit audit --format json`, a report, a list of qualified names
    (``"shop.limits.HITS"``), or the path of a project, which is then audited here and now.

    `budget` is how long, in seconds, all looks of one request may take together; what does not fit takes turns.
    `on_change` is called after a request with each `Change`; what it raises is logged. `write` names a file the report
    is written to at exit: JSON, or text if it ends in ``.txt``; ``{pid}`` in it stands for the process.

    With `refuse` the app does not start at all where several workers are configured and the audit has open errors:
    `StateNotShared` says which. Raises `UsageError` for findings that cannot be read.
    """
    if not callable(app):
        raise UsageError(f"{type(app).__name__} is no WSGI or ASGI app: it cannot be called")
    if budget <= 0:
        raise UsageError(f"budget={budget!r}: give the seconds a request may be held up, such as 0.001")
    wanted = named(findings)
    if refuse:
        _refuse(wanted)
    watch = Watch(wanted, app, budget, on_change)
    kind = ASGIGuard if is_asgi(app) else WSGIGuard
    return kind(app, watch, Path(write) if write else None)


def _refuse(wanted: tuple[Named, ...]) -> None:
    workers, source = configured_workers()
    errors = [one.qualified_name for one in wanted if one.severity == "error" and one.status == "open"]
    if workers < 2 or not errors:
        return
    names = ", ".join(errors[:NAMED_IN_A_REFUSAL]) + (" …" if len(errors) > NAMED_IN_A_REFUSAL else "")
    count = "1 piece of state lives" if len(errors) == 1 else f"{len(errors)} pieces of state live"
    raise StateNotShared(
        f"{workers} workers are configured ({source}), and {count} in the memory of each: "
        f"{names}. Share them (`statekit audit` says how), suppress them with a reason, or run one worker."
    )
