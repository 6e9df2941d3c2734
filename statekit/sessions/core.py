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
Names of keys and of principals are never encrypted, values only with ``encryption=`` (`encryption.py`). A server that
loses acknowledged writes (failover, restart without AOF) loses sessions with them, and can bring back one that was
revoked in that moment.

When the store is down: opening, saving and revoking raise `StoreUnavailable` (503). With
``on_outage="anonymous"`` opening gives an empty session, with ``on_outage="last-seen"`` the one this process saw last
under that id, at most ``last_seen_for`` ago (`seen.py`); both marked ``degraded``, and never written.

How a sign-in stays safe wherever it is cut short: first the new name is entered in the principal's index and the
old id is retired, then the record is written. A crash between leaves an index entry without a session, which
means nothing, and an old id that ends with its grace. There is never a signed-in session outside the index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from statekit.errors import SessionError, SessionTooLarge, StoreError
from statekit.sessions.ending import TOMBSTONE_MS, Endings, checked
from statekit.sessions.model import Outage, SaveOutcome, SessionEventKind, SessionGrown, handle_of
from statekit.sessions.record import Delta, Draft, Record, field_name, pairs
from statekit.sessions.session import UNCHANGED, Change, Session
from statekit.store.op import Call, Op, Script

__all__ = ["Operations"]

LOAD = Script.load(__package__, "load", read_only=True)  # it may touch; touching twice is touching once
SAVE = Script.load(__package__, "save")
CREATE = Script.load(__package__, "create")
RETIRE = Script.load(__package__, "retire")
ENROLL = Script.load(__package__, "enroll")

TRUSTED_US = TOMBSTONE_MS * 500
"""How old an entry in the index may be when its session is written: half of what an ended name stays taken."""


@dataclass(frozen=True, slots=True)
class Operations(Endings):
    """The operations of one session store; a face runs them."""

    # -- opening -----------------------------------------------------------------------------------------

    def loading(self, session: Session) -> Op[Session]:
        """Fetch the record a session was opened for. Sends nothing if that is done, or if there was no id."""
        if session.loaded:
            return session
        handle, policy = handle_of(session.presented or ""), session.on_outage or self.rules.on_outage
        if policy == Outage.LAST_SEEN:
            self.seen.start(self.rules.last_seen_us)
        session.asked = self.seen.asking()
        try:
            reply = yield from LOAD(
                (self._record(handle),), (self.now(), self.rules.idle_us, self.rules.touch_us)
            )
        except StoreError as error:
            return self._without_store(session, handle, policy, error)
        head, live, text = reply.partition(b"\n")
        if live:
            record = Record.parsed(handle, head, text)
            self.seen.note(record, session.asked)
            session.arrived(record)
        else:
            self._missed(session, handle, reply)
        return session

    def _missed(self, session: Session, handle: str, reply: bytes) -> None:
        session.arrived(None)
        if reply == b"ended":
            self.seen.forget(handle)
            return
        self.seen.drop(handle)  # a name nobody ever issued is not worth remembering
        expired = reply == b"expired"
        self._tell(SessionEventKind.EXPIRED if expired else SessionEventKind.UNKNOWN_ID, handle)

    def _without_store(self, session: Session, handle: str, policy: str, error: StoreError) -> Session:
        longest = self.rules.last_seen_us
        seen = self.seen.recall(handle, longest) if policy == Outage.LAST_SEEN else None
        if seen is not None:
            session.substituted(seen.record, self.seen.age(seen), error)
        elif policy == Outage.ANONYMOUS:
            session.substituted(None, None, error)
        else:
            raise error
        self.degraded("open", error)
        return session

    # -- saving ------------------------------------------------------------------------------------------

    def saving(self, session: Session) -> Op[SaveOutcome]:
        """Write what changed, in the way the session asks for."""
        if not session.loaded:
            return SaveOutcome.UNTOUCHED
        delta = Delta(*session.delta())
        if session.change is UNCHANGED and not delta:
            return SaveOutcome.UNTOUCHED
        if session.outage is not None:
            self.degraded("save", session.outage)
            return SaveOutcome.DEGRADED
        sealed = _sealed(session, delta)
        content = sealed.applied(session.wire)
        self._weigh(session, content)
        if session.change is UNCHANGED and session.record is not None:
            return (yield from self._updating(session, session.record, sealed, content))
        writing = self._writing(session, delta, sealed)
        if session.change is UNCHANGED:
            return (yield from writing)
        return (yield from self.confirmed(writing))  # type: ignore[no-any-return]

    def _writing(self, session: Session, delta: Delta, sealed: Delta) -> Op[SaveOutcome]:
        try:
            return (yield from self._attempting(session, sealed))
        except _Taken:
            session.mint_again()
            return (yield from self._attempting(session, _sealed(session, delta)))

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
            record = record.holding(content)
            self.seen.note(record, session.asked, delta)
            session.written(record)
            return SaveOutcome.SAVED
        self.seen.forget(record.handle)
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
        replies = checked((yield entering + retiring))
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
        content = delta.applied(session.resealed(old.fields)) if session.carries else draft.content
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
        self.seen.forget(old.handle)
        renewal = session.change is Change.RENEW
        grace = self.rules.grace_us if renewal or old.principal is None else 0
        args = (self.now(), self.rules.idle_us, grace, TOMBSTONE_MS, session.handle if renewal else "")
        return (RETIRE.call((self._record(old.handle),), args),)

    def _creating(self, session: Session, draft: Draft) -> Op[SaveOutcome]:
        handle, session.asked = session.handle, self.seen.asking()
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
        left = min(self.rules.idle_us, absolute - touched)
        record = Record(handle, created, absolute, touched, draft.principal, draft.content, left=left)
        self.seen.note(record, session.asked)
        session.written(record)
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

    # -- ending ------------------------------------------------------------------------------------------

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


def _sealed(session: Session, delta: Delta) -> Delta:
    """What is to be written as it is to lie in the store, under the id that the session will have."""
    changed = session.sealed(delta.changed)
    return delta if changed is delta.changed else Delta(changed, delta.deleted)


class _Taken(SessionError):
    """A record lies under a name that was to be new."""
