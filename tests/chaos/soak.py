"""The soak: everything under load for a long time, with a random fault every few seconds; nothing may grow.

    python -m tests.chaos.soak --seconds 600 [--seed N] [--out FILE]

Two processes of threads, one of tasks, a Flask app under gunicorn and a FastAPI app under uvicorn use every primitive
of one server, through a proxy. First each fault comes once, so that whatever is made once is made; then everything is
measured in peace, broken at random, left in peace, and measured again. Exit code 0: every answer was right, or
degraded and marked so, or a declared error, and nothing grew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from statekit.store.outage import Budget
from statekit.testing import Proxy
from tests.chaos.diary import Diary, Outcome
from tests.chaos.load import Share, prepare
from tests.chaos.soak_crew import work
from tests.chaos.soak_faults import FAULTS, World
from tests.chaos.soak_gauges import LASTING, MB, Change, Gauges
from tests.chaos.soak_web import Guest, web_servers
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.servers import KEPT, Server, binary

NAMESPACE = "soak"
NOISE = 4 * MB
"""Memory that comes and goes, of 80: arenas given back late, and caches that fill to their bounds: one caller a second is
refused here, and remembered, a kilobyte each and 10,000 at most."""
GRACE = 120
"""Seconds it may take longer than asked for before it ends itself."""
FIRST = 3.0
"""Seconds in which every visitor has used everything once: local copies are loaded."""
CALM = 12.0
"""Seconds of peace before the second measurement: leases and signs of life of the dead run out meanwhile."""


class Crews:
    """The processes of `soak_crew`, and all they have reported."""

    def __init__(self, url: str) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._url = url
        self.members: dict[str, tuple[Any, Any]] = {}
        self.diary = Diary()

    def start(self) -> None:
        for number, (name, visitors) in enumerate((("threads 1", 3), ("threads 2", 3), ("tasks", 6))):
            share = Share(self._url, NAMESPACE, number, visitors, name == "tasks", Terms(), Budget())
            ours, theirs = self._spawn.Pipe()
            process = self._spawn.Process(target=work, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            self.members[name] = (process, ours)
        for name in self.members:
            assert self._heard(name) == "ready", f"{name} does not start"

    def _heard(self, name: str) -> Any:
        process, pipe = self.members[name]
        if pipe.poll(60):
            return pipe.recv()
        raise RuntimeError(f"{name} says nothing for a minute; alive: {process.is_alive()}")

    def pids(self, name: str) -> Callable[[], Iterable[int]]:
        return lambda: (self.members[name][0].pid,)

    def collect(self, word: str) -> None:
        for _, pipe in self.members.values():
            pipe.send(word)
        for name in self.members:
            self.diary.take(self._heard(name))

    def end(self) -> None:
        for process, pipe in self.members.values():
            pipe.close()
            process.join(5)
            process.kill()


@dataclass
class Soak:
    """One run."""

    seconds: float
    seed: int
    told: Callable[[str], None] = print
    faults: Counter[str] = field(default_factory=Counter)
    crews: Crews = field(init=False)
    guests: list[Guest] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self) -> bool:
        with ExitStack() as stack:
            self._set_up(stack)
            self._go(monotonic() + self.seconds)
        self._judge()
        return not self.problems

    def _set_up(self, stack: ExitStack) -> None:
        server = stack.enter_context(Server(binary("valkey"), KEPT))
        proxy = stack.enter_context(Proxy(server.url))
        prepare(server.url, NAMESPACE)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skt-soak-")))
        webs = web_servers(proxy.url, NAMESPACE, folder)
        for web in webs.values():
            stack.enter_context(web)
        self.crews = Crews(proxy.url)
        stack.callback(self.crews.end)
        self.crews.start()
        done = threading.Event()
        stack.callback(done.set)
        self.guests = [Guest(web.url, done) for web in webs.values() for _ in range(2)]
        for guest in self.guests:
            guest.start()
        self.world = World(server, proxy, tuple(webs.values()), random.Random(self.seed))
        roles = {name: self.crews.pids(name) for name in self.crews.members}
        for name, web in webs.items():
            roles |= {f"{name} parent": lambda web=web: (web.pid,), f"{name} worker": web.pids}
        self.gauges = Gauges(roles, server)

    def _go(self, end: float) -> None:
        quiet = max(5.0, self.seconds / 20)
        self._watch(FIRST)
        for fault in FAULTS:
            self._suffer(fault)
        self._measured(quiet, settle=CALM / 2)
        lasting = self.gauges.lasting_keys()
        while monotonic() < end - quiet - CALM:
            self._suffer(self.world.dice.choice(FAULTS))
            self._watch(self.world.dice.uniform(0.5, 4))
        self._measured(quiet, settle=CALM)
        self.problems += [f"a key without TTL: {key}" for key in self.gauges.lasting_keys() ^ lasting]
        self.problems += [f"a key without TTL: {key}" for key in lasting if not LASTING.fullmatch(key)]
        self.lasting = len(lasting)
        self.crews.collect("stop")

    def _suffer(self, fault: Callable[[World], None]) -> None:
        self.faults[fault.__name__] += 1
        fault(self.world)
        self.crews.collect("report")
        self.gauges.read()

    def _measured(self, quiet: float, settle: float) -> None:
        """Let things settle, then measure for a while."""
        self._watch(settle)
        begin = monotonic()
        self._watch(quiet, connections=True)
        self.spans.append((begin, monotonic()))
        self.crews.collect("report")

    def _watch(self, seconds: float, *, connections: bool = False) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            self.gauges.read()
            if connections:
                self.gauges.count_connections()
            time.sleep(min(0.5, max(0.0, end - monotonic())))

    # -- the verdict ---------------------------------------------------------------------------------------

    def _judge(self) -> None:
        diary = self.crews.diary
        self.changes = self.gauges.changes(self.spans[0], self.spans[1], NOISE)
        self.problems += [f"{one.role}: {one.what} grew" for one in self.changes if one.grew]
        self.problems += diary.complaints + diary.miscounted(HITS)
        self.problems += [complaint for guest in self.guests for complaint in guest.complaints]
        for name, most in (("slots", SLOTS), ("clients", FLEET)):
            if (found := diary.most_at_once(name)) > most:
                self.problems.append(f"{found} {name} at once, {most} allowed")

    def answers(self) -> Counter[str]:
        """How many answers there were of each kind."""
        found = Counter({str(one): self.crews.diary.count(one) for one in Outcome})
        return sum((guest.counts for guest in self.guests), found)

    def report(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "seed": self.seed,
            "faults": dict(self.faults),
            "answers": dict(self.answers()),
            "keys_without_ttl": self.lasting,
            "changes": [asdict(one) for one in self.changes],
            "bytes_an_hour": {
                role: round(slope) for role, slope in self.gauges.slopes(self.spans[0][0]).items()
            },
            "problems": self.problems,
        }

    def tell(self) -> None:
        suffered = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        self.told(f"{self.faults.total()} faults: {suffered}")
        self.told(
            "answers: " + ", ".join(f"{count} {what}" for what, count in self.answers().items() if count)
        )
        slopes = self.gauges.slopes(self.spans[0][0])
        self.told(f"{'':16}{'memory MB':>16}{'MB an hour':>12}{'descriptors':>14}{'threads':>12}")
        for role in self.gauges.readings:
            figures = {one.what: one for one in self.changes if one.role == role}
            memory, slope = figures.get("memory"), slopes[role] / MB
            self.told(
                f"{role:16}{_both(memory, 1 / MB, 1):>16}{f'{slope:+.1f}' if memory else 'replaced':>12}"
                f"{_both(figures['descriptors']):>14}{_both(figures['threads']):>12}"
            )
        self.told(
            f"server: connections {_both(self.changes[0])}, {self.lasting} keys without TTL, as declared"
        )
        for problem in self.problems[:20]:
            self.told(f"PROBLEM {problem}")
        self.told("something grew, or was wrong" if self.problems else "no growth, no wrong answer")


def _both(change: Change | None, scale: float = 1.0, digits: int = 0) -> str:
    if change is None:
        return ""
    return f"{change.before * scale:.{digits}f} → {change.after * scale:.{digits}f}"


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """End this process if it takes longer, in order first, at once then; SIGTERM ends it in order as well."""

    def stop(*_: object) -> None:
        raise SystemExit(1)

    before = signal.signal(signal.SIGTERM, stop)
    polite = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    final = threading.Timer(seconds + 30, os._exit, (1,))
    for timer in (polite, final):
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        polite.cancel()
        final.cancel()
        signal.signal(signal.SIGTERM, before)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long, about; 45 at least")
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of an earlier run")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    soak = Soak(max(45.0, given.seconds), seed)
    print(f"soak: {soak.seconds:g} s, seed {seed}", flush=True)
    with bounded(soak.seconds + GRACE):
        well = soak.run()
    soak.tell()
    if given.out:
        given.out.write_text(json.dumps(soak.report(), indent=2) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
