"""How many at once, over all processes, as leases with fences; see `statekit.inflight.core`."""

from statekit.inflight.core import Holder, HoldLost, OnOutage
from statekit.inflight.faces import AsyncHold, AsyncInFlight, Hold, InFlight

__all__ = ["AsyncHold", "AsyncInFlight", "Hold", "HoldLost", "Holder", "InFlight", "OnOutage"]
