"""The flag libraries, each with the same two flags: a plain boolean, and five rules with a rollout."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from benchmarks.bench import Lab
from statekit import Flag, Rule, StateKit

ACTOR = "user:7"
ATTRIBUTES: dict[str, Any] = {"country": "FR", "plan": "pro", "seats": 12, "role": "member", "beta": True}
"""Of the five rules, only the last one matches them."""
GIVEN = ", ".join(f"{name}={value!r}" for name, value in ATTRIBUTES.items())
RULES = (
    Rule({"country": ["US", "CA"]}, serve=True),
    Rule({"plan": "enterprise"}, serve=True),
    Rule({"seats": {"ge": 500}}, serve=True),
    Rule({"role": "admin"}, serve=True),
    Rule({"beta": True}, serve=True, rollout=25),
)
PLAIN, RULED = "new-checkout", "pilot"


@dataclass(frozen=True, slots=True)
class Party:
    """A flag library with both flags in it: its two timed statements, and how to ask it about a visitor."""

    name: str
    plain: str
    ruled: str
    names: Mapping[str, Any]
    ask: Callable[[str, dict[str, Any]], bool]


def statekit(kit: StateKit) -> Party:
    """Attributes are given with the question, as an app does."""
    kit.flags.set(PLAIN, Flag())
    kit.flags.set(RULED, Flag(rules=RULES, rollout=0))
    return Party(
        "statekit",
        f"flags.enabled({PLAIN!r}, actor={ACTOR!r})",
        f"flags.enabled({RULED!r}, actor={ACTOR!r}, {GIVEN})",
        {"flags": kit.flags},
        lambda actor, said: kit.flags.enabled(RULED, actor=actor, **said),
    )


def growthbook(lab: Lab) -> Party:
    """One instance, its attributes set beforehand. https://docs.growthbook.io/lib/python ("Quick Usage")."""
    from growthbook import GrowthBook

    forced = [{"country": {"$in": ["US", "CA"]}}, {"plan": "enterprise"}, {"seats": {"$gte": 500}}]
    forced.append({"role": "admin"})
    rules: list[dict[str, Any]] = [{"condition": condition, "force": True} for condition in forced]
    rules.append({"condition": {"beta": True}, "force": True, "coverage": 0.25, "hashAttribute": "id"})
    features = {PLAIN: {"defaultValue": True}, RULED: {"defaultValue": False, "rules": rules}}
    gb = GrowthBook(attributes={"id": ACTOR, **ATTRIBUTES}, features=features)
    asked = GrowthBook(features=features)
    lab.later(gb.destroy)
    lab.later(asked.destroy)

    def ask(actor: str, said: dict[str, Any]) -> bool:
        asked.set_attributes({"id": actor, **said})
        return asked.is_on(RULED)

    return Party("GrowthBook", f"gb.is_on({PLAIN!r})", f"gb.is_on({RULED!r})", {"gb": gb}, ask)


def unleash(lab: Lab) -> Party:
    """Bootstrapped, nothing fetched. https://docs.getunleash.io/sdks/python ("Bootstrapping", "Offline mode")."""
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    folder = tempfile.TemporaryDirectory()
    lab.later(folder.cleanup)
    cache = FileCache("bench", directory=folder.name)
    cache.bootstrap_from_dict(_toggles())
    client = UnleashClient(
        "http://127.0.0.1:9/api", "bench", cache=cache, disable_metrics=True, disable_registration=True
    )
    client.initialize_client(fetch_toggles=False)
    lab.later(client.destroy)

    def context(actor: str, said: dict[str, Any]) -> dict[str, Any]:
        return {"userId": actor, "properties": {name: str(value).lower() for name, value in said.items()}}

    def ask(actor: str, said: dict[str, Any]) -> bool:
        lowered = context(actor, said)
        lowered["properties"]["country"] = said["country"]
        return bool(client.is_enabled(RULED, lowered))

    now = context(ACTOR, ATTRIBUTES)
    return Party(
        "Unleash",
        f"client.is_enabled({PLAIN!r}, context)",
        f"client.is_enabled({RULED!r}, context)",
        {"client": client, "context": now},
        ask,
    )


def _toggles() -> dict[str, Any]:
    def strategy(name: str, operator: str, rollout: str = "100", **value: Any) -> dict[str, Any]:
        parameters = {"rollout": rollout, "stickiness": "userId", "groupId": RULED}
        constraint = {"contextName": name, "operator": operator, "inverted": False, **value}
        return {"name": "flexibleRollout", "parameters": parameters, "constraints": [constraint]}

    strategies = [
        strategy("country", "IN", values=["US", "CA"]),
        strategy("plan", "IN", values=["enterprise"]),
        strategy("seats", "NUM_GTE", value="500"),
        strategy("role", "IN", values=["admin"]),
        strategy("beta", "IN", "25", values=["true"]),
    ]
    toggle = {"type": "release", "enabled": True}
    features = [
        {"name": PLAIN, "strategies": [], **toggle},
        {"name": RULED, "strategies": strategies, **toggle},
    ]
    return {"version": 2, "features": features}


def launchdarkly(lab: Lab) -> Party:
    """Flags from a file, no events. https://launchdarkly.com/docs/sdk/features/flags-from-files (Python)."""
    from ldclient import Context, LDClient
    from ldclient.config import Config
    from ldclient.integrations import Files

    folder = tempfile.TemporaryDirectory()
    lab.later(folder.cleanup)
    path = Path(folder.name) / "flags.json"
    path.write_text(json.dumps({"flags": _variations()}))
    source = Files.new_data_source(paths=[str(path)])
    client = LDClient(Config("sdk-key", update_processor_class=source, send_events=False))
    lab.later(client.close)

    def context(actor: str, said: dict[str, Any]) -> Any:
        building = Context.builder(actor)
        for name, value in said.items():
            building.set(name, value)
        return building.build()

    return Party(
        "LaunchDarkly",
        f"client.variation({PLAIN!r}, context, False)",
        f"client.variation({RULED!r}, context, False)",
        {"client": client, "context": context(ACTOR, ATTRIBUTES)},
        lambda actor, said: bool(client.variation(RULED, context(actor, said), default=False)),
    )


def _variations() -> dict[str, Any]:
    def clause(name: str, values: list[Any], op: str = "in") -> list[dict[str, Any]]:
        return [{"attribute": name, "op": op, "values": values, "contextKind": "user"}]

    def flag(key: str, otherwise: int, rules: list[dict[str, Any]]) -> dict[str, Any]:
        rest = {"on": True, "version": 1, "variations": [True, False], "offVariation": 1, "salt": key}
        return {"key": key, "fallthrough": {"variation": otherwise}, "rules": rules, **rest}

    forced = [clause("country", ["US", "CA"]), clause("plan", ["enterprise"])]
    forced += [clause("seats", [500], "greaterThanOrEqual"), clause("role", ["admin"])]
    rules: list[dict[str, Any]] = [
        {"id": str(index), "clauses": clauses, "variation": 0} for index, clauses in enumerate(forced)
    ]
    shares = [{"variation": 0, "weight": 25_000}, {"variation": 1, "weight": 75_000}]
    rollout = {"contextKind": "user", "variations": shares}
    rules.append({"id": "4", "clauses": clause("beta", [True]), "rollout": rollout})
    return {PLAIN: flag(PLAIN, 0, []), RULED: flag(RULED, 1, rules)}


def openfeature() -> tuple[str, dict[str, Any]]:
    """The SDK's own provider. https://openfeature.dev/docs/reference/sdks/server/python ("Quick start")."""
    from openfeature import api
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    api.set_provider(InMemoryProvider({PLAIN: InMemoryFlag("on", {"on": True, "off": False})}))
    client, context = api.get_client(), EvaluationContext(ACTOR, ATTRIBUTES)
    return f"client.get_boolean_value({PLAIN!r}, False, context)", {"client": client, "context": context}


def by_hand() -> tuple[str, dict[str, Any]]:
    """The rules as an app would write them without any flags."""

    def decide(actor: str, country: str, plan: str, seats: int, role: str, beta: bool) -> bool:
        if country in ("US", "CA") or plan == "enterprise" or seats >= 500 or role == "admin":
            return True
        return beta and crc32(actor.encode()) % 100 < 25

    return f"decide({ACTOR!r}, {GIVEN})", {"decide": decide}
