"""Hits over several slots of a cluster: a script for each slot, side by side, and refunds where one of them refuses.

Rule 1: each slot decides for itself and charges at once, so no limit is ever exceeded.
Rule 2: if one refuses, what the others charged is taken back in a second round: just that, whatever came between.
Rule 3: a refund is sent once, as every write is. Where it is lost, on its way or with its process, the units count
        until their window has passed: limits become stricter by that, never looser.

Until the refund arrives others may be refused for want of those units; then they hear that they are free again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from statekit.errors import StoreError
from statekit.ratelimit.core import (
    HIT,
    REFUND,
    Outage,
    Remembered,
    deciding,
    freed_channel,
    merged,
    told,
    without_store,
)
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.rule import Hit
from statekit.store.keys import Keys
from statekit.store.op import Call, Op
from statekit.store.slots import slot_of

__all__ = ["spreading"]

Part: TypeAlias = list[int]
"""Places in the call of the hits whose keys share a slot."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A call over several slots, and what it takes to answer it."""

    keys: Keys
    hits: Sequence[Hit]
    names: Sequence[str]
    now: int | str
    outage: Outage
    refusals: Remembered

    def call(self, part: Part) -> Call:
        """Decide the hits of one slot."""
        hits = [self.hits[place] for place in part]
        specs = [hit.rule.spec(hit.need, hit.take) for hit in hits]
        return HIT.call([self.names[place] for place in part], (self.now, *specs))

    def refund(self, place: int, at: int) -> Call:
        """Take back what a hit charged at a moment."""
        rule, key = self.hits[place].rule, self.hits[place].key
        spec = rule.spec(self.hits[place].need, self.hits[place].take)
        channel = freed_channel(self.keys)
        return REFUND.call((self.names[place],), (self.now, spec, at, channel, rule.caller(key)))


class Tally:
    """What the slots have answered: the decision of all of them together."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._hits = hits
        self._places = {id(hit): place for place, hit in enumerate(hits)}
        self._standing: dict[int, tuple[int, ...]] = {}
        self._at = 0
        self._degraded = False
        self.allowed = True
        self.charged: dict[int, int] = {}
        """The hits that were charged, and when."""

    def add(self, decision: Decision) -> None:
        """Take the answer of one slot, or that for all slots that did not answer."""
        at, figures = decision.figures[1], decision.figures[2:]
        self._at = max(self._at, at)
        self._degraded = self._degraded or decision.degraded
        self.allowed = self.allowed and decision.allowed
        for hit in decision.hits:
            place, size = self._places[id(hit)], 4 * len(hit.rule.limits)
            mine, figures = figures[:size], figures[size:]
            self._standing[place] = mine
            if decision.allowed and not decision.degraded and hit.take and not any(mine[1::4]):
                self.charged[place] = at

    def refunded(self, place: int, reply: bytes) -> None:
        """Take where a hit stands after its refund."""
        (_, self._at, *figures) = told((self._hits[place],), reply).figures
        self._standing[place] = tuple(figures)

    def decision(self) -> Decision:
        """The answer to the call; of hits nobody knows about it says nothing."""
        places = sorted(self._standing)
        figures = chain.from_iterable(self._standing[place] for place in places)
        hits = tuple(self._hits[place] for place in places)
        return Decision(self.allowed, hits, (int(self.allowed), self._at, *figures), self._degraded)


def spreading(
    keys: Keys, hits: Sequence[Hit], now: int | str, outage: Outage, refusals: Remembered
) -> Op[Decision]:
    """Same as `deciding`, for keys of any slots: one round trip, and one more to refund."""
    hits, names = merged(hits, [hit.rule.key(keys, hit.key) for hit in hits])
    slots: dict[int, Part] = {}
    for place, name in enumerate(names):
        slots.setdefault(slot_of(name), []).append(place)
    if len(slots) == 1:
        return deciding(keys, hits, now, outage, refusals)
    return _decided(Spread(keys, hits, names, now, outage, refusals), list(slots.values()))


def _decided(spread: Spread, parts: Sequence[Part]) -> Op[Decision]:
    refused = spread.refusals.recall(spread.hits)
    if refused is not None:
        return refused
    asked, tally = spread.refusals.asking(), Tally(spread.hits)
    try:
        replies = yield tuple(spread.call(part) for part in parts)
    except StoreError as error:
        replies = [error] * len(parts)
    failures: dict[int, StoreError] = {}
    for part, reply in zip(parts, replies, strict=True):
        if isinstance(reply, StoreError):
            failures |= dict.fromkeys(part, reply)
        else:
            tally.add(told([spread.hits[place] for place in part], reply))
    yield from _completed(spread, tally, failures)
    decision = tally.decision()
    if not decision.allowed and not decision.degraded:
        spread.refusals.remember(decision.hits, decision, asked)
    return decision


def _completed(spread: Spread, tally: Tally, failures: dict[int, StoreError]) -> Op[None]:
    """Give the declared answer for the slots that gave none; refund the others if the whole is refused."""
    raised: StoreError | None = None
    if failures:
        error, places = next(iter(failures.values())), sorted(failures)
        hits = [spread.hits[place] for place in places]
        if tally.allowed:
            try:
                tally.add(without_store(spread.call(places), hits, spread.outage, error))
            except StoreError as misuse:
                raised = misuse
        else:
            spread.outage.report(", ".join(hit.rule.name for hit in hits), error)
    if tally.charged and (raised or not tally.allowed):
        yield from _refunding(spread, tally)
    if raised:
        raise raised


def _refunding(spread: Spread, tally: Tally) -> Op[None]:
    charged = tally.charged
    try:
        replies = yield tuple(spread.refund(place, at) for place, at in charged.items())
    except StoreError as error:
        replies = [error] * len(charged)
    for place, reply in zip(charged, replies, strict=True):
        rule, key = spread.hits[place].rule, spread.hits[place].key
        if isinstance(reply, StoreError):
            spread.outage.report(rule.name, reply)
        else:
            tally.refunded(place, reply)
            spread.refusals.freed(rule.caller(key))  # here at once, not when the message arrives
