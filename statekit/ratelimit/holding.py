"""Operations on holds: units set aside in the store for one caller, and settled by who had them set aside.

A hold has an id, so it is settled once: what is settled again, or after it has lapsed, charges nothing and says so.
Everything about its strictness is told in holds.lua.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack

from statekit.errors import StoreError
from statekit.ratelimit.core import HOLD, Outage, Remembered, freed_channel, without_store
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.rule import Hit, Rule
from statekit.store.keys import Keys
from statekit.store.op import Call, Op, ask

__all__ = ["Ending", "Held", "Wish", "holding", "reserving", "settling"]


@dataclass(frozen=True, slots=True)
class Ending:
    """A hold to settle, and the units spent under it; without an id there is none."""

    id: str = ""
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """A hold to make: between `least` and `most` units, a quarter of what is free."""

    id: str = ""
    least: int = 0
    most: int = 0
    lasts_us: int = 0


NOTHING_ENDS = Ending()
NOTHING_NEW = Wish()


@dataclass(frozen=True, slots=True)
class Held:
    """What the store answered: the decision, the units it set aside, and whether the old hold was there."""

    decision: Decision
    units: int
    settled: bool


def holding(keys: Keys, hit: Hit, now: int | str, ending: Ending, wish: Wish) -> Call:
    """One run of the script: settle the old hold, then, if `hit` passes, charge it and make the new one."""
    rule, key = hit.rule, hit.key
    spec = rule.spec(hit.need, hit.take)
    new = wish.id, wish.least, wish.most, wish.lasts_us
    args = (now, spec, ending.id, ending.spent, *new, freed_channel(keys), rule.caller(key))
    return HOLD.call((rule.key(keys, key),), args)


def told(hit: Hit, reply: bytes) -> Held:
    """Read the script's answer."""
    *figures, units, settled = unpack(f">{len(reply) // 8}q", reply)
    return Held(Decision(figures[0] == 1, (hit,), tuple(figures)), units, settled == 1)


def reserving(
    keys: Keys, hit: Hit, now: int | str, wish: Wish, outage: Outage, refusals: Remembered
) -> Op[Held]:
    """Set the units of a hit aside instead of charging them. One round trip, or none after a refusal."""
    refused = refusals.recall((hit,))
    if refused is not None:
        return Held(refused, 0, settled=False)
    asked = refusals.asking()
    call = holding(keys, Hit(hit.rule, hit.key, hit.need, 0), now, NOTHING_ENDS, wish)
    try:
        reply = yield from ask(call)
    except StoreError as error:
        return Held(without_store(call, (hit,), outage, error), 0, settled=False)
    held = told(hit, reply)
    if not held.decision.allowed:
        refusals.remember((hit,), held.decision, asked)
    return held


def settling(
    keys: Keys, rule: Rule, key: str, now: int | str, ending: Ending, refusals: Remembered
) -> Op[bool]:
    """End a hold and charge what was spent; False, and nothing charged, if it is not there any more."""
    look = Hit(rule, key, 1, 0)
    held = told(look, (yield from ask(holding(keys, look, now, ending, NOTHING_NEW))))
    if held.settled:
        refusals.freed(rule.caller(key))  # here at once, not when the message arrives
    return held.settled
