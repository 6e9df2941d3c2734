"""Local refusals: a caller the store has refused is refused here until the moment a permit can exist.

Rule 1: a refusal ends when its ``retry_after`` has passed since *before* the request was sent. The store decided
        later than that, so nobody is refused here whom the store would let pass by then.
Rule 2: units that come free earlier (a reset, a refund, a slice given back) are published on one channel of the
        namespace, by the script that frees them. While this process may miss such a message, it keeps nothing:
        not before its subscription is confirmed, not after its connection has changed, not where the message
        arrived while the answer was on its way.
Rule 3: memory is bounded. Past `MOST` callers the refusal kept longest is dropped: that caller asks the store.

Only the very call that was refused is answered here: same limiter, same limits, same key, same cost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from statekit.ratelimit.core import freed_channel
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.rule import Hit, Rule
from statekit.store.clock import micros
from statekit.store.fork import on_fork
from statekit.store.memory import AsyncMemoryTransport, MemoryTransport
from statekit.store.push import AsyncPush, Push
from statekit.store.store import AsyncStore, Store

__all__ = ["ASK_ALWAYS", "AsyncRefusals", "Refusals", "refusals_of"]

MOST = 10_000
"""Callers whose refusals a process keeps; each takes about a kilobyte."""
COSTS = 16
"""Different costs refused to one caller that are kept."""
NEVER_US = 1_000_000
"""How long a call that can never pass (its cost is above the limit) is refused without asking: its other figures
go out of date."""

P = TypeVar("P", Push, AsyncPush)


@dataclass(slots=True)
class _Refused:
    """One refusal, as the store answered it; times of this process's clock in microseconds."""

    hits: tuple[Hit, ...]
    figures: tuple[int, ...]
    until: int
    received: int

    def told(self, now: int) -> Decision:
        # allowed, hits, figures, degraded, local, aged_us: by position, for an attack runs through this line
        return Decision(False, self.hits, self.figures, False, True, now - self.received)  # noqa: FBT003


class _Refusals(Generic[P]):
    """What the store of one kit has refused, for all its limiters."""

    def __init__(self, push: P, channel: str, clock: Callable[[], int] | None) -> None:
        self._push: P = push
        self._channel = channel
        self.now: Callable[[], int] = clock or micros
        self._refused: dict[tuple[str, str], dict[tuple[str, str, int], _Refused]] = {}
        self._callers: dict[str, tuple[str, str]] = {}
        """From how a caller is called on the channel to how it is called here; in the order of `_refused`."""
        self._turn = 0
        """Counts what was heard, so that an answer on its way can be told to be from before it."""
        self._freed: dict[str, int] = {}
        """The turn at which units of a caller came free last."""
        self._since = 0
        """Answers to what was asked before this turn are not kept."""
        self._heard_on: object = None
        self._subscribed = False
        self._changing = threading.Lock()
        on_fork(self)

    # -- asked before each hit -----------------------------------------------------------------------------

    def known(self, rule: Rule, key: str, need: int) -> Decision | None:
        """The refusal this call would get from the store, if it is certain."""
        if not self._refused:
            return None
        try:
            found = self._refused.get((rule.name, key))
        except TypeError:  # no key at all: whoever checks it says so
            return None
        refused = found and found.get((rule.wire, rule.terms, need))
        if not refused or not self._hears():
            return None
        now = self.now()
        return refused.told(now) if now < refused.until else None

    def recall(self, hits: Sequence[Hit]) -> Decision | None:
        """Same as `known`, for a call of several limiters: one that refuses is enough."""
        if not self._refused:
            return None
        for hit in hits:
            decision = self.known(hit.rule, hit.key, hit.need) if hit.take else None
            if decision is not None:
                return decision
        return None

    # -- told after each refusal ---------------------------------------------------------------------------

    def asking(self) -> tuple[int, int]:
        """Note the moment before a request is sent, for `remember`."""
        return self.now(), self._turn

    def remember(self, hits: Sequence[Hit], decision: Decision, asked: tuple[int, int]) -> None:
        """Keep what the store refused; `asked` is what `asking` said before."""
        if not self._hears():
            self._listen()
            return
        received, figures = self.now(), decision.figures[2:]
        for hit in hits:
            mine: tuple[int, ...] = figures[: 4 * len(hit.rule.limits)]
            figures = figures[len(mine) :]
            waits = mine[1::4]
            if hit.take and not hit.rule.shadow and any(waits):
                until = asked[0] + (NEVER_US if min(waits) < 0 else max(waits))
                self._keep(_Refused((hit,), (0, decision.figures[1], *mine), until, received), asked[1])

    def _keep(self, refused: _Refused, turn: int) -> None:
        (hit,) = refused.hits
        name, caller = hit.rule.caller(hit.key), (hit.rule.name, hit.key)
        with self._changing:
            if turn < self._since or turn < self._freed.get(name, 0):
                return
            self._callers.pop(name, None)
            kept = self._refused.pop(caller, {})
            if len(self._refused) >= MOST:  # an attack with ever new keys pushes out its own
                del self._refused[self._callers.pop(next(iter(self._callers)))]
            mine = {(hit.rule.wire, hit.rule.terms, hit.need): refused}
            self._refused[caller] = kept | mine if len(kept) < COSTS else mine
            self._callers[name] = caller

    # -- told when units come free -------------------------------------------------------------------------

    def freed(self, name: str) -> None:
        """End the refusals of a caller: some of its units came free, by this process or another."""
        with self._changing:
            self._turn += 1
            if len(self._freed) >= MOST:  # rather keep no answer that is on its way than all of these
                self._freed, self._since = {}, self._turn
            self._freed[name] = self._turn
            caller = self._callers.pop(name, None)
            if caller is not None:
                self._refused.pop(caller, None)

    def heard(self, message: bytes | None) -> None:
        """Take what another process published; None: anything may have been missed until now."""
        if message is not None:
            self.freed(message.decode("utf-8", "replace"))
            return
        with self._changing:
            self._forget()
            self._heard_on = self._push.live

    def _forget(self) -> None:
        self._refused.clear()
        self._callers.clear()
        self._freed.clear()
        self._turn += 1
        self._since = self._turn

    def _hears(self) -> bool:
        return self._heard_on is not None and self._push.live is self._heard_on

    def _listen(self) -> None:
        raise NotImplementedError

    def after_fork(self) -> None:
        """The child has another connection, and hears of it."""
        self._changing = threading.Lock()
        self._heard_on = None
        self._forget()


class Refusals(_Refusals[Push]):
    """The refusals of a blocking kit; follows the channel on the kit's push thread."""

    def _listen(self) -> None:
        with self._changing:
            first, self._subscribed = not self._subscribed, True
        if first:
            self._push.subscribe(self._channel, self)

    def settled(self) -> None:
        """Nothing is left to do once the messages are taken."""


class AsyncRefusals(_Refusals[AsyncPush]):
    """Same as `Refusals`, for asyncio; on another event loop it starts over."""

    _loop: asyncio.AbstractEventLoop | None = None
    _subscribing: asyncio.Task[None] | None = None

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._heard_on = loop, None
            self._subscribing = loop.create_task(self._push.subscribe(self._channel, self))

    def _hears(self) -> bool:
        return super()._hears() and asyncio.get_running_loop() is self._loop

    async def settled(self) -> None:
        """Same as `Refusals.settled`."""


class _AskAlways:
    """Keeps nothing: for who wants each refusal from the store, and for a store in this process's own memory."""

    def known(self, rule: Rule, key: str, need: int) -> None: ...
    def recall(self, hits: Sequence[Hit]) -> None: ...
    def asking(self) -> tuple[int, int]:
        return 0, 0

    def remember(self, hits: Sequence[Hit], decision: Decision, asked: tuple[int, int]) -> None: ...
    def freed(self, name: str) -> None: ...


ASK_ALWAYS = _AskAlways()
_kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def refusals_of(store: Store | AsyncStore) -> Refusals | AsyncRefusals | _AskAlways:
    """The refusals of a store; one object for all its limiters."""
    found = _kept.get(store)
    return found if found is not None else _kept.setdefault(store, _made(store))  # type: ignore[no-any-return]


def _made(store: Store | AsyncStore) -> Any:
    if isinstance(store.transport, MemoryTransport | AsyncMemoryTransport):
        return ASK_ALWAYS
    channel = freed_channel(store.keys)
    if isinstance(store, AsyncStore):
        return AsyncRefusals(store.push, channel, store.clock)
    return Refusals(store.push, channel, store.clock)
