"""Feature flags: what one answer costs, whether everybody gives the same one, and how soon a write is in force."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic_ns, sleep
from typing import Any

from benchmarks.bench import AtMost, Check, Comparison, Contender, Faster, Figure, Figures, Lab, case
from statekit import Flag, Rule, StateKit

ACTOR = "user:7"
ATTRIBUTES: dict[str, Any] = {"country": "FR", "plan": "pro", "seats": 12, "role": "member", "beta": True}
"""Of the five rules, only the last one matches them."""
RULES = (
    Rule({"country": ["US", "CA"]}, serve=True),
    Rule({"plan": "enterprise"}, serve=True),
    Rule({"seats": {"ge": 500}}, serve=True),
    Rule({"role": "admin"}, serve=True),
    Rule({"beta": True}, serve=True, rollout=25),
)
VISITORS = 2000
PLAIN, RULED = "new-checkout", "pilot"


@dataclass(frozen=True, slots=True)
class Party:
    """A flag library with both flags in it: its two timed statements, and how to ask it about a visitor."""

    name: str
    plain: str
    ruled: str
    names: Mapping[str, Any]
    ask: Callable[[str, dict[str, Any]], bool]


@case("flags/answer", "What does asking a flag cost, and does every library give the same answer?")
def answer(lab: Lab) -> Iterator[Comparison]:
    ours, twin = statekit(lab.kit()), statekit(lab.memory_kit())
    peers = [growthbook(lab), unleash(lab), launchdarkly(lab)]
    yield Comparison(
        "plain boolean",
        [
            Contender("statekit", ours.plain, ours.names),
            *(Contender(peer.name, peer.plain, peer.names) for peer in peers),
            Contender("OpenFeature, in-memory provider", *openfeature()),
            Contender("statekit in memory", twin.plain, twin.names, twin=True),
            Contender("dict lookup", "flags['new-checkout']", {"flags": {PLAIN: True}}, floor=True),
        ],
        promises=[AtMost("statekit", 200e-9), *_faster()],
        note="The context each peer wants is built beforehand, which flatters those that build one a request.",
    )
    yield Comparison(
        "five rules and a rollout",
        [
            Contender("statekit", ours.ruled, ours.names),
            *(Contender(peer.name, peer.ruled, peer.names) for peer in peers),
            Contender("statekit in memory", twin.ruled, twin.names, twin=True),
        ],
        promises=[AtMost("statekit", 800e-9), *_faster()],
        checks=[
            Check(
                party.name,
                "decides by the rules for 2,000 visitors, and rolls out to a quarter",
                _right(party),
            )
            for party in (ours, *peers)
        ],
        note="Five rules on attributes; the last one matches and rolls out to 25 %.",
    )


def _faster() -> list[Faster]:
    return [
        Faster("statekit", 5, than="GrowthBook"),
        Faster("statekit", 20, than="Unleash"),
        Faster("statekit", 20, than="LaunchDarkly"),
    ]


def visitors() -> Iterator[tuple[str, dict[str, Any], bool | None]]:
    """Actors, their attributes, and what the rules say: None is for the rollout to decide."""
    for n in range(VISITORS):
        said = {
            "country": "FR" if n % 7 else "US",
            "plan": "pro" if n % 11 else "enterprise",
            "seats": 12 if n % 13 else 900,
            "role": "member" if n % 17 else "admin",
            "beta": bool(n % 3),
        }
        forced = not (n % 7 and n % 11 and n % 13 and n % 17)
        yield f"user:{n}", said, True if forced else None if said["beta"] else False


def _right(party: Party) -> Callable[[], str | None]:
    def fn() -> str | None:
        rolled = []
        for actor, said, expected in visitors():
            got = party.ask(actor, said)
            if expected is None:
                rolled.append(got)
            elif got is not expected:
                return f"{actor} with {said} gets {got}"
        share = sum(rolled) / len(rolled)
        return None if 0.21 < share < 0.29 else f"a rollout of 25 % reaches {share:.1%} of {len(rolled)}"

    return fn


# -- the parties -------------------------------------------------------------------------------------------


def statekit(kit: StateKit) -> Party:
    """Attributes are given with the question, as an app does."""
    kit.flags.set(PLAIN, Flag())
    kit.flags.set(RULED, Flag(rules=RULES, rollout=0))
    given = ", ".join(f"{name}={value!r}" for name, value in ATTRIBUTES.items())
    return Party(
        "statekit",
        f"flags.enabled({PLAIN!r}, actor={ACTOR!r})",
        f"flags.enabled({RULED!r}, actor={ACTOR!r}, {given})",
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


# -- a write on its way to eight processes -----------------------------------------------------------------

READERS = 8
PAUSE = 0.01
"""Seconds between two deliveries, for the readers to confirm and fall silent."""
CHANNEL = "bench-bare"


@case("flags/convergence", "How long after a flag is written do eight processes answer by it?")
def convergence(lab: Lab) -> Iterator[Figures]:
    kit = lab.kit()
    kit.flags.set("tick", Flag(default=-1))
    writes = 20 if lab.quick else 100
    with lab.fleet(READERS, reader, lab.url, kit.namespace) as fleet:
        rounds = [_delivered(lab, kit, fleet, writes) for _ in lab.turns(7)]
    contenders = ("statekit flag", "bare publish")
    for label, share in (("median", 0.5), ("99th percentile", 0.99)):
        figures = [
            Figure(name, [_at(done[name], share) for done in rounds], floor=name != contenders[0])
            for name in contenders
        ]
        yield Figures(
            label,
            "ms",
            figures,
            promises=[AtMost("statekit flag", 3, of="bare publish")] if share > 0.5 else [],
            note="From before the write until the last of eight processes gives the new answer, or has read the "
            f"message in a thread of its own; both carry the same number of bytes; {writes} of each a round.",
        )


def reader(index: int, url: str, namespace: str) -> Generator[Any, Any, None]:
    """A process that notes when it gave each new answer, and when it got each bare message."""
    from threading import Thread

    import redis

    applied: dict[int, int] = {}
    heard: dict[int, int] = {}
    kit = StateKit.connect(url, namespace, snapshot_dir=None)
    kit.flags.on_change(lambda _: applied.setdefault(kit.flags.value("tick", default=-1), monotonic_ns()))
    kit.flags.load()
    listening = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
    listening.subscribe(CHANNEL)

    def listen() -> None:
        for message in listening.listen():
            heard.setdefault(int(message["data"].partition(b" ")[0]), monotonic_ns())

    Thread(target=listen, daemon=True).start()
    try:
        yield index
        while True:
            sleep(0.3)  # whatever is under way arrives
            yield dict(applied), dict(heard)
    finally:
        kit.close()


def _delivered(lab: Lab, kit: StateKit, fleet: Any, writes: int) -> dict[str, list[float]]:
    """Write flags and publish bare messages in turn; the milliseconds each took to reach the last process."""
    client = lab.client()
    first = kit.flags.value("tick", default=-1) + 1
    size = _message_size(lab, kit, first)
    wrote, published = {}, {}
    for n in range(first + 1, first + 1 + writes):
        sleep(PAUSE)
        wrote[n] = monotonic_ns()
        kit.flags.set("tick", Flag(default=n))
        sleep(PAUSE)
        published[n] = monotonic_ns()
        client.publish(CHANNEL, f"{n} ".ljust(size, "x"))
    seen = fleet.turn()
    return {
        "statekit flag": [_last(at, [applied.get(n) for applied, _ in seen]) for n, at in wrote.items()],
        "bare publish": [_last(at, [heard.get(n) for _, heard in seen]) for n, at in published.items()],
    }


def _message_size(lab: Lab, kit: StateKit, n: int) -> int:
    """What a flag's message weighs: one write is overheard."""
    with lab.client().pubsub(ignore_subscribe_messages=True) as overhearing:
        overhearing.psubscribe("*")
        overhearing.get_message(timeout=1.0)
        kit.flags.set("tick", Flag(default=n))
        while (message := overhearing.get_message(timeout=5.0)) is None or b'"tick"' not in message["data"]:
            pass
        return len(message["data"])


def _last(start: int, arrivals: list[int | None]) -> float:
    """Milliseconds until the last arrival; endless if somebody got nothing."""
    if None in arrivals:
        return float("inf")
    return (max(at for at in arrivals if at is not None) - start) / 1e6


def _at(values: list[float], share: float) -> float:
    return median(values) if share == 0.5 else sorted(values)[int(share * (len(values) - 1))]
