"""Outages without a server: every round trip fails at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from statekit.errors import StoreError, StoreUnavailable
from statekit.testing.proxy import Proxy

__all__ = ["OutageSimulator", "store_down"]


OutageSimulator = Proxy
"""The former name of `Proxy`."""


class _Kit(Protocol):
    store: Any


@contextmanager
def store_down(kit: _Kit, error: StoreError | None = None) -> Iterator[None]:
    """Let every round trip of a kit fail at once while the block runs; works on every store, memory too.

    `error` is what they fail with: a `StoreUnavailable` unless given. The declared answers for an outage are
    all one gets; afterwards the kit is as before, its breaker closed.
    """
    store = kit.store
    transport = store.transport
    store.transport = _Down(transport, error or StoreUnavailable("the store is down: a simulated outage"))
    try:
        yield
    finally:
        store.transport = transport
        store.breaker.succeeded()


class _Down:
    """A transport that fails, in either colour: it raises before there is anything to await."""

    def __init__(self, inner: Any, error: StoreError) -> None:
        self._inner = inner
        self._error = error

    def exchange(self, *_: object) -> Any:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
