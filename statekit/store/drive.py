"""The two drivers of operations, the blocking transport over redis-py, and what all transports know.

Rule 1: `drive` and `adrive` are the only loops that step an operation; they differ in ``await`` alone.
Rule 2: a connection whose replies were not all read is dropped, never given back.
Rule 3: commands are packed before a connection is taken, so that what cannot be sent harms nobody else.
"""

from __future__ import annotations

import contextlib
import select
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import redis.asyncio
from redis import exceptions as theirs
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from statekit.errors import StoreError
from statekit.store.answers import read, refused, translated
from statekit.store.resp import Replies, packed
from statekit.store.subscribe import AsyncRedisSubscriber, RedisSubscriber

if TYPE_CHECKING:
    from statekit.store.op import Op, Reply, Round
    from statekit.store.store import AsyncTransport, Transport

__all__ = ["RedisTransport", "adrive", "drive"]

T = TypeVar("T")


def drive(transport: Transport, op: Op[T], budget: float) -> T:
    """Step an operation to its result over a blocking transport."""
    try:
        calls = next(op)
        while True:
            try:
                replies = transport.exchange(calls, budget)
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except BaseException:  # given up by its caller: the operation learns of it now, not when it is collected
        op.close()
        raise


async def adrive(transport: AsyncTransport, op: Op[T], budget: float) -> T:
    """Same as `drive`, for asyncio."""
    try:
        calls = next(op)
        while True:
            try:
                replies = await transport.exchange(calls, budget)
            except StoreError as error:
                calls = op.throw(error)
            else:
                calls = op.send(replies)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except BaseException:  # given up by its caller: the operation learns of it now, not when it is collected
        op.close()
        raise


# -- connections -----------------------------------------------------------------------------------------


def describe_pool(pool: Any) -> str:
    """Say where a pool connects to, without its credentials."""
    known = pool.connection_kwargs
    if service := getattr(pool, "service_name", None):
        return f"redis-py over sentinel service {service!r}/{known.get('db', 0)}"
    where = known.get("path") or f"{known.get('host', '?')}:{known.get('port', '?')}"
    return f"redis-py over {where}/{known.get('db', 0)}"


def dedicated(pool: Any, retry: Any) -> Any:
    """Make a connection like the pool's, outside the pool: RESP2, one attempt, no notices of maintenance."""
    options = {name: value for name, value in pool.connection_kwargs.items() if "maint_" not in name}
    return pool.connection_class(**options | {"protocol": 2, "retry": retry, "retry_on_timeout": False})


def sibling(pool: Any) -> Any:
    """Make an empty asyncio pool that connects as `pool` does, for another event loop."""
    return redis.asyncio.ConnectionPool(connection_class=pool.connection_class, **pool.connection_kwargs)


def async_subscriber(pool: Any) -> AsyncRedisSubscriber:
    return AsyncRedisSubscriber(lambda: dedicated(pool, AsyncRetry(NoBackoff(), 0)), translated)


PIECE = 65_536
"""Bytes read from a socket at a time."""
PATIENCE = 0.25
"""Seconds a long reply may take longer for each `PIECE` that has come: a store at 256 KiB/s is slow, not away."""
OPENING = 0.25
"""Seconds a connection may take to open though nobody waits for it any more: a greeting over a long way, or on a busy
machine, takes longer than a decision may, and would never come to its end within one caller's budget."""
_allowance = threading.local()


def _left(deadline: float) -> float:
    """Seconds until a deadline; a peer that lets its reply trickle in until then is too slow."""
    left = deadline - monotonic()
    if left <= 0:
        raise theirs.TimeoutError("its time budget is spent")
    return left


class _Punctual:
    """Mixed into the connections statekit makes itself: connecting keeps to the budget of the round it is for.

    Otherwise a server that accepts and says nothing would cost the client's time-outs, greeting by greeting.
    """

    _patience: float | None = None
    demoted: Any = None
    _heard: Any = None
    _ear: Any = None
    _read_from: Any = None
    _replies: Any = None

    def quiet(self: Any) -> bool:
        """Whether it is connected and nothing waits to be read: neither its end nor a stray reply.

        What redis-py's pool finds out for each round by a read that fails, in a sixth of the time.
        """
        if self._sock in (None, self.demoted) or getattr(self, "should_reconnect", bool)():
            return False
        if self._heard is not self._sock:
            self._heard, self._ear = self._sock, select.poll()
            self._ear.register(self._heard, select.POLLIN)
        return not self._ear.poll(0)

    def converse(self: Any, message: bytes, count: int, budget: float) -> list[Reply]:
        """Send a message and read its replies, within the budget."""
        deadline = monotonic() + budget
        sock = self._sock
        if sock.gettimeout() != budget:
            sock.settimeout(budget)
        sock.sendall(message)
        return self.hear(count, deadline)  # type: ignore[no-any-return]

    def hear(self: Any, count: int, deadline: float) -> list[Reply]:
        """Read replies until a deadline, which a long reply puts off.

        Straight from the socket, for redis-py's reader costs as much as all system calls together.
        """
        sock = self._sock
        if self._read_from is not sock:
            self._read_from, self._replies = sock, Replies(lambda text: refused(self, text))
        replies: list[Reply] = []
        received = 0
        while len(replies) < count:
            data = sock.recv(PIECE)
            if not data:
                raise theirs.ConnectionError("it closed the connection")
            replies += self._replies.feed(data)
            if self._replies.broken:
                raise self._replies.broken
            if len(replies) < count:
                received += len(data)
                sock.settimeout(_left(deadline + received // PIECE * PATIENCE))
        if len(replies) > count or not self._replies.idle:
            raise theirs.ConnectionError("it answers what nobody asked")
        return replies

    def connect(self: Any) -> None:
        until = getattr(_allowance, "until", None)
        if until is not None:
            left = _left(until)
            if self._patience is None:
                self._patience = self.socket_connect_timeout or left
            self.socket_timeout, self.socket_connect_timeout = left, min(left, self._patience)
        try:
            super().connect()  # type: ignore[misc]
        except BaseException:  # an interrupt would leave half a connection, which passes for a whole one
            self.disconnect()
            raise


def punctual(pool: Any) -> Any:
    """Let the connections a pool makes from now on keep to the budget of a round."""
    made = pool.connection_class
    if not issubclass(made, _Punctual):
        pool.connection_class = type(made.__name__, (_Punctual, made), {})
    return pool


# -- blocking --------------------------------------------------------------------------------------------


class RedisTransport:
    """Rounds over a blocking redis-py client: one pooled connection a round, one write, one wait.

    Told so (`keeps`, for a plain pool of its own) it keeps idle connections at hand, for the pool's book-keeping
    costs more than all else here; to the pool they are in use, and it gets back each one not fit for a round.
    """

    def __init__(self, client: Any, *, owned: bool, keeps: bool = False) -> None:
        self._client = client
        self._pool = punctual(client.connection_pool) if owned else client.connection_pool
        self._owned = owned
        self._direct = owned and str(self._pool.connection_kwargs.get("protocol")) == "2"
        self._polls = self._direct and hasattr(select, "poll")
        self._keeps = self._polls and keeps
        self._idle: list[Any] = []
        self._opening = threading.Lock()
        self._retired = False

    def exchange(self, calls: Round, budget: float) -> list[Reply]:
        message = packed(calls)
        if not message:
            return []
        with translated():
            if self._keeps:
                return self._converse(message, len(calls), budget)
            deadline = monotonic() + budget
            return self.receive(self.send(message, budget), len(calls), deadline)

    def _converse(self, message: bytes, count: int, budget: float) -> list[Reply]:
        """Use a connection of our own for a message and its replies."""
        connection = self._kept()
        if connection is None:
            deadline = monotonic() + budget
            connection = self._fresh(budget)
            budget = max(0.001, deadline - monotonic())
        try:
            replies: list[Reply] = connection.converse(message, count, budget)
        except BaseException:
            self.drop(connection)
            raise
        self._keep(connection)
        return replies

    def send(self, message: bytes, budget: float) -> Any:
        """Write a message to a free connection and return that connection."""
        connection = self._kept() or self._fresh(budget)
        try:
            connection.send_packed_command([message])
        except BaseException:
            self.drop(connection)
            raise
        return connection

    def receive(self, connection: Any, count: int, deadline: float) -> list[Reply]:
        """Read the replies to a message and give the connection back."""
        try:
            replies = self._replies(connection, count, deadline)
        except BaseException:
            self.drop(connection)
            raise
        if self._retired:
            self.drop(connection)
        else:
            self._pool.release(connection)
        return replies

    def _replies(self, connection: Any, count: int, deadline: float) -> list[Reply]:
        if self._direct:
            connection._sock.settimeout(_left(deadline))  # noqa: SLF001 - as in `_Punctual.converse`
            return connection.hear(count, deadline)  # type: ignore[no-any-return]
        if not connection.can_read(max(0.0, deadline - monotonic())):
            raise theirs.TimeoutError("its time budget is spent")
        return [read(connection) for _ in range(count)]

    def _kept(self) -> Any:
        """Take the idle connection used last, if there is one that is fit."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                return None
            if connection.quiet():
                return connection
            self.drop(connection)
            if connection.demoted is not None:  # where one met a replica, so will the others
                self._leave()
        return None

    def _keep(self, connection: Any) -> None:
        """Have a connection at hand for the next round, if there will be one."""
        self._idle.append(connection)
        if self._retired:  # asked once it is there: `retire` may have looked before
            self._leave()

    def _leave(self) -> None:
        """Drop all idle connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self.drop(connection)

    def _fresh(self, budget: float) -> Any:
        """Take one from the pool; if to open it took most of the budget, it is for the next, and this caller is late."""
        start = monotonic()
        connection = self._connected(budget)
        if self._polls and monotonic() - start > budget / 2:
            self._keep(connection)
            raise theirs.TimeoutError("its time budget is spent on connecting")
        return connection

    def _connected(self, budget: float) -> Any:
        _allowance.until = monotonic() + budget
        try:
            return self._pool.get_connection()
        except theirs.TimeoutError:
            if self._polls and budget < OPENING and self._opening.acquire(blocking=False):
                threading.Thread(target=self._open, name="statekit-opening", daemon=True).start()
            raise
        finally:
            _allowance.until = None

    def _open(self) -> None:
        """Open a connection for whoever comes next."""
        opening = self._opening  # a fork puts another in its place
        try:
            with contextlib.suppress(theirs.RedisError, OSError):
                self._keep(self._connected(OPENING))
        finally:
            opening.release()

    def drop(self, connection: Any) -> None:
        """Give a connection back closed: nobody may meet the replies that are still on their way."""
        connection.disconnect()
        self._pool.release(connection)

    def subscriber(self) -> RedisSubscriber:
        return RedisSubscriber(lambda: dedicated(self._pool, Retry(NoBackoff(), 0)), translated)

    def retire(self) -> None:
        """Close what is idle, and each connection in use once its round is over."""
        self._retired = True
        self._leave()
        if self._owned:
            self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close; rounds of other threads come to their end first, and later ones each open a connection of their own."""
        with self._opening:  # what is being opened is to be closed too
            self.retire()

    def after_fork(self) -> None:
        """Forget the parent's connections. This process's copies of ours are closed, which the parent does not notice.

        A thread that is a greenlet survives a fork: it would read its parent's reply, and keep its connection for us.
        """
        self._idle.clear()
        self._opening = threading.Lock()
        # redis-py takes the pool's lock before it replaces it, and a thread of the parent may have held it
        self._pool._lock = threading.RLock()  # noqa: SLF001
        if self._owned:
            for connection in self._pool._in_use_connections:  # noqa: SLF001 - what is idle here is in use there
                connection.disconnect()
        self._pool.reset()

    def describe(self) -> str:
        return describe_pool(self._pool)
