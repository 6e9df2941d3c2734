"""The scope belongs to a request: it follows it into tasks and threads, and reaches no other."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statekit import AsyncStateKit, StateKit
from statekit.errors import (
    OutsideScope,
    SettingsFrozen,
    StoreUnavailable,
    UnknownTenant,
    UsageError,
    VersionConflict,
)
from statekit.store.hooks import Hooks
from statekit.tenants import TenantSettings
from statekit.tenants.layers import Layers
from statekit.tenants.local import GENERATION, NOBODY, Local
from statekit.testing import store_down


class Settings(TenantSettings):
    plan: str = "free"
    features: list[str] = []  # noqa: RUF012 - pydantic copies it


def test_threads_never_see_each_others_tenant() -> None:
    tenants = StateKit.in_memory().tenants(Settings)
    for number in range(8):
        tenants.update(f"t{number}", {"plan": f"p{number}"})
    ready = threading.Barrier(8)

    def request(number: int) -> None:
        ready.wait()
        for _ in range(200):
            with tenants.scope(f"t{number}"):
                assert tenants.current().plan == f"p{number}"
                assert tenants.current_tenant() == f"t{number}"
            with pytest.raises(OutsideScope):
                tenants.current()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(8)))


async def test_tasks_never_see_each_others_tenant_and_inherit_their_parents() -> None:
    tenants = AsyncStateKit.in_memory().tenants(Settings)
    for number in range(8):
        await tenants.update(f"t{number}", {"plan": f"p{number}"})

    async def child(number: int) -> None:
        await asyncio.sleep(random.random() / 1000)
        assert tenants.current().plan == f"p{number}"

    async def request(number: int) -> None:
        async with tenants.scope(f"t{number}"):
            for _ in range(20):
                await asyncio.gather(child(number), child(number))
                await asyncio.to_thread(lambda: tenants.current().plan == f"p{number}" or pytest.fail("leak"))
        with pytest.raises(OutsideScope):
            tenants.current()

    await asyncio.gather(*map(request, range(8)))


def test_a_thread_gets_the_scope_with_a_copy_of_the_context() -> None:
    tenants = StateKit.in_memory().tenants(Settings)
    seen: list[str] = []
    with tenants.scope("acme"):
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: seen.append(context.run(tenants.current_tenant)))
        thread.start()
        thread.join()
    assert seen == ["acme"]


def test_a_scope_left_in_another_context_is_left_there() -> None:
    tenants = StateKit.in_memory().tenants(Settings)
    scope = tenants.scope("acme")
    contextvars.copy_context().run(scope.__enter__)
    scope.__exit__(None, None, None)
    with pytest.raises(OutsideScope):
        tenants.current()


async def test_before_the_first_load_an_asyncio_scope_answers_from_the_defaults_and_says_so() -> None:
    tenants = AsyncStateKit.in_memory().tenants(Settings)
    with tenants.scope("acme") as settings:
        assert settings == Settings()
        assert tenants.stale
    async with tenants.scope("acme"):
        assert not tenants.stale


async def test_an_asyncio_scope_before_the_first_load_uses_the_file_of_this_host(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    async with AsyncStateKit.connect(valkey_url, namespace, snapshot_dir=tmp_path) as kit:
        await kit.tenants(Settings).update("acme", {"plan": "pro"})
    unloaded = AsyncStateKit.connect(valkey_url, namespace, snapshot_dir=tmp_path)
    tenants = unloaded.tenants(Settings)
    with tenants.scope("acme") as settings:
        assert (settings.plan, tenants.stale) == ("pro", True)
    await unloaded.close()


def test_with_the_store_down_reads_answer_and_writes_say_so() -> None:
    kit = StateKit.in_memory()
    with store_down(kit):
        tenants = kit.tenants(Settings)
        assert tenants.get("acme") == Settings()
        assert tenants.stale
        with pytest.raises(StoreUnavailable):
            tenants.update("acme", {"plan": "pro"})
        explained = tenants.explain("acme", "plan")
        assert (explained.value, explained.stale) == ("free", True)


def test_with_the_store_down_a_strict_registry_does_not_deny_a_tenant_exists() -> None:
    kit = StateKit.in_memory()
    with store_down(kit), pytest.raises(StoreUnavailable, match="cannot be told"):
        kit.tenants(Settings, strict=True).get("acme")


def test_the_drafts_of_the_demos_before_leak_as_a_module_level_dict_does() -> None:
    tenants = StateKit.in_memory(draft_copies=False).tenants(Settings)
    tenants.update("acme", {"features": ["a"]})
    tenants.draft("acme").plan = "hacked"
    tenants.draft("acme").features.append("leak")
    assert tenants.get("acme") == Settings(plan="hacked", features=["a", "leak"])
    assert tenants.draft("acme").plan == "hacked"
    assert tenants.get("other") == Settings()
    tenants.update("acme", {"features": ["b"]})
    assert tenants.get("acme") == Settings(features=["b"])


def test_the_cache_is_bounded_and_unknown_tenants_fill_nothing() -> None:
    kit = StateKit.in_memory()
    tenants = kit.tenants(Settings)
    tenants.update_defaults({"plan": "trial"})
    first = tenants.get("u0")
    assert all(tenants.get(f"u{number}") is first for number in range(100))
    assert list(tenants._local._young) == [NOBODY]
    local = Local(Layers(Settings), Hooks(), None, draft_copies=True)
    for number in range(3 * GENERATION):
        local._keep(str(number), object())
    assert len(local._young) + len(local._old) <= 2 * GENERATION


def test_a_tenant_read_again_survives_in_the_cache() -> None:
    local: Any = Local(Layers(Settings), Hooks(), None, draft_copies=True)
    kit = StateKit.in_memory()
    tenants = kit.tenants(Settings)
    tenants.update("hot", {"plan": "x"})
    snapshot = tenants._replica.snapshot
    hot = local.settings("hot", snapshot)
    for number in range(GENERATION):
        local._keep(str(number), object())
    assert local.settings("hot", snapshot) is hot


@pytest.mark.parametrize("nonsense", ["[]", "7", '"x"'])
def test_a_document_that_is_no_object_leaves_the_defaults_in_force(nonsense: str) -> None:
    kit = StateKit.in_memory()
    tenants = kit.tenants(Settings)
    events: list[Any] = []
    kit.hooks.subscribe(events.append)
    tenants.load()
    tenants._replica.write("tenant:acme", nonsense)
    assert tenants.get("acme") == Settings()
    assert any(type(one).__name__ == "SettingsRejected" for one in events)
    tenants.update("acme", {"plan": "pro"})
    assert tenants.get("acme").plan == "pro"


steps = st.lists(
    st.tuples(
        st.sampled_from(["update", "defaults", "delete", "undo"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(
            [{"plan": "x"}, {"plan": "y"}, {"plan": None}, {"features": ["f"]}, {"features": None}]
        ),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_whatever_was_written_all_processes_agree_and_nothing_handed_out_ever_changed(steps: Any) -> None:
    kit = StateKit.in_memory()
    tenants = kit.tenants(Settings)
    seen: list[tuple[Settings, str]] = []
    for verb, tenant, patch in steps:
        with contextlib.suppress(UsageError, UnknownTenant, VersionConflict):
            if verb == "update":
                tenants.update(tenant, patch)
            elif verb == "defaults":
                tenants.update_defaults(patch)
            else:
                getattr(tenants, verb)(tenant)
        seen += [(one, one.model_dump_json()) for one in (tenants.get("a"), tenants.get("b"))]
    fresh = kit.tenants(Settings)
    assert [fresh.get(tenant) for tenant in "abc"] == [tenants.get(tenant) for tenant in "abc"]
    assert all(one.model_dump_json() == text for one, text in seen)
    kit.close()


def test_an_error_of_the_application_in_a_scope_goes_through_unchanged() -> None:
    tenants = StateKit.in_memory().tenants(Settings, strict=True)
    with pytest.raises(UnknownTenant), tenants.scope("acme"):
        pytest.fail("the scope of an unknown tenant was entered")
    tenants.update("acme", {})
    with pytest.raises(SettingsFrozen), tenants.scope("acme") as settings:
        settings.plan = "x"
    with pytest.raises(UsageError):
        tenants.scope("").__enter__()
