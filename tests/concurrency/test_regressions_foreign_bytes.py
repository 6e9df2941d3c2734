"""What another program left under our keys harms one document, not the others, and can be written over."""

from __future__ import annotations

import redis

from statekit import AsyncStateKit, Flag, StateKit


def test_one_field_that_is_no_document_leaves_the_others_readable(server_url: str, namespace: str) -> None:
    with StateKit.connect(server_url, namespace, snapshot_dir=None) as kit:
        kit.flags.set("spoilt", Flag(), by="t")
        kit.flags.set("sound", Flag(), by="t")
        with redis.Redis.from_url(server_url) as raw:
            raw.hset(f"sk1:{namespace}:replica:{{flags}}:docs", "spoilt", b"\xff no document")
        with StateKit.connect(server_url, namespace, snapshot_dir=None) as late:
            assert late.flags.enabled("sound") is True
            assert late.flags.enabled("spoilt") is False
            assert late.flags.explain("spoilt").error
            late.flags.set("spoilt", Flag(), by="t", wait=10)
            assert late.flags.enabled("spoilt") is True
        assert kit.flags.enabled("spoilt") is True


async def test_the_first_awaited_call_of_the_flags_loads_them(valkey_url: str, namespace: str) -> None:
    async with AsyncStateKit.connect(valkey_url, namespace, snapshot_dir=None) as writer:
        await writer.flags.set("a", Flag(), by="t")
    kit = AsyncStateKit.connect(valkey_url, namespace, snapshot_dir=None)
    assert (kit.flags.enabled("a"), kit.flags.stale) == (False, True)
    await kit.flags.history("a")
    assert (kit.flags.enabled("a"), kit.flags.stale) == (True, False)
    await kit.close()
