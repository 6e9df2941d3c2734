"""No way of changing a settings object changes what the next reader gets."""

# ruff: noqa: RUF005, RUF012, SIM300 - mutable defaults and both orders of operands are the subject

from __future__ import annotations

import copy
import json
import pickle
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr, TypeAdapter

from statekit.errors import SettingsFrozen, UsageError
from statekit.tenants import TenantSettings
from statekit.tenants.containers import FrozenDict, FrozenList, FrozenSet
from statekit.tenants.frozen import frozen, thawed


class Limits(BaseModel):
    rps: int = 10
    tags: list[str] = []


class Region(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str = "eu"
    zones: list[str] = ["a"]


@dataclass
class Point:
    x: int = 1
    ys: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    x: int = 1


class Pair(NamedTuple):
    left: int = 1
    right: list[int] = []


class Tier(StrEnum):
    FREE = "free"


class Settings(TenantSettings):
    plan: str = "free"
    tier: Tier = Tier.FREE
    limits: Limits = Limits(rps=50)
    region: Region = Region()
    features: list[str] = ["a"]
    quotas: dict[str, list[int]] = {"k": [1]}
    hosts: set[int] = {1}
    by_name: dict[str, Limits] = {"x": Limits()}
    many: list[Limits] = [Limits()]
    maybe: Limits | None = None
    point: Point = Point()
    slotted: Slotted = Slotted()
    pair: Pair = Pair()
    secret: SecretStr = SecretStr("s")
    price: Decimal = Decimal("1.5")
    since: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    anything: Any = {"deep": [{"er": [1]}]}


MUTATIONS = """
s.plan = "x"
s.new_field = 1
s._private = 1
del s.plan
s.limits.rps = 1
s.limits.tags.append("x")
del s.limits.rps
s.region.name = "us"
s.region.zones.append("b")
s.features.append("x")
s.features += ["x"]
s.features *= 2
s.features[0] = "x"
s.features[:] = []
del s.features[0]
s.features.sort()
s.features.clear()
s.features.insert(0, "x")
s.quotas["k"] = []
s.quotas["k"].append(2)
s.quotas |= {}
s.quotas.update(k=1)
s.quotas.setdefault("q", [])
s.quotas.pop("k")
s.quotas.popitem()
s.quotas.clear()
del s.quotas["k"]
s.hosts.add(2)
s.hosts |= {3}
s.hosts.discard(1)
s.by_name["x"].rps = 2
s.by_name["y"] = 1
s.many[0].rps = 2
s.many[0].tags.extend(["x"])
s.point.x = 2
s.point.ys.append(1)
s.slotted.x = 2
s.pair.right.append(1)
s.anything["deep"][0]["er"].append(2)
s.anything["deep"].append(1)
"""


@pytest.mark.parametrize("statement", MUTATIONS.strip().splitlines())
def test_every_attempt_to_change_settings_raises_at_the_guilty_line_and_changes_nothing(
    statement: str,
) -> None:
    settings = Settings()
    with pytest.raises(SettingsFrozen, match=r"tenants\.update.*tenants\.draft"):
        exec(statement, {"s": settings})
    assert settings == Settings()


@pytest.mark.parametrize("expected", [TypeError, AttributeError, ValueError])
def test_the_error_is_each_of_those_python_raises_for_such_a_thing(expected: type[Exception]) -> None:
    with pytest.raises(expected, match=r"Limits\.rps is frozen"):
        Settings().limits.rps = 1


def test_the_error_names_the_field_inside_containers() -> None:
    with pytest.raises(SettingsFrozen, match=r"Settings\.quotas\['k'\] \(append\)"):
        Settings().quotas["k"].append(1)


def test_what_validators_of_the_application_return_is_frozen_too() -> None:
    copied = Settings().model_copy(update={"features": ["q"]})
    with pytest.raises(SettingsFrozen):
        copied.features.append("x")


def test_the_defaults_of_the_class_are_never_handed_out() -> None:
    thawed(Settings()).limits.tags.append("leak")
    thawed(Settings()).features.append("leak")
    assert Settings().limits.tags == []
    assert Settings.model_fields["limits"].default == Limits(rps=50)


def test_frozen_settings_read_like_the_declared_types() -> None:
    settings = Settings()
    assert settings.features == ["a"]
    assert ["a"] == settings.features
    assert settings.features != ["b"]
    assert settings.features + ["b"] == ["a", "b"]
    assert ["b"] + settings.features == ["b", "a"]
    assert settings.quotas == {"k": [1]}
    assert settings.hosts == {1}
    assert isinstance(settings.limits, Limits)
    assert settings.limits == Limits(rps=50)
    assert Limits(rps=50) == settings.limits
    assert settings.limits != Limits(rps=51)
    assert settings.point == Point()
    assert settings.maybe is None
    assert repr(settings.limits) == "Limits(rps=50, tags=())"
    assert [settings.features.copy(), settings.quotas.copy()] == [["a"], {"k": [1]}]


def test_settings_serialise_as_if_they_were_not_frozen() -> None:
    settings = Settings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settings.model_dump()["features"] == ["a"]
        assert settings.model_dump()["by_name"] == {"x": {"rps": 10, "tags": []}}
        assert json.loads(settings.model_dump_json())["hosts"] == [1]
        assert settings.limits.model_dump() == {"rps": 50, "tags": []}
        assert TypeAdapter(Settings).dump_python(settings) == settings.model_dump()
        assert json.dumps([settings.quotas, settings.features]) == '[{"k": [1]}, ["a"]]'
    assert Settings.model_validate_json('{"features":["z"]}').features == ["z"]
    assert set(Settings.model_json_schema(mode="serialization")["properties"]) == set(Settings.model_fields)


def test_settings_can_be_hashed_compared_pickled_and_copied() -> None:
    settings = Settings()
    assert hash(settings) == hash(Settings())
    for other in (pickle.loads(pickle.dumps(settings)), copy.copy(settings), copy.deepcopy(settings)):
        assert other == settings
        with pytest.raises(SettingsFrozen):
            other.limits.rps = 1
    for part in (settings.limits, settings.features, settings.quotas, settings.hosts):
        assert pickle.loads(pickle.dumps(part)) == part


def test_freezing_what_is_frozen_returns_it() -> None:
    settings = Settings()
    assert frozen(settings.limits) is settings.limits
    assert frozen(settings.features) is settings.features
    assert frozen(settings.point) is settings.point


def test_what_cannot_be_frozen_is_refused_by_name() -> None:
    class Thing:
        __hash__ = None

    with pytest.raises(UsageError, match=r"Settings\.x holds a Thing, which cannot be frozen"):
        frozen(Thing(), "Settings.x")
    with pytest.raises(ValueError, match="cannot be frozen"):
        Settings(anything=object())


def test_bytearrays_and_deques_become_immutable() -> None:
    assert frozen(bytearray(b"x")) == b"x"
    assert Settings(anything=bytearray(b"x")).anything == b"x"


def test_a_thawed_copy_is_of_the_declared_types_and_may_be_changed_all_over() -> None:
    settings = Settings()
    draft = thawed(settings)
    for statement in MUTATIONS.strip().splitlines():
        if "new_field" not in statement and "del" not in statement:
            exec(statement, {"s": draft})
    assert settings == Settings()
    assert isinstance(draft, Settings)
    assert type(draft.features) is list
    assert draft.plan == "x"
    with pytest.raises(AttributeError, match="no field 'plann'"):
        draft.plann = "y"


def test_a_draft_serialises_and_compares() -> None:
    draft = thawed(Settings())
    assert draft == Settings()
    draft.limits.rps = 7
    assert draft != Settings()
    assert draft.model_dump()["limits"]["rps"] == 7


def test_a_cached_property_is_computed_again_on_a_draft() -> None:
    class Cached(TenantSettings):
        base: int = 1

        @cached_property
        def double(self) -> int:
            return self.base * 2

    settings = Cached()
    assert settings.double == 2
    draft = thawed(settings)
    draft.base = 5
    assert draft.double == 10
    assert settings.double == 2


def test_private_attributes_survive_freezing_of_nested_models() -> None:
    class Noted(BaseModel):
        x: int = 1
        _note: str = PrivateAttr(default="n")

    class Holder(TenantSettings):
        noted: Noted = Noted()

    assert Holder().noted._note == "n"


def test_fields_a_model_merely_allows_are_frozen_too() -> None:
    class Open(TenantSettings):
        model_config = ConfigDict(extra="allow")

    class Inner(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Holder(TenantSettings):
        inner: Inner = Inner(tags=["a"])

    for statement in ("s.tags.append(1)", "s.model_extra['tags'] = 1", "s.tags = 1"):
        for settings in (Open(tags=["a"]), Holder().inner):
            with pytest.raises(SettingsFrozen):
                exec(statement, {"s": settings})
            assert settings.tags == ["a"]
    assert Open(tags=["a"]).model_dump() == {"tags": ["a"]}
    draft = thawed(Open(tags=["a"]))
    draft.tags.append("b")
    assert draft.tags == ["a", "b"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_freezing_and_thawing_any_data_gives_it_back_with_nothing_shared(value: Any) -> None:
    kept = copy.deepcopy(value)
    ice = frozen(value)
    spoil(value)
    assert ice == kept
    water = thawed(ice)
    assert water == kept
    assert type(water) is type(kept)
    spoil(water)
    assert ice == kept
    assert hash(ice) == hash(frozen(kept))


def spoil(value: Any) -> None:
    """Change a value at every depth."""
    if isinstance(value, list):
        for one in value:
            spoil(one)
        value.append("spoilt")
    elif isinstance(value, dict):
        for one in value.values():
            spoil(one)
        value["spoilt"] = True


@given(st.lists(st.integers()), st.dictionaries(st.text(), st.integers()), st.sets(st.integers()))
def test_frozen_containers_equal_what_they_were_made_of(items: list, mapping: dict, numbers: set) -> None:
    assert FrozenList(items) == items
    assert FrozenDict(mapping) == mapping
    assert FrozenSet(numbers) == numbers
