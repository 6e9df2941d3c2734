"""Tenant settings: what reading one costs inside a request, what opening its scope costs, and who sees a change."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.bench import AtMost, Comparison, Contender, Figure, Figures, Lab, case
from statekit import StateKit, TenantSettings

REQUESTS = 100


class Limits(TenantSettings):
    rps: int = 10


class Settings(TenantSettings):
    plan: str = "free"
    limits: Limits = Limits()
    features: tuple[str, ...] = ()


class Plain(BaseModel):
    """The same settings, as pydantic models are usually written."""

    model_config = ConfigDict(frozen=True)
    plan: str = "free"
    limits: dict[str, int] = {"rps": 10}


FILE = """[default]
plan = "free"
limits = {rps = 10}
[acme]
plan = "pro"
limits = {rps = 50}
"""


@case("tenants/read", "What does reading a setting of the current tenant cost?")
def read(lab: Lab) -> Iterator[Comparison]:
    shared, twin = _tenants(lab.kit()), _tenants(lab.memory_kit())
    dynaconf = _dynaconf(lab)
    var: ContextVar[Plain] = ContextVar("tenant")
    var.set(Plain(plan="pro"))
    for registry in (shared, twin):
        scope = registry.scope("acme")
        scope.__enter__()
        lab.later(lambda scope=scope: scope.__exit__(None, None, None))
    yield Comparison(
        "an attribute, in the scope of a request",
        [
            Contender("statekit", "tenants.current().plan", {"tenants": shared}),
            Contender(
                "dynaconf, by tenant", "settings.from_env('acme').PLAN", {"settings": dynaconf}, note="cached"
            ),
            Contender("dynaconf, settings at hand", "acme.PLAN", {"acme": dynaconf.from_env("acme")}),
            Contender("statekit in memory", "tenants.current().plan", {"tenants": twin}, twin=True),
            Contender("pydantic model in a ContextVar", "var.get().plan", {"var": var}, floor=True),
            Contender(
                "attribute of a pydantic model", "model.plan", {"model": Plain(plan="pro")}, floor=True
            ),
            Contender("dict lookup", "t['acme']['plan']", {"t": {"acme": {"plan": "pro"}}}, floor=True),
        ],
        promises=[AtMost("statekit", 150e-9)],
    )


@case("tenants/scope", "What does making a tenant current for a request cost?")
def scope(lab: Lab) -> Iterator[Comparison]:
    entering = "with tenants.scope('acme'): pass"
    var: ContextVar[Plain] = ContextVar("tenant")
    yield Comparison(
        "enter and leave",
        [
            Contender("statekit", entering, {"tenants": _tenants(lab.kit())}),
            Contender(
                "dynaconf using_env",
                "with settings.using_env('acme'): pass",
                {"settings": _dynaconf(lab)},
                note="current for the whole process, all threads",
            ),
            Contender("statekit in memory", entering, {"tenants": _tenants(lab.memory_kit())}, twin=True),
            Contender(
                "ContextVar set and reset",
                "var.reset(var.set(model))",
                {"var": var, "model": Plain(plan="pro")},
                floor=True,
            ),
        ],
    )


@case("tenants/leaks", "When a request changes the settings it was given, who sees the change?")
def leaks(lab: Lab) -> Iterator[Figures]:
    tenants, dynaconf, plain = _tenants(lab.kit()), _dynaconf(lab), {"acme": Plain(plan="pro")}

    def refused() -> int:
        settings = tenants.get("acme")
        with suppress(TypeError):  # raised on this line
            settings.limits.rps += 1
        return tenants.get("acme").limits.rps

    def changed() -> int:
        dynaconf.from_env("acme").LIMITS["rps"] += 1
        return int(dynaconf.from_env("acme").LIMITS["rps"])

    def shallow() -> int:
        plain["acme"].limits["rps"] += 1
        return plain["acme"].limits["rps"]

    ways = {"statekit": refused, "dynaconf": changed, "frozen pydantic model holding a dict": shallow}
    yield Figures(
        "of 100 requests that tried",
        "changes the next request saw",
        [Figure(name, _seen(way)) for name, way in ways.items()],
        promises=[AtMost("statekit", 0)],
        note="Each request tries to raise limits.rps in its own copy; the next one looks what it gets.",
    )


def _seen(way: Callable[[], int]) -> float:
    before = way()
    seen = 0
    for _ in range(REQUESTS):
        after = way()
        seen += after != before
        before = after
    return float(seen)


def _tenants(kit: StateKit) -> Any:
    tenants = kit.tenants(Settings)
    tenants.update("acme", {"plan": "pro", "limits": {"rps": 50}})
    return tenants


def _dynaconf(lab: Lab) -> Any:
    """An environment a tenant, from a file. https://www.dynaconf.com/advanced/ ("from_env", "using_env")."""
    from dynaconf import Dynaconf

    folder = tempfile.TemporaryDirectory()
    lab.later(folder.cleanup)
    (Path(folder.name) / "settings.toml").write_text(FILE)
    return Dynaconf(root_path=folder.name, settings_files=["settings.toml"], environments=True, env="default")
