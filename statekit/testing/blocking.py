"""One colour for tests: an asyncio kit that is called like a blocking one.

So a contract test is written once and holds for both kits. Everything runs on one private event loop in a
thread of its own; a callback on that loop must not call back into a `Blocking` with something to wait for.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from types import TracebackType
from typing import Any

__all__ = ["Blocking"]


class Blocking:
    """Wrap an `AsyncStateKit` (or any asyncio face of it) so that it is called without ``await``.

    Methods that are coroutines are waited for, ``async with`` becomes ``with``, ``async for`` becomes ``for``,
    and faces that come out are wrapped in turn; plain values are left alone. Context variables set on either
    side are seen on the other.

    >>> from statekit import AsyncStateKit
    >>> with Blocking(AsyncStateKit.in_memory()) as kit:
    ...     kit.ping() >= 0
    True
    """

    __slots__ = ("__weakref__", "_target")

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not (inspect.isroutine(value) or inspect.ismethod(value)):
            return wrapped(value)

        def method(*args: Any, **options: Any) -> Any:
            return on_loop(value, *bare(args), **bare(options))

        return method

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, bare(value))

    def __call__(self, *args: Any, **options: Any) -> Any:
        return on_loop(self._target, *bare(args), **bare(options))

    def __enter__(self) -> Any:
        target = self._target
        return on_loop(target.__aenter__ if hasattr(target, "__aenter__") else target.__enter__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        target = self._target
        leave = target.__aexit__ if hasattr(target, "__aexit__") else target.__exit__
        return on_loop(leave, kind, error, trace)

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self._target, "__aiter__"):
            yield from self._target
            return
        iterator = on_loop(lambda: Plain(aiter(self._target))).value
        while True:
            try:
                item = on_loop(iterator.__anext__)
            except StopAsyncIteration:
                return
            yield item

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self._target[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._target[key] = bare(value)

    def __delitem__(self, key: Any) -> None:
        del self._target[key]

    def __contains__(self, key: object) -> bool:
        return key in self._target

    def __len__(self) -> int:
        return len(self._target)

    def __bool__(self) -> bool:
        return bool(self._target)

    def __eq__(self, other: object) -> bool:
        return bool(self._target == bare(other))

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return f"Blocking({self._target!r})"


class Plain:
    """A value that `wrapped` shall leave alone."""

    def __init__(self, value: Any) -> None:
        self.value = value


def bare(value: Any) -> Any:
    """Take the wrapping off, also inside lists, tuples and dicts of arguments."""
    if isinstance(value, Blocking):
        return value._target  # noqa: SLF001 - its own class
    if type(value) in (list, tuple):
        return type(value)(bare(item) for item in value)
    if type(value) is dict:
        return {key: bare(item) for key, item in value.items()}
    return value


def wrapped(value: Any) -> Any:
    """Wrap a face; leave data alone, also lists of data."""
    if type(value) in (list, tuple):
        return type(value)(wrapped(item) for item in value)
    kind: Any = type(value)
    return Blocking(value) if is_face(kind) else value


@cache
def is_face(kind: Any) -> bool:
    """Whether objects of a type have something to await."""
    if kind.__module__.partition(".")[0] not in {"statekit", "contextlib", "builtins"}:
        return False
    names = [name for name in dir(kind) if not name.startswith("__")]
    waits = any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in names)
    return waits or hasattr(kind, "__aenter__") or hasattr(kind, "__aiter__")


# -- the loop --------------------------------------------------------------------------------------------


def on_loop(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call on the private loop, wait for what comes of it, in the caller's context."""
    loop = _loop()
    if threading.current_thread() is _threads.get(loop):
        value = function(*args, **options)
        if inspect.isawaitable(value):
            raise RuntimeError("a callback on the loop cannot wait for the loop: use the asyncio kit in it")
        return wrapped(value)
    context = contextvars.copy_context()
    done: Future[Any] = Future()

    async def run() -> None:
        try:
            value = function(*args, **options)
            done.set_result(await value if inspect.isawaitable(value) else value)
        except BaseException as error:  # noqa: BLE001 - raised again where it was called
            done.set_exception(error)

    loop.call_soon_threadsafe(lambda: _keep(loop.create_task(run(), context=context)))
    try:
        return wrapped(done.result())
    finally:
        _adopt(context)


_lock = threading.Lock()
_threads: dict[asyncio.AbstractEventLoop, threading.Thread] = {}
_running: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Hold a task until it is done: the loop itself only holds it weakly."""
    _running.add(task)
    task.add_done_callback(_running.discard)


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        for loop, thread in _threads.items():
            if thread.is_alive():  # a forked child has none and gets its own
                return loop
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="statekit-testing-loop", daemon=True)
        thread.start()
        _threads[loop] = thread
        return loop


def _adopt(context: contextvars.Context) -> None:
    """Carry over to the caller what was set on the loop."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)
