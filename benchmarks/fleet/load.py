"""The load: visitors of a small SaaS, each of whom checks every answer against what it must be by now.

Point it at your own pods, as many as you like; requests are spread over them round-robin:

    locust -f benchmarks/fleet/load.py --headless --run-time 60s --host http://10.0.0.1:8000,http://10.0.0.2:8000

At the end it prints what was lost; ``--sightings FILE`` keeps every request it made, for the report.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gevent
from geventhttpclient import HTTPClient
from locust import FastHttpUser, between, constant, events, task
from locust.env import Environment

from benchmarks.fleet.balancer import Balancer
from benchmarks.fleet.figures import figures
from benchmarks.fleet.sightings import Sighting, save

HAMMERED_KEY = "key-under-fire"
HAMMER_CALLS = 1400
"""Enough to use up the limit in each of six processes, however unevenly they come to be asked."""
FLAG = "new-checkout"
FLIP_EVERY = 0.38
NOTICE, DENSE_FOR, DENSE_EVERY, SPARSE_EVERY = 0.04, 0.12, 0.007, 0.05
"""Its readers ask often from shortly before a flag is written until a while after, else now and then."""
QUOTED_DISCOUNT = 10
STORED_DISCOUNTS = (0, 5)
"""What tenants really agree on: never a multiple of what a quote adds, so that a leak is told from a stale read."""


@dataclass(slots=True)
class Run:
    """One run's shared knowledge: where the pods are, what was seen, when the flag is written."""

    balancer: Balancer
    hammer_seconds: float
    hammer_again: float = float("inf")
    seen: list[Sighting] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    flag_due: float = 0.0
    """When the flag is written next, or was written last."""
    numbers: Iterator[int] = field(default_factory=itertools.count)


RUN: Run = Run(Balancer(()), 0)


# -- how locust starts and ends it -------------------------------------------------------------------------


@events.init_command_line_parser.add_listener
def options(parser: Any) -> None:
    parser.add_argument("--sightings", default="", help="file to keep every request in")
    parser.add_argument("--progress", default="", help="file to keep up to date with how far the run is")
    parser.add_argument("--sticky", action="store_true", help="each client stays with the pod it first met")
    parser.add_argument("--hammer-seconds", type=float, default=20, help="how long one API key is hammered")
    parser.add_argument("--hammer-again", type=float, default=float("inf"), help="when it is hammered again")
    parser.add_argument(
        "--third-party", default="", help="URL of the third party's /stats, if it counts connections"
    )


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    global RUN  # noqa: PLW0603 - locust makes the users; they find their run here
    given = environment.parsed_options
    balancer = Balancer((environment.host or "").split(","), sticky=given.sticky)
    RUN = Run(balancer, given.hammer_seconds, given.hammer_again)
    RUN.balancer.watch()
    gc.collect()
    gc.freeze()  # a collection of what locust imported would show as latency that no pod caused
    if given.third_party:
        gevent.spawn(watch_third_party, given.third_party)
    if given.progress:
        gevent.spawn(tell_progress, Path(given.progress))


@events.quitting.add_listener
def end(environment: Environment, **_: Any) -> None:
    given = environment.parsed_options
    if given.sightings:
        save(Path(given.sightings), RUN.seen)
    elif RUN.seen:
        print(json.dumps(figures(RUN.seen), indent=2))


def watch_third_party(url: str) -> None:
    """Ask the third party ten times a second how many connections it is holding."""
    client = HTTPClient.from_url(url, connection_timeout=2, network_timeout=2)
    while True:
        sent = time.monotonic()
        stats = json.loads(client.get("/stats").read())
        RUN.seen.append(Sighting(sent, time.monotonic(), "third party", 200, fact=stats))
        gevent.sleep(0.1)


def tell_progress(path: Path) -> None:
    """Let whoever started the run see how far it is."""
    part = path.with_suffix(".part")
    while True:
        part.write_text(json.dumps({"began": RUN.began, "requests": len(RUN.seen)}))
        part.replace(path)
        gevent.sleep(0.25)


# -- the visitors ------------------------------------------------------------------------------------------


class Visitor(FastHttpUser):
    """Somebody who sends requests, each over a connection of its own, as a plain reverse proxy does."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 10.0
    default_headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def ask(
        self, method: str, path: str, *, pod: str = "", name: str = "", **rest: Any
    ) -> tuple[Sighting, Any]:
        """Send one request; returns its record, to which facts may be added, and the JSON of the answer."""
        url = (pod or RUN.balancer.pick(self)) + path
        name = name or f"{method} {path}"
        sent = time.monotonic()
        with self.client.request(method, url, name=name, catch_response=True, **rest) as response:
            received = time.monotonic()
            if 0 < response.status_code < 500:
                response.success()
            document = read(response)
        seen = Sighting(
            sent, received, name, response.status_code, document.get("pod", ""), document.get("pid", 0)
        )
        RUN.seen.append(seen)
        return seen, document


def read(response: Any) -> dict[str, Any]:
    try:
        document = json.loads(response.content or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class Shopper(Visitor):
    """Signs in, fills a cart, and looks at both again and again: for the whole run, or for a short visit."""

    weight = 3
    wait_time = between(0.2, 0.8)
    stays: ClassVar[int] = 10**9

    def on_start(self) -> None:
        self.session = -1
        gevent.sleep(random.random() * 0.5)

    @task
    def shop(self) -> None:
        if self.session < 0:
            self.sign_in()
        elif self.steps >= self.stays:
            self.sign_out()
        else:
            self.steps += 1
            random.choice((self.add, self.look_at_cart, self.look_at_me))()

    def on_stop(self) -> None:
        """Look once more: a session lost after its last visit would not be seen otherwise."""
        if self.session >= 0:
            self.look_at_me()
        if self.session >= 0:
            self.look_at_cart()

    def sign_in(self) -> None:
        user = f"u{next(RUN.numbers)}"
        seen, _ = self.ask("POST", "/login", json={"user": user})
        if seen.status == 200:
            self.session, self.user, self.items, self.steps = next(RUN.numbers), user, [], 0
            seen.fact.update(session=self.session, event="opened")

    def sign_out(self) -> None:
        seen, _ = self.ask("POST", "/logout")
        self.judge(seen, held=True)
        self.session = -1

    def add(self) -> None:
        item = f"sku-{next(RUN.numbers)}"
        seen, document = self.ask("POST", "/cart", json={"item": item})
        if seen.status == 200:
            self.items.append(item)
        self.judge(seen, held=set(self.items) <= set(document.get("items", ())))

    def look_at_cart(self) -> None:
        seen, document = self.ask("GET", "/cart")
        self.judge(seen, held=set(self.items) <= set(document.get("items", ())))

    def look_at_me(self) -> None:
        seen, document = self.ask("GET", "/me")
        self.judge(seen, held=document.get("user") == self.user)

    def judge(self, seen: Sighting, *, held: bool) -> None:
        """Note whether the session held; one that is lost is lost once, and its owner signs in again."""
        if seen.failed:
            return
        lost = seen.status == 401 or not held
        seen.fact.update(session=self.session, event="lost" if lost else "held")
        if lost:
            self.session = -1


class Passer(Shopper):
    """A shopper who stays for a dozen requests."""

    weight = 1
    stays: ClassVar[int] = 12


class Hammer(Visitor):
    """Calls the limited endpoint with one API key, far above the limit; then now and then."""

    fixed_count = 3

    def wait_time(self) -> float:
        elapsed = time.monotonic() - RUN.began
        hammering = elapsed < RUN.hammer_seconds or elapsed >= RUN.hammer_again
        return self.fixed_count * RUN.hammer_seconds / HAMMER_CALLS if hammering else 3.0

    @task
    def call(self) -> None:
        self.ask("GET", "/limited", headers={"X-API-Key": HAMMERED_KEY})


class Flipper(Visitor):
    """Switches a flag on and off."""

    fixed_count = 1
    wait_time = constant(FLIP_EVERY - NOTICE)
    value = False

    def on_start(self) -> None:
        gevent.sleep(1.5)  # let everybody arrive first

    @task
    def flip(self) -> None:
        RUN.flag_due = time.monotonic() + NOTICE
        gevent.sleep(NOTICE + random.random() * DENSE_EVERY)
        self.value = not self.value
        seen, _ = self.ask("PUT", f"/flags/{FLAG}", name="PUT /flags", json={"enabled": self.value})
        seen.fact["wrote"] = self.value


class Reader(Visitor):
    """Reads the flag from one pod, densely after each write."""

    fixed_count = 3
    seats = itertools.count()

    def on_start(self) -> None:
        self.seat = next(Reader.seats)

    @task
    def read_flag(self) -> None:
        pod = RUN.balancer.urls[self.seat % len(RUN.balancer.urls)]
        if pod in RUN.balancer.ready:
            seen, document = self.ask("GET", f"/flags/{FLAG}", pod=pod, name="GET /flags")
            seen.fact["read"] = document.get("enabled")
        dense = -NOTICE <= time.monotonic() - RUN.flag_due < DENSE_FOR
        gevent.sleep(DENSE_EVERY if dense else SPARSE_EVERY)


class Payer(Visitor):
    """Makes the app call a third party; together they want more connections than it grants."""

    fixed_count = 14

    @task
    def pay(self) -> None:
        self.ask("GET", "/upstream")
        gevent.sleep(random.uniform(0.01, 0.05))


class Tenant(Visitor):
    """Asks for quotes with an extra discount, and looks whether that discount stayed behind."""

    fixed_count = 4
    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.name = f"t{next(RUN.numbers)}"
        self.turn = itertools.count()
        self.stored = 0

    @task
    def quote(self) -> None:
        if next(self.turn) % 30 == 10:
            self.agree()
        seen, answer = self.ask(
            "POST",
            f"/tenants/{self.name}/quote",
            name="POST /tenants/…/quote",
            json={"discount": QUOTED_DISCOUNT},
        )
        self.note(seen, answer.get("discount", 0) - QUOTED_DISCOUNT)
        seen, answer = self.ask("GET", f"/tenants/{self.name}/config", name="GET /tenants/…/config")
        self.note(seen, answer.get("config", {}).get("discount"))

    def agree(self) -> None:
        """Store another discount, for good."""
        other = STORED_DISCOUNTS[1 - STORED_DISCOUNTS.index(self.stored)]
        seen, _ = self.ask(
            "PUT", f"/tenants/{self.name}/config", name="PUT /tenants/…/config", json={"discount": other}
        )
        if seen.status == 200:
            self.stored = other

    def note(self, seen: Sighting, discount: int | None) -> None:
        if seen.status == 200:
            seen.fact.update(leak=discount not in STORED_DISCOUNTS, stale=discount != self.stored)
