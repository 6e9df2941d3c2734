"""Called to give back: a process waits for connections that others hold without need.

The script that books shares publishes the names of those with a surplus on the fleet's own key. A call that
is lost costs half a second: the next report tells the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["AsyncCalled", "Called"]

A = TypeVar("A")


class _Called(Generic[A]):
    """Listens for this process's name; a subscription that begins *again* may have missed it."""

    def __init__(self, is_mine: Callable[[bytes], bool], answer: Callable[[], A]) -> None:
        self._is_mine = is_mine
        self._answer = answer
        self._joined = self._due = False

    def heard(self, message: bytes | None) -> None:
        self._due = self._due or (self._joined if message is None else self._is_mine(message))
        self._joined = True

    def _take_due(self) -> bool:
        due, self._due = self._due, False
        return due


class Called(_Called[None]):
    """Brings the next report forward when called."""

    def settled(self) -> None:
        """Answer elsewhere: closing clients may take long, and others listen on this thread."""
        if self._take_due():
            self._answer()


class AsyncCalled(_Called[Coroutine[Any, Any, None]]):
    """Same as `Called`, for asyncio."""

    _answering: asyncio.Task[None] | None = None

    async def settled(self) -> None:
        """Same as `Called.settled`: in a task of its own, kept so that it is not collected half-way."""
        if self._take_due():
            self._answering = asyncio.create_task(self._answer())
