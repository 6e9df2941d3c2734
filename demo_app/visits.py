"""The demo app's load for ``statekit prove``: each visitor reads what it wrote, and says what must hold.

STATE=memory statekit prove demo_app.wsgi:app --locustfile demo_app/visits.py
STATE=shared statekit prove demo_app.wsgi:app --locustfile demo_app/visits.py --env 'STATEKIT_NAMESPACE=prove-{run}'
"""

from __future__ import annotations

import random
from typing import Any

from locust import HttpUser, between, task

from statekit.prove import at_most, ignored, invariant

at_most(100, "calls of one key let through", of="GET /limited")
# who answered, and how many there are to agree, is not the same with more pods; nor is what all visitors write together
ignored("pod", "pid", "workers", "acknowledged", "seconds", "version", "remaining", "retry_after")


class Visitor(HttpUser):
    """Somebody with something of their own to remember."""

    abstract = True
    wait_time = between(0.05, 0.15)

    def ask(self, method: str, path: str, name: str = "", **rest: Any) -> tuple[int, dict[str, Any]]:
        with self.client.request(method, path, name=name or path, catch_response=True, **rest) as answer:
            if 0 < answer.status_code < 500:
                answer.success()
            return answer.status_code, answer.json() if answer.content else {}


class Shopper(Visitor):
    """Signs in, fills a cart, and looks at both; signs in again when nobody knows the session any more."""

    weight = 2

    def on_start(self) -> None:
        self.user = f"u{random.getrandbits(32)}"
        self.added: list[str] = []
        self.ask("POST", "/login", json={"user": self.user})

    @task(2)
    def add(self) -> None:
        item = f"sku-{random.randrange(10_000)}"
        if self.ask("POST", "/cart", json={"item": item})[0] == 200:
            self.added = [*self.added, item][-20:]

    @task(2)
    def look_at_cart(self) -> None:
        status, document = self.ask("GET", "/cart")
        invariant(
            "the cart holds what was added", status == 200 and set(self.added) <= set(document["items"])
        )

    @task
    def look_at_me(self) -> None:
        status, document = self.ask("GET", "/me")
        invariant("who signed in stays signed in", status == 200 and document["user"] == self.user)


class Caller(Visitor):
    """Calls a limited API, all callers with one key."""

    weight = 2

    @task
    def call(self) -> None:
        self.ask("GET", "/limited", headers={"X-API-Key": "one-key"})


class Editor(Visitor):
    """Switches a flag of its own, and reads it."""

    def on_start(self) -> None:
        self.flag, self.enabled = f"flag-{random.getrandbits(32)}", False

    @task
    def switch(self) -> None:
        self.enabled = not self.enabled
        self.ask("PUT", f"/flags/{self.flag}", name="/flags", json={"enabled": self.enabled})
        for _ in range(2):
            _, document = self.ask("GET", f"/flags/{self.flag}", name="/flags")
            invariant("a flag reads as it was written", document.get("enabled") == self.enabled)


class Tenant(Visitor):
    """Stores a discount, asks for quotes, and looks whether the discount is still the stored one."""

    def on_start(self) -> None:
        self.name = f"t{random.getrandbits(32)}"
        self.agree()

    def agree(self) -> None:
        self.stored = random.choice((0, 5))
        self.ask("PUT", f"/tenants/{self.name}/config", "/tenants/…/config", json={"discount": self.stored})

    @task(6)
    def quote(self) -> None:
        self.ask("POST", f"/tenants/{self.name}/quote", "/tenants/…/quote", json={"discount": 10})
        self.look()

    @task(1)
    def agree_again(self) -> None:
        self.agree()
        self.look()

    def look(self) -> None:
        _, document = self.ask("GET", f"/tenants/{self.name}/config", "/tenants/…/config")
        invariant(
            "a tenant's discount is the stored one", document.get("config", {}).get("discount") == self.stored
        )
