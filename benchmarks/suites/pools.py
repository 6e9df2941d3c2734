"""Pools: what borrowing a client costs when there is one for everybody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from queue import Queue
from types import SimpleNamespace
from typing import Any, Self

from benchmarks.bench import Absent, AtMost, Check, Comparison, Contender, Figure, Figures, Lab, case
from statekit import StateKit

SIZE = 4
BORROW = "with pool.checkout(): pass"
BY_NAME = "with pools.checkout('billing'): pass"


@case("pools/checkout", "What does borrowing a client and giving it back cost, with nobody waiting?")
def checkout(lab: Lab) -> Iterator[Comparison | Figures]:
    kit = lab.kit()
    ours, twin = _pool(kit, fleet=12), _pool(lab.memory_kit(), fleet=12)
    alchemy = _sqlalchemy(lab)
    yield Comparison(
        "one thread",
        [
            Contender("statekit", BORROW, {"pool": ours}, note="bounded for the whole fleet as well"),
            Contender("statekit, by name", BY_NAME, {"pools": kit.pools}),
            Contender("SQLAlchemy QueuePool", "pool.connect().close()", {"pool": alchemy}),
            _psycopg(lab),
            Contender("statekit in memory", BORROW, {"pool": twin}, twin=True),
            Contender("queue.Queue", "q.put(q.get())", {"q": _queue()}, floor=True),
        ],
        promises=[AtMost("statekit", 2e-6), AtMost("statekit", 0.5, of="SQLAlchemy QueuePool")],
        checks=[
            Check(
                "statekit", "lends a client to one borrower at a time, four at most", lambda: _bounded(ours)
            ),
            Check("SQLAlchemy QueuePool", "same", lambda: _bounded(_Borrowing(alchemy.connect))),
        ],
        note="Clients are stubs: nothing but the pool's own work is timed.",
    )
    trips: list[Any] = []
    mine = threading.get_ident()
    # what the background sends twice a second, it sends in a thread of its own
    stop = kit.hooks.subscribe(lambda event: trips.append(event) if threading.get_ident() == mine else None)
    for _ in range(1000):
        with ours.checkout():
            pass
    stop()
    yield Figures(
        "round trips of 1,000 checkouts",
        "round trips",
        [Figure("statekit", float(len(trips)))],
        promises=[AtMost("statekit", 0)],
    )


def _pool(kit: StateKit, fleet: int) -> Any:
    pool = kit.pools.register("billing", open=Stub, close=Stub.close, per_process=SIZE, fleet=fleet)
    with pool.checkout():  # the first one opens
        return pool


def _sqlalchemy(lab: Lab) -> Any:
    """Its defaults, with a connection that does nothing. https://docs.sqlalchemy.org/en/21/core/pooling.html"""
    from sqlalchemy.pool import QueuePool

    pool = QueuePool(Stub, pool_size=SIZE, max_overflow=0, timeout=0.05)
    lab.later(pool.dispose)
    pool.connect().close()
    return pool


def _psycopg(lab: Lab) -> Contender | Absent:
    """Its defaults. https://www.psycopg.org/psycopg3/docs/advanced/pool.html ("Basic connection pool usage")."""
    from psycopg_pool import ConnectionPool

    pool: Any = ConnectionPool(
        "", min_size=SIZE, max_size=SIZE, connection_class=PostgresStub, close_returns=False, open=True
    )
    lab.later(pool.close)
    try:
        pool.wait(5.0)
    except Exception as error:  # noqa: BLE001 - a stub is not what it was made for
        return Absent("psycopg_pool", f"does not take a connection without a server: {error}")
    return Contender("psycopg_pool", "with pool.connection(): pass", {"pool": pool})


def _queue() -> Any:
    q: Queue[Stub] = Queue(SIZE)
    q.put(Stub())
    return q


def _bounded(pool: Any) -> str | None:
    """Borrow all there are, at once: they must differ, and a fifth must be refused."""
    with ExitStack() as stack:
        lent = [stack.enter_context(pool.checkout(timeout=0.05)) for _ in range(SIZE)]
        if len({id(client) for client in lent}) != SIZE:
            return "lends one client twice"
        try:
            stack.enter_context(pool.checkout(timeout=0.05))
        except Exception:  # noqa: BLE001 - each pool has its own name for "none left"
            return None
        return f"lends more than {SIZE}"


class _Borrowing:
    """Another pool, with our method's name."""

    def __init__(self, connect: Any) -> None:
        self._connect = connect

    def checkout(self, timeout: float) -> Any:  # noqa: ARG002 - it was given one when it was made
        return closing(self._connect())


class Stub:
    """A connection that does nothing, in the terms of DB-API."""

    def rollback(self) -> None: ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class PostgresStub:
    """What psycopg_pool asks of a connection."""

    def __init__(self) -> None:
        from psycopg.pq import TransactionStatus

        self.pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self.closed = False
        self._pool: Any = None
        self._expire_at = 0.0

    @classmethod
    def connect(cls, *_: Any, **__: Any) -> Self:
        return cls()

    def close(self) -> None:
        self.closed = True

    def rollback(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...
