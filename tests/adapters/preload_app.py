"""An app whose kit is made at import, before gunicorn forks: see test_flask_preload.py."""

from __future__ import annotations

import os

from flask import Flask, session

from statekit import StateKit
from statekit.store.outage import Budget
from statekit_flask import StatekitFlask

app = Flask(__name__)
kit = StateKit.connect(
    os.environ["STATEKIT_URL"], os.environ["NAMESPACE"], budget=Budget(decision=5, operation=10, connect=5)
)
sk = StatekitFlask(app, kit)
kit.ping()  # a connection is open before the fork: the workers must not share it
kit.flags.enabled("news")  # and the listener for flags runs in the parent


@app.post("/count")
def count() -> dict[str, int]:
    session["n"] = session.get("n", 0) + 1
    return {"n": session["n"], "pid": os.getpid()}


@app.get("/limited")
@sk.limit("20/hour", key=lambda: "everyone")
def limited() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.get("/flag")
def flag() -> dict[str, int | bool]:
    return {"on": sk.flags.enabled("news"), "version": sk.flags.version, "pid": os.getpid()}
