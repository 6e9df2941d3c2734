"""Rate limits: how often a caller may do something, counted once for all processes.

Keys       ``limit:{<limiter>:<key>}:<algorithm>``, a string each, one a limiter and caller; it lives until
           nothing is used any more (the log: up to a quarter of its longest window longer). Units set aside,
           for reservations and leases, lie under the same key; it lives one window past their deadline.
           Channel ``limit:{freed}``: callers whose units came free before their time.
Scripts    ``ratelimit.hit`` decides all limits of all pairs of a call in one run; ``ratelimit.hold`` sets units
           aside and settles them; ``ratelimit.refund`` takes back; ``ratelimit.reset`` forgets.
Guarantee  Several limits, several limiters: all or nothing, in one round trip. A refusal consumes nothing. Over
           several slots of a cluster it consumes nothing in the end: see spread.py.
           The sliding log admits at most `count` units in any half-open window ``(t-W, t]``, exactly;
           so do GCRA its burst and rate, and the fixed window per aligned window. The clock is the store's.
           Units set aside count as used until they are settled, or lapse: leases are as strict as hits.
Not        guaranteed: fairness among waiters; entries a primary had not replicated when it failed; that a
           `reset` stops slices other processes have leased.
Store down ``on_outage``: "allow", "deny", or "local" (each process admits its share of the limit). Such a
           decision has ``degraded`` set and is reported to the hooks. `reset` and `settle` raise.
Local      A caller who was refused is refused by his process, without asking, until a permit can exist: see
           refusals.py. A leased limiter spends slices it has taken in advance: see lease.py.

Memory of the sliding log: 8 bytes a hit, whatever it costs, in a ring that grows by at most a fifth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from struct import unpack
from typing import Protocol

from statekit.errors import StoreError, StoreRejected, UsageError
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.rule import KIND, WIRE, Hit, OnOutage, Rule
from statekit.store.keys import Keys
from statekit.store.op import Arg, Call, Op, Reply, Script

__all__ = [
    "HIT",
    "HOLD",
    "REFUND",
    "Outage",
    "Remembered",
    "deciding",
    "freed_channel",
    "merged",
    "pause",
    "resetting",
    "told",
    "without_store",
]


def _assembled(name: str) -> str:
    """Read a script of several files: a line ``-- include x.lua`` stands for what is in ``x.lua``."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"^ *-- include (\w+\.lua)$", lambda line: _assembled(line[1]), text, flags=re.MULTILINE)


HIT = Script("ratelimit.hit", _assembled("hit.lua"))
HOLD = Script("ratelimit.hold", _assembled("hold.lua"))
REFUND = Script("ratelimit.refund", _assembled("refund.lua"))
RESET = Script.load(__package__, "reset")
OUTAGE_RETRY_US = 1_000_000
"""How long a caller refused for an outage is told to wait: the breaker asks the store again well before."""
MISUSE = ("CROSSSLOT", "ERR", "NOPERM", "WRONGTYPE")
"""Rejections that do not pass by themselves: raised, for answering them with a policy would hide them."""


# -- the operations --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outage:
    """What a limiter's operations need to answer without the store."""

    local: Callable[[Call], Reply]
    """Runs the script in this process alone."""
    shares: Callable[[Rule], int]
    """Into how many parts the limits are divided: by the live workers this process knows of, itself included."""
    report: Callable[[str, Exception], None]


class Remembered(Protocol):
    """What this process remembers of the store's refusals; see refusals.py."""

    def recall(self, hits: Sequence[Hit]) -> Decision | None:
        """The refusal this call would certainly get."""

    def asking(self) -> tuple[int, int]:
        """Note the moment before a request is sent."""

    def remember(self, hits: Sequence[Hit], decision: Decision, asked: tuple[int, int]) -> None:
        """Keep a refusal, as of the moment it was asked for."""

    def freed(self, name: str) -> None:
        """Drop what is kept of a caller: units came free."""


def deciding(
    keys: Keys, hits: Sequence[Hit], now: int | str, outage: Outage, refusals: Remembered
) -> Op[Decision]:
    """Decide one or several hits at once: all pass and are charged, or none is. One round trip, or none."""
    names = [hit.rule.key(keys, hit.key) for hit in hits]
    if len(names) > 1:
        hits, names = merged(hits, names)
    specs = [hit.rule.spec(hit.need, hit.take) for hit in hits]
    return _decided(HIT.call(names, (now, *specs)), hits, outage, refusals)


def _decided(call: Call, hits: Sequence[Hit], outage: Outage, refusals: Remembered) -> Op[Decision]:
    refused = refusals.recall(hits)
    if refused is not None:
        return refused
    asked = refusals.asking()
    try:
        (reply,) = yield (call,)  # not `ask`: one generator less under every hit
    except StoreError as error:
        return without_store(call, hits, outage, error)
    if isinstance(reply, StoreError):
        return without_store(call, hits, outage, reply)
    decision = told(hits, reply)
    if not decision.allowed:
        refusals.remember(hits, decision, asked)
    return decision


def without_store(call: Call, hits: Sequence[Hit], outage: Outage, error: StoreError) -> Decision:
    """Give the answer declared for an outage, or raise what does not pass by itself."""
    if isinstance(error, StoreRejected) and str(error).startswith(MISUSE):
        if str(error).startswith("CROSSSLOT"):
            cure = "connect with redis+cluster://, or hit limiters whose keys differ one by one"
            raise StoreRejected(f"{error}; {cure}") from error
        raise error
    outage.report(", ".join(hit.rule.name for hit in hits), error)
    return _substitute(call, hits, outage)


def merged(hits: Sequence[Hit], names: Sequence[str]) -> tuple[list[Hit], list[str]]:
    """Add up hits of one limiter on one key: the script opens each state once."""
    merged: dict[str, Hit] = {}
    for hit, name in zip(hits, names, strict=True):
        first = merged.get(name)
        if first is None:
            merged[name] = hit
        elif first.rule == hit.rule:
            need = first.take + hit.take
            merged[name] = Hit(hit.rule, hit.key, max(1, need), need)
        else:
            raise UsageError(f"two limiters named {hit.rule.name!r} with different limits met in one call")
    return list(merged.values()), list(merged)


def _substitute(call: Call, hits: Sequence[Hit], outage: Outage) -> Decision:
    """Answer without the store: denied if one limiter says so, else counted here where one says so."""
    policies = {hit.rule.on_outage for hit in hits if not hit.rule.shadow}
    if OnOutage.DENY in policies:
        return _blind(hits, allowed=False)
    local = [index for index, hit in enumerate(hits) if hit.rule.on_outage is OnOutage.LOCAL]
    if not local:
        return _blind(hits, allowed=True)
    counted = [hits[index] for index in local]
    args: list[Arg] = [hit.rule.spec(hit.need, hit.take, shares=outage.shares(hit.rule)) for hit in counted]
    names = [str(call.args[index]) for index in local]
    reply = outage.local(HIT.call(names, [call.args[call.keys], *args]))
    return told(counted, reply, degraded=True)


def told(hits: Sequence[Hit], reply: bytes, *, degraded: bool = False) -> Decision:
    """Read the script's answer."""
    figures = unpack(f">{len(reply) // 8}q", reply)
    return Decision(figures[0] == 1, tuple(hits), figures, degraded)


def _blind(hits: Sequence[Hit], *, allowed: bool) -> Decision:
    """An answer about limits whose use is unknown."""
    wait = 0 if allowed else OUTAGE_RETRY_US
    figures = [int(allowed), 0]
    for hit in hits:
        for limit in hit.rule.limits:
            figures += [limit.count if allowed else 0, wait, wait, wait]
    return Decision(allowed, tuple(hits), tuple(figures), degraded=True)


def freed_channel(keys: Keys) -> str:
    """Where the callers are announced whose units came free before their time."""
    return keys.of(KIND, "freed")


def resetting(keys: Keys, rule: Rule, key: str, refusals: Remembered) -> Op[bool]:
    """Forget what a caller used, also what another algorithm of this limiter counted; every process hears of it."""
    names = [rule.key(keys, key, wire) for wire in WIRE.values()]
    caller = rule.caller(key)
    forgotten = yield from RESET(names, (freed_channel(keys), caller))
    refusals.freed(caller)  # here at once, not when the message arrives
    return bool(forgotten)


def pause(decision: Decision, left: float, jitter: float) -> float | None:
    """How long a waiter sleeps before it tries again; None if it should give up.

    It sleeps exactly until its units are free, plus up to a hundredth (at most 5 ms), so that waiters of one
    moment do not come back in step.
    """
    wait = decision.retry_after
    if decision.allowed or wait is None or wait > left:
        return None
    return min(left, wait + min(0.005, wait / 100) * jitter)
