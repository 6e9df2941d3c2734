"""What a test of code that uses statekit needs: a clock that stands still, an outage on demand, one colour.

Public, shipped, and never imported by the rest of statekit.
"""

from statekit.testing.blocking import Blocking
from statekit.testing.clock import FrozenClock
from statekit.testing.outage import OutageSimulator, store_down
from statekit.testing.proxy import Proxy
from statekit.testing.recorder import recorded

__all__ = ["Blocking", "FrozenClock", "OutageSimulator", "Proxy", "recorded", "store_down"]
