"""The roster: which workers are alive, as far as this one knows; for shares that must be fair while nobody can be asked.

Key        ``workers:{limits}``, a sorted set: worker -> microseconds of its last sign of life. It lives `LIFETIME`
           after the last sign of the last worker.
Script     ``store.sign`` signs, forgets who is gone, and tells how many there are.
Guarantee  A count that is rather too large than too small: a share taken by it is rather too small than too large.

Rule 1: nobody signs before there is something to share; the first sign is given in the background, at the first use.
Rule 2: a count is believed from the second sign on, `EVERY` seconds after the first. By then everybody else has signed
        too, also where the store came back empty, or all began at the same moment.
Rule 3: of the last `KEPT` counts the largest counts. A store that came back empty tells too small ones for a while.
Rule 4: a forked child is somebody else, and knows nothing yet: its parent may have been alone.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from statekit.errors import StoreFull, StoreReadOnly, StoreUnavailable
from statekit.store.fork import on_fork
from statekit.store.memory import AsyncMemoryTransport, Data, MemoryTransport, Twins
from statekit.store.op import Arg, Op, Script

if TYPE_CHECKING:
    from statekit.store.keys import Keys
    from statekit.store.pulse import Beat
    from statekit.store.store import AsyncStore, Store

__all__ = ["TWINS", "AsyncRoster", "Roster", "signing"]

EVERY: Final = 5.0
"""Seconds between two signs of life."""
LIFETIME: Final = 15.0
"""Seconds without one after which a worker counts as gone."""
KEPT: Final = 4
"""Counts that are remembered: those of a `LIFETIME`."""
SIGN: Final = Script.load(__package__, "sign")

S = TypeVar("S", "Store", "AsyncStore")
T = TypeVar("T")


def signing(keys: Keys, now: int | str, worker: str) -> Op[int]:
    """Sign as alive; returns how many are."""
    return (yield from SIGN((keys.of("workers", "limits"),), (now, worker, int(LIFETIME * 1e6))))  # type: ignore[no-any-return]


class _Roster(Generic[S]):
    """What both colours share: the counts, and who they are about."""

    def __init__(self, store: S) -> None:
        # Weakly: the store holds its roster, and circles wait for the garbage collector.
        self._store: weakref.ref[S] = weakref.ref(store)
        self._counts: deque[int] = deque(maxlen=KEPT)
        self._beat: Beat | None = None
        # A store in this process's own memory is shared with nobody; under a test's clock nothing happens by itself.
        self._alone = isinstance(store.transport, MemoryTransport | AsyncMemoryTransport)
        self._never = self._idle = self._alone or store.clock is not None
        on_fork(self)

    @property
    def live(self) -> int | None:
        """How many workers live, this one included; None while it is not known."""
        if self._alone:
            return 1
        return max(self._counts) if len(self._counts) > 1 else None

    def attend(self) -> None:
        """Begin to sign, if this process has not begun yet. Does not wait."""
        raise NotImplementedError

    def attending(self, op: Op[T]) -> Op[T]:
        """Run an operation that may need the count one day."""
        self.attend()
        return (yield from op)

    def signing(self, store: S) -> Op[None]:
        """Sign, and keep the count; an outage changes nothing about what is known."""
        try:
            self._counts.append((yield from signing(store.keys, store.now(), store.worker)))
        except (StoreUnavailable, StoreFull, StoreReadOnly):
            return

    def after_fork(self) -> None:
        self._counts.clear()


class Roster(_Roster["Store"]):
    """The roster of a blocking kit; signs on the kit's pulse."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._lock = threading.Lock()

    def attend(self) -> None:
        store = self._store()
        if self._idle or store is None:
            return
        with self._lock:
            first, self._idle = not self._idle, True
        if first:
            self._beat = self._beat or store.pulse.every(EVERY, self.sign)
            store.pulse.soon(self._beat)

    def sign(self) -> None:
        """Sign now."""
        if (store := self._store()) is not None:
            store.run(self.signing(store))

    def after_fork(self) -> None:
        super().after_fork()
        self._lock = threading.Lock()
        self._idle = self._never


class AsyncRoster(_Roster["AsyncStore"]):
    """Same as `Roster`, for asyncio; on another event loop it begins again."""

    _loop: asyncio.AbstractEventLoop | None = None

    def attend(self) -> None:
        store = self._store()
        if self._idle or store is None or asyncio.get_running_loop() is self._loop:
            return
        self._loop = asyncio.get_running_loop()
        self._rest()
        self._beat = store.pulse.every(EVERY, self.sign)
        self._beat.due = 0.0  # at once

    async def sign(self) -> None:
        """Same as `Roster.sign`, for asyncio."""
        store = self._store()
        if store is None:
            self._rest()
        else:
            await store.run(self.signing(store))

    def _rest(self) -> None:
        if self._beat is not None:
            self._beat.cancel()

    def after_fork(self) -> None:
        super().after_fork()
        self._loop = None


def _sign(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> int:
    """The twin of sign.lua."""
    now, lifetime = data.now(args[0]), int(args[2])
    signed: dict[str, Any] = data.get(keys[0]) or {}
    living = {name: at for name, at in signed.items() if now - lifetime < at <= now + lifetime}
    living[str(args[1])] = now
    data.put(keys[0], living, -(-lifetime // 1000))
    return len(living)


TWINS: Twins = {"store.sign": _sign}
