"""Last seen: the sessions this process has read or written lately, for routes that go on without the store.

Rule 1: what is shown was confirmed by the store a bounded time ago, counted from the moment the store was asked, and
        is never past the deadlines it had then.
Rule 2: what this process has ended, or given another id, is not shown again, whatever answers are still on their
        way: its name is kept for as long as such an answer could count. So all `sessions` of a kit share one memory.
Rule 3: nothing is kept before a route wants it. Then memory is bounded in sessions and in bytes; what was not seen
        for longest goes first.

Sessions are known by their handles, and their values kept as they lie in the store. What other processes have ended
since is not known here; Rule 1 bounds it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from statekit.sessions.record import Delta, Record
from statekit.store.clock import micros
from statekit.store.fork import on_fork
from statekit.store.store import AsyncStore, Store

__all__ = ["LastSeen", "Sighting", "last_seen_of"]

MOST = 10_000
"""Sessions kept, and names of ended ones."""
MOST_BYTES = 32 * 1024 * 1024
OVERHEAD = 1024
"""Bytes a session takes besides its keys and values."""
NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Sighting:
    """A session as the store showed it. Moments are microseconds of this process's clock."""

    record: Record
    asked: int
    until: int
    size: int


class LastSeen:
    """The sessions one process has seen through one kit; safe for threads and forks."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._longest = 0
        self._since = NEVER
        """What was asked of the store before this moment is not kept; `NEVER`: nothing is."""
        self._kept: OrderedDict[str, Sighting] = OrderedDict()
        self._bytes = 0
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._changing = threading.Lock()
        on_fork(self)

    def start(self, longest: int) -> None:
        """Keep what is seen from now on, to be shown for so many microseconds."""
        if self._since == NEVER:
            self._since = self._clock()
        self._longest = max(self._longest, longest)

    def asking(self) -> int:
        """The moment before the store is asked, for `note`."""
        return 0 if self._since == NEVER else self._clock()

    def note(self, record: Record, asked: int, delta: Delta | None = None) -> None:
        """Keep a session that the store has just shown, or has just taken `delta` for."""
        if asked < self._since or record.retired:
            return
        with self._changing:
            known = self._kept.get(record.handle)
            if record.handle in self._ended or asked < self._since:
                return
            if known is not None and known.asked > asked:
                if delta is None:
                    return
                record, asked = known.record.holding(delta.applied(known.record.fields)), known.asked
            self._keep(record, asked)

    def forget(self, handle: str) -> None:
        """Never show this session again: it is being ended here, or given another id."""
        if self._since == NEVER:
            return
        with self._changing:
            self._drop(handle)
            now = self._ended[handle] = self._clock()
            self._ended.move_to_end(handle)
            while self._ended:
                oldest, ended = next(iter(self._ended.items()))
                if ended >= now - self._longest and len(self._ended) <= MOST:
                    break
                # An answer to what was asked before could be about that session.
                self._since = max(self._since, ended + 1)
                del self._ended[oldest]

    def drop(self, handle: str) -> None:
        """Stop showing a session that the store does not know any more."""
        if handle in self._kept:
            with self._changing:
                self._drop(handle)

    def forget_all(self, principal: str, keep: str | None) -> None:
        """Never show the sessions of a principal again, but for one."""
        with self._changing:
            names = [name for name, one in self._kept.items() if one.record.principal == principal]
        for name in names:
            if name != keep:
                self.forget(name)

    def recall(self, handle: str, longest: int) -> Sighting | None:
        """A session as it was seen last, if that was no longer ago, and it has not ended since by itself."""
        found = self._kept.get(handle)
        if found is None or self._clock() >= min(found.until, found.asked + longest):
            return None
        return found

    def age(self, sighting: Sighting) -> float:
        """Seconds since the store was asked for it."""
        return (self._clock() - sighting.asked) / 1_000_000

    def after_fork(self) -> None:
        """A child knows what its parent knew; nobody in it holds the lock, and a change cut short is made up for."""
        self._changing = threading.Lock()
        self._bytes = sum(one.size for one in self._kept.values())

    def _keep(self, record: Record, asked: int) -> None:
        self._drop(record.handle)
        size = OVERHEAD + sum(4 * len(key) + len(raw) for key, raw in record.fields.items())
        self._kept[record.handle] = Sighting(record, asked, asked + record.left, size)
        self._bytes += size
        while len(self._kept) > MOST or self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, handle: str) -> None:
        known = self._kept.pop(handle, None)
        self._bytes -= 0 if known is None else known.size


_memories: WeakKeyDictionary[Store | AsyncStore, LastSeen] = WeakKeyDictionary()


def last_seen_of(store: Store | AsyncStore) -> LastSeen:
    """What is kept of the sessions of a store; one object for all that ask."""
    return _memories.setdefault(store, LastSeen(store.clock or micros))
