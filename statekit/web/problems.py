"""Problems: refusals and errors as documents of RFC 9457, ``application/problem+json``.

An error of statekit becomes an answer by its own ``http_status``; one that means a mistake in the app (500)
is nobody's business but the app's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar

from statekit.errors import Fault, LimitExceeded, StatekitError
from statekit.ratelimit.decision import Decision

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "ReducedCapacity",
    "Refusal",
    "TooManyRequests",
    "problem_of",
    "refusal",
]

MEDIA_TYPE = "application/problem+json"
REGISTRY = "https://iana.org/assignments/http-problem-types"
RETRY_AFTER = 1
"""Seconds to wait when the store is down: it is asked again at most half a second after it came back."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that explains why a request was not served."""

    status: int
    title: str
    detail: str | None = None
    type: str = "about:blank"
    retry_after: int | None = None
    """Seconds, for the field ``Retry-After``; None: no such field."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Members of its own kind."""

    @property
    def body(self) -> bytes:
        """The document, as the answer's body."""
        members = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return json.dumps(members | dict(self.extra)).encode() + b"\n"


class Refusal(LimitExceeded):
    """What both refusals share: the decision, and an answer that explains it."""

    type_: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, decision: Decision) -> None:
        super().__init__(_advice(decision))
        self.decision = decision

    @property
    def problem(self) -> Problem:
        """The answer; header fields with the limits are added to every answer."""
        wait = self.decision.retry_after
        named = [state.policy for state in self.decision.limits if state.refused]
        return Problem(
            self.http_status,
            self.title,
            _advice(self.decision),
            self.type_,
            None if wait is None else max(1, ceil(wait)),
            {"violated-policies": named},
        )


class TooManyRequests(Refusal):
    """A limit refused the request; ``error.decision`` says which, and when the next one can pass. 429."""

    type_ = f"{REGISTRY}#quota-exceeded"
    title = "Request quota exceeded"


class ReducedCapacity(Refusal):
    """The store could not be asked, and the limit was declared to refuse then (``on_outage="deny"``). 503."""

    type_ = f"{REGISTRY}#temporary-reduced-capacity"
    title = "Temporarily reduced capacity"
    http_status = 503


def refusal(decision: Decision) -> Refusal:
    """The error for a decision that is a refusal."""
    return ReducedCapacity(decision) if decision.degraded else TooManyRequests(decision)


def problem_of(error: BaseException) -> Problem | None:
    """The answer to an error of statekit; None for all others, and for a mistake in the app."""
    if isinstance(error, Refusal):
        return error.problem
    if not isinstance(error, StatekitError) or error.http_status == 500:
        return None
    again = RETRY_AFTER if error.http_status == 503 else None
    if error.fault is Fault.STORE:  # what a store says of itself is for the log, not for the peer
        return Problem(
            error.http_status,
            "Service Unavailable",
            "The shared store does not answer. Try again.",
            retry_after=again,
        )
    status = HTTPStatus(error.http_status)
    return Problem(status.value, status.phrase, str(error), retry_after=again)


def _advice(decision: Decision) -> str:
    if decision.retry_after is None:
        return "This request can never pass the limit."
    return f"Try again in {max(1, ceil(decision.retry_after))} s."
