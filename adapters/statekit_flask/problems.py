"""Problems: refusals and errors as ``application/problem+json`` (RFC 9457).

An error of statekit becomes an answer by its own ``http_status``; one that means a mistake in the app (500)
goes on to Flask, which logs it and shows the debugger. Register an error handler for `TooManyRequests`, 429
or any class of `statekit.errors` to answer differently.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar

from flask import Response, current_app, request
from werkzeug import exceptions as http

from statekit import Decision
from statekit.errors import Fault, LimitExceeded, StatekitError

__all__ = ["ReducedCapacity", "TooManyRequests", "answer", "problem", "refusal", "turn_into"]

MEDIA_TYPE = "application/problem+json"
REGISTRY = "https://iana.org/assignments/http-problem-types"
RETRY_AFTER = 1
"""Seconds to wait when the store is down: it is asked again at most half a second after it came back."""
OF_THE_BODY = (
    *("Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language"),
    *("Content-Range", "ETag", "Last-Modified", "Location", "Set-Cookie"),
)
"""What a response says about a body, and hands out with it, that must not stay when the body is replaced."""


class _Refusal(LimitExceeded):
    """What both refusals share: the decision, and an answer that explains it."""

    type_: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, decision: Decision) -> None:
        super().__init__(_advice(decision))
        self.decision = decision

    def get_response(self, *_args: Any, **_kwargs: Any) -> Response:
        """The answer when the app has no handler of its own; the headers are added to every answer."""
        wait = self.decision.retry_after
        named = [state.policy for state in self.decision.limits if state.refused]
        return problem(
            self.http_status,
            self.title,
            _advice(self.decision),
            type_=self.type_,
            retry_after=None if wait is None else max(1, ceil(wait)),
            extra={"violated-policies": named},
        )


class TooManyRequests(_Refusal, http.TooManyRequests):
    """A limit refused the request; ``error.decision`` says which, and when the next one can pass. 429."""

    type_ = f"{REGISTRY}#quota-exceeded"
    title = "Request quota exceeded"


class ReducedCapacity(_Refusal, http.ServiceUnavailable):
    """The store could not be asked, and the limit was declared to refuse then (``on_outage="deny"``). 503."""

    type_ = f"{REGISTRY}#temporary-reduced-capacity"
    title = "Temporarily reduced capacity"
    http_status = 503


def refusal(decision: Decision) -> TooManyRequests | ReducedCapacity:
    """The error for a decision that is a refusal."""
    return ReducedCapacity(decision) if decision.degraded else TooManyRequests(decision)


def problem(
    status: int,
    title: str,
    detail: str | None = None,
    *,
    type_: str = "about:blank",
    retry_after: int | None = None,
    extra: dict[str, Any] | None = None,
) -> Response:
    """Build an answer of RFC 9457; ``extra`` are members of its own kind."""
    body = {"type": type_, "title": title, "status": status, "detail": detail, **(extra or {})}
    response = Response(json.dumps(body) + "\n", status, mimetype=MEDIA_TYPE)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def answer(error: StatekitError) -> Response:
    """Turn an error of statekit into an answer; raises it again if it is a mistake in the app."""
    if isinstance(error, _Refusal):
        return error.get_response()
    if error.http_status == 500:
        raise error
    if error.fault is Fault.STORE:
        return _unavailable(error)
    return problem(
        error.http_status,
        HTTPStatus(error.http_status).phrase,
        str(error),
        retry_after=RETRY_AFTER if error.http_status == 503 else None,
    )


def _unavailable(error: StatekitError) -> Response:
    """What a store says of itself is for the log; the peer learns that trying again is worth it."""
    current_app.logger.warning("statekit: %s %s answered 503: %s", request.method, request.path, error)
    return problem(
        error.http_status,
        "Service Unavailable",
        "The shared store does not answer. Try again.",
        retry_after=RETRY_AFTER,
    )


def turn_into(response: Response, other: Response) -> None:
    """Make one answer into another in place: too late to return a different object."""
    response.close()
    response.direct_passthrough = False
    for name in OF_THE_BODY:
        response.headers.pop(name, None)
    response.status = other.status
    response.set_data(other.get_data())
    for name in ("Content-Type", "Retry-After"):
        if name in other.headers:
            response.headers[name] = other.headers[name]


def _advice(decision: Decision) -> str:
    if decision.retry_after is None:
        return "This request can never pass the limit."
    return f"Try again in {max(1, ceil(decision.retry_after))} s."
