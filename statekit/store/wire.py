"""A wire: one asyncio connection on which rounds follow each other without waiting for answers.

redis-py opens the connection (addresses, TLS, passwords, sentinels are its business); from then on the wire is
the protocol of its transport: it writes messages, and hands each reply to the round it answers, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from statekit.errors import StoreError, StoreTimeout, StoreUnavailable
from statekit.store.resp import Replies

if TYPE_CHECKING:
    from statekit.store.op import Reply

__all__ = ["Asked", "Refused", "Wire"]

Refused: TypeAlias = Callable[[Any, str], StoreError]
"""Given a connection and the text of an error reply: what takes its place (see `Replies`)."""

EXTRA: Final = 3
"""Times a clock starts anew when the store is not to blame."""
DELIVERED: Final = 64
"""Replies handed over in one tick of the loop at most: who gets one goes on to work in the next tick."""


class Asked:
    """A caller's round on its way: the message, how many replies it gets, the future they will arrive in."""

    __slots__ = ("budget", "count", "deadline", "extra", "future", "message")

    def __init__(
        self, message: bytes, count: int, future: asyncio.Future[list[Reply]], budget: float, deadline: float
    ) -> None:
        self.message = message
        self.count = count
        self.future = future
        self.budget = budget
        self.deadline = deadline
        self.extra = EXTRA

    def fail(self, error: Exception) -> None:
        """Hand over an error of one's own: raised in many places, one object would collect all tracebacks."""
        if self.future.done():
            return
        own = type(error)(*error.args) if isinstance(error, StoreError) else StoreUnavailable(f"{error!r}")
        own.__cause__ = error.__cause__ or error
        self.future.set_exception(own)

    def judged(self, now: float, *, excused: bool) -> float:
        """Fail if the time is up, unless the store is excused; return the deadline there is now."""
        if self.deadline <= now:
            if not (excused and self.extra):
                self.fail(StoreTimeout(f"the store did not answer in time: nothing after {self.budget:g} s"))
                return self.deadline
            self.extra -= 1
            self.deadline = now + self.budget
        return self.deadline


class Wire(asyncio.Protocol):
    """One connection, and the rounds that wait for its replies."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Any,
        refused: Refused,
        moved: Callable[[Wire], None],
    ) -> None:
        """Take over a connection that redis-py has opened.

        `refused` translates an error reply. `moved` is called when there is room for more, and at the end.
        """
        self._loop = loop
        self.connection = connection
        self._moved = moved
        self._refused = refused
        self._replies = Replies(self._refusal)
        self._arrived: deque[Reply] = deque()
        self.delivering = False
        """Whether replies that have arrived wait for the next tick of the loop to be handed over."""
        self.flying: deque[Asked] = deque()
        """Rounds sent and not answered, in order."""
        self.load = 0
        """Calls among them."""
        self.silent = False
        """Whether it has let a round wait past its budget and not been heard since: it gets no new ones."""
        self.demoted = False
        """Whether the server is a replica now: it gets no new ones, for its name may mean another server by now."""
        self.full = False
        """Whether the peer takes no more bytes for now."""
        self.ended = False
        self._transport = connection._writer.transport  # noqa: SLF001 - redis-py has no public name for it
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, batch: Sequence[Asked]) -> None:
        """Write the messages of a batch; the replies will find their way."""
        self.flying.extend(batch)
        self.load += sum([asked.count for asked in batch])
        self._transport.write(b"".join([asked.message for asked in batch]))

    # -- called by the transport -------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._arrived.extend(self._replies.feed(data))
        self.silent = self.demoted
        if self._replies.broken:
            self.end(self._replies.broken)
        elif not self.delivering:
            self._deliver()

    def _refusal(self, text: str) -> StoreError:
        self.demoted = self.demoted or text.startswith("READONLY") or "-READONLY" in text
        return self._refused(self.connection, text)

    def eof_received(self) -> bool:
        return False  # close: the transport then reports the connection lost

    def connection_lost(self, error: Exception | None) -> None:
        self._former.connection_lost(error)
        self.end(StoreUnavailable(f"the store cannot be reached: {error or 'it closed the connection'}"))

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._moved(self)

    # -- handing over ------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Hand over what has arrived, up to `DELIVERED` replies; the rest in the next tick."""
        before = self.load
        self.delivering = self._hand_over(before - DELIVERED)
        if self.delivering:
            self._loop.call_soon(self._deliver)
        elif self._arrived and not self.flying:
            self.end(StoreUnavailable("the store cannot be reached: it answers what nobody asked"))
            return
        elif self.demoted and not self.flying:
            self.end(StoreUnavailable("the store cannot be reached: the server is a replica now"))
            return
        if self.load < before:
            self._moved(self)

    def _hand_over(self, floor: int) -> bool:
        """Give each round its replies until `floor` calls are left; returns whether that was too early."""
        arrived, flying = self._arrived, self.flying
        while flying and len(arrived) >= flying[0].count:
            if self.load <= floor:
                return True
            asked = flying.popleft()
            self.load -= asked.count
            replies = [arrived.popleft() for _ in range(asked.count)]
            if not asked.future.done():
                asked.future.set_result(replies)
        return False

    def end(self, error: Exception) -> None:
        """Close at once; who still waits for a reply gets the error."""
        if self.ended:
            return
        self.ended = True
        self._hand_over(0)
        flying, self.flying, self.load = self.flying, deque(), 0
        self._arrived.clear()
        self._transport.abort()
        for asked in flying:
            asked.fail(error)
        self._moved(self)
