"""What a tenant registry promises, on every store and in both colours."""

# ruff: noqa: RUF012 - mutable defaults are part of what is promised

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field, model_validator

from statekit.errors import (
    DocumentInvalid,
    OutsideScope,
    SettingsFrozen,
    UnknownTenant,
    UsageError,
    VersionConflict,
)
from statekit.tenants import Layer, SettingsRejected, TenantsChanged, TenantSettings


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


class Limits(BaseModel):
    rps: int = Field(10, ge=0)
    burst: int = 20


class Settings(TenantSettings):
    plan: str = "free"
    limits: Limits = Limits()
    features: list[str] = []
    quotas: dict[str, int] = {"users": 3}


@pytest.fixture
def tenants(kit: Any) -> Any:
    return kit.tenants(Settings)


@pytest.fixture
def others(another_kit: Any) -> Any:
    """The same registry in another process."""
    return another_kit.tenants(Settings)


# -- reading ---------------------------------------------------------------------------------------------


def test_a_tenant_nobody_configured_has_the_defaults_of_the_code(tenants: Any) -> None:
    assert tenants.get("acme") == Settings()
    assert tenants.version_of("acme") == 0
    assert tenants.known() == ()


def test_an_update_is_seen_at_once_where_it_was_made(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro", "limits": {"rps": 50}})
    acme = tenants.get("acme")
    assert (acme.plan, acme.limits.rps, acme.limits.burst) == ("pro", 50, 20)
    assert tenants.get("other") == Settings()


def test_an_update_reaches_other_processes_and_says_so(tenants: Any, others: Any) -> None:
    assert others.get("acme").plan == "free"
    done = tenants.update("acme", {"plan": "pro"}, wait=10)
    assert done.complete
    assert done.workers == done.acknowledged == 2
    assert others.get("acme").plan == "pro"


def test_what_get_returns_is_the_same_object_until_something_changes(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"})
    before = tenants.get("acme")
    tenants.update("other", {"plan": "x"})
    assert tenants.get("acme") is before
    tenants.update("acme", {"plan": "max"})
    assert before.plan == "pro"
    assert tenants.get("acme").plan == "max"


def test_settings_are_frozen_all_the_way_down(tenants: Any) -> None:
    tenants.update("acme", {"features": ["beta"]})
    acme = tenants.get("acme")
    for change in (
        lambda: setattr(acme, "plan", "x"),
        lambda: setattr(acme.limits, "rps", 0),
        lambda: acme.features.append("x"),
        lambda: acme.quotas.update(users=0),
    ):
        with pytest.raises(SettingsFrozen, match=r"tenants\.draft"):
            change()
    assert tenants.get("acme").features == ["beta"]


@pytest.mark.parametrize(
    "tenant", ["a:b", "{x}", "a b", "nul\0", "ünïcödé-🎉", "x" * 10_000, "defaults", "tenant:a"]
)
def test_any_text_is_an_id(tenants: Any, others: Any, tenant: str) -> None:
    tenants.update(tenant, {"plan": "pro"})
    assert others.get(tenant).plan == "pro"
    assert others.get(tenant + "!").plan == "free"
    assert tenants.known() == (tenant,)


@pytest.mark.parametrize("tenant", ["", None, 7, b"acme"])
def test_what_cannot_be_an_id_is_refused(tenants: Any, tenant: Any) -> None:
    tenants.get("somebody nobody has configured")
    with pytest.raises(UsageError, match="id is a text"):
        tenants.get(tenant)
    with pytest.raises(UsageError, match="id is a text"):
        tenants.update(tenant, {})


def test_a_strict_registry_knows_its_tenants(kit: Any) -> None:
    tenants = kit.tenants(Settings, strict=True)
    with pytest.raises(UnknownTenant, match="there is no tenant 'acme'"):
        tenants.get("acme")
    tenants.update("acme", {})
    assert tenants.get("acme") == Settings()
    with pytest.raises(UnknownTenant, match="did you mean 'acme'"):
        tenants.get("acne")


def test_registries_of_different_names_are_apart(kit: Any) -> None:
    kit.tenants(Settings, name="one").update("acme", {"plan": "pro"})
    assert kit.tenants(Settings, name="two").get("acme").plan == "free"


def test_a_kit_used_as_context_loads_before_anything_is_asked(kit: Any, another_kit: Any) -> None:
    kit.tenants(Settings).update("acme", {"plan": "pro"})
    tenants = another_kit.tenants(Settings)
    with another_kit, tenants.scope("acme") as settings:
        assert settings.plan == "pro"
        assert not tenants.stale


# -- the request's scope and its own copy ----------------------------------------------------------------


def test_inside_a_scope_a_request_keeps_the_version_it_began_with(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"})
    with tenants.scope("acme") as settings:
        tenants.update("acme", {"plan": "max"})
        assert settings.plan == tenants.current().plan == "pro"
        assert tenants.current_tenant() == "acme"
        assert tenants.get("acme").plan == "max"
        assert (tenants.draft("acme").plan, tenants.draft("other").plan) == ("pro", "free")
    with tenants.scope("acme"):
        assert tenants.current().plan == "max"


def test_outside_a_scope_there_is_no_current_tenant(tenants: Any) -> None:
    with pytest.raises(OutsideScope, match=r"tenants\.scope"):
        tenants.current()
    with pytest.raises(RuntimeError, match="handler broke"), tenants.scope("acme"):
        raise RuntimeError("handler broke")
    with pytest.raises(OutsideScope):
        tenants.current()


def test_scopes_nest(tenants: Any) -> None:
    with tenants.scope("a"):
        with tenants.scope("b"):
            assert tenants.current_tenant() == "b"
        assert tenants.current_tenant() == "a"


def test_a_draft_is_the_callers_alone(tenants: Any) -> None:
    tenants.update("acme", {"features": ["beta"]})
    mine = tenants.draft("acme")
    mine.plan = "hacked"
    mine.limits.rps = 0
    mine.features.append("mine")
    mine.quotas["users"] = 0
    assert tenants.get("acme") == Settings(features=["beta"])
    assert tenants.draft("acme") == Settings(features=["beta"])
    assert mine.plan == "hacked"
    assert tenants.history("acme")[0].after == {"features": ["beta"]}


# -- writing ---------------------------------------------------------------------------------------------


def test_patches_merge_and_none_takes_an_override_away(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro", "limits": {"rps": 1}, "quotas": {"disks": 2}})
    tenants.update("acme", {"limits": {"burst": 2}, "features": ["a"]})
    assert tenants.get("acme") == Settings(
        plan="pro", limits=Limits(rps=1, burst=2), features=["a"], quotas={"users": 3, "disks": 2}
    )
    tenants.update("acme", {"plan": None, "limits": {"rps": None}})
    assert (tenants.get("acme").plan, tenants.get("acme").limits.rps) == ("free", 10)


def test_only_overrides_are_stored_so_a_default_changed_in_code_takes_effect(kit: Any) -> None:
    class Next(Settings):
        plan: str = "starter"
        new_in_next: int = 1

    kit.tenants(Settings).update("acme", {"limits": {"rps": 1}})
    acme = kit.tenants(Next).get("acme")
    assert (acme.plan, acme.limits.rps, acme.new_in_next) == ("starter", 1, 1)


def test_a_document_of_a_newer_release_is_read_with_tolerance(kit: Any) -> None:
    class Next(Settings):
        new_in_next: int = 1

    kit.tenants(Next).update("acme", {"new_in_next": 2, "plan": "pro"})
    today = kit.tenants(Settings)
    assert today.get("acme").plan == "pro"
    today.update("acme", {"plan": "max"})
    assert kit.tenants(Next).get("acme").new_in_next == 2


def test_a_write_at_an_expected_version_happens_only_at_that_version(tenants: Any, others: Any) -> None:
    version = tenants.update("acme", {"plan": "pro"}, if_version=0).version
    with pytest.raises(VersionConflict, match=f"'acme' is at version {version}, not 0"):
        others.update("acme", {"plan": "x"}, if_version=0)
    second = others.update("acme", {"plan": "max"}, if_version=version).version
    with pytest.raises(VersionConflict, match=f"'acme' is at version {second}, not {version}"):
        tenants.update("acme", {"plan": "y"}, if_version=version)
    assert tenants.version_of("acme") == second
    assert tenants.get("acme").plan == others.get("acme").plan == "max"


def test_the_version_is_known_to_a_process_that_has_read_nothing_yet(tenants: Any, others: Any) -> None:
    version = tenants.update("acme", {"plan": "pro"}).version
    assert others.version_of("acme") == version


def test_an_expected_version_counts_the_tenants_own_writes_only(tenants: Any) -> None:
    version = tenants.update("acme", {"plan": "pro"}).version
    tenants.update("other", {"plan": "x"})
    tenants.update("acme", {"plan": "max"}, if_version=version)
    assert tenants.get("acme").plan == "max"


@pytest.mark.parametrize("version", [-1, True, "3", 1.0])
def test_an_expected_version_is_a_whole_number(tenants: Any, version: Any) -> None:
    with pytest.raises(UsageError, match="if_version="):
        tenants.update("acme", {}, if_version=version)


def test_writers_in_two_processes_lose_nothing_of_each_other(tenants: Any, others: Any) -> None:
    def write(registry: Any, prefix: str) -> None:
        for number in range(10):
            registry.update("acme", {"quotas": {f"{prefix}{number}": number}})

    threads = [threading.Thread(target=write, args=pair) for pair in ((tenants, "a"), (others, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {"users": 3} | {f"{prefix}{number}": number for prefix in "ab" for number in range(10)}
    until(lambda: tenants.get("acme").quotas == others.get("acme").quotas == expected)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"limits": {"rps": -1}}, r"limits\.rps=-1: .*greater than or equal to 0"),
        ({"plan": 7}, r"plan=7: .*string"),
        ({"limits": {"rpps": 1}}, r"no field 'limits\.rpps': did you mean 'rps'"),
        ({"plna": "pro"}, "no field 'plna': did you mean 'plan'"),
        ({"plan": float("nan")}, "not JSON"),
    ],
)
def test_what_would_not_validate_is_not_written(tenants: Any, patch: dict, message: str) -> None:
    tenants.update("acme", {"plan": "pro"})
    version = tenants.version
    with pytest.raises(DocumentInvalid, match=message):
        tenants.update("acme", patch)
    assert tenants.version == version
    assert tenants.get("acme") == Settings(plan="pro")


def test_deleting_brings_the_defaults_back(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"})
    tenants.delete("acme", by="ann", reason="left")
    assert tenants.get("acme") == Settings()
    assert tenants.known() == ()
    tenants.undo("acme")
    assert tenants.get("acme").plan == "pro"


def test_deleting_a_tenant_there_is_not_is_refused_and_leaves_no_trace(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"})
    for expected in (None, 0):
        with pytest.raises(UnknownTenant, match="no tenant 'acne': did you mean 'acme'"):
            tenants.delete("acne", if_version=expected)
    assert tenants.version == 1
    assert tenants.history("acne") == ()


# -- layers ----------------------------------------------------------------------------------------------


def test_the_global_layer_lies_between_the_code_and_the_tenant(tenants: Any, others: Any) -> None:
    tenants.update("acme", {"limits": {"rps": 1}})
    tenants.update_defaults({"plan": "trial", "limits": {"rps": 5, "burst": 6}}, by="ann", wait=10)
    for registry in (tenants, others):
        assert registry.get("acme") == Settings(plan="trial", limits=Limits(rps=1, burst=6))
        assert registry.get("new") == Settings(plan="trial", limits=Limits(rps=5, burst=6))
    assert tenants.known() == ("acme",)
    tenants.undo_defaults()
    assert tenants.get("new") == Settings()
    assert [change.by for change in tenants.defaults_history()] == ["", "ann"]


def test_defaults_may_be_given_where_the_registry_is_made(kit: Any) -> None:
    tenants = kit.tenants(Settings, defaults={"limits": {"rps": 77}})
    assert tenants.get("acme").limits == Limits(rps=77)
    assert tenants.explain("acme", "limits.rps").layer == Layer.CODE


def test_a_group_is_one_more_layer_chosen_by_a_field(kit: Any) -> None:
    tenants = kit.tenants(Settings, group_by="plan")
    tenants.update_defaults({"limits": {"rps": 100, "burst": 100}}, group="pro")
    tenants.update("acme", {"plan": "pro", "limits": {"burst": 5}})
    assert tenants.get("acme").limits == Limits(rps=100, burst=5)
    assert tenants.get("other").limits == Limits()
    assert tenants.explain("acme", "limits.rps").layer == Layer.GROUP
    tenants.update("acme", {"plan": "free"})
    assert tenants.get("acme").limits == Limits(rps=10, burst=5)
    with pytest.raises(DocumentInvalid, match="chooses the group"):
        tenants.update_defaults({"plan": "free"}, group="pro")
    with pytest.raises(UsageError, match="no groups"):
        kit.tenants(Settings).update_defaults({}, group="pro")
    with pytest.raises(UsageError, match="no such field"):
        kit.tenants(Settings, group_by="plam")


def test_defaults_that_would_break_a_tenant_are_refused_by_its_name(kit: Any) -> None:
    class Ordered(TenantSettings):
        low: int = 0
        high: int = 10

        @model_validator(mode="after")
        def _ordered(self) -> Ordered:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    tenants = kit.tenants(Ordered)
    tenants.update("acme", {"low": 8})
    with pytest.raises(DocumentInvalid, match=r"tenant 'acme' would not validate: .*low is above high"):
        tenants.update_defaults({"high": 7})
    assert tenants.get("acme").high == 10


# -- why, when, and back ---------------------------------------------------------------------------------


def test_a_value_can_be_explained(tenants: Any, others: Any) -> None:
    tenants.update_defaults({"plan": "trial"}, by="cto", reason="spring")
    first = tenants.update("acme", {"limits": {"rps": 50}}, by="ann", reason="upgrade").version
    tenants.update("acme", {"features": ["a"]}, by="bob")
    rps = others.explain("acme", "limits.rps")
    assert (rps.path, rps.value, rps.layer, rps.version) == ("limits.rps", 50, Layer.TENANT, first)
    assert (rps.by, rps.reason, rps.stale) == ("ann", "upgrade", False)
    assert abs(datetime.now(UTC) - rps.at) < timedelta(minutes=5)
    plan = tenants.explain("acme", "plan")
    assert (plan.value, plan.layer, plan.by, plan.reason) == ("trial", Layer.GLOBAL, "cto", "spring")
    burst = tenants.explain("acme", "limits.burst")
    assert (burst.value, burst.layer, burst.version, burst.by, burst.at) == (20, Layer.CODE, 0, None, None)
    with pytest.raises(UsageError, match=r"no setting 'limits\.rpps': did you mean 'rps'"):
        tenants.explain("acme", "limits.rpps")


def test_the_history_tells_who_changed_what(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"}, by="ann", reason="upgrade")
    tenants.update("other", {"plan": "x"})
    tenants.update("acme", {"plan": "max"}, by="bob")
    newest, oldest = tenants.history("acme")
    assert (oldest.by, oldest.reason, oldest.before, oldest.after) == (
        "ann",
        "upgrade",
        None,
        {"plan": "pro"},
    )
    assert (newest.by, newest.before, newest.after) == ("bob", {"plan": "pro"}, {"plan": "max"})
    assert newest.version > oldest.version
    assert len(tenants.history("acme", limit=1)) == 1
    with pytest.raises(SettingsFrozen):
        newest.after["plan"] = "x"


def test_a_change_is_undone_as_a_new_write(tenants: Any) -> None:
    tenants.update("acme", {"plan": "pro"})
    bad = tenants.update("acme", {"limits": {"rps": 1}}).version
    tenants.update("acme", {"features": ["later"]})
    done = tenants.undo("acme", version=bad, by="ann")
    assert done.version > bad
    assert tenants.get("acme") == Settings(plan="pro", features=["later"])
    assert tenants.history("acme")[0].by == "ann"
    assert tenants.history("acme")[0].reason == f"undo of version {bad}"
    tenants.undo("acme")
    assert tenants.get("acme").limits.rps == 1


def test_undoing_what_somebody_changed_again_is_refused(tenants: Any) -> None:
    first = tenants.update("acme", {"plan": "pro"}).version
    tenants.update("acme", {"plan": "max"})
    with pytest.raises(VersionConflict, match=f"plan was changed again after version {first}"):
        tenants.undo("acme", version=first)
    with pytest.raises(UsageError, match="no such write"):
        tenants.undo("acme", version=99)
    with pytest.raises(UsageError, match="no such write"):
        tenants.undo("nobody")


def test_listeners_hear_which_tenants_changed(tenants: Any, others: Any) -> None:
    others.get("acme")
    heard: list[TenantsChanged] = []
    stop = others.on_change(heard.append)
    tenants.update("acme", {"plan": "pro"}, wait=10)
    tenants.update_defaults({"plan": "trial"}, wait=10)
    assert [(sorted(one.tenants), one.everyone) for one in heard] == [(["acme"], False), ([], True)]
    stop()
    tenants.update("acme", {"plan": "max"}, wait=10)
    assert len(heard) == 2


# -- documents that do not validate ----------------------------------------------------------------------


def test_what_no_longer_validates_leaves_the_last_good_settings_in_force(kit: Any, another_kit: Any) -> None:
    class Loose(TenantSettings):
        plan: str | int = "free"
        limits: dict[str, int] = {}

    events: list[Any] = []
    another_kit.hooks.subscribe(events.append)
    here, there = kit.tenants(Loose), another_kit.tenants(Settings)
    here.update("acme", {"plan": "pro"}, wait=10)
    assert there.get("acme").plan == "pro"
    here.update("acme", {"plan": 7, "limits": {"rps": -5}}, wait=10)
    version = here.version
    until(lambda: there.version == version)
    assert there.get("acme").plan == "pro"
    assert there.explain("acme", "plan").stale
    rejected = [one for one in events if isinstance(one, SettingsRejected)]
    assert [(one.tenant, one.version) for one in rejected] == [("acme", version)]
    there.update("acme", {"plan": "max", "limits": {"rps": 1}})
    assert there.get("acme").plan == "max"
    assert not there.explain("acme", "plan").stale


def test_a_process_that_never_saw_a_good_version_takes_what_validates(kit: Any, another_kit: Any) -> None:
    class Loose(TenantSettings):
        plan: str = "free"
        limits: dict[str, int] = {}

    kit.tenants(Loose).update("acme", {"plan": "pro", "limits": {"rps": -5}})
    acme = another_kit.tenants(Settings).get("acme")
    assert (acme.plan, acme.limits.rps) == ("pro", 10)


def test_settings_go_to_json_as_declared(tenants: Any) -> None:
    tenants.update("acme", {"features": ["a"]})
    assert json.loads(tenants.get("acme").model_dump_json())["features"] == ["a"]
