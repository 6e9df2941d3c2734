"""A whole Flask request: what a session, two limits, a flag and a tenant add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

from benchmarks.bench import AtMost, Check, Comparison, Contender, Figure, Figures, Lab, case
from benchmarks.suites.apps.shop_flask import SCARCE, bare, caller, with_peers, with_statekit

PEERS = "Flask-Limiter + Flask-Session"
BARE = "bare request"
LEARNT = 20
"""Requests after which everything is connected, and the adapter knows the endpoint."""
addresses = (f"203.0.113.{n}" for n in count(10))


@case("flask/request", "What do a session, two limits, a flag and a tenant add to a Flask request?")
def request(lab: Lab) -> Iterator[Comparison | Figures]:
    kit, memory = lab.kit(), lab.memory_kit()
    ours, peers = with_statekit(kit), with_peers(lab.url)
    plain = _warm(bare())
    yield Comparison(
        "session, two limits, a flag, a tenant",
        [
            Contender("statekit", _warm(ours)),
            Contender(PEERS, _warm(peers), note="moving window, with headers; no flag, no tenant"),
            Contender(
                f"{PEERS}, fixed window",
                _warm(with_peers(lab.url, strategy="fixed-window")),
                note="its default: twice the limit around a boundary",
            ),
            Contender("statekit in memory", _warm(with_statekit(memory)), twin=True),
            Contender(BARE, plain, floor=True),
        ],
        promises=[AtMost("statekit", 0.35, of=PEERS, above=BARE)],
        checks=[
            Check(
                name,
                f"lets exactly {SCARCE} of {4 * SCARCE} requests through, sent by 4 threads",
                _limits(app),
            )
            for name, app in (("statekit", ours), (PEERS, peers))
        ],
        note="The WSGI app is called in this process, so that no HTTP server is measured.",
    )
    yield from _one_by_one(lab, plain)


def _one_by_one(lab: Lab, plain: Callable[[], Any]) -> Iterator[Comparison]:
    yield Comparison(
        "session alone",
        [
            Contender(
                "statekit", _warm(with_statekit(lab.kit(), limits=False)), note="and a flag, and a tenant"
            ),
            Contender("Flask-Session", _warm(with_peers(lab.url, limits=False))),
            Contender(BARE, plain, floor=True),
        ],
    )
    yield Comparison(
        "two limits alone",
        [
            Contender(
                "statekit", _warm(with_statekit(lab.kit(), session=False)), note="and a flag, and a tenant"
            ),
            Contender("Flask-Limiter", _warm(with_peers(lab.url, session=False))),
            Contender(BARE, plain, floor=True),
        ],
    )


@case("flask/round-trips", "How often does such a request ask the store, and what does it write there?")
def round_trips(lab: Lab) -> Iterator[Figures]:
    kit = lab.kit()
    ours, peers = _warm(with_statekit(kit)), _warm(with_peers(lab.url))
    with lab.round_trips(kit) as trips:
        ours()
    with _sent() as peers_sent:
        peers()
    yield Figures(
        "asked",
        "round trips",
        [Figure("statekit", float(len(trips))), Figure(PEERS, float(len(peers_sent)))],
        promises=[AtMost("statekit", 1)],
    )
    sessionless = _warm(with_statekit(lab.kit(), session=False)), _warm(with_peers(lab.url, session=False))
    figures = [
        Figure(name, float(_writes(lab, whole) - _writes(lab, limits)))
        for name, whole, limits in (("statekit", ours, sessionless[0]), (PEERS, peers, sessionless[1]))
    ]
    yield Figures(
        "written besides the limiter's",
        "writes",
        figures,
        promises=[AtMost("statekit", 0)],
        note="Commands the server counts as writes, less those of the same request without its session.",
    )


def _warm(app: Any) -> Callable[[], Any]:
    call = caller(app, address=next(addresses))
    answers = {call() for _ in range(LEARNT)}
    expected = ("200 OK", b'{"discount":5,"items":["apple","pear"],"new":true}\n')
    if answers != {expected}:
        raise AssertionError(f"{app.name} answers {answers}")
    return call


def _limits(app: Any) -> Callable[[], str | None]:
    def fn() -> str | None:
        call = caller(app, "/scarce", next(addresses))
        with ThreadPoolExecutor(4) as threads:
            statuses = list(threads.map(lambda _: call()[0], range(4 * SCARCE)))
        passed, refused = statuses.count("200 OK"), sum(status.startswith("429") for status in statuses)
        if (passed, refused) == (SCARCE, 3 * SCARCE):
            return None
        return f"let {passed} of {len(statuses)} through and refused {refused}"

    return fn


def _writes(lab: Lab, call: Callable[[], Any]) -> int:
    """How many write commands the server carries out for one request."""
    with lab.commands() as commands:
        call()
    writing = {name for name, about in lab.client().command().items() if "write" in about["flags"]}
    return sum(n for name, n in commands.items() if name in writing)


@contextmanager
def _sent() -> Iterator[list[int]]:
    """Collect what redis-py clients of this process send, by its length; each waits for its reply."""
    from redis.connection import AbstractConnection

    sent: list[int] = []
    original = AbstractConnection.send_packed_command

    def counted(self: Any, command: Any, *args: Any, **options: Any) -> Any:
        sent.append(len(command))
        return original(self, command, *args, **options)

    AbstractConnection.send_packed_command = counted
    try:
        yield sent
    finally:
        AbstractConnection.send_packed_command = original
