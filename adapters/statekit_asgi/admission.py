"""Admission: what is asked of the store before the app runs, in one round trip.

Rule 1: all limits of a request, the app's and the endpoint's, are one decision: all are charged or none is.
Rule 2: the session travels along when the request carries one; alone it makes the trip only if the app reads it
        without waiting, or has declared to use it.
Rule 3: a limit that could not be seen from outside the endpoint is decided when the endpoint is entered, in a
        round trip of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from statekit import AsyncStateKit, Decision
from statekit.web import Rule, TrustedProxies, admitting, builder, deciding, refusal
from statekit_asgi.routes import Routes
from statekit_asgi.rules import Charge, Ready
from statekit_asgi.scope import Scope
from statekit_asgi.session import AsgiSession
from statekit_asgi.visit import Visit

__all__ = ["Admission"]


class Admission:
    """Decides the limits of one app's requests."""

    def __init__(
        self,
        app: Any,
        kit: AsyncStateKit,
        defaults: tuple[Rule, ...],
        *,
        limits: bool,
        lazy: bool,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._kit = kit
        self._limits = limits
        self._lazy = lazy
        self.proxies = proxies
        self._build = builder(kit)
        self.routes = Routes(app, defaults, self._build)
        self._budget = kit.store.budget.decision

    async def admit(self, visit: Visit) -> None:
        """Ask for all that is known to be needed; raises `TooManyRequests`, `ReducedCapacity`."""
        plan, session = visit.plan, visit.session
        if session is not None:
            session.declared = plan.on_outage
        charges = await self._charges(plan.due(visit.method), visit.seen) if self._limits else ()
        travels = session is not None and session.awaited
        wanted = travels and (plan.session or not self._lazy)
        if charges:
            await self._decide(visit, charges, session if travels else None, patient=wanted)
        elif wanted:
            patience = session.patience  # type: ignore[union-attr]
            await self._kit.run(session.arriving(patience), patience)  # type: ignore[union-attr]

    async def enforce(self, visit: Visit, rule: Rule) -> None:
        """Decide one rule that was not seen before; raises `TooManyRequests`, `ReducedCapacity`."""
        if self._limits and rule.applies(visit.method):
            charges = await self._charges((Ready(rule, self._build),), visit.scope)
            await self._decide(visit, charges, None)

    async def _charges(self, due: Iterable[Ready], scope: Scope) -> list[Charge]:
        charges: list[Charge] = []
        for ready in due:
            charges += ready.charges(scope) if ready.at_once else await ready.worked_out(scope)
        return charges

    async def _decide(
        self, visit: Visit, charges: list[Charge], session: AsgiSession | None, *, patient: bool = False
    ) -> None:
        """Ask the store; `patient`: as long as a session may take, for the app cannot do without it."""
        asking = deciding(self._kit, charges)
        if session is None:
            decision = await self._kit.run(asking, self._budget)
        else:
            budget = session.patience if patient else self._budget
            decision, _ = await self._kit.run(admitting(asking, session.arriving(budget)), budget)
        self.conclude(visit, decision)

    @staticmethod
    def conclude(visit: Visit, decision: Decision) -> None:
        """Keep a decision for the answer's headers; raises if it is a refusal."""
        visit.decisions.append(decision)
        if not decision.allowed:
            visit.trouble = refusal(decision)
            raise visit.trouble
