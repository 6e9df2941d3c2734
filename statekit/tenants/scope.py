"""The scope: which tenant this request is for, and the one version of its settings it works with.

A context variable carries both, so they follow into asyncio tasks and into threads started with the context
(``asyncio.to_thread``, ``contextvars.copy_context().run``), and never reach another request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar

from statekit.errors import OutsideScope
from statekit.tenants.settings import TenantSettings

__all__ = ["AsyncScope", "Current", "Scope", "outside"]

S = TypeVar("S", bound=TenantSettings)
Current: TypeAlias = ContextVar[tuple[str, S] | None]
_Before: TypeAlias = "tuple[tuple[str, S] | None, _Before[S] | None]"
"""What was current when a scope was entered, and what it had left before that, if it was entered again."""


class Scope(Generic[S]):
    """``with tenants.scope(id) as settings:`` nests, and leaves what was current before, whatever happens inside."""

    __slots__ = ("_before", "_current", "_read", "tenant")

    def __init__(self, tenant: str, current: Current[S], read: Callable[[str], S]) -> None:
        self.tenant = tenant
        self._current = current
        self._read = read
        self._before: _Before[S] | None = None

    def __enter__(self) -> S:
        tenant, current = self.tenant, self._current
        settings = self._read(tenant)
        self._before = current.get(), self._before
        current.set((tenant, settings))
        return settings

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not ContextVar.reset: frameworks leave a scope in another copy of the context than they entered it in.
        assert self._before is not None
        before, self._before = self._before
        self._current.set(before)


class AsyncScope(Scope[S]):
    """Same as `Scope`; entered with ``async with`` it loads the local copy first, with ``with`` it never waits."""

    __slots__ = ("_load",)

    def __init__(
        self, tenant: str, current: Current[S], read: Callable[[str], S], load: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(tenant, current, read)
        self._load = load

    async def __aenter__(self) -> S:
        await self._load()
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def outside() -> OutsideScope:
    """The error for whoever asks for the current tenant where there is none."""
    return OutsideScope(
        "no tenant is current here: enter one with tenants.scope(id), or read one with tenants.get(id); "
        "a thread started by hand needs contextvars.copy_context().run"
    )
