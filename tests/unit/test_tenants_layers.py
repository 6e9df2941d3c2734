"""How documents are laid over defaults, and what is refused before it is stored."""

# ruff: noqa: RUF012 - mutable defaults are part of what is shown

from __future__ import annotations

from typing import Annotated, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from statekit import StateKit
from statekit.errors import DocumentInvalid, UsageError, VersionConflict
from statekit.tenants import TenantSettings
from statekit.tenants.core import TenantChange, reverted
from statekit.tenants.layers import ABSENT, Layers, followed, found, parsed, patched, written


class Limits(BaseModel):
    rps: int = Field(10, ge=0)
    burst: int = Field(5, alias="burstSize")


class Settings(TenantSettings):
    plan: str = "free"
    limits: Limits = Limits(rps=50)
    features: list[str] = ["a"]
    quotas: dict[str, int] = {"k": 1}
    by_name: dict[str, Limits] = {"x": Limits()}
    maybe: Annotated[Limits | None, "an optional model"] = None
    secret: SecretStr = SecretStr("hush")


layers = Layers(Settings)


def test_an_override_of_one_nested_field_leaves_its_neighbours_at_the_default_of_the_instance() -> None:
    assert layers.settings([{"limits": {"burstSize": 7}}]).limits.rps == 50


def test_later_documents_win_and_objects_merge() -> None:
    settings = layers.settings([{"plan": "a", "quotas": {"x": 1}}, {"plan": "b", "quotas": {"y": 2}}])
    assert settings.plan == "b"
    assert settings.quotas == {"k": 1, "x": 1, "y": 2}


def test_no_override_at_all_shares_the_code_defaults() -> None:
    assert layers.settings([]) is layers.code
    assert layers.settings([{}, {}]) is layers.code


def test_lists_are_replaced_whole() -> None:
    assert layers.settings([{"features": ["b"]}]).features == ["b"]


def test_secrets_of_the_defaults_survive_the_overlay() -> None:
    assert layers.settings([{"plan": "x"}]).secret.get_secret_value() == "hush"


def test_unknown_fields_of_stored_documents_are_ignored() -> None:
    assert layers.settings([{"plan": "x", "from_next_release": 1}]).plan == "x"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"plna": 1}, "no field 'plna': did you mean 'plan'"),
        ({"limits": {"rpps": 1}}, "no field 'limits.rpps': did you mean 'rps'"),
        ({"by_name": {"y": {"rpps": 1}}}, "no field 'by_name.y.rpps'"),
        ({"maybe": {"zzz": 1}}, "no field 'maybe.zzz': there are burst, rps"),
        ({"plan": float("nan")}, "not JSON data"),
        ({"plan": "\ud800"}, "not JSON data"),
        ({"plan": object()}, "not JSON data"),
    ],
)
def test_a_patch_that_makes_no_sense_is_refused_by_name(patch: dict, message: str) -> None:
    with pytest.raises(DocumentInvalid, match=message):
        layers.patch(patch)


def test_a_patch_that_is_no_dict_is_refused() -> None:
    with pytest.raises(UsageError, match="a patch is a dict"):
        layers.patch([1])


def test_a_patch_may_use_aliases_models_and_sets() -> None:
    patch = layers.patch({"limits": {"burst": 7}, "features": {"a"}, "maybe": Limits(rps=4)})
    assert patch == {"limits": {"burstSize": 7}, "features": ["a"], "maybe": {"rps": 4}}
    assert layers.settings([patch]).limits.burst == 7


def test_a_model_that_allows_extra_fields_takes_any() -> None:
    class Open(TenantSettings):
        model_config = ConfigDict(extra="allow")

    assert Layers(Open).patch({"x": {"y": 1}}) == {"x": {"y": 1}}


def test_what_does_not_validate_is_described_field_by_field() -> None:
    with pytest.raises(DocumentInvalid, match=r"plan=3: .*; limits\.rps=-7: .*Nothing was written"):
        layers.checked([{"limits": {"rps": -7}, "plan": 3}])


def test_what_can_be_read_of_a_broken_document_is_kept() -> None:
    salvaged = layers.salvaged([{"limits": {"rps": -7}, "plan": "p"}])
    assert (salvaged.plan, salvaged.limits.rps) == ("p", 50)


def test_a_document_the_model_as_a_whole_refuses_falls_back_to_the_code() -> None:
    class Strict(TenantSettings):
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _ordered(self) -> Strict:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    assert Layers(Strict).salvaged([{"low": 5}]) == Strict()
    with pytest.raises(DocumentInvalid, match="low is above high"):
        Layers(Strict).checked([{"low": 5}])


def test_defaults_may_be_given_as_patch_or_instance() -> None:
    assert Layers(Settings, {"limits": {"rps": 3}}).code.limits.rps == 3
    assert Layers(Settings, Settings(plan="x")).code.plan == "x"
    with pytest.raises(UsageError, match="defaults of Settings do not validate"):
        Layers(Settings, {"limits": {"rps": -3}})


def test_every_field_needs_a_default() -> None:
    class Needy(TenantSettings):
        plan: str

    with pytest.raises(UsageError, match="Every field needs a default"):
        Layers(Needy)
    assert Layers(Needy, {"plan": "x"}).code.plan == "x"


def test_paths_are_followed_through_models_dicts_and_lists() -> None:
    assert followed(layers.code, "limits.burst") == (5, ("limits", "burstSize"))
    assert followed(layers.code, "quotas.k") == (1, ("quotas", "k"))
    assert followed(layers.code, "features.0") == ("a", ("features", "0"))
    with pytest.raises(UsageError, match=r"no setting 'limits\.rpps': did you mean 'rps'"):
        followed(layers.code, "limits.rpps")


def test_what_a_document_says_about_a_path() -> None:
    document = {"limits": {"rps": 1}, "features": ["b"]}
    assert found(document, ("limits", "rps")) == 1
    assert found(document, ("limits", "burst")) is ABSENT
    assert found(document, ("features", "0")) == ["b"]


def test_none_takes_an_override_away_and_empty_objects_go_with_it() -> None:
    assert patched({"a": {"b": 1}, "c": 2}, {"a": {"b": None}}) == {"c": 2}
    assert patched({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert patched({}, {"a": {"b": None}}) == {}


def test_a_document_is_a_json_object() -> None:
    with pytest.raises(ValueError, match="is a JSON object"):
        parsed("[1]")


# -- taking a change back --------------------------------------------------------------------------------


def change(before: dict | None, after: dict | None) -> TenantChange:
    return TenantChange(7, None, "", "", before, after)


def test_undoing_the_latest_change_restores_what_was_before() -> None:
    assert reverted({"a": 2}, change({"a": 1}, {"a": 2})) == {"a": 1}


def test_undoing_an_older_change_keeps_what_was_written_since() -> None:
    assert reverted({"a": 2, "b": {"c": 3}}, change({"a": 1}, {"a": 2})) == {"a": 1, "b": {"c": 3}}
    assert reverted({"a": {"x": 2, "y": 9}}, change({"a": {"x": 1}}, {"a": {"x": 2}})) == {
        "a": {"x": 1, "y": 9}
    }


def test_undoing_what_was_changed_again_is_refused_by_name() -> None:
    with pytest.raises(VersionConflict, match=r"a\.x was changed again after version 7"):
        reverted({"a": {"x": 3}}, change({"a": {"x": 1}}, {"a": {"x": 2}}))


def test_undoing_the_first_document_leaves_none() -> None:
    assert reverted({"a": 1}, change(None, {"a": 1})) is None
    assert reverted({"a": 1, "b": 2}, change(None, {"a": 1})) == {"b": 2}


def test_undoing_a_deletion_brings_the_document_back() -> None:
    assert reverted({}, change({"a": 1}, None)) == {"a": 1}


plain = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), plain, max_size=3)
patches = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda one: isinstance(one, dict))


@given(documents, patches)
def test_undo_is_the_inverse_of_a_patch(document: dict, patch: dict) -> None:
    after = patched(document, patch)
    assert reverted(after, change(document, after)) == document


@given(documents, patches)
def test_a_patch_applied_twice_is_applied_once(document: dict, patch: dict) -> None:
    once = patched(document, patch)
    assert patched(once, patch) == once
    assert parsed(written(once)) == once


def test_new_defaults_are_validated_once_for_tenants_that_say_the_same(monkeypatch) -> None:
    class Bounded(TenantSettings):
        low: int = 0
        high: int = 10

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    tenants = StateKit.in_memory().tenants(Bounded)
    for n in range(30):
        tenants.update(f"t{n}", {"low": n % 3})
    layers, seen = tenants._changes._local.layers, []
    settings = layers.settings
    monkeypatch.setattr(layers, "settings", lambda documents: seen.append(1) or settings(documents))
    tenants.update_defaults({"high": 9})
    assert len(seen) <= 1 + 3 + 1
    with pytest.raises(DocumentInvalid, match="with these defaults tenant 't11' would not validate"):
        tenants.update_defaults({"high": 1})
    assert tenants.get("t2").high == 9
