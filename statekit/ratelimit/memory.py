"""The twins of ``hit.lua``, ``hold.lua``, ``refund.lua`` and ``reset.lua`` over this process's memory: the same answers.

The algorithms are in ``memory_log`` and ``memory_rows``, units set aside in ``memory_holds``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack

from statekit.ratelimit.memory_base import Moment, Opened, Spec, State, parsed
from statekit.ratelimit.memory_holds import Hold, laden
from statekit.ratelimit.memory_log import OpenLog, straight
from statekit.ratelimit.memory_rows import OpenRows
from statekit.store.memory import Data, Twins
from statekit.store.op import Arg

__all__ = ["TWINS"]


@dataclass(slots=True)
class Standing:
    """One key of a decision: what it is held to, its state, and how long each limit makes the call wait."""

    spec: Spec
    opened: Opened
    now: int
    states: Sequence[State] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, moment: Moment, key: str, text: str) -> Standing:
        spec = parsed(text)
        opened = (OpenLog if spec.algorithm == "log" else OpenRows)(moment, key, spec)
        return cls(spec, opened, moment.now)

    def look(self) -> None:
        """Lay the holds over the states, as they are now."""
        self.states = laden(self.opened, self.spec.spans, self.now)

    def ask(self) -> bool:
        """Whether a limit refuses."""
        self.look()
        need, pairs = self.spec.need, zip(self.spec.spans, self.states, strict=True)
        self.waits = [-1 if need > span.count else state.wait(span.count - need) for span, state in pairs]
        return any(self.waits)

    @property
    def free(self) -> int:
        """Units that could be charged."""
        return min(one.count - state.used for one, state in zip(self.spec.spans, self.states, strict=True))

    def told(self) -> list[int]:
        """Where each limit stands."""
        figures = []
        for span, state, retry in zip(self.spec.spans, self.states, self.waits, strict=True):
            more = state.wait(max(0, min(state.used, span.count) - 1))
            figures += [max(0, span.count - state.used), retry, more, state.wait(0)]
        return figures


def hit(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> bytes:
    """Decide as ``hit.lua`` does."""
    moment = Moment(data, data.now(args[0]), args[0] != "")
    if len(keys) == 1:
        spec = parsed(str(args[1]))
        answer = straight(moment, keys[0], spec) if spec.algorithm == "log" and len(spec.spans) == 1 else None
        if answer is not None:
            return pack(">6q", *answer)
    all_of_them = [Standing.open(moment, key, str(text)) for key, text in zip(keys, args[1:], strict=True)]
    full = [one.ask() for one in all_of_them]
    admitted = all(one.spec.shadow or not refused for one, refused in zip(all_of_them, full, strict=True))
    reply = [int(admitted), moment.now]
    for one, refused in zip(all_of_them, full, strict=True):
        if admitted and one.spec.take and not refused:
            one.opened.charge(one.spec.take)
        reply += one.told()
    return pack(f">{len(reply)}q", *reply)


def hold(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> bytes:
    """Settle and set aside as ``hold.lua`` does."""
    moment = Moment(data, data.now(args[0]), args[0] != "")
    text, old, id_ = str(args[1]), str(args[2]), str(args[4])
    spent, least, most, lasts = int(args[3]), int(args[5]), int(args[6]), int(args[7])
    one = Standing.open(moment, keys[0], text)
    if one.opened.carried and id_:
        one.opened.keep()
    freed = _settled(one, old, spent)
    full, held = one.ask(), 0
    if id_ and not full:
        held = _set_aside(one, least, most)
        new = Hold(id_, held, moment.now, moment.now + lasts)
        one.opened.holds.extend([new] if held else [])
        one.opened.holds.sort(key=lambda hold: hold.deadline)
    if held or freed is not None:
        one.opened.keep()
        one.look()
    taken = one.spec.take + held if id_ and not full else 0
    if freed is not None and freed > taken:
        data.publish(str(args[8]), str(args[9]))
    reply = [int(not full or one.spec.shadow), moment.now, *one.told(), held, int(freed is not None)]
    return pack(f">{len(reply)}q", *reply)


def _settled(one: Standing, id_: str, spent: int) -> int | None:
    """End a hold; returns how many units that freed, or None if there is no such hold."""
    found = next((hold for hold in one.opened.holds if hold.id == id_), None)
    if found is None:
        return None
    one.opened.holds.remove(found)
    if spent:
        one.opened.charge(spent)
    return found.units - spent


def _set_aside(one: Standing, least: int, most: int) -> int:
    if one.spec.take:
        one.opened.charge(one.spec.take)
    return min(most, max(least, min(one.free, most * 4) // 4))


def refund(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> bytes:
    """Take back as ``refund.lua`` does."""
    moment, text = Moment(data, data.now(args[0]), args[0] != ""), str(args[1])
    one = Standing.open(moment, keys[0], text)
    if one.opened.refund(one.spec.take, int(args[2])):
        data.publish(str(args[3]), str(args[4]))
    one = Standing.open(moment, keys[0], text)
    full = one.ask()
    reply = [int(not full or one.spec.shadow), moment.now, *one.told()]
    return pack(f">{len(reply)}q", *reply)


def reset(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> int:
    """Do what ``reset.lua`` does."""
    forgotten = data.delete(*keys)
    if forgotten:
        data.publish(str(args[0]), str(args[1]))
    return forgotten


TWINS: Twins = {
    "ratelimit.hit": hit,
    "ratelimit.hold": hold,
    "ratelimit.refund": refund,
    "ratelimit.reset": reset,
}
