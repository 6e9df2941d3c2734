"""Counting without the store: where a process keeps its share of the limits during an outage.

The twin of the script decides, over memory of the process; one for all limiters of a kit. Memory is bounded: it keeps
the `MOST` callers counted last, so that an attack with ever new keys costs no more in an outage than outside of one.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from statekit.ratelimit.memory import TWINS
from statekit.store.fork import on_fork
from statekit.store.memory import Data, MemoryTransport
from statekit.store.op import Call, Reply

__all__ = ["MOST", "alone"]

MOST = 50_000
"""Callers whose counts are kept; each takes about a kilobyte. Who was counted longest ago begins afresh."""


class _Bounded(Data):
    def put(self, key: str, value: Any, ttl_ms: int) -> None:
        self._values.pop(key, None)  # so that the order is that of the last count
        super().put(key, value, ttl_ms)
        if len(self._values) > MOST:
            del self._values[next(iter(self._values))]


_counts: WeakKeyDictionary[Any, MemoryTransport] = WeakKeyDictionary()


def alone(store: Any, call: Call) -> Reply:
    """Run the script of a call in this process alone."""
    transport = _counts.get(store)
    if transport is None:
        transport = _counts.setdefault(store, MemoryTransport(TWINS, _Bounded()))
        on_fork(transport)
    return transport.exchange((call,), 0.0)[0]
