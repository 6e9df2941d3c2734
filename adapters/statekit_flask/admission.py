"""Admission: what is asked of the store before a view runs, in one round trip.

Rule 1: all limits of a request, the app's and the endpoint's, are one decision: all are charged or none is.
Rule 2: the session travels along when the request carries one and the endpoint uses sessions. Whether it does
        is learned: after `FORGET` requests in a row that left their session alone, it is left behind, and
        comes along again after the next request that wanted it.
Rule 3: a limit that could not be seen from outside the view (a decorator hid it, or ``late=True``) is decided
        when the view is entered, in a round trip of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Flask, Response, request

from statekit import Decision, StateKit
from statekit.errors import StoreError
from statekit.web import Rule, admitting, announced, builder, deciding, marks
from statekit_flask.problems import refusal
from statekit_flask.rules import Fixed, blueprint_marks, hits, session_outage, views
from statekit_flask.session import FlaskSession
from statekit_flask.visit import Visit, current_request, visit

__all__ = ["Admission"]

FORGET = 8


class Admission:
    """Decides the limits of one app's requests."""

    def __init__(self, app: Flask, kit: StateKit, defaults: tuple[Rule, ...], headers: str | None) -> None:
        self._app = app
        self._kit = kit
        self._defaults = defaults
        self._headers = headers
        self._build = builder(kit)
        self._fixed: Fixed = {}
        self._idle: dict[str, int] = {}
        self._plans: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._outages: dict[tuple[str, str], str | None] = {}

    def admit(self) -> None:
        """Decide all limits of the current request that can be decided now; raises `TooManyRequests`."""
        rules = self._plan()
        if rules:
            self.enforce(rules)

    def enforce(self, rules: Sequence[Rule]) -> None:
        """Decide those of the rules that apply and are not decided yet; raises `TooManyRequests`."""
        current, method = visit(), current_request().method
        due = [rule for rule in rules if rule not in current.decided and rule.applies(method)]
        if not due or not self._app.config.get("STATEKIT_LIMITS", True):
            return
        current.decided.update(due)
        asked = [hit for rule in due for hit in hits(rule, self._build, self._fixed)]
        if asked:
            self.conclude(self._ask(asked, current.session))

    def conclude(self, decision: Decision) -> None:
        """Keep a decision for the answer's headers; raises `TooManyRequests` if it is a refusal."""
        visit().decisions.append(decision)
        if not decision.allowed:
            raise refusal(decision)

    def learn(self, current: Visit) -> None:
        """Note whether the endpoint used its session."""
        served = current.decision  # without limits a session does not travel, and a refusal teaches nothing
        if served is not None and served.allowed and current.session is not None and current.session.arrived:
            endpoint = current_request().endpoint or ""
            self._idle[endpoint] = 0 if current.session.used else self._idle.get(endpoint, 0) + 1

    def session_outage(self) -> str | None:
        """What the current request's route shows if its session cannot be read; looked up once a route."""
        request = current_request()
        if request.endpoint is None:
            return None
        where = request.endpoint, request.method
        if where not in self._outages:
            self._outages[where] = session_outage(self._app)
        return self._outages[where]

    def announce(self, response: Response) -> Response:
        """Put the limits into the answer's headers."""
        for name, value in announced(visit().decisions, self._headers):
            response.headers[name] = value
        return response

    def _plan(self) -> tuple[Rule, ...]:
        """The rules of an endpoint, looked up once; an address that leads nowhere has the app's."""
        request = current_request()
        endpoint = request.endpoint
        if endpoint is None:
            return self._defaults
        where = endpoint, request.method
        plan = self._plans.get(where)
        if plan is None:
            plan = self._plans[where] = tuple(rule for rule in self._rules() if not rule.late)
        return plan

    def _rules(self) -> Iterator[Rule]:
        if request.endpoint == "static":
            return
        sources = [*map(marks, views(self._app)), *blueprint_marks(self._app)]
        if not any(source.exempt for source in sources):
            yield from self._defaults
        for source in sources:
            yield from source.rules

    def _ask(self, hits: list[Any], session: FlaskSession | None) -> Decision:
        asking = deciding(self._kit, hits)
        budget = self._kit.store.budget.decision
        if session is None or not session.awaited or self._left_alone() >= FORGET:
            return self._kit.run(asking, budget)
        decision, loaded = self._kit.run(admitting(asking, attempted(session.opening())), budget)
        if loaded is not None:
            session.adopt(loaded)
        return decision

    def _left_alone(self) -> int:
        """How many requests in a row did not use the session they came with."""
        return self._idle.get(current_request().endpoint or "", 0)


def attempted(op: Any) -> Any:
    """Let an operation fail alone: the session is asked for again when the view wants it."""
    try:
        return (yield from op)
    except StoreError:
        return None
