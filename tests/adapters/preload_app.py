"""An app that uses every primitive, its kit made at import and used at once: before gunicorn forks, if it preloads."""

from __future__ import annotations

import os
import socket

from flask import Flask, session

from statekit import StateKit, TenantSettings
from statekit.store.outage import Budget
from statekit_flask import StatekitFlask


class Settings(TenantSettings):
    plan: str = "free"


def third_party(port: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(os.environ[port])), 30)


def hung_up(connection: socket.socket) -> None:
    """Close it for all: a child that inherited it would keep it open for the third party."""
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def asked(connection: socket.socket) -> None:
    connection.sendall(b"?")
    assert connection.recv(1) == b"!"


budget = Budget(decision=float(os.environ.get("BUDGET", "5")), operation=10, connect=5)
app = Flask(__name__)
kit = StateKit.connect(os.environ["STATEKIT_URL"], os.environ["NAMESPACE"], budget=budget, snapshot_dir=None)
sk = StatekitFlask(app, kit)
tenants = kit.tenants(Settings)
sessions = kit.sessions()
leased = kit.rate_limiter("leased", "300/day", lease=True)
reports = kit.in_flight("reports", 3, lease=2)
kit.pools.register("billing", open=lambda: third_party("POOL_PORT"), close=hung_up, per_process=2, fleet=3)

# All of it is used before the fork: connections are open, threads run, and leases and slots are the parent's.
kit.ping()
kit.flags.enabled("news")
tenants.get("acme")
leased.hit("everyone")
first = sessions.open(None)
first["n"] = 1
sessions.save(first)
kept = reports.acquire("acme") if "POOL_PORT" in os.environ else None
if kept:
    with kit.pools.checkout("billing") as client:
        asked(client)
    del (
        client
    )  # a child with a name for its parent's socket would keep the connection open when the parent closes it
    kept.release()


@app.get("/plain")
def plain() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/count")
def count() -> dict[str, int]:
    session["n"] = session.get("n", 0) + 1
    return {"n": session["n"], "pid": os.getpid()}


@app.get("/limited")
@sk.limit("20/hour", key=lambda: "everyone")
def limited() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/leased")
def lease() -> dict[str, int | bool]:
    decision = leased.hit("everyone")
    return {"allowed": decision.allowed, "degraded": decision.degraded, "pid": os.getpid()}


@app.get("/flag")
def flag() -> dict[str, int | bool]:
    return {"on": sk.flags.enabled("news"), "version": sk.flags.version, "pid": os.getpid()}


@app.get("/tenant")
def tenant() -> dict[str, int | str | bool]:
    plan = tenants.get("acme").plan
    return {"plan": plan, "stale": tenants.stale, "pid": os.getpid()}


@app.get("/hold")
def hold() -> dict[str, int]:
    with reports.hold("acme", timeout=30) as one, third_party("FLIGHT_PORT") as connection:
        asked(connection)
        return {"fence": one.fence, "pid": os.getpid()}


@app.get("/borrow")
def borrow() -> dict[str, int]:
    with kit.pools.checkout("billing", timeout=30) as connection:
        asked(connection)
    return {"pid": os.getpid()}
