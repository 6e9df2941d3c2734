"""Foreign bytes under our keys: whatever lies there, each verb answers, or raises what is declared, and soon.

A namespace is filled by its owners, then one key of it is damaged: a byte turned, a part cut off or put in, a field or
a member added or taken away, another type altogether. Then everything is used. What may come of it: an answer;
`CorruptValue`; `StoreRejected`, where a script meets what it cannot compute with. Nothing else, no endless loop, and
once the key is deleted all is as if nothing had been.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from statekit import Flag, StateKit, TenantSettings
from statekit.errors import CorruptValue, LimitExceeded, StoreRejected, StoreTimeout, VersionConflict
from statekit.pools import core as pools
from statekit.testing import FrozenClock
from tests.conftest import PATIENT
from tests.properties.damage import damaged

DECLARED = (CorruptValue, StoreRejected, LimitExceeded, VersionConflict)
ALGORITHMS = ("sliding-log", "sliding-counter", "gcra", "fixed-window")


class Settings(TenantSettings):
    plan: str = "free"
    limits: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it


Verbs = list[Callable[[], Any]]


def limits(kit: StateKit) -> Verbs:
    verbs: Verbs = []
    for algorithm in ALGORITHMS:
        small = kit.rate_limiter("api", "5/minute", "9/hour", algorithm=algorithm, local_refusals=False)
        large = kit.rate_limiter("api", "1000000/day", algorithm=algorithm, local_refusals=False)
        verbs += [
            lambda small=small: small.hit("k"),
            lambda large=large: large.hit("k", 500),
            lambda small=small: small.peek("k"),
            lambda small=small: kit.hit_all([(small, "k"), (small, "j", 2)]),
            lambda small=small: small.reserve("k", cost=2, ttl=5),
            lambda large=large: settled(large),
            lambda small=small: small.hit("k", 2),
        ]
    return verbs


def settled(limiter: Any) -> None:
    with limiter.reserve("k", cost=3) as reservation:
        reservation.settle(1)


def in_flight(kit: StateKit) -> Verbs:
    reports = kit.in_flight("reports", 3)
    held: list[Any] = []

    def holds() -> None:
        hold = reports.hold("k")
        hold.__enter__()
        held.append(hold)

    def gives_back() -> None:
        if held:
            held.pop().__exit__(None, None, None)

    return [holds, holds, lambda: reports.holders("k"), lambda: reports.count("k"), gives_back, holds]


def sessions(kit: StateKit) -> Verbs:
    store = kit.sessions()
    ids: list[str] = []

    def begins() -> None:
        session = store.open(None)
        session["cart"], session["when"] = ["sku"], datetime(2030, 1, 1, tzinfo=UTC)
        session.sign_in("user:7")
        store.save(session)
        ids.append(session.id)

    def visits() -> None:
        session = store.open(ids[0])
        for key in session:
            reads(session, key)
        session["n"] = 1
        store.save(session)

    def renews() -> None:
        session = store.open(ids[0])
        session.renew()
        store.save(session)

    return [
        begins,
        begins,
        visits,
        lambda: store.sessions_of("user:7"),
        renews,
        lambda: store.revoke(store.open(ids[-1]).handle),
        visits,
        lambda: store.revoke_all("user:7"),
    ]


def reads(session: Any, key: str) -> None:
    with suppress(CorruptValue):
        session[key]


def flags(kit: StateKit) -> Verbs:
    def starts_anew() -> None:
        with StateKit.connect(kit_url(kit), kit.namespace, budget=PATIENT, snapshot_dir=None) as late:
            assert late.flags.enabled("a") in (True, False)
            assert late.flags.value("b", default=1) is not None
            late.flags.explain("a")

    return [
        lambda: kit.flags.set("a", Flag(rollout=50), by="t"),
        lambda: kit.flags.set("b", Flag(), by="t"),
        starts_anew,
        lambda: kit.flags.history("a"),
        lambda: kit.flags.undo(1, by="t"),
        lambda: kit.flags.set("a", Flag(), by="t"),
        starts_anew,
    ]


def tenants(kit: StateKit) -> Verbs:
    registry = kit.tenants(Settings)

    def starts_anew() -> None:
        with StateKit.connect(kit_url(kit), kit.namespace, budget=PATIENT, snapshot_dir=None) as late:
            late.tenants(Settings).get("acme")

    return [
        lambda: registry.update("acme", {"plan": "pro"}, by="t"),
        starts_anew,
        lambda: registry.explain("acme", "plan"),
        lambda: registry.history("acme"),
        lambda: registry.update("acme", {"limits": {"rps": 7}}, by="t"),
        lambda: registry.get("acme"),
    ]


def shares(kit: StateKit) -> Verbs:
    config, key = pools.PoolConfig("billing", per_process=4, fleet=6), kit.store.keys.of("pool", "billing")
    numbers = iter(range(1, 1000))

    def reports(worker: str) -> None:
        report = pools.Report(worker, next(numbers), 0, 0, 0, 1, 3)
        grant = kit.run(pools.renewing(key, config, report, kit.store.now()))
        assert 0 <= grant.share <= 6

    def views() -> None:
        kit.run(pools.viewing(key, config, kit.store.now()))

    return [
        lambda: reports("one"),
        lambda: reports("two"),
        views,
        lambda: reports("one"),
        lambda: kit.run(pools.releasing(key, "two", next(numbers))),
        views,
    ]


def kit_url(kit: StateKit) -> str:
    return kit.url  # type: ignore[attr-defined,no-any-return]


# -- damage ----------------------------------------------------------------------------------------------------


def damage(client: redis.Redis, key: bytes, luck: random.Random) -> object:
    """Change what lies under a key; returns what was done, for the report."""
    kind = client.type(key)
    if luck.random() < 0.08:
        other = luck.choice((("SET", "x"), ("RPUSH", "x"), ("HSET", "x", "y"), ("ZADD", "1", "x")))
        with client.pipeline() as pipeline:
            return other, pipeline.delete(key).execute_command(other[0], key, *other[1:]).execute()
    if kind == b"string":
        new = damaged(client.get(key), luck)
        return new, client.set(key, new)
    if kind == b"hash":
        return _damage_hash(client, key, luck)
    if kind == b"zset":
        member, score = luck.choice(client.zrange(key, 0, -1, withscores=True))
        member = luck.choice((member, damaged(member, luck), b""))
        score = luck.choice((score, 0, -1, 1e300, float("inf"), float("-inf"), -score, score + 1))
        return (member, score), client.zadd(key, {member: score})
    return _damage_list(client, key, luck)


def _damage_hash(client: redis.Redis, key: bytes, luck: random.Random) -> object:
    field = luck.choice(list(client.hkeys(key)))
    if luck.random() < 0.15:
        return ("without", field), client.hdel(key, field)
    name = field if luck.random() < 0.8 else damaged(field, luck)
    new = damaged(client.hget(key, field) or b"", luck)
    return (name, new), client.hset(key, name, new)


def _damage_list(client: redis.Redis, key: bytes, luck: random.Random) -> object:
    new = damaged(client.lindex(key, 0), luck)
    if luck.random() < 0.3:
        return ("more", new), client.lpush(key, new)
    return new, client.lset(key, 0, new)


# -- and all is used ---------------------------------------------------------------------------------------------


def stories(url: str, namespace: str, owner: Callable[[StateKit], Verbs], numbers: range) -> Iterator[None]:
    client = redis.Redis.from_url(url)
    for number in numbers:
        luck, clock = random.Random(number), FrozenClock()
        name = f"{namespace}-{number}"
        with StateKit.connect(url, name, budget=PATIENT, clock=clock, snapshot_dir=None) as kit:
            kit.url = url  # type: ignore[attr-defined]
            verbs = owner(kit)
            for verb in verbs[: luck.randrange(2, len(verbs))]:
                verb()
                clock.now_us += luck.randrange(1_000_000)
            key = luck.choice(sorted(client.scan_iter(match=f"sk1:{name}:*", count=1000)))
            done = damage(client, key, luck)
            told = f"story {number} of {owner.__name__}: {key!r} became {done!r}"
            used(verbs, clock, luck, told)
            client.delete(*client.scan_iter(match=f"sk1:{name}:*", count=1000))
            yield


def used(verbs: Verbs, clock: FrozenClock, luck: random.Random, told: str) -> None:
    for verb in verbs:
        try:
            with suppress(*DECLARED):
                verb()
        except StoreTimeout as error:
            raise AssertionError(f"{told}; the store is busy for ever") from error
        except Exception as error:
            raise AssertionError(f"{told}; what came of it is declared nowhere: {error!r}") from error
        clock.now_us += luck.randrange(1_000_000)


OWNERS = (limits, in_flight, sessions, flags, tenants, shares)


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_foreign_bytes_are_declared(valkey_url, namespace, owner):
    for _ in stories(valkey_url, namespace, owner, range(25)):
        pass


@pytest.mark.exhaustive
@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_many_foreign_bytes_are_declared(valkey_url, namespace, owner):
    for _ in stories(valkey_url, namespace, owner, range(100, 600)):
        pass
