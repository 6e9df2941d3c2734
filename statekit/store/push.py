"""Push: messages other processes sent, handed to whoever keeps a local copy.

Seam only: the listener is built with the replica engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["AsyncPush", "Push"]


class Push:
    """The subscriptions of a blocking kit, on one daemon thread."""

    def __init__(self, subscriber: Callable[[], Any]) -> None:
        self._subscriber = subscriber

    def close(self) -> None: ...


class AsyncPush:
    """Same as `Push`, for asyncio: one task."""

    def __init__(self, subscriber: Callable[[], Any]) -> None:
        self._subscriber = subscriber

    async def close(self) -> None: ...
