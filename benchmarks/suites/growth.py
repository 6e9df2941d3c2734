"""Cost as work grows: memory of a hit, and the time of a decision as limits, callers, tenants and flags become many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

from benchmarks.bench import AtMost, Comparison, Contender, Figure, Figures, Lab, case
from benchmarks.suites.limiters import HOUR, Limits, Pyrate, Statekit
from statekit import Flag, TenantSettings, together
from statekit.replica.faces import Replica
from statekit.tenants.core import registry_replica, tenant_document

TOGETHER = 500
"""Hits that share a round trip while a log is filled."""


# -- memory ----------------------------------------------------------------------------------------------


@case("growth/memory", "How much of the server's memory does a hit of the sliding log take?")
def memory(lab: Lab) -> Iterator[Figures]:
    for hits in (100, 1_000, 10_000):
        worst = "statekit, at its worst until twice as many"
        kit, theirs = lab.kit(), partial(fill_limits, lab, hits)
        ours = partial(fill, kit, kit.rate_limiter("log", f"{hits}/hour"), hits)
        yield Figures(
            f"{hits:,} hits of one caller",
            "bytes a hit",
            [
                Figure("statekit", taken(lab, f"*{kit.namespace}*", ours) / hits),
                Figure(
                    worst,
                    worst_from(lab, hits),
                    note="a ring that has just grown has room for a quarter more",
                ),
                Figure("limits", taken(lab, "LIMITS:*", theirs) / hits, note="moving window"),
                Figure(
                    "pyrate-limiter",
                    taken(lab, "pyrate-*", partial(fill_pyrate, lab, hits)) / hits,
                    note="RedisBucket",
                ),
            ],
            promises=[AtMost(name, 10) for name in ("statekit", worst)] if hits >= 1_000 else [],
        )


def taken(lab: Lab, pattern: str, work: Callable[[], Any]) -> int:
    """The memory of the keys that some work adds, by MEMORY USAGE; allocator and all."""
    client = lab.client()
    before = set(client.scan_iter(pattern, count=1000))
    work()
    added = set(client.scan_iter(pattern, count=1000)) - before
    return sum(client.memory_usage(key, samples=0) or 0 for key in added)


def worst_from(lab: Lab, hits: int) -> float:
    """Fill on, a fiftieth at a time; a ring takes most for each hit when it has just grown."""
    kit, client = lab.kit(), lab.client()
    limiter, step, worst = kit.rate_limiter("log", f"{2 * hits}/hour"), max(1, hits // 50), 0.0
    fill(kit, limiter, hits)
    (key,) = client.scan_iter(f"*{kit.namespace}*", count=1000)
    for count in range(hits, 2 * hits, step):
        worst = max(worst, client.memory_usage(key, samples=0) / count)
        fill(kit, limiter, step)
    return worst


def fill(kit: Any, limiter: Any, hits: int, keys: Iterable[str] = ("k",)) -> None:
    """Make that many hits, of the keys in turn, many to a round trip."""
    names = islice(cycle(keys), hits)
    while batch := list(islice(names, TOGETHER)):
        kit.run(together(*(limiter.hitting(name) for name in batch)))


def fill_limits(lab: Lab, hits: int) -> None:
    hit = Limits(lab).hit(hits, HOUR)
    for _ in range(hits):
        hit()


def fill_pyrate(lab: Lab, hits: int) -> None:
    hit = Pyrate(lab).hit(hits, HOUR)
    for _ in range(hits):
        hit()


# -- time ------------------------------------------------------------------------------------------------


@case(
    "growth/limit", "Does a decision take longer the higher the limit, and the fuller its log?", seconds=240
)
def limit(lab: Lab) -> Iterator[Comparison]:
    sizes = (10, 1_000, 100_000) if lab.quick else (10, 1_000, 100_000, 1_000_000)
    kit = lab.kit()
    admitted, refused, peers = [], [], []
    for size in sizes:
        roomy = kit.rate_limiter(f"roomy-{size}", f"{size + 1_000_000}/hour")
        fill(kit, roomy, size)
        admitted.append(Contender(f"statekit, {size:,} in the log", partial(roomy.hit, "k")))
        full = kit.rate_limiter(f"full-{size}", f"{size}/hour", local_refusals=False)
        fill(kit, full, size)
        refused.append(Contender(f"statekit, {size:,} of {size:,} used", partial(full.hit, "k")))
        peers.append(Contender(f"limits, {size:,} of {size:,} used", _limits_full(lab, size)))
    for label, ours, theirs in (("admitted", admitted, []), ("refused, by the store", refused, peers)):
        yield Comparison(
            f"{label}: one caller, a limit that is filled",
            [*ours, *theirs],
            promises=[AtMost(one.name, 1.2, of=ours[0].name, p50=True) for one in ours[1:]],
        )


def _limits_full(lab: Lab, size: int) -> Callable[[], Any]:
    """limits, full, asked as for headers: hit + get_window_stats."""
    peer, item = Limits(lab), None
    item = peer.item(size, HOUR)
    while peer.limiter.hit(item, "k", cost=min(size, 5_000)):
        pass
    return lambda: (peer.limiter.hit(item, "k"), peer.limiter.get_window_stats(item, "k"))


@case("growth/callers", "Does a decision take longer the more callers there are?")
def callers(lab: Lab) -> Iterator[Comparison]:
    mine, contenders = Statekit(lab), []
    for size in (1, 1_000, 10_000 if lab.quick else 100_000):
        limiter = mine.kit.rate_limiter(f"of-{size}", "1000000/hour")
        names = [f"caller-{number}" for number in range(size)]
        fill(mine.kit, limiter, max(size, 100), names)
        contenders.append(Contender(f"statekit, {size:,} callers in turn", in_turn(limiter.hit, names)))
    first = contenders[0].name
    yield Comparison(
        "one decision, all callers in turn",
        contenders,
        promises=[AtMost(one.name, 1.2, of=first, p50=True) for one in contenders[1:]],
    )


def in_turn(hit: Callable[[str], Any], names: list[str]) -> Callable[[], Any]:
    turns = cycle(names)
    return lambda: hit(next(turns))


class Plan(TenantSettings):
    plan: str = "free"


@case("growth/tenants", "Does reading one tenant take longer the more tenants there are?", seconds=240)
def tenants(lab: Lab) -> Iterator[Comparison]:
    asked, contenders = "with registry.scope('tenant-7'): registry.current().plan", []
    for size in (10, 10_000 if lab.quick else 100_000):
        kit = lab.kit()
        replica = Replica(kit.store, registry_replica("tenants"), None)  # many writes to a round trip
        written(kit, [partial(replica.writing, tenant_document(f"tenant-{n}"), PRO) for n in range(size)])
        registry = kit.tenants(Plan)
        registry.load()
        contenders.append(Contender(f"statekit, one of {size:,} tenants", asked, {"registry": registry}))
    yield _flat("enter a tenant's scope, read one attribute, leave", contenders)


PRO = '{"plan":"pro"}'


@case("growth/flags", "Does asking one flag take longer the more flags there are?", seconds=240)
def flags(lab: Lab) -> Iterator[Comparison]:
    asked, contenders = "flags.enabled('flag-7', actor='user:7')", []
    for size in (10, 10_000 if lab.quick else 100_000):
        kit, flag = lab.kit(), Flag(rollout=25)
        written(kit, [partial(kit.flags.setting, f"flag-{n}", flag) for n in range(size)])
        kit.flags.load()
        contenders.append(Contender(f"statekit, one of {size:,} flags", asked, {"flags": kit.flags}))
    yield _flat("one flag with a rollout, asked", contenders)


def written(kit: Any, writes: Sequence[Callable[[], Any]]) -> None:
    """Make many writes, many to a round trip."""
    for start in range(0, len(writes), TOGETHER):
        kit.run(together(*(write() for write in writes[start : start + TOGETHER])))


def _flat(label: str, contenders: list[Contender]) -> Comparison:
    few, many = (one.name for one in contenders)
    return Comparison(label, contenders, promises=[AtMost(many, 1.2, of=few)])
