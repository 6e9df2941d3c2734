"""One caller of an app, who goes through all primitives again and again and knows what each answer must be.

Written once: with a blocking kit nothing in it ever waits for a loop (`straight` runs it), with an asyncio kit
it is a coroutine like any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from time import monotonic
from typing import Any

from statekit import Limit, TenantSettings
from statekit.flags import Flag
from statekit.store.hooks import Degraded
from tests.chaos.diary import Diary

HITS = 20
"""Hits admitted on each key of the limiter; a key is used for a second."""
SLOTS = 3
FLEET = 6


class Settings(TenantSettings):
    plan: str = "free"


@dataclass(frozen=True, slots=True)
class Terms:
    """What visitors may expect."""

    keeps: bool = True
    """Whether the store keeps what it acknowledged; if not, sessions may be gone and flags go back."""
    pause: float = 0.02
    """Seconds between two visits."""
    writes: bool = True
    """Whether flags are written, once in a while, by the first visitor."""


class Client:
    """A client of a third party, which only one may use at a time."""

    def __init__(self) -> None:
        self.opened = monotonic()
        self.closed = 0.0
        self.in_use = False

    def close(self) -> None:
        self.closed = monotonic()


class Visitor:
    """Asks through one kit, which it may share with others of its process, and writes down what came of it."""

    def __init__(self, kit: Any, name: str, terms: Terms) -> None:
        self.kit = kit
        self.name = name
        self.terms = terms
        self.diary = Diary()
        self._async = type(kit).__name__.startswith("Async")
        self._limiter = kit.rate_limiter("visits", Limit(HITS, 3600))
        self._slots = kit.in_flight("reports", SLOTS, lease=30)
        self._tenants = kit.tenants(Settings)
        self._sessions = kit.sessions(on_outage="raise" if name.endswith("0") else "anonymous")
        self._cookie: str | None = None
        self._written = 0
        self._saved: int | None = None
        self._perhaps: set[int] = set()
        self._size = 0
        self._visits = 0

    async def visit(self) -> None:
        """Use everything once."""
        self._visits += 1
        await self._hit()
        await self._session()
        await self._flags()
        await self._slot()
        await self._checkout()
        await self.diary.ask(
            "tenants.get",
            lambda: self._tenants.get("acme"),
            lambda acme: acme.plan != "pro" and f"acme is {acme}",
        )
        await self._rest(self.terms.pause)

    async def _rest(self, seconds: float) -> None:
        if self._async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - there is no loop

    async def _hit(self) -> None:
        key = f"{int(monotonic())}"
        decision = await self.diary.ask("hit", lambda: self._limiter.hit(key))
        known = decision is not None and not decision.degraded
        what = "unknown" if not known else "admitted" if decision.allowed else "refused"
        self.diary.hits[key][what] += 1

    # -- a session of one's own --------------------------------------------------------------------------

    async def _session(self) -> None:
        session = await self.diary.ask(
            "open", lambda: self._sessions.load(self._sessions.lazy(self._cookie)), self._misread
        )
        if session is None or session.degraded:
            return
        if session.is_new:
            self._saved, self._perhaps = None, set()
        self._written += 1
        session["owner"] = self.name
        session["count"] = self._written
        outcome = await self.diary.ask("save", lambda: self._sessions.save(session), self._unsaved)
        self._cookie = session.id
        if outcome is None:
            self._perhaps.add(self._written)
        else:
            self._saved = self._written

    def _misread(self, session: Any) -> str | None:
        if session.degraded:
            return None
        if session.is_new:
            lost = self._saved is not None and self.terms.keeps
            return f"{self.name}: {self._saved} was saved, and the session is gone" if lost else None
        found, owner = session.get("count"), session.get("owner")
        if owner != self.name:
            return f"{self.name} reads what is {owner}'s"
        if not self.terms.keeps or found == self._saved or found in self._perhaps:
            return None
        return (
            f"{self.name}: {self._saved} was saved, perhaps {sorted(self._perhaps)[-5:]}, and it says {found}"
        )

    def _unsaved(self, outcome: str) -> str | None:
        if outcome in {"saved", "created"} or (outcome == "gone" and not self.terms.keeps):
            return None
        return f"{self.name}: it was {outcome}"

    # -- local copies ------------------------------------------------------------------------------------

    async def _flags(self) -> None:
        flags = self.kit.flags
        await self.diary.ask(
            "enabled", lambda: flags.enabled("on"), lambda on: on is not True and "it is off"
        )
        await self.diary.ask("value", lambda: flags.value("size", 0), self._shrunk)
        if self.terms.writes and self.name == "0.0" and self._visits % 10 == 1:
            await self.diary.ask("set", lambda: flags.set("size", Flag(default=self._visits)))

    def _shrunk(self, size: int) -> str | None:
        last, self._size = self._size, size
        if size == 0 or (size < last and self.terms.keeps):
            return f"{self.name}: the size was {last} and is {size}"
        return None

    # -- so many at once ---------------------------------------------------------------------------------

    async def _slot(self) -> None:
        hold = await self.diary.ask("acquire", lambda: self._slots.acquire("acme"))
        if not hold:
            return
        begin = monotonic()
        await self._rest(0.002)
        if not hold.degraded and not hold.lost:
            self.diary.spans["slots"].append((begin, monotonic()))
        await self.diary.ask("release", hold.release, lambda _: None)

    async def _checkout(self) -> None:
        loan = self.kit.pools.checkout("upstream", timeout=2)
        enter, leave = (loan.__aenter__, loan.__aexit__) if self._async else (loan.__enter__, loan.__exit__)
        client = await self.diary.ask(
            "checkout", enter, lambda client: client.in_use and "somebody else has this client"
        )
        if client is not None:
            client.in_use = True
            await self._rest(0.001)
            client.in_use = False
            gone = leave(None, None, None)
            if isawaitable(gone):
                await gone


def straight(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


@contextmanager
def noted(kit: Any, diary: Diary) -> Iterator[None]:
    """Register the pool of third-party clients in a kit, and write down at the end when each was open."""
    clients: list[Client] = []

    def opened() -> Client:
        clients.append(Client())
        return clients[-1]

    def told(event: Any) -> None:
        if isinstance(event, Degraded):
            diary.reasons[type(event.error).__name__] += 1

    kit.hooks.subscribe(told)
    kit.pools.register("upstream", open=opened, close=Client.close, per_process=2, fleet=FLEET)
    yield
    now = monotonic()
    diary.spans["clients"] += [(client.opened, client.closed or now) for client in clients]
