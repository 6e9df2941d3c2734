"""Feature flags: what one answer costs, whether everybody gives the same one, and how soon a write is in force."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from statistics import median
from time import monotonic_ns, sleep
from typing import Any

from benchmarks.bench import (
    Absent,
    AtMost,
    Check,
    Comparison,
    Contender,
    Faster,
    Figure,
    Figures,
    Lab,
    case,
)
from benchmarks.suites.apps.flag_libraries import (
    PLAIN,
    Party,
    by_hand,
    growthbook,
    launchdarkly,
    openfeature,
    statekit,
    unleash,
)
from statekit import Flag, StateKit

VISITORS = 2000


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
            Absent(
                "OpenFeature, in-memory provider", "it has no rules: an app hands it a function of its own"
            ),
            Contender("statekit in memory", twin.ruled, twin.names, twin=True),
            Contender("five ifs and a CRC", *by_hand(), floor=True),
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
