"""The two faces of sessions. No logic: each method builds an operation and runs it."""

from __future__ import annotations

from secrets import token_urlsafe
from typing import Generic, TypeVar

from statekit.errors import UsageError
from statekit.sessions.cookie import STANDARD, CookiePolicy
from statekit.sessions.core import Operations
from statekit.sessions.model import Rules, SaveOutcome, SessionInfo, well_formed
from statekit.sessions.session import Session
from statekit.store.op import Op
from statekit.store.store import AsyncStore, Store

__all__ = ["AsyncSessions", "Sessions"]

S = TypeVar("S", Store, AsyncStore)


def _new_id() -> str:
    return token_urlsafe(32)


def _session(given: object) -> Session:
    if not isinstance(given, Session):  # perhaps an id, which no message may show
        raise UsageError(f"a session is wanted, not {type(given).__name__}: pass what open() returned")
    return given


class _Sessions(Generic[S]):
    """What both faces share: the rules, the cookie, and the operations, for adapters to run together."""

    def __init__(self, store: S, rules: Rules, cookie: CookiePolicy = STANDARD) -> None:
        if not isinstance(cookie, CookiePolicy):
            raise UsageError(f"cookie={cookie!r}: give a CookiePolicy(name=…, …)")
        self._store: S = store
        self.rules = rules
        self.cookie = cookie
        hooks = store.hooks
        self._operations = Operations(
            store.keys,
            rules,
            store.now,
            hooks.emit,
            lambda error: hooks.report("sessions", "open", error),
            store.confirmed,
        )

    def opening(self, cookie: str | None) -> Op[Session]:
        """The operation of `open`: one round trip, none without a well-formed id."""
        return self._operations.loading(self._session(cookie))

    def loading(self, session: Session) -> Op[Session]:
        """The operation of `load`: one round trip, none if there is nothing to fetch."""
        return self._operations.loading(_session(session))

    def saving(self, session: Session) -> Op[SaveOutcome]:
        """The operation of `save`: one round trip, two if the id is renewed, none if nothing changed."""
        return self._operations.saving(_session(session))

    def destroying(self, session: Session) -> Op[bool]:
        """The operation of `destroy`."""
        return self._operations.destroying(_session(session))

    def revoking(self, handle: str) -> Op[bool]:
        """The operation of `revoke`."""
        return self._operations.revoking(handle)

    def revoking_all(self, principal: str, *, keep: str | None = None) -> Op[int]:
        """The operation of `revoke_all`."""
        return self._operations.revoking_all(principal, keep)

    def listing(self, principal: str) -> Op[list[SessionInfo]]:
        """The operation of `sessions_of`."""
        return self._operations.listing(principal)

    def _session(self, cookie: str | None) -> Session:
        return Session(cookie if well_formed(cookie) else None, _new_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(idle={self.rules.idle!r}, absolute={self.rules.absolute!r})"


class Sessions(_Sessions[Store]):
    """Sessions in the shared store, for blocking code: ids are strict, saves never undo each other.

    >>> from statekit import StateKit
    >>> sessions = StateKit.in_memory().sessions(idle=7200, absolute=43200)
    >>> s = sessions.open(None)
    >>> s["cart_id"] = 42
    >>> sessions.save(s)
    <SaveOutcome.CREATED: 'created'>
    >>> sessions.open(s.id)["cart_id"]
    42
    """

    def open(self, cookie: str | None) -> Session:
        """The session a cookie's value names; fetched when it is first read, one round trip.

        Without a value, with a malformed one, or with an id that names no session, it is a new session with
        an id of its own: a presented id never comes back. Nothing is stored before something is assigned
        and saved. While the store is down, the first read raises `StoreUnavailable`, or finds an empty
        session marked ``degraded`` if the store was made with ``on_outage="anonymous"``.
        """
        return Session(cookie if well_formed(cookie) else None, _new_id, self.load)

    def lazy(self, cookie: str | None) -> Session:
        """Same as `open`; the name both faces share for a session that costs nothing until it is read."""
        return self.open(cookie)

    def load(self, session: Session) -> Session:
        """Fetch a session now instead of at its first read; returns it. Raises as `open` says."""
        return self._store.run(self.loading(session))

    def save(self, session: Session) -> SaveOutcome:
        """Write the keys that changed, if the session still exists; the outcome says what came of it.

        One round trip, none if nothing changed, two if the id is renewed. Raises `NonPrimitiveValue` and
        `SessionTooLarge`, with nothing written, and `StoreUnavailable` if the store does not answer; then
        the write may or may not have been applied, and a session being renewed may have to sign in again.
        """
        return self._store.run(self.saving(session))

    def destroy(self, session: Session) -> bool:
        """End a session at once; True if it was live. The object is empty and new afterwards.

        Raises `StoreUnavailable` if the store does not answer: the session may still be live.
        """
        return self._store.run(self.destroying(session))

    def revoke(self, handle: str) -> bool:
        """End the session with this handle (never its id); True if it was live. Idempotent.

        Raises `UsageError` for what is no handle, `StoreUnavailable` if the store does not answer.
        """
        return self._store.run(self.revoking(handle))

    def revoke_all(self, principal: str, *, keep: str | None = None) -> int:
        """End all sessions of a principal, or all but the one with handle `keep`; returns how many were live.

        When it returns, none of them answers any more, in any process. Call it again if it raises
        `StoreUnavailable`: it works off what was left. Save a session before its handle is kept: signing in
        and renewing give it another.
        """
        return self._store.run(self.revoking_all(principal, keep=keep))

    def sessions_of(self, principal: str) -> list[SessionInfo]:
        """The live sessions of a principal, newest first, at most 1000. Two round trips.

        Raises `StoreUnavailable` if the store does not answer.
        """
        return self._store.run(self.listing(principal))


class AsyncSessions(_Sessions[AsyncStore]):
    """Same as `Sessions`, for asyncio; `open` fetches at once, since reading a mapping cannot wait."""

    async def open(self, cookie: str | None) -> Session:
        """Same as `Sessions.open`, for asyncio, with the round trip made here."""
        return await self._store.run(self.opening(cookie))

    def lazy(self, cookie: str | None) -> Session:
        """A session that is not fetched yet: ``await load(session)`` before reading it, or never."""
        return self._session(cookie)

    async def load(self, session: Session) -> Session:
        """Same as `Sessions.load`, for asyncio."""
        return await self._store.run(self.loading(session))

    async def save(self, session: Session) -> SaveOutcome:
        """Same as `Sessions.save`, for asyncio."""
        return await self._store.run(self.saving(session))

    async def destroy(self, session: Session) -> bool:
        """Same as `Sessions.destroy`, for asyncio."""
        return await self._store.run(self.destroying(session))

    async def revoke(self, handle: str) -> bool:
        """Same as `Sessions.revoke`, for asyncio."""
        return await self._store.run(self.revoking(handle))

    async def revoke_all(self, principal: str, *, keep: str | None = None) -> int:
        """Same as `Sessions.revoke_all`, for asyncio."""
        return await self._store.run(self.revoking_all(principal, keep=keep))

    async def sessions_of(self, principal: str) -> list[SessionInfo]:
        """Same as `Sessions.sessions_of`, for asyncio."""
        return await self._store.run(self.listing(principal))
