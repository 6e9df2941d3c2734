"""Reservations as asyncio code writes them: entered or awaited, not yet asked for until then."""

from __future__ import annotations

import asyncio

import pytest

from statekit import AsyncStateKit
from statekit.errors import LimitExceeded, UsageError
from statekit.testing import recorded


def test_entering_asks_once_and_settles():
    async def run():
        async with AsyncStateKit.in_memory() as kit:
            tokens = kit.rate_limiter("tokens", "1000/hour")
            with recorded(kit) as trips:
                async with tokens.reserve("ann", 600) as reservation:
                    assert await reservation.settle(100)
            assert len(trips) == 2
            return (await tokens.peek("ann")).remaining

    assert asyncio.run(run()) == 900


def test_awaiting_asks_once_also_when_entered_afterwards():
    async def run():
        async with AsyncStateKit.in_memory() as kit:
            tokens = kit.rate_limiter("tokens", "1000/hour")
            reservation = tokens.reserve("ann", 600)
            with pytest.raises(UsageError, match="await"):
                bool(reservation)
            assert "not asked for yet" in repr(reservation)
            if await reservation:
                async with reservation:
                    pass
            with pytest.raises(LimitExceeded):
                async with tokens.reserve("ann", 600):
                    pytest.fail("the block ran")
            return (await tokens.peek("ann")).remaining

    assert asyncio.run(run()) == 400


def test_a_cancelled_block_gives_back():
    async def run():
        async with AsyncStateKit.in_memory() as kit:
            tokens = kit.rate_limiter("tokens", "1000/hour")

            async def work(begun):
                async with tokens.reserve("ann", 600):
                    begun.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(work(begun := asyncio.Event()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return (await tokens.peek("ann")).remaining

    assert asyncio.run(run()) == 1000
