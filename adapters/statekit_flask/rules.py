"""Rules: what ``@sk.limit(…)`` says, as marks on views and blueprints; see `statekit.web.rules`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from flask import Blueprint, Flask, request

from statekit import Limit, RateLimiter
from statekit.errors import UsageError
from statekit.web import Marks, Rule, caller_name, label, marks
from statekit.web import mark as mark_view
from statekit_flask.callers import Caller

__all__ = [
    "Cost",
    "Fixed",
    "LimitSpec",
    "blueprint_marks",
    "hits",
    "mark",
    "named",
    "session_outage",
    "views",
]

LimitSpec: TypeAlias = str | Limit | RateLimiter | Callable[[], "str | Limit | Sequence[str | Limit]"]
Cost: TypeAlias = int | Callable[[], int]

Fixed: TypeAlias = dict[Rule, tuple[RateLimiter, ...]]

LIMITED = "__statekit_limited__"
"""On a function that was wrapped: it is not limited itself, what was made of it is."""
BLUEPRINTS = "statekit_blueprints"


def hits(
    rule: Rule, build: Callable[..., RateLimiter], fixed: Fixed
) -> Iterator[tuple[RateLimiter, str, int]]:
    """Say what the current request asks of which limiter; `fixed` keeps the limiters of rules that never change."""
    key, price = rule.key(), rule.cost() if callable(rule.cost) else rule.cost
    limiters = fixed.get(rule)
    if limiters is None:
        said = [spec() if callable(spec) else spec for spec in rule.specs]
        limiters = tuple(rule.limiters(said, build))
        if not any(map(callable, rule.specs)):
            fixed[rule] = limiters
    for limiter in limiters:
        yield limiter, key, price


def mark(target: Any, said: Marks) -> None:
    """Say something about a view, or about a blueprint wherever it gets registered."""
    if isinstance(target, Blueprint):
        target.record(lambda setup: _mark_registered(setup, said))
    else:
        mark_view(target, said)


def _mark_registered(setup: Any, said: Marks) -> None:
    name = f"{setup.name_prefix}.{setup.name}".lstrip(".")
    known = setup.app.extensions.setdefault(BLUEPRINTS, {})
    known[name] = known.get(name, Marks()) | said


def blueprint_marks(app: Flask) -> list[Marks]:
    """What was said about the blueprints the current request belongs to."""
    known = app.extensions.get(BLUEPRINTS)
    return [known[name] for name in request.blueprints if name in known] if known else []


def session_outage(app: Flask) -> str | None:
    """What was said of the session of the current request's view, or of the nearest blueprint it belongs to."""
    said = [*map(marks, reversed([*views(app)])), *blueprint_marks(app)]
    return next((one.session_outage for one in said if one.session_outage), None)


def named(target: Any, key: Caller) -> str:
    """Name a limit after what it limits and who is counted; one more of the same kind gets a number."""
    if isinstance(target, Blueprint):
        return f"{target.import_name}.{target.name}/{caller_name(key)}"
    return label(target, key, marks(target).rules)


def views(app: Flask) -> Iterator[Any]:
    """The functions the current request will run: the endpoint's, and the method of a class-based view.

    Raises `UsageError` for decorators in the wrong order: a limit that is not in force must not look as if it were.
    """
    view = app.view_functions.get(request.endpoint or "")
    if view is not None:
        if getattr(view, LIMITED, False) and not marks(view).rules:
            raise UsageError(
                f"the limits of {view.__qualname__} are not in force at endpoint {request.endpoint!r}: put @sk.limit below "
                "@app.route, so that what is routed is the limited function"
            )
        yield view
        method = getattr(getattr(view, "view_class", None), request.method.lower(), None)
        if method is not None:
            yield method
