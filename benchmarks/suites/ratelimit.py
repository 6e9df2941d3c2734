"""Rate limits: one decision, every algorithm, three limits of a web request, a flood of refused calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import Any

from benchmarks.bench import AtMost, Check, Comparison, Contender, Faster, Figure, Figures, Lab, case
from benchmarks.bench.proofs import most_in_a_window, once
from benchmarks.suites.floors import evalsha
from benchmarks.suites.limiters import (
    HOUR,
    Hit,
    Limits,
    Pyrate,
    Statekit,
    Throttled,
    exact,
    never_more,
    no_more,
)

MILLION = 1_000_000


@case(
    "ratelimit/one-decision",
    "What does one exact sliding-window decision cost, with remaining and retry_after?",
)
def one_decision(lab: Lab) -> Iterator[Comparison]:
    mine, limits, pyrate = Statekit(lab), Limits(lab), Pyrate(lab)
    window, gcra = Throttled(lab, "sliding_window"), Throttled(lab, "gcra")
    yield Comparison(
        "one limit, one key, admitted",
        [
            Contender("statekit", mine.told(MILLION)),
            Contender("limits", limits.told(MILLION), note="moving window, hit + get_window_stats"),
            Contender(
                "limits, hit alone",
                limits.hit(MILLION),
                note="yes or no: neither what is left nor when to retry",
            ),
            Contender("throttled-py, sliding window", window.told(MILLION)),
            Contender("throttled-py, GCRA", gcra.told(MILLION)),
            Contender("pyrate-limiter", pyrate.hit(MILLION), note="RedisBucket: yes or no, nothing else"),
            Contender("statekit in memory", Statekit(lab, memory=True).told(MILLION), twin=True),
            Contender("EVALSHA INCR", evalsha(lab), floor=True),
        ],
        promises=[
            AtMost("statekit", 1.25, of="EVALSHA INCR", p50=True),
            AtMost("statekit", 0.6, of="limits", p50=True),
        ],
        checks=[
            exact("statekit", mine.hit),
            exact("limits", limits.hit),
            exact("limits, hit alone", limits.hit),
            exact("throttled-py, sliding window", window.hit),
            exact("throttled-py, GCRA", gcra.hit),
            no_more("pyrate-limiter", pyrate.hit),
            exact("pyrate-limiter", pyrate.hit, fatal=False),
            never_more("statekit", mine.hit, lab),
            never_more("limits", limits.hit, lab),
            never_more("throttled-py, sliding window", window.hit, lab),
            never_more("throttled-py, GCRA", gcra.hit, lab),
            never_more("pyrate-limiter", pyrate.hit, lab),
        ],
    )


@case("ratelimit/algorithms", "What does a decision cost by each algorithm?")
def algorithms(lab: Lab) -> Iterator[Comparison]:
    parties: dict[str, Statekit | Limits | Throttled] = {
        "statekit, sliding-log": Statekit(lab, "sliding-log"),
        "statekit, sliding-counter": Statekit(lab, "sliding-counter"),
        "statekit, gcra": Statekit(lab, "gcra"),
        "statekit, fixed-window": Statekit(lab, "fixed-window"),
        "limits, moving window": Limits(lab, "MovingWindow"),
        "limits, sliding counter": Limits(lab, "SlidingWindowCounter"),
        "limits, fixed window": Limits(lab, "FixedWindow"),
        "throttled-py, sliding window": Throttled(lab, "sliding_window"),
        "throttled-py, GCRA": Throttled(lab, "gcra"),
        "throttled-py, token bucket": Throttled(lab, "token_bucket"),
        "throttled-py, leaking bucket": Throttled(lab, "leaking_bucket"),
        "throttled-py, fixed window": Throttled(lab, "fixed_window"),
    }
    answers = {name: Contender(name, party.told(MILLION)) for name, party in parties.items()}
    pyrates = {"pyrate-limiter, log": Pyrate(lab), "pyrate-limiter, GCRA": Pyrate(lab, "gcra")}
    answers |= {
        name: Contender(name, party.hit(MILLION), note="yes or no") for name, party in pyrates.items()
    }
    yield Comparison(
        "one limit, one key, admitted, with remaining and when to retry",
        [*answers.values(), Contender("EVALSHA INCR", evalsha(lab), floor=True)],
        checks=[
            *(exact(name, party.hit) for name, party in parties.items()),
            *(no_more(name, party.hit) for name, party in pyrates.items()),
            small_bucket(lab),
        ],
        note="Each is checked for its own claim: a fresh key lets exactly its limit through.",
    )


def small_bucket(lab: Lab) -> Check:
    """A token bucket that holds fewer than it refills in a second: 400, and 1,000 a second."""

    def wrong() -> str | None:
        hit, start = Throttled(lab, "token_bucket").hit(1_000, 1, burst=400), monotonic()
        passed = sum(hit() for _ in range(800))
        allowed = 400 + 1_000 * (monotonic() - start)
        return (
            f"let {passed} of 800 through where {allowed:.0f} were allowed" if passed > allowed + 1 else None
        )

    return Check("throttled-py, token bucket", "holds 1,000 a second with a burst of 400", wrong, fatal=False)


@case("ratelimit/clocks", "What if the clocks of two machines differ by 1.1 seconds?")
def clocks(lab: Lab) -> Iterator[Figures]:
    kinds = {"statekit": "statekit", "limits": "limits", "pyrate-limiter": "pyrate"}
    seen = {name: skewed(lab, kind) for name, kind in kinds.items()}
    yield Figures(
        "admitted at the same instant, limit 50 a second, two processes whose clocks differ",
        "admissions",
        [*(Figure(name, count) for name, count in seen.items()), Figure("the limit", LIMIT, floor=True)],
        promises=[AtMost("statekit", LIMIT)],
        note="The second process believes that it is 1.1 s later. Limiters that use their own clock count it as new.",
    )


LIMIT = 50


def skewed(lab: Lab, kind: str) -> int:
    """The most admissions proven within a second, of two processes that one after the other try 100 times."""
    with lab.fleet(2, elsewhere, kind, lab.url, lab.name()) as fleet:
        spans = [span for turn in (0, 1) for tried in fleet.turn(turn) for span in tried]
    return most_in_a_window(spans, 1.0)


def elsewhere(index: int, kind: str, url: str, name: str) -> Generator[Any, int, None]:
    """A process whose clock is 1.1 s ahead of that of the process before it; hits when it is its turn."""
    wall, wall_ns = time.time, time.time_ns
    time.time = lambda: wall() + 1.1 * index
    time.time_ns = lambda: wall_ns() + 1_100_000_000 * index
    with Lab(url) as lab:
        hit = _named(lab, kind, name)
        turn = yield
        while True:
            turn = yield [span for _ in range(100) for span in once(hit)] if turn == index else []


def _named(lab: Lab, kind: str, name: str) -> Hit:
    """The limiter both processes mean: one name, one key."""
    if kind == "statekit":
        told = lab.kit(name).rate_limiter("shared", f"{LIMIT}/second").hit
        return lambda: told("k").allowed
    if kind == "limits":
        limits = Limits(lab)
        item = limits.item(LIMIT, 1, name)
        return lambda: limits.limiter.hit(item, "k")
    return Pyrate(lab, name=name).hit(LIMIT, 1)


@case("ratelimit/in-memory", "What does sharing cost? The same decision in this process's own memory")
def in_memory(lab: Lab) -> Iterator[Comparison]:
    twin, limits, throttled = (
        Statekit(lab, memory=True),
        Limits(lab, memory=True),
        Throttled(lab, memory=True),
    )
    yield Comparison(
        "one limit, one key, admitted, nothing shared",
        [
            Contender("statekit in memory", twin.told(MILLION), twin=True),
            Contender("limits", limits.told(MILLION), note="moving window, hit + get_window_stats"),
            Contender("limits, hit alone", limits.hit(MILLION)),
            Contender("throttled-py, GCRA", throttled.told(MILLION)),
            Contender("pyrate-limiter", Pyrate(lab, "memory").hit(MILLION)),
            Contender(
                "statekit, shared", Statekit(lab).told(MILLION), note="through the store, for comparison"
            ),
        ],
        checks=[
            exact("statekit in memory", twin.hit),
            exact("limits", limits.hit),
            exact("throttled-py, GCRA", throttled.hit),
            no_more("pyrate-limiter", Pyrate(lab, "memory").hit),
        ],
    )


@case("ratelimit/flood", "What does it cost to refuse a caller who does not stop?")
def flood(lab: Lab) -> Iterator[Comparison | Figures]:
    mine, asking, limits = Statekit(lab), Statekit(lab, local_refusals=False), Limits(lab)
    pyrate = Pyrate(lab)
    refused = {
        "statekit": mine.told(100, HOUR),
        "limits, hit alone": limits.hit(100, HOUR),
        "limits": limits.told(100, HOUR),
    }
    others = {
        "statekit, asking each time": asking.told(100, HOUR),
        "throttled-py, GCRA": Throttled(lab).told(100, HOUR),
        "pyrate-limiter": pyrate.hit(100, HOUR),
    }
    for call in 120 * [*refused.values(), *others.values()]:
        call()
    settled(lab, mine, refused["statekit"])
    yield Comparison(
        "one key, its limit of 100 used up, refused",
        [
            *(Contender(name, call) for name, call in (refused | others).items()),
            Contender("EVALSHA INCR", evalsha(lab), floor=True),
        ],
        promises=[
            Faster("statekit", 50, than="limits, hit alone"),
            Faster("statekit", 50, than="limits"),
        ],
        checks=[
            exact("statekit", mine.hit),
            exact("limits", limits.hit),
            no_more("pyrate-limiter", pyrate.hit),
            exact("pyrate-limiter", pyrate.hit, fatal=False),
            never_more("statekit", mine.hit, lab),
        ],
        note="statekit refuses by itself until the moment a permit can exist. The others ask the store each time.",
    )
    yield Figures(
        "round trips of a refused call",
        "round trips",
        [Figure(name, lab.reads(call, 1000)) for name, call in refused.items()],
        promises=[AtMost("statekit", 0)],
    )


def settled(lab: Lab, mine: Statekit, call: Callable[[], Any]) -> None:
    """Call until the kit has begun to refuse by itself: it first subscribes to what would end a refusal."""
    deadline = monotonic() + 5
    while monotonic() < deadline:
        with lab.round_trips(mine.kit) as trips:
            call()
        if not trips:
            return
        time.sleep(0.01)


@case("ratelimit/three-limits", "What do three limits with three keys, and their headers, add to a request?")
def three_limits(lab: Lab) -> Iterator[Comparison | Figures]:
    from benchmarks.suites.apps.limited import bare, burnt, flask_limiter, headed, request, with_statekit

    kit = lab.kit()
    mine, bare_app = with_statekit(kit), bare()
    theirs = {way: flask_limiter(lab.url, way) for way in ("moving-window", "fixed-window")}
    tight = flask_limiter(lab.url, "moving-window", tight=True, prefix=lab.name("tight"))
    call, peer = request(mine), request(theirs["moving-window"])
    spares = "charges a request that one limit refuses to none"
    yield Comparison(
        "a Flask request in this process, three limits, three keys, headers",
        [
            Contender("bare Flask request", request(bare_app), floor=True),
            Contender("statekit", call),
            Contender("Flask-Limiter", peer, note="moving window"),
            Contender(
                "Flask-Limiter, fixed window", request(theirs["fixed-window"]), note="its default; not exact"
            ),
        ],
        promises=[AtMost("statekit", 0.4, of="Flask-Limiter", above="bare Flask request")],
        checks=[
            Check("statekit", "tells the limits in headers", lambda: headed(call, "RateLimit")),
            Check(
                "Flask-Limiter", "tells the limits in headers", lambda: headed(peer, "X-RateLimit-Remaining")
            ),
            Check("statekit", spares, lambda: burnt(with_statekit(lab.kit(), tight=True))),
            Check("Flask-Limiter", spares, lambda: burnt(tight), fatal=False),
        ],
    )
    yield Figures(
        "round trips of such a request",
        "round trips",
        [Figure("statekit", lab.reads(call, 100)), Figure("Flask-Limiter", lab.reads(peer, 100))],
        promises=[AtMost("statekit", 1)],
    )
