"""Sessions: their operations. No I/O, no clock, no entropy: all three come as arguments.

Footprint (``sha`` is the SHA-256 of the id, in hexadecimal; the id itself is stored nowhere):

    session:{sha}           hash, one field a key of the session (``d:<key>``) and what the record knows of itself
                            TTL: the nearer of idle and absolute deadline; 60 s (or the grace) once retired or ended
    sessions:{principal}    sorted set of sha by absolute deadline in ms; TTL: the furthest deadline in it

Scripts: load, save, create, retire, revoke, glance on a record; enroll, roster, withdraw on an index.
Round trips: open 1 (0 if never read), save 1 (0 if nothing changed), sign-in 2, renewal 2, sign-out 1 or 2,
list 2, revoke 1 or 2, revoke all 3, and 2 more for each further 500 sessions.

Guaranteed: an id that statekit did not issue never names a session. Writes of different keys never undo each
other. A session that was signed out, revoked or has expired is never written again. When `revoke_all` returns,
no session that the principal was signed in to when it was called answers to its id, renewed meanwhile or not; a
sign-in at the same time is ended too, or comes after it whole. No session outlives its absolute deadline; one in
use lives at least ``(1 - touch_after) * idle`` after its last use.

Not guaranteed: two requests that write the same key at once are not ordered, the later save wins. What another
request writes under the old id while it is being renewed is dropped, and that request is told (`SUPERSEDED`).
Data is not encrypted at rest. A server that loses acknowledged writes (failover, restart without AOF) loses
sessions with them, and can bring back one that was revoked in that moment.

When the store is down: opening, saving and revoking raise `StoreUnavailable` (503). With
``on_outage="anonymous"`` opening gives an empty session marked ``degraded``, which is never written.

How a sign-in stays safe wherever it is cut short: first the new name is entered in the principal's index and the
old id is retired, then the record is written. A crash between leaves an index entry without a session, which
means nothing, and an old id that ends with its grace. There is never a signed-in session outside the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from statekit.errors import SessionError, SessionTooLarge, StoreError, UsageError
from statekit.sessions.model import (
    Outage,
    Rules,
    SaveOutcome,
    SessionEvent,
    SessionEventKind,
    SessionGrown,
    SessionInfo,
    handle_of,
)
from statekit.sessions.record import Delta, Draft, Ended, Record, field_name, pairs
from statekit.sessions.session import UNCHANGED, Change, Session
from statekit.store.keys import Keys, encoded
from statekit.store.op import Call, Op, Reply, Script, ask

__all__ = ["Operations"]

LOAD = Script.load(__package__, "load", read_only=True)  # it may touch; touching twice is touching once
SAVE = Script.load(__package__, "save")
CREATE = Script.load(__package__, "create")
RETIRE = Script.load(__package__, "retire")
REVOKE = Script.load(__package__, "revoke")
GLANCE = Script.load(__package__, "glance", read_only=True)
ENROLL = Script.load(__package__, "enroll")
ROSTER = Script.load(__package__, "roster", read_only=True)
WITHDRAW = Script.load(__package__, "withdraw")

TOMBSTONE_MS = 60_000
"""How long an ended session's name stays taken, and a retired one names its successor ..."""
TRUSTED_US = 30_000_000
"""... and, half of that, how old an entry in the index may be when its session is written."""
LISTED = 1000
"""Sessions of one principal that a list shows, newest first."""
BATCH = 500
"""Sessions revoked in one round trip."""


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of one session store; a face runs them."""

    keys: Keys
    rules: Rules
    now: Callable[[], int | str]
    emit: Callable[[Any], None]
    """Takes each `SessionEvent` and `SessionGrown`."""
    degraded: Callable[[Exception], None]
    """Is told when an outage was answered with a degraded session."""
    confirmed: Callable[[Op[Any]], Op[Any]]
    """Wraps an operation whose loss in a failover would do harm: who is signed in, and who is no longer."""

    # -- opening -----------------------------------------------------------------------------------------

    def loading(self, session: Session) -> Op[Session]:
        """Fetch the record a session was opened for. Sends nothing if that is done, or if there was no id."""
        if session.loaded:
            return session
        handle = handle_of(session.presented or "")
        try:
            reply = yield from LOAD(
                (self._record(handle),), (self.now(), self.rules.idle_us, self.rules.touch_us)
            )
        except StoreError as error:
            return self._without_store(session, error)
        head, live, text = reply.partition(b"\n")
        session.arrived(Record.parsed(handle, head, text) if live else None)
        if reply == b"absent":
            self._tell(SessionEventKind.UNKNOWN_ID, handle)
        elif reply == b"expired":
            self._tell(SessionEventKind.EXPIRED, handle)
        return session

    def _without_store(self, session: Session, error: StoreError) -> Session:
        if self.rules.on_outage != Outage.ANONYMOUS:
            raise error
        session.degraded = True
        session.arrived(None)
        self.degraded(error)
        return session

    # -- saving ------------------------------------------------------------------------------------------

    def saving(self, session: Session) -> Op[SaveOutcome]:
        """Write what changed, in the way the session asks for."""
        if not session.loaded:
            return SaveOutcome.UNTOUCHED
        delta = Delta(*session.delta())
        if session.change is UNCHANGED and not delta:
            return SaveOutcome.UNTOUCHED
        if session.degraded:
            return SaveOutcome.DEGRADED
        content = delta.applied(session.wire)
        self._weigh(session, content)
        if session.change is UNCHANGED and session.record is not None:
            return (yield from self._updating(session, session.record, delta, content))
        if session.change is UNCHANGED:
            return (yield from self._writing(session, delta))
        return (yield from self.confirmed(self._writing(session, delta)))  # type: ignore[no-any-return]

    def _writing(self, session: Session, delta: Delta) -> Op[SaveOutcome]:
        try:
            return (yield from self._attempting(session, delta))
        except _Taken:
            session.mint_again()
            return (yield from self._attempting(session, delta))

    def _attempting(self, session: Session, delta: Delta) -> Op[SaveOutcome]:
        if session.change is Change.SIGN_OUT:
            return (yield from self._signing_out(session, delta))
        if session.change is not UNCHANGED:
            return (yield from self._renewing(session, delta))
        return (yield from self._creating(session, Draft(delta.changed)))

    def _updating(
        self, session: Session, record: Record, delta: Delta, content: dict[str, bytes]
    ) -> Op[SaveOutcome]:
        if record.retired:
            return SaveOutcome.SUPERSEDED
        reply = yield from SAVE(
            (self._record(record.handle),),
            (
                self.now(),
                self.rules.idle_us,
                len(delta.changed),
                *pairs(delta.changed),
                *map(field_name, delta.deleted),
            ),
        )
        if reply == b"saved":
            session.written(record.holding(content))
            return SaveOutcome.SAVED
        return SaveOutcome.SUPERSEDED if reply == b"retired" else SaveOutcome.GONE

    def _signing_out(self, session: Session, delta: Delta) -> Op[SaveOutcome]:
        if session.record is not None:
            yield from self._revoking(session.record.handle)
        if delta.changed:
            return (yield from self._creating(session, Draft(delta.changed)))
        session.written(None)
        return SaveOutcome.ENDED

    def _renewing(self, session: Session, delta: Delta) -> Op[SaveOutcome]:
        """Round one: enter the new name, retire the old. Round two: write the record under the new name."""
        old = session.record
        entering = self._enrolling(session, old)
        retiring = self._retiring(session, old) if old else ()
        replies = _checked((yield entering + retiring))
        draft = Draft(delta.changed, session.principal)
        if entering:
            draft = replace(draft, not_after=int(replies[0]) + TRUSTED_US)
        if old is not None:
            tag, *flat = replies[-1]
            if session.change is Change.RENEW and tag != b"live":
                return SaveOutcome.SUPERSEDED if tag == b"retired" else SaveOutcome.GONE
            if flat:
                draft = self._inheriting(draft, session, delta, Record.read(old.handle, flat))
        return (yield from self._creating(session, draft))

    def _inheriting(self, draft: Draft, session: Session, delta: Delta, old: Record) -> Draft:
        """Carry over what the old record held when it was retired: other requests' writes since the load too.

        Not so when it has ended meanwhile: a sign-in then goes ahead with what its own request assigned.
        Somebody has just proved who they are, but nothing that was ended comes back.
        """
        content = delta.applied(old.fields) if session.carries else draft.content
        successor = draft.succeeding if session.change is Change.SIGN_IN else draft.continuing
        return successor(old, content)

    def _enrolling(self, session: Session, old: Record | None) -> tuple[Call, ...]:
        if session.principal is None:
            return ()
        kept = old.absolute if old is not None and session.change is Change.RENEW else ""
        args = (self.now(), session.handle, self.rules.absolute_us, kept)
        return (ENROLL.call((self._index(session.principal),), args),)

    def _retiring(self, session: Session, old: Record) -> tuple[Call, ...]:
        """The old id keeps a view only if that view gives nothing away: not after a change of principal.

        A renewed record tells its successor, so that ending either ends both. A signed-in one does not: who
        planted the old id must not be able to end the session behind the new one.
        """
        renewal = session.change is Change.RENEW
        grace = self.rules.grace_us if renewal or old.principal is None else 0
        args = (self.now(), self.rules.idle_us, grace, TOMBSTONE_MS, session.handle if renewal else "")
        return (RETIRE.call((self._record(old.handle),), args),)

    def _creating(self, session: Session, draft: Draft) -> Op[SaveOutcome]:
        handle = session.handle
        reply = yield from CREATE(
            (self._record(handle),),
            (self.now(), self.rules.idle_us, self.rules.absolute_us, *draft.head(), *pairs(draft.content)),
        )
        tag, *stamps = reply.split()
        if tag == b"taken":
            raise _Taken(
                "a new session's name is taken, twice in a row: does this machine repeat its entropy?"
            )
        if tag == b"gone":
            return SaveOutcome.GONE
        created, absolute, touched = map(int, stamps)
        session.written(Record(handle, created, absolute, touched, draft.principal, draft.content))
        kind = SessionEventKind.RENEWED if draft.before else SessionEventKind.OPENED
        self._tell(kind, handle, draft.principal)
        return SaveOutcome.RENEWED if draft.before else SaveOutcome.CREATED

    def _weigh(self, session: Session, content: dict[str, bytes]) -> None:
        most = self.rules.max_bytes
        if sum(map(len, content.values())) + 4 * sum(map(len, content)) <= most // 2:
            return  # however many bytes a character of a key may take
        sizes = {key: len(key.encode("utf-8", "surrogatepass")) + len(raw) for key, raw in content.items()}
        size = sum(sizes.values())
        if size <= most // 2:
            return
        largest = sorted(sizes, key=lambda key: -sizes[key])[:3]
        if size > most:
            named = ", ".join(f"{key!r} ({sizes[key]} bytes)" for key in largest)
            raise SessionTooLarge(
                f"the session is {size} bytes, more than max_bytes={most}; its largest keys are {named}: "
                "keep ids in the session and the data behind them in a database, or raise max_bytes"
            )
        self.emit(SessionGrown(session.handle, size, most, tuple(largest)))

    # -- ending and listing ------------------------------------------------------------------------------

    def revoking(self, handle: str) -> Op[bool]:
        """End the session with this handle, and what it was renewed from or into; True if it was live."""
        return self.confirmed(self._revoking(handle))

    def _revoking(self, handle: str) -> Op[bool]:
        waiting, seen, live = [_handle(handle)], set[str](), False
        cleaning: tuple[Call, ...] = ()
        while waiting or cleaning:
            ending = tuple(self._ending(name) for name in waiting)
            replies = _checked((yield ending + cleaning))
            seen.update(waiting)
            ended = [Ended.read(name, reply) for name, reply in zip(waiting, replies, strict=False)]
            live = live or any(one.live for one in ended)
            cleaning = tuple(self._withdrawal(one.principal, (one.handle,)) for one in ended if one.principal)
            waiting = [name for one in ended for name in one.kin if name not in seen]
            self._tell_ended(ended)
        return live

    def destroying(self, session: Session) -> Op[bool]:
        """End the session a request holds, loaded or not; True if it was live."""
        return self.confirmed(self._destroying(session))

    def _destroying(self, session: Session) -> Op[bool]:
        if not session.loaded:
            handle = handle_of(session.presented or "")
            session.arrived(None)
            return (yield from self._revoking(handle))
        record = session.record
        session.sign_out()
        live = False if record is None else (yield from self._revoking(record.handle))
        session.written(None)
        return live

    def revoking_all(self, principal: str, keep: str | None = None) -> Op[int]:
        """End every session of a principal but `keep`; returns how many were live.

        A session being renewed meanwhile is found too: the record it replaces names it.
        """
        return self.confirmed(self._revoking_all(principal, keep))

    def _revoking_all(self, principal: str, keep: str | None) -> Op[int]:
        seen = set() if keep is None else {_handle(keep)}
        names = set((yield from self._listed(principal, -1))) - seen
        live = 0
        while names:
            kin = set[str]()
            for batch in _batches(sorted(names)):
                ended = yield from self._revoking_batch(principal, batch)
                live += sum(one.live for one in ended)
                kin.update(name for one in ended for name in one.kin)
            seen |= names
            names = kin - seen
        return live

    def _revoking_batch(self, principal: str, names: Sequence[str]) -> Op[list[Ended]]:
        """First the sessions, then the index: a crash between leaves entries, which the next call works off."""
        replies = _checked((yield tuple(self._ending(name) for name in names)))
        ended = [Ended.read(name, reply) for name, reply in zip(names, replies, strict=True)]
        yield from ask(self._withdrawal(principal, names))
        self._tell_ended(ended)
        return ended

    def listing(self, principal: str) -> Op[list[SessionInfo]]:
        """The live sessions of a principal, newest first."""
        names = yield from self._listed(principal, LISTED)
        if not names:
            return []
        calls = tuple(GLANCE.call((self._record(name),), (self.now(),)) for name in names)
        replies = _checked((yield calls))
        found = [SessionInfo.read(name, reply) for name, reply in zip(names, replies, strict=True) if reply]
        return sorted(found, key=lambda info: info.created, reverse=True)

    def _listed(self, principal: str, most: int) -> Op[list[str]]:
        return [name.decode() for name in (yield from ROSTER((self._index(principal),), (self.now(), most)))]

    # -- words -------------------------------------------------------------------------------------------

    def _record(self, handle: str) -> str:
        return self.keys.of("session", handle)

    def _index(self, principal: str) -> str:
        return self.keys.of("sessions", encoded(principal, "principal"))

    def _ending(self, handle: str) -> Call:
        return REVOKE.call((self._record(handle),), (self.now(), TOMBSTONE_MS))

    def _withdrawal(self, principal: str, names: Sequence[str]) -> Call:
        return WITHDRAW.call((self._index(principal),), names)

    def _tell(self, kind: SessionEventKind, handle: str, principal: str | None = None) -> None:
        self.emit(SessionEvent(kind, handle, principal))

    def _tell_ended(self, ended: Iterable[Ended]) -> None:
        for one in ended:
            if one.live:
                self._tell(SessionEventKind.REVOKED, one.handle, one.principal or None)


class _Taken(SessionError):
    """A record lies under a name that was to be new."""


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))


def _checked(replies: Sequence[Reply]) -> Sequence[Reply]:
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return replies


def _handle(handle: object) -> str:
    """Let only a handle pass. The value is not repeated: it may be an id, passed by mistake."""
    if isinstance(handle, str) and len(handle) == 64 and not set(handle).difference("0123456789abcdef"):
        return handle
    raise UsageError(
        "a handle is 64 hexadecimal digits: pass s.handle, or one from sessions_of(); never s.id"
    )
