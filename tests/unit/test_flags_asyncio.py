"""What only asyncio can do wrong: several loops, several loads at once, listeners on the loop."""

import asyncio

from statekit import AsyncStateKit, StateKit
from statekit.flags import Flag
from tests.conftest import PATIENT


async def sees(kit, flag, seconds=20):
    changed = asyncio.Event()
    stop = kit.flags.on_change(lambda _change: changed.set())
    async with asyncio.timeout(seconds):
        while kit.flags.get("pay") != flag:
            await changed.wait()
            changed.clear()
    stop()


def test_a_kit_goes_on_in_a_second_event_loop(valkey_url, namespace):
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)
    other = StateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)

    async def follow(n):
        await kit.flags.load()
        other.flags.set("pay", Flag(rollout=n))
        await sees(kit, Flag(rollout=n))

    for n in range(3):
        asyncio.run(follow(n))
    asyncio.run(kit.close())
    other.close()


async def test_many_loads_at_once_are_one(valkey_url, namespace):
    async with AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        await asyncio.gather(*(kit.flags.load() for _ in range(20)))
        assert len(await kit.flags.workers()) == 1
        assert len(kit.store.push._listeners) == 1


async def test_a_cancelled_write_cancels_no_load(valkey_url, namespace):
    kit = AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None)
    write = asyncio.create_task(kit.flags.set("pay", Flag()))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.wait({write})
    await kit.flags.set("pay", Flag(), wait=10)
    assert kit.flags.enabled("pay")
    await kit.close()


async def test_nothing_is_left_running_after_close(valkey_url, namespace):
    before = asyncio.all_tasks()
    async with AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        await kit.flags.set("pay", Flag(), wait=10)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
