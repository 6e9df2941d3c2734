"""Side-by-side benchmarks: statekit and its peers, interleaved, on one server, and checked for being right.

A suite is a module in `benchmarks/suites`. It imports nothing heavy at its top (every case runs in a process of
its own, which imports all suites): peers are imported inside the case. A case is a generator that gets a `Lab`:

    from benchmarks.bench import AtMost, Check, Comparison, Contender, Faster, Lab, case

    @case("ratelimit/one-decision", "What does one exact decision cost, with remaining and retry_after?")
    def one_decision(lab: Lab) -> Iterator[Comparison]:
        login = lab.kit().rate_limiter("login", "1000000/minute")
        peer = …
        yield Comparison(
            "one limit, one key",                                      # label: unique within the case
            [
                Contender("statekit", lambda: login.hit("k")),         # anything callable
                Contender("limits", peer, note="moving window + get_window_stats"),
                Contender("statekit in memory", …, twin=True),         # the in-memory twin: drawn apart
                Contender("EVALSHA INCR", …, floor=True),              # what cannot be beaten
                Absent("other", "needs a server of its own"),          # left out, with the reason on the page
            ],
            promises=[
                AtMost("statekit", 1.25, of="EVALSHA INCR", p50=True), # ratio of the median single calls
                AtMost("statekit", 0.6, of="limits"),                  # ratio of times, paired in each round
                Faster("statekit", 20, than="limits"),                 # same, the other way round
                AtMost("statekit", 0.35, of="a", above="bare"),        # (statekit - bare) / (a - bare)
                AtMost("flags", 200e-9),                               # absolute: seconds a call
            ],
            checks=[Check("limits", "admits exactly its limit", fn)],  # fn() -> None, or what is wrong
        )

A contender whose check fails is not measured: it scores nothing, and the page says why; ``Check(…, fatal=False)`` is
told beside its figure. What makes many calls at
once says so with ``calls=50``. A coroutine function is awaited, on the lab's one event loop (``lab.run(coro)`` runs
on the same). ``before=fn`` runs untimed in front of each batch. For what takes nanoseconds give a statement, which
is timed in line, without the 40 ns of a function call: ``Contender("dict", "d['k']", names={"d": d})``.

What is not time a call is measured by the case itself and handed over as `Figures`, several a case if need be:

    @case("leases/four-processes", "How many decisions a second do four processes get on one hot key?")
    def four(lab: Lab) -> Iterator[Figures]:
        with lab.fleet(4, worker, lab.url) as fleet:      # worker: a generator function of the module, see Fleet
            rates = [sum(fleet.turn(1.0)) for _ in lab.turns(5)]
        yield Figures("one hot key", "decisions/s",
            [Figure("statekit, leased", rates), Figure("limits", [...])],     # lists of one length are paired
            promises=[AtLeast("statekit, leased", 20, of="limits")],
            more_is_better=True,
        )

`Skip("why")` raised in a case leaves it out. Everything a `Lab` handed out is closed when the case ends; `lab.quick`
says that time is short.
"""

from benchmarks.bench.lab import Fleet, Lab
from benchmarks.bench.model import (
    Absent,
    AtLeast,
    AtMost,
    Check,
    Comparison,
    Contender,
    Faster,
    Figure,
    Figures,
    Promise,
    Skip,
    case,
)

__all__ = [
    "Absent",
    "AtLeast",
    "AtMost",
    "Check",
    "Comparison",
    "Contender",
    "Faster",
    "Figure",
    "Figures",
    "Fleet",
    "Lab",
    "Promise",
    "Skip",
    "case",
]
