"""The two faces of sessions. No logic: each method builds an operation and runs it."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_urlsafe
from typing import Generic, TypeVar

from statekit.errors import StoreError, UsageError
from statekit.sessions.cookie import STANDARD, CookiePolicy
from statekit.sessions.core import Operations
from statekit.sessions.encryption import Encryption, Vault
from statekit.sessions.model import (
    Outage,
    Rules,
    SaveOutcome,
    SessionInfo,
    checked_outage,
    handle_of,
    well_formed,
)
from statekit.sessions.seals import Seals
from statekit.sessions.seen import last_seen_of
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

    def __init__(
        self,
        store: S,
        rules: Rules,
        cookie: CookiePolicy = STANDARD,
        encryption: Encryption | None = None,
    ) -> None:
        if encryption is not None and not isinstance(encryption, Encryption):
            raise UsageError("encryption is no Encryption: give Encryption([key])")
        if not isinstance(cookie, CookiePolicy):
            raise UsageError(f"cookie={cookie!r}: give a CookiePolicy(name=…, …)")
        self._store: S = store
        self.rules = rules
        self.cookie = cookie
        self._encryption = encryption
        self._on_outage = checked_outage(rules.on_outage)
        hooks = store.hooks
        self._operations = Operations(
            store.keys,
            rules,
            store.now,
            hooks.emit,
            lambda subject, error: hooks.report("sessions", subject, error),
            store.confirmed,
            last_seen_of(store),
        )
        self.expect(self._on_outage)

    def opening(self, cookie: str | None, on_outage: str | None = None) -> Op[Session]:
        """The operation of `open`: one round trip, none without a well-formed id."""
        return self._operations.loading(self._session(cookie, on_outage))

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

    def patience(self, on_outage: str | None = None) -> float:
        """How long reading a session may take, in seconds: short if something can be shown instead of it."""
        policy = self._on_outage if on_outage is None else on_outage
        budget = self._store.budget
        return budget.operation if policy == Outage.RAISE else budget.decision

    def expect(self, on_outage: str) -> None:
        """Get ready for sessions that declare `on_outage` only once they have been read: what is seen is kept."""
        if checked_outage(on_outage) is Outage.LAST_SEEN:
            self._operations.seen.start(self.rules.last_seen_us)

    def instead(self, cookie: str | None, error: StoreError, on_outage: str | None = None) -> Session:
        """What is shown of a session that could not be read for `error`; raises it if that is nothing."""
        op = self.opening(cookie, on_outage)
        try:
            next(op)
            op.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        raise error

    def forgive(self, error: StoreError) -> None:
        """Count a save that failed and is not insisted on, as the declared answer for an outage that it is."""
        self._operations.degraded("save", error)

    def _session(
        self,
        cookie: str | None,
        on_outage: str | None,
        load: Callable[[Session], object] | None = None,
    ) -> Session:
        id_ = cookie if well_formed(cookie) else None
        seals = None if self._encryption is None else Seals(self._vault)
        session = Session(id_, _new_id, load, seals)
        session.on_outage = self._on_outage if on_outage is None else checked_outage(on_outage)
        return session

    def _vault(self, id_: str) -> Vault:
        assert self._encryption is not None
        return self._encryption.vault(self._store.keys.of("session", handle_of(id_)), id_)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(idle={self.rules.idle!r}, absolute={self.rules.absolute!r})"


class Sessions(_Sessions[Store]):
    """Sessions in the shared store, for blocking code: ids are strict, saves never undo each other.

    Of a kit made with ``replicas``, whatever signs somebody in or out also raises `NotReplicated`: it is done, but too
    few replicas have it yet, so a failover now would undo it.

    >>> from statekit import StateKit
    >>> sessions = StateKit.in_memory().sessions(idle=7200, absolute=43200)
    >>> s = sessions.open(None)
    >>> s["cart_id"] = 42
    >>> sessions.save(s)
    <SaveOutcome.CREATED: 'created'>
    >>> sessions.open(s.id)["cart_id"]
    42
    """

    def open(self, cookie: str | None, on_outage: str | None = None) -> Session:
        """The session a cookie's value names; fetched when it is first read, one round trip.

        Without a value, with a malformed one, or with an id that names no session, it is a new session with
        an id of its own: a presented id never comes back. Nothing is stored before something is assigned
        and saved.

        While the store is down, the first read does what `on_outage` says, or else what these sessions were made
        with: "raise" `StoreUnavailable`; show an empty session ("anonymous"); or show what this process saw last
        under that id, not older than ``last_seen_for`` ("last-seen"; if there is none, it raises). What is shown
        instead is marked ``degraded`` and never written.
        """
        return self._session(cookie, on_outage, self.load)

    def lazy(self, cookie: str | None, on_outage: str | None = None) -> Session:
        """Same as `open`; the name both faces share for a session that costs nothing until it is read."""
        return self.open(cookie, on_outage)

    def load(self, session: Session) -> Session:
        """Fetch a session now instead of at its first read; returns it. Raises as `open` says."""
        return self._store.run(self.loading(session), self.patience(session.on_outage))

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

    async def open(self, cookie: str | None, on_outage: str | None = None) -> Session:
        """Same as `Sessions.open`, for asyncio, with the round trip made here."""
        return await self._store.run(self.opening(cookie, on_outage), self.patience(on_outage))

    def lazy(self, cookie: str | None, on_outage: str | None = None) -> Session:
        """A session that is not fetched yet: ``await load(session)`` before reading it, or never."""
        return self._session(cookie, on_outage)

    async def load(self, session: Session) -> Session:
        """Same as `Sessions.load`, for asyncio."""
        return await self._store.run(self.loading(session), self.patience(session.on_outage))

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
