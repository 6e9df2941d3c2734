"""Loans: rounds of an event loop over connections borrowed from a pool, one pipeline after another.

For pools that are not ours, and for rounds that wait in the server: a connection on loan holds up nobody else.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from statekit.errors import StoreUnavailable
from statekit.store.answers import aread, translated
from statekit.store.lane import CONNECTIONS, WINDOW, Lane

if TYPE_CHECKING:
    from statekit.store.op import Reply
    from statekit.store.wire import Asked

__all__ = ["ConfirmedLane", "LoanLane"]


class _Loan:
    """A connection borrowed: what it carries now, and the task that sees to it."""

    __slots__ = ("batch", "task")
    task: asyncio.Task[None]

    def __init__(self, batch: list[Asked]) -> None:
        self.batch = batch


class LoanLane(Lane):
    """A line before the connections of a pool that is not ours: each is borrowed for one pipeline after another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any) -> None:
        super().__init__(loop, pool)
        self._loans: list[_Loan] = []

    def _send(self) -> None:
        self._gathered = 0
        while self._line and len(self._loans) < CONNECTIONS:
            loan = _Loan(self._batch(WINDOW, renewed=True))
            self._loans.append(loan)
            loan.task = self._chore(self._borrow(loan))
            loan.task.add_done_callback(partial(self._returned, loan))

    async def _borrow(self, loan: _Loan) -> None:
        """Use one connection for a batch, then for the next, until nobody waits."""
        while batch := loan.batch:
            try:
                with translated():
                    await self._carry(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for it
                for asked in batch:
                    asked.fail(error)
            loan.batch = self._batch(WINDOW, renewed=True)

    def _returned(self, loan: _Loan, _: asyncio.Task[None]) -> None:
        self._loans.remove(loan)
        self._send()

    async def _carry(self, batch: list[Asked]) -> None:
        connection = await self.pool.get_connection()
        try:
            await self._converse(connection, batch)
            batch.clear()  # nothing is overdue any more
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self.pool.release(connection)

    async def _converse(self, connection: Any, batch: list[Asked]) -> None:
        """Send a batch, and hand each round its replies as they come."""
        await connection.send_packed_command(b"".join([asked.message for asked in batch]))
        for asked in batch:
            self._hand_over(asked, [await aread(connection) for _ in range(asked.count)])

    def _hand_over(self, asked: Asked, replies: list[Reply]) -> None:
        self._heard = self._loop.time()
        if not asked.future.done():
            asked.future.set_result(replies)

    def _sent(self) -> list[Asked]:
        return [asked for loan in self._loans for asked in loan.batch if not asked.future.done()]

    def _overdue(self, now: float, *, late: bool) -> list[float]:
        deadlines: list[float] = []
        for loan in self._loans:
            theirs = [asked.judged(now, excused=late) for asked in loan.batch]
            if theirs and max(theirs) <= now:
                loan.task.cancel()  # the connection has to go with the last of them: the peer may be gone for good
            deadlines += theirs
        return deadlines

    def abort(self) -> None:
        super().abort()
        for loan in self._loans:
            for asked in loan.batch:
                asked.fail(StoreUnavailable("the store is closed"))
            loan.task.cancel()


class ConfirmedLane(LoanLane):
    """A line of rounds that end when replicas have confirmed them: one question for all of a batch.

    So writes that come together wait once, also when no replica answers. Each round gets the reply to the question
    as its last.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any, question: bytes) -> None:
        super().__init__(loop, pool)
        self._question = question

    async def _converse(self, connection: Any, batch: list[Asked]) -> None:
        messages = [asked.message for asked in batch]
        await connection.send_packed_command(b"".join([*messages, self._question]))
        arrived = [[await aread(connection) for _ in range(asked.count)] for asked in batch]
        confirmed = await aread(connection)
        for asked, replies in zip(batch, arrived, strict=True):
            self._hand_over(asked, [*replies, confirmed])
