"""A tour of every primitive: what a test runs where anything might be missing, such as a permission."""

from __future__ import annotations

from typing import Any

from statekit import TenantSettings
from statekit.flags import Flag
from tests.servers import wait_until

CONFIRMED = 5.0
"""Seconds a write may take until all have confirmed it."""


class Settings(TenantSettings):
    plan: str = "free"


def tour(kit: Any) -> None:
    """Use every primitive, writes and reads."""
    kit.ping()
    for part in (limits, shared_limits, in_flight, sessions, flags, tenants, pools):
        part(kit)


def limits(kit: Any) -> None:
    for algorithm in ("sliding-log", "sliding-counter", "gcra", "fixed-window"):
        limiter = kit.rate_limiter(f"l-{algorithm}", "5/minute", "100/hour", algorithm=algorithm)
        assert limiter.hit("ip").allowed
        assert not limiter.peek("ip").degraded
        with limiter.reserve("ip", 2) as reservation:
            assert reservation.settle(1)
        limiter.reset("ip")
    one = kit.rate_limiter("one", "1/hour")
    wait_until(lambda: one.hit("ip").local, message="the messages that end local refusals cannot be heard")
    leased = kit.rate_limiter("leased", "100000/minute", lease=True)
    wait_until(lambda: leased.hit("ip").local, message="no slice of a limit was leased")


def shared_limits(kit: Any) -> None:
    """Limits that fall back to an honest share, alone and with one of another slot."""
    shared = kit.rate_limiter("shared", "5/minute", on_outage="local")
    assert shared.hit("ip").allowed
    kit.store.roster.sign()
    slotted = kit.store.keys.slotted
    kit.store.keys.slotted = True  # as on a cluster: charged in one slot, refused in another
    assert not kit.hit_all([(shared, "ip"), (kit.rate_limiter("closed", "0/hour"), "ip")]).degraded
    kit.store.keys.slotted = slotted
    assert shared.peek("ip").remaining == 4


def in_flight(kit: Any) -> None:
    reports = kit.in_flight("reports", 2)
    with reports.hold("acme") as hold:
        assert reports.count("acme") == 1
        assert [holder.fence for holder in reports.holders("acme")] == [hold.fence]
        kit.in_flight("reports", 1).acquire("acme", timeout=0.1)


def sessions(kit: Any) -> None:
    store = kit.sessions()
    session = store.open(None)
    session["cart"] = 1
    store.save(session)
    session.sign_in(principal="user:7")
    store.save(session)
    again = store.open(session.id)
    assert again["cart"] == 1
    again["cart"] = 2
    store.save(again)
    assert len(store.sessions_of("user:7")) == 1
    assert store.revoke_all("user:7") == 1


def flags(kit: Any) -> None:
    kit.flags.set("new", Flag(rollout=25), by="ann", reason="tour", wait=CONFIRMED)
    kit.flags.enabled("new", actor="user:7")
    kit.flags.history("new")
    kit.flags.undo(kit.flags.version, by="ann")


def tenants(kit: Any) -> None:
    registry = kit.tenants(Settings)
    registry.update("acme", {"plan": "pro"}, by="ann", reason="tour", wait=CONFIRMED)
    assert registry.get("acme").plan == "pro"
    registry.history("acme")


def pools(kit: Any) -> None:
    kit.pools.register("things", open=object, per_process=2, fleet=4)
    with kit.pools.checkout("things", timeout=2 * CONFIRMED):
        kit.pools.fleet("things")
