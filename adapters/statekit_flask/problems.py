"""Problems: refusals and errors as ``application/problem+json`` (RFC 9457); see `statekit.web.problems`.

An error of statekit becomes an answer by its own ``http_status``; one that means a mistake in the app (500)
goes on to Flask, which logs it and shows the debugger. Register an error handler for `TooManyRequests`, 429
or any class of `statekit.errors` to answer differently.
"""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request
from werkzeug import exceptions as http

from statekit import Decision, web
from statekit.errors import Fault, StatekitError
from statekit.web import MEDIA_TYPE, Problem, problem_of

__all__ = ["ReducedCapacity", "TooManyRequests", "answer", "problem", "refusal", "turn_into"]

OF_THE_BODY = (
    *("Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language"),
    *("Content-Range", "ETag", "Last-Modified", "Location", "Set-Cookie"),
)
"""What a response says about a body, and hands out with it, that must not stay when the body is replaced."""


class TooManyRequests(web.TooManyRequests, http.TooManyRequests):
    """A limit refused the request; ``error.decision`` says which, and when the next one can pass. 429."""

    def get_response(self, *_args: Any, **_kwargs: Any) -> Response:
        """The answer when the app has no handler of its own; the headers are added to every answer."""
        return problem(self.problem)


class ReducedCapacity(web.ReducedCapacity, http.ServiceUnavailable):
    """The store could not be asked, and the limit was declared to refuse then (``on_outage="deny"``). 503."""

    def get_response(self, *_args: Any, **_kwargs: Any) -> Response:
        """Same as `TooManyRequests.get_response`."""
        return problem(self.problem)


def refusal(decision: Decision) -> TooManyRequests | ReducedCapacity:
    """The error for a decision that is a refusal."""
    return ReducedCapacity(decision) if decision.degraded else TooManyRequests(decision)


def problem(told: Problem) -> Response:
    """Build the answer that tells a problem."""
    response = Response(told.body, told.status, mimetype=MEDIA_TYPE)
    if told.retry_after is not None:
        response.headers["Retry-After"] = str(told.retry_after)
    return response


def answer(error: StatekitError) -> Response:
    """Turn an error of statekit into an answer; raises it again if it is a mistake in the app."""
    told = problem_of(error)
    if told is None:
        raise error
    if error.fault is Fault.STORE:
        current_app.logger.warning("statekit: %s %s answered 503: %s", request.method, request.path, error)
    return problem(told)


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
