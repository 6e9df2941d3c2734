"""The balancer: spreads requests over the pods that say they are ready, one after the other.

It does what a load balancer in front of an orchestrator does: it asks each pod's ``/readyz`` ten times a second
and sends nothing to one that answered anything but 200. With ``sticky`` each client stays with the pod it first
met, and moves only when that pod is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import gevent
from geventhttpclient import HTTPClient

__all__ = ["Balancer"]

EVERY = 0.1
PATIENCE = 2.0
"""Seconds a pod may take to say that it is ready; a loaded one is slow, not gone."""


class Balancer:
    """Round-robin over ready pods; clients that are `sticky` keep theirs."""

    def __init__(self, urls: Sequence[str], *, sticky: bool = False) -> None:
        self.urls = tuple(url.strip().rstrip("/") for url in urls)
        self.sticky = sticky
        self.ready = set(self.urls)
        self._turn = itertools.cycle(self.urls)
        self._homes: dict[Any, str] = {}

    def watch(self) -> None:
        """Start to ask the pods whether they are ready."""
        for url in self.urls:
            gevent.spawn(self._watch, url)

    def pick(self, client: Any) -> str:
        """The pod this request goes to; any pod, if none is ready: a visitor comes all the same."""
        if not self.sticky:
            return self._next()
        if self._homes.get(client) not in self.ready:
            self._homes[client] = self._next()
        return self._homes[client]

    def _next(self) -> str:
        for url in itertools.islice(self._turn, len(self.urls)):
            if url in self.ready:
                return url
        return next(self._turn)

    def _watch(self, url: str) -> None:
        while True:
            if self._answers(url):
                self.ready.add(url)
            else:
                self.ready.discard(url)
            gevent.sleep(EVERY)

    @staticmethod
    def _answers(url: str) -> bool:
        client = HTTPClient.from_url(url, connection_timeout=PATIENCE, network_timeout=PATIENCE)
        try:
            return bool(client.get("/readyz").status_code == 200)
        except Exception:  # noqa: BLE001 - whatever went wrong, it is no yes
            return False
        finally:
            client.close()
