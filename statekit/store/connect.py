"""URLs: from ``redis://…`` to a transport."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from statekit.store.drive import AsyncRedisTransport, RedisTransport

if TYPE_CHECKING:
    from statekit.store.outage import Budget
    from statekit.store.store import AsyncTransport, Transport

__all__ = ["connected", "connected_async"]


def _options(budget: Budget, retry: Any) -> dict[str, Any]:
    return {
        "protocol": 2,
        "socket_timeout": budget.operation,
        "socket_connect_timeout": budget.connect,
        "retry": retry,
        "max_connections": 2**16,
    }


def connected(url: str | None, budget: Budget) -> Transport:
    """Open a transport for blocking code."""
    url = url or os.environ["STATEKIT_URL"]
    return RedisTransport(redis.Redis.from_url(url, **_options(budget, Retry(NoBackoff(), 0))), owned=True)


def connected_async(url: str | None, budget: Budget) -> AsyncTransport:
    """Same as `connected`, for asyncio."""
    url = url or os.environ["STATEKIT_URL"]
    return AsyncRedisTransport(
        redis.asyncio.Redis.from_url(url, **_options(budget, AsyncRetry(NoBackoff(), 0))), owned=True
    )
