"""A checked load: several processes that use all primitives of one store, and judge every answer.

    with load(server.url, namespace) as running:
        …break something…
    diary = running.diary
    assert not diary.complaints

Some processes have threads over one blocking kit each, one has tasks over an asyncio kit.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from statekit import AsyncStateKit, StateKit
from statekit.flags import Flag
from statekit.store.outage import Budget
from tests.chaos.diary import Diary, Outcome, together
from tests.chaos.visitor import Settings, Terms, Visitor, noted, straight
from tests.conftest import PATIENT

USUAL = Terms()
ENOUGH = 60.0
"""Seconds for processes to start and to end, however loaded the machine."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does."""

    url: str
    namespace: str
    number: int
    visitors: int
    asyncio: bool
    terms: Terms
    budget: Budget

    def kit(self) -> Any:
        kind: Any = AsyncStateKit if self.asyncio else StateKit
        return kind.connect(self.url, self.namespace, budget=self.budget, snapshot_dir=None)

    def visitors_of(self, kit: Any) -> list[Visitor]:
        return [Visitor(kit, f"{self.number}.{index}", self.terms) for index in range(self.visitors)]


@dataclass
class Running:
    """A load under way; its diary is there when it has ended."""

    processes: list[tuple[Any, Connection]] = field(default_factory=list)
    diary: Diary = field(default_factory=Diary)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process, _ in self.processes]

    def _heard(self, process: Any, pipe: Connection) -> Any:
        try:
            if pipe.poll(ENOUGH):
                return pipe.recv()
        except EOFError:
            process.join(ENOUGH)
        return Diary(complaints=[f"process {process.pid} died or hangs: exit code {process.exitcode}"])

    def ready(self) -> None:
        heard = [self._heard(*one) for one in self.processes]
        assert all(word == "ready" for word in heard), heard

    def end(self) -> None:
        for _, pipe in self.processes:
            try:
                pipe.send("stop")
            except OSError:  # it died: `_heard` says so
                continue
        self.diary = together([self._heard(*one) for one in self.processes])
        for process, _ in self.processes:
            process.join(ENOUGH)
            process.kill()


@contextmanager
def load(
    url: str,
    namespace: str,
    *,
    blocking: int = 2,
    threads: int = 3,
    tasks: int = 6,
    terms: Terms = USUAL,
    budget: Budget = Budget(),
) -> Iterator[Running]:
    """Load a store while the block runs: `blocking` processes of `threads`, and one with `tasks` (none if 0)."""
    prepare(url, namespace)
    shares = [Share(url, namespace, n, threads, False, terms, budget) for n in range(blocking)]  # noqa: FBT003
    if tasks:
        shares.append(Share(url, namespace, blocking, tasks, True, terms, budget))  # noqa: FBT003
    spawn = multiprocessing.get_context("spawn")
    running = Running()
    try:
        for share in shares:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=work, args=(share, theirs), daemon=True)
            process.start()
            theirs.close()
            running.processes.append((process, ours))
        running.ready()
        yield running
    finally:
        running.end()


def prepare(url: str, namespace: str) -> None:
    with StateKit.connect(url, namespace, budget=PATIENT, snapshot_dir=None) as kit:
        kit.flags.set("on", Flag(default=True))
        kit.flags.set("size", Flag(default=1))
        kit.tenants(Settings).update("acme", {"plan": "pro"})


# -- in each process -------------------------------------------------------------------------------------


def work(share: Share, pipe: Connection) -> None:
    """Visit until told to stop, then hand over the diary."""
    whole = Diary()
    note_defects(whole)
    if share.asyncio:
        asyncio.run(_tasks(share, pipe, whole))
    else:
        _threads(share, pipe, whole)
    pipe.send(whole)


def note_defects(diary: Diary) -> None:
    """Note what goes wrong behind the visitors' backs in this process."""
    logging.getLogger("statekit").addHandler(Unexpected(diary))
    threading.excepthook = lambda given: diary.complaints.append(f"{given.thread}: {given.exc_value!r}")
    sys.unraisablehook = lambda given: diary.complaints.append(f"{given.object}: {given.exc_value!r}")


class Unexpected(logging.Handler):
    """What the library reports as a defect counts as one; that the store is away is no defect."""

    def __init__(self, diary: Diary) -> None:
        super().__init__(logging.ERROR)
        self._diary = diary

    def emit(self, record: logging.LogRecord) -> None:
        self._diary.complaints.append(self.format(record))


def _threads(share: Share, pipe: Connection, whole: Diary) -> None:
    stop = threading.Event()

    def go_on(visitor: Visitor) -> None:
        while not stop.is_set():
            straight(visitor.visit())

    with share.kit() as kit, noted(kit, whole):
        visitors = share.visitors_of(kit)
        threads = [threading.Thread(target=go_on, args=(visitor,)) for visitor in visitors]
        for thread in threads:
            thread.start()
        pipe.send("ready")
        _told(pipe)
        stop.set()
        for thread in threads:
            thread.join()
        _add_up(whole, visitors, kit)


async def _tasks(share: Share, pipe: Connection, whole: Diary) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: whole.complaints.append(f"on the loop: {context}"))

    async def go_on(visitor: Visitor) -> None:
        while not stop.is_set():
            await visitor.visit()

    async with share.kit() as kit:
        with noted(kit, whole):
            visitors = share.visitors_of(kit)
            tasks = [asyncio.create_task(go_on(visitor)) for visitor in visitors]
            pipe.send("ready")
            await loop.run_in_executor(None, _told, pipe)
            stop.set()
            await asyncio.gather(*tasks)
            _add_up(whole, visitors, kit)


def _add_up(whole: Diary, visitors: list[Visitor], kit: Any) -> None:
    """Gather what the visitors saw; the kit has counted as many degraded answers as they got."""
    whole.take(together(visitor.diary for visitor in visitors))
    for primitive, verb in (("ratelimit", "hit"), ("sessions", "open")):
        counted, seen = kit.hooks.degraded.get(primitive, 0), whole.counts[verb, Outcome.DEGRADED]
        if counted != seen:
            whole.complaints.append(f"{primitive}: {seen} degraded answers, {counted} counted")


def _told(pipe: Connection) -> None:
    """Wait for the word to stop; who would say it may have died."""
    try:
        pipe.recv()
    except EOFError:
        return
