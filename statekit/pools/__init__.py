"""Pools of third-party clients, bounded per process and for the whole fleet; see `statekit.pools.core`."""

from statekit.pools.core import (
    Bound,
    ConnectionLeaked,
    FleetView,
    Holder,
    OnOutage,
    PoolConfig,
    PoolStats,
    ProcessShare,
)
from statekit.pools.faces import AsyncCheckout, AsyncPool, AsyncPools, Checkout, Pool, Pools

__all__ = [
    "AsyncCheckout",
    "AsyncPool",
    "AsyncPools",
    "Bound",
    "Checkout",
    "ConnectionLeaked",
    "FleetView",
    "Holder",
    "OnOutage",
    "Pool",
    "PoolConfig",
    "PoolStats",
    "Pools",
    "ProcessShare",
]
