"""The ledger: the slots this process holds, those it may hold without knowing, and who waits here for one.

Rule 1: no I/O here; what has to be sent is an operation, carried out by `Keeper` or `AsyncKeeper`.
Rule 2: a slot is in the ledger from its grant until somebody takes it out to give it back, so that exactly one does,
        and a forked child, whose ledger is empty, gives back nothing of its parent's.
Rule 3: no locks: each change is one step of a dict or a deque.
"""

from __future__ import annotations

import itertools
from collections import deque
from time import monotonic
from typing import TypeAlias

from statekit.errors import StoreError
from statekit.inflight.core import HoldLost, Slot, releasing, renewing
from statekit.inflight.line import Lines
from statekit.store.op import Op, together
from statekit.store.store import AsyncStore, Store

__all__ = ["Held", "Ledger"]

DOUBTS = 1_000
"""How many slots of unknown fate are kept in mind; the leases of the others end by themselves."""
RENEWED_BELOW = 0.9
"""Part of a lease below which it is renewed, at the next beat; beats come at a third of the shortest lease."""
_numbers = itertools.count(1)


_Doubt: TypeAlias = tuple[Slot, float, bool]
"""A slot that may be ours, until when it may, and whether the store was asked and did not know it."""


class Held:
    """One slot of this process, while it is used."""

    __slots__ = ("ended", "fence", "lost", "slot", "subject", "until")

    def __init__(self, slot: Slot, subject: str, fence: int, until: float) -> None:
        self.slot = slot
        self.subject = subject
        self.fence = fence
        self.until = until
        """Until when the slot is surely ours, in this process's monotonic seconds."""
        self.lost = False
        self.ended = False
        """Taken out of the ledger: given back, lost, or the parent's."""

    @property
    def lapsed(self) -> bool:
        """Whether the lease may have run out; never earlier than the store says so."""
        return self.lost or (monotonic() >= self.until and not self.ended)


class Ledger:
    """What both keepers share."""

    def __init__(self, store: Store | AsyncStore) -> None:
        self._governed = store
        self._held: dict[Slot, Held] = {}
        self._doubts: deque[_Doubt] = deque(maxlen=DOUBTS)
        self.lines = Lines()

    def begin(self, lease_us: int) -> None:
        """Beat often enough for a lease of this length; called before a slot is asked for."""
        raise NotImplementedError

    def heard(self, message: bytes | None) -> None:
        """Take an announcement: the key of a free slot, or None when some may have been missed."""
        if message is None:
            self.lines.wake_all()
        else:
            self.lines.wake(message.decode())

    def token(self) -> str:
        """A name for one attempt that nobody else ever uses."""
        return f"{self._governed.worker} {next(_numbers)}"

    def add(self, held: Held) -> None:
        self._held[held.slot] = held

    def take_out(self, held: Held) -> bool:
        """Take a slot out, to give it back; true for one caller only."""
        if self._held.pop(held.slot, None) is None:
            return False
        held.lost, held.ended = held.lapsed, True
        return True

    def doubt(self, slot: Slot) -> None:
        """Keep in mind to give a slot back that is ours, or may be: the next beat does."""
        self._doubts.append((slot, monotonic() + slot.lease_us / 1e6, False))

    def forsake(self, held: Held) -> None:
        """Give a slot back that nobody can release any more; called by the garbage collector, so no I/O."""
        if self.take_out(held):
            self.doubt(held.slot)

    def report(self, subject: str, error: StoreError) -> None:
        self._governed.hooks.report("inflight", subject, error)

    def lose(self, held: Held) -> None:
        """Tell a hold that its slot is not its own any more."""
        if self.take_out(held):
            held.lost = True
            self._governed.hooks.emit(HoldLost(held.subject, held.fence))

    def releasing(self, *helds: Held) -> Op[bool]:
        """Give back slots that were taken out; whether all were still held."""
        try:
            answers = yield from releasing([held.slot for held in helds], self._governed.now())
        except GeneratorExit:  # cancelled on the way: whether it was sent is unknown
            for held in helds:
                self.doubt(held.slot)
            raise
        for held in helds:
            answer = answers[held.slot]
            if isinstance(answer, StoreError):
                self.doubt(held.slot)
                self.report(held.subject, answer)
            else:
                held.lost = held.lost or not answer
            self.lines.wake(held.slot.key)
        return all(answer is True for answer in answers.values())

    def tending(self) -> Op[None]:
        """Renew what is due and give back what is left over, in one round trip."""
        now = monotonic()
        due = [held for held in tuple(self._held.values()) if _due(held, now)]
        for held in due:
            if held.lapsed:
                self.doubt(held.slot)  # perhaps not yet, by the store's clock: then it is free at once
                self.lose(held)
        due = [held for held in due if not held.lost]
        yield from together(self._renewing(due, now), self.settling())

    def _renewing(self, due: list[Held], now: float) -> Op[None]:
        answers = yield from renewing([held.slot for held in due], self._governed.now())
        for held in due:
            answer = answers[held.slot]
            if answer is True:
                held.until = now + held.slot.lease_us / 1e6
            elif answer is False:
                self.lose(held)
            else:
                self.report(held.subject, answer)

    def settling(self) -> Op[None]:
        """Give back what may still be ours; what cannot be any more is forgotten.

        A slot that is not there is asked for once more at the next beat: a stopped server may take this question
        from one connection before it takes, from another, the one that asked for the slot.
        """
        now = monotonic()
        doubts = [doubt for doubt in _drained(self._doubts) if doubt[1] > now]
        answers = yield from releasing([slot for slot, _, _ in doubts], self._governed.now())
        for slot, ends, again in doubts:
            if isinstance(answers[slot], StoreError):
                self._doubts.append((slot, ends, again))
            elif not (answers[slot] or again):
                self._doubts.append((slot, ends, True))

    def closing(self) -> Op[object]:
        """Give everything back, in one round trip. To a block that is still running its slot is lost."""
        held = [one for one in tuple(self._held.values()) if self.take_out(one)]
        for one in held:
            one.lost = True
        return together(self.releasing(*held), self.settling())

    def after_fork(self) -> None:
        """What the parent holds is the parent's; here it counts as lost."""
        for held in self._held.values():
            held.lost = True
        self._held.clear()
        self._doubts.clear()
        self.lines = Lines()


def _due(held: Held, now: float) -> bool:
    return held.until - now < RENEWED_BELOW * held.slot.lease_us / 1e6


def _drained(doubts: deque[_Doubt]) -> list[_Doubt]:
    drained = []
    while doubts:
        try:
            drained.append(doubts.popleft())
        except IndexError:  # another thread was quicker
            break
    return drained
