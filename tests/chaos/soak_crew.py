"""A process of the soak: visitors that go on for hours, and hand over what they saw now and then.

Like `tests.chaos.load`, but nothing is kept here for longer than two reports: what grows is the library's.
"""

from __future__ import annotations

import asyncio
import threading
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from tests.chaos.diary import Diary, together
from tests.chaos.load import Share, note_defects
from tests.chaos.visitor import FLEET, Client, Visitor, straight


class Crew:
    """The visitors of one process over one kit, and their diaries."""

    def __init__(self, share: Share, kit: Any, whole: Diary) -> None:
        self.visitors = share.visitors_of(kit)
        self._whole = whole
        self._closed: list[Diary] = []
        self._clients: list[Client] = []
        kit.pools.register("upstream", open=self._open, close=Client.close, per_process=2, fleet=FLEET)

    def _open(self) -> Client:
        self._clients.append(Client())
        return self._clients[-1]

    def report(self) -> Diary:
        """What was seen until the report before this one: whoever was writing in those diaries has ended."""
        told, self._closed = self._closed, [visitor.diary for visitor in self.visitors]
        for visitor in self.visitors:
            visitor.diary = Diary()
        return self._with_clients(told, monotonic())

    def rest(self) -> Diary:
        """All that was not reported, once nobody visits any more."""
        told = [*self._closed, *(visitor.diary for visitor in self.visitors), self._whole]
        return self._with_clients(told, 0.0)

    def _with_clients(self, told: list[Diary], now: float) -> Diary:
        """Add when each client was open; those still open come with a later report, at the end (`now` 0) too."""
        diary = together(told)
        gone = [client for client in self._clients if client.closed or not now]
        self._clients = [client for client in self._clients if client not in gone]
        diary.spans["clients"] += [(client.opened, client.closed or monotonic()) for client in gone]
        return diary


def work(share: Share, pipe: Connection) -> None:
    """Visit until told to stop; answer each other word with a report."""
    whole = Diary()
    note_defects(whole)
    if share.asyncio:
        asyncio.run(_tasks(share, pipe, whole))
    else:
        _threads(share, pipe, whole)


def _served(crew: Crew, pipe: Connection) -> None:
    """Report as often as asked; returns when told to stop, or when nobody is there any more."""
    try:
        while pipe.recv() != "stop":
            pipe.send(crew.report())
    except (EOFError, OSError):
        return


def _threads(share: Share, pipe: Connection, whole: Diary) -> None:
    stop = threading.Event()

    def go_on(visitor: Visitor) -> None:
        while not stop.is_set():
            straight(visitor.visit())

    with share.kit() as kit:
        crew = Crew(share, kit, whole)
        threads = [threading.Thread(target=go_on, args=(visitor,)) for visitor in crew.visitors]
        for thread in threads:
            thread.start()
        pipe.send("ready")
        _served(crew, pipe)
        stop.set()
        for thread in threads:
            thread.join()
    pipe.send(crew.rest())


async def _tasks(share: Share, pipe: Connection, whole: Diary) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: whole.complaints.append(f"on the loop: {context}"))

    async def go_on(visitor: Visitor) -> None:
        while not stop.is_set():
            await visitor.visit()

    async with share.kit() as kit:
        crew = Crew(share, kit, whole)
        tasks = [asyncio.create_task(go_on(visitor)) for visitor in crew.visitors]
        pipe.send("ready")
        await loop.run_in_executor(None, _served, crew, pipe)
        stop.set()
        await asyncio.gather(*tasks)
    pipe.send(crew.rest())
