"""The store layer: operations, the two drivers, keys, outages. No primitive lives here."""

from statekit.store.durations import Duration, micros, millis, seconds
from statekit.store.hooks import Degraded, Hooks, RoundTrip
from statekit.store.keys import Keys, encoded
from statekit.store.op import Call, Op, Script, ask, command, together
from statekit.store.outage import Budget
from statekit.store.store import AsyncStore, Store

__all__ = [
    "AsyncStore",
    "Budget",
    "Call",
    "Degraded",
    "Duration",
    "Hooks",
    "Keys",
    "Op",
    "RoundTrip",
    "Script",
    "Store",
    "ask",
    "command",
    "encoded",
    "micros",
    "millis",
    "seconds",
    "together",
]
