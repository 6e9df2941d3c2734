"""A tour of every primitive: what a test runs where anything might be missing, such as a permission."""

from __future__ import annotations

from typing import Any

from statekit import TenantSettings
from statekit.flags import Flag
from tests.servers import wait_until


class Settings(TenantSettings):
    plan: str = "free"


def tour(kit: Any) -> None:
    """Use every primitive, writes and reads."""
    kit.ping()
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
    sessions = kit.sessions()
    session = sessions.open(None)
    session["cart"] = 1
    sessions.save(session)
    session.sign_in(principal="user:7")
    sessions.save(session)
    again = sessions.open(session.id)
    assert again["cart"] == 1
    again["cart"] = 2
    sessions.save(again)
    assert len(sessions.sessions_of("user:7")) == 1
    assert sessions.revoke_all("user:7") == 1
    kit.flags.set("new", Flag(rollout=25), by="ann", reason="tour", wait=5.0)
    kit.flags.enabled("new", actor="user:7")
    kit.flags.history("new")
    kit.flags.undo(kit.flags.version, by="ann")
    tenants = kit.tenants(Settings)
    tenants.update("acme", {"plan": "pro"}, by="ann", reason="tour", wait=5.0)
    assert tenants.get("acme").plan == "pro"
    tenants.history("acme")
    kit.pools.register("things", open=object, per_process=2, fleet=4)
    with kit.pools.checkout("things", timeout=10.0):
        kit.pools.fleet("things")
    reports = kit.in_flight("reports", 2)
    with reports.hold("acme") as hold:
        assert reports.count("acme") == 1
        assert [holder.fence for holder in reports.holders("acme")] == [hold.fence]
        kit.in_flight("reports", 1).acquire("acme", timeout=0.1)
