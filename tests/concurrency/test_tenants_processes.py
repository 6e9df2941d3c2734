"""Tenants across real processes: no write lost, forks follow, a start without the store."""

# ruff: noqa: RUF012 - mutable defaults are part of what is shown

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from statekit import AsyncStateKit, StateKit, TenantSettings
from statekit.errors import StoreUnavailable
from statekit.testing import OutageSimulator
from tests.conftest import PATIENT
from tests.servers import wait_until

WRITES = 25
WRITER = f"""
import sys
from statekit import StateKit, TenantSettings

class Settings(TenantSettings):
    quotas: dict[str, int] = {{}}

url, namespace, prefix = sys.argv[1:]
with StateKit.connect(url, namespace, snapshot_dir=None) as kit:
    tenants = kit.tenants(Settings)
    for number in range({WRITES}):
        tenants.update("acme", {{"quotas": {{f"{{prefix}}{{number}}": number}}}}, by=prefix)
"""


class Settings(TenantSettings):
    plan: str = "free"
    quotas: dict[str, int] = {}


def test_four_processes_change_one_tenant_and_no_change_is_lost(valkey_url: str, namespace: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, valkey_url, namespace, prefix]) for prefix in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    with StateKit.connect(valkey_url, namespace, snapshot_dir=None, budget=PATIENT) as kit:
        tenants = kit.tenants(Settings)
        expected = {f"{prefix}{number}": number for prefix in "abcd" for number in range(WRITES)}
        assert tenants.get("acme").quotas == expected
        assert tenants.version == 4 * WRITES
        history = tenants.history("acme", limit=1000)
        assert len(history) == 4 * WRITES
        assert {one.by for one in history} == set("abcd")


async def test_thirty_tasks_of_one_process_change_one_tenant_at_once(valkey_url: str, namespace: str) -> None:
    async with AsyncStateKit.connect(valkey_url, namespace, snapshot_dir=None, budget=PATIENT) as kit:
        tenants = kit.tenants(Settings)
        patches = [{"quotas": {str(number): number}} for number in range(30)]
        await asyncio.gather(*(tenants.update("acme", patch) for patch in patches))
        assert (await tenants.get("acme")).quotas == {str(number): number for number in range(30)}


def test_a_forked_child_follows_changes_made_after_the_fork(valkey_url: str, namespace: str) -> None:
    with StateKit.connect(valkey_url, namespace, snapshot_dir=None, budget=PATIENT) as kit:
        tenants = kit.tenants(Settings)
        tenants.update("acme", {"plan": "pro"}, wait=10)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - the child's coverage is not collected
            try:
                os.write(writing, b"r" if tenants.get("acme").plan == "pro" else b"x")
                wait_until(lambda: tenants.get("acme").plan == "max", 30)
                os.write(writing, b"y")
            finally:
                os._exit(0)
        assert os.read(reading, 1) == b"r"
        tenants.update("acme", {"plan": "max"})
        assert os.read(reading, 1) == b"y"
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_process_that_starts_without_the_store_has_the_last_known_settings(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    with OutageSimulator(valkey_url) as outage:
        with StateKit.connect(outage.url, namespace, snapshot_dir=tmp_path, budget=PATIENT) as kit:
            kit.tenants(Settings).update("acme", {"plan": "pro"}, wait=10)
        outage.refuse()
        with StateKit.connect(outage.url, namespace, snapshot_dir=tmp_path, budget=PATIENT) as kit:
            tenants = kit.tenants(Settings)
            assert tenants.get("acme").plan == "pro"
            assert tenants.stale
            assert tenants.explain("acme", "plan").stale
            with pytest.raises(StoreUnavailable):
                tenants.update("acme", {"plan": "max"})
            outage.restore()
            wait_until(lambda: not tenants.stale, 30)
            tenants.update("acme", {"plan": "max"}, wait=10)
            assert tenants.get("acme").plan == "max"


def test_an_emptied_store_does_not_take_the_settings_back_to_the_defaults(
    valkey_url: str, namespace: str
) -> None:
    with StateKit.connect(valkey_url, namespace, snapshot_dir=None, budget=PATIENT) as kit:
        tenants = kit.tenants(Settings)
        tenants.update("acme", {"plan": "pro"}, wait=10)
        tenants.update("other", {"plan": "max"}, wait=10)
        at = tenants._replica._at
        kit.run(_delete(at.meta, at.docs, at.log))
        tenants._replica.settled()
        assert tenants.get("acme").plan == "pro"
        assert tenants.stale
        tenants.update("acme", {"quotas": {"users": 1}}, wait=10)  # puts everything back first
        assert not tenants.stale
        with StateKit.connect(valkey_url, namespace, snapshot_dir=None, budget=PATIENT) as another:
            other = another.tenants(Settings)
            assert (other.get("acme").plan, other.get("other").plan) == ("pro", "max")
            assert json.loads(other.get("acme").model_dump_json())["quotas"] == {"users": 1}


def _delete(*keys: str):
    from statekit.store.op import command

    return command("DEL", *keys)
