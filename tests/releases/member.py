"""One process of a fleet in a rolling upgrade, of whichever release is first on its path.

    python member.py URL NAMESPACE

Reads lines of JSON, ``[verb, arguments, options]``, does what they say, and answers each with a line. What stands here
must run on every release it is compared with, so it uses public names only.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

import statekit
from statekit import Flag, StateKit, TenantSettings
from statekit.errors import StatekitError
from statekit.store import Budget


class Quotas(TenantSettings):
    rps: int = 10
    burst: int = 20


class Settings(TenantSettings):
    plan: str = "free"
    quotas: Quotas = Quotas()


class Member:
    """The verbs; each returns what JSON can carry."""

    def __init__(self, url: str, namespace: str) -> None:
        budget = Budget(decision=5, operation=10, connect=5)
        self.kit = StateKit.connect(url, namespace, budget=budget, snapshot_dir=None)
        self.sessions = self.kit.sessions()
        self.tenants = self.kit.tenants(Settings)
        self.limiters: dict[str, Any] = {}
        self.reserved: Any = None
        self.held: Any = None

    def release(self) -> str:
        return str(statekit.__file__)

    def clock(self) -> float:
        return time.time()

    # -- sessions

    def session_write(self, cookie: str | None, **values: Any) -> list[str]:
        session = self.sessions.open(cookie)
        session.update(values)
        return [session.id, str(self.sessions.save(session))]

    def session_read(self, cookie: str) -> dict[str, Any]:
        session = self.sessions.open(cookie)
        return {"values": dict(session), "principal": session.principal, "new": session.is_new}

    def sign_in(self, cookie: str, principal: str) -> list[str]:
        session = self.sessions.open(cookie)
        session.sign_in(principal=principal)
        self.sessions.save(session)
        return [session.id, session.handle]

    def sessions_of(self, principal: str) -> list[str]:
        return sorted(info.handle for info in self.sessions.sessions_of(principal))

    def revoke(self, handle: str) -> bool:
        return self.sessions.revoke(handle)

    def revoke_all(self, principal: str) -> int:
        return self.sessions.revoke_all(principal)

    # -- limits

    def limiter(self, name: str, *limits: str, **options: Any) -> None:
        self.limiters[name] = self.kit.rate_limiter(name, *limits, **options)

    def hit(self, name: str, times: int, cost: int = 1) -> list[int]:
        """How many were allowed, and what the last decision said is left."""
        decisions = [self.limiters[name].hit("ann", cost) for _ in range(times)]
        assert not any(decision.degraded for decision in decisions)
        return [sum(map(bool, decisions)), decisions[-1].remaining]

    def reserve(self, name: str, cost: int) -> bool:
        self.reserved = self.limiters[name].reserve("ann", cost)
        return bool(self.reserved)

    def settle(self, cost: int) -> bool:
        return bool(self.reserved.settle(cost))

    def reset(self, name: str) -> bool:
        return bool(self.limiters[name].reset("ann"))

    # -- flags and tenants

    def set_flag(self, name: str, **fields: Any) -> list[int]:
        told = self.kit.flags.set(name, Flag(**fields), by="test", wait=30)
        return [told.version, told.workers, told.acknowledged]

    def undo_flag(self, version: int) -> int:
        return self.kit.flags.undo(version, by="test").version

    def delete_flag(self, name: str) -> list[int]:
        told = self.kit.flags.delete(name, by="test", wait=30)
        return [told.version, told.workers, told.acknowledged]

    def flag_names(self) -> list[str]:
        return list(self.kit.flags.names())

    def flag(self, name: str) -> dict[str, Any]:
        on = [self.kit.flags.enabled(name, actor=f"user:{number}", plan="pro") for number in range(100)]
        flags = self.kit.flags
        return {"on": on, "version": flags.version, "writes": [one.version for one in flags.history(name)]}

    def update(self, tenant: str, patch: dict[str, Any], if_version: int | None = None) -> list[int]:
        told = self.tenants.update(tenant, patch, if_version=if_version, by="test", wait=30)
        return [self.tenants.version_of(tenant), told.workers, told.acknowledged]

    def tenant(self, tenant: str) -> dict[str, Any]:
        return self.tenants.get(tenant).model_dump()

    # -- what is held

    def hold(self, limit: int) -> int:
        """The fence of the slot taken, 0 if none was free."""
        self.held = self.kit.in_flight("reports", limit).acquire("acme")
        return self.held.fence if self.held else 0

    def lost(self) -> bool:
        return bool(self.held.lost)

    def release_hold(self) -> bool:
        return bool(self.held.release())

    def in_flight(self) -> int:
        return self.kit.in_flight("reports", 1).count("acme")

    def borrow(self, port: int, times: int, **bounds: int) -> list[int]:
        """Use clients of a third party; how often, and this process's share afterwards."""
        pools = self.kit.pools
        if "billing" not in pools.stats():
            pools.register("billing", open=lambda: socket.create_connection(("127.0.0.1", port)), **bounds)
        for _ in range(times):
            with pools.checkout("billing", timeout=60) as connection:
                connection.sendall(b"?")
                assert connection.recv(1) == b"!"
        return [times, pools.stats()["billing"].share]

    def shares(self) -> list[int]:
        return sorted(one.share for one in self.kit.pools.fleet("billing").processes)

    def close(self) -> None:
        self.kit.close()


def answered(member: Member, verb: str, arguments: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": getattr(member, verb)(*arguments, **options)}
    except StatekitError as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(url: str, namespace: str) -> None:
    member = Member(url, namespace)
    for line in sys.stdin:
        print(json.dumps(answered(member, *json.loads(line))), flush=True)


main(*sys.argv[1:])
