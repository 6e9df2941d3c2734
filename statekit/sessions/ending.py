"""Ending and listing sessions: their operations, by the public handle, one session or all of a principal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from statekit.errors import StoreError, UsageError
from statekit.sessions.model import Rules, SessionEvent, SessionEventKind, SessionInfo
from statekit.sessions.record import Ended, is_handle
from statekit.store.keys import Keys, encoded
from statekit.store.op import Call, Op, Reply, Script, ask

if TYPE_CHECKING:
    from statekit.sessions.seen import LastSeen

__all__ = ["TOMBSTONE_MS", "Endings", "checked"]

REVOKE = Script.load(__package__, "revoke")
GLANCE = Script.load(__package__, "glance", read_only=True)
ROSTER = Script.load(__package__, "roster", read_only=True)
WITHDRAW = Script.load(__package__, "withdraw")

TOMBSTONE_MS = 60_000
"""How long an ended session's name stays taken, and a retired one names its successor."""
LISTED = 1000
"""Sessions of one principal that a list shows, newest first."""
BATCH = 500
"""Sessions revoked in one round trip."""


@dataclass(frozen=True, slots=True)
class Endings:
    """What ends and lists the sessions of one store, and what that shares with reading and writing them."""

    keys: Keys
    rules: Rules
    now: Callable[[], int | str]
    emit: Callable[[Any], None]
    """Takes each `SessionEvent` and `SessionGrown`."""
    degraded: Callable[[str, Exception], None]
    """Is told what got the declared answer for an outage, "open" or "save", and why."""
    confirmed: Callable[[Op[Any]], Op[Any]]
    """Wraps an operation whose loss in a failover would do harm: who is signed in, and who is no longer."""
    seen: LastSeen
    """What this process keeps for an outage; told of every session that ends here."""

    def revoking(self, handle: str) -> Op[bool]:
        """End the session with this handle, and what it was renewed from or into; True if it was live."""
        return self.confirmed(self._revoking(handle))

    def _revoking(self, handle: str) -> Op[bool]:
        waiting, seen, live = [_handle(handle)], set[str](), False
        cleaning: tuple[Call, ...] = ()
        while waiting or cleaning:
            ending = tuple(self._ending(name) for name in waiting)
            replies = checked((yield ending + cleaning))
            seen.update(waiting)
            ended = [Ended.read(name, reply) for name, reply in zip(waiting, replies, strict=False)]
            live = live or any(one.live for one in ended)
            cleaning = tuple(self._withdrawal(one.principal, (one.handle,)) for one in ended if one.principal)
            waiting = [name for one in ended for name in one.kin if name not in seen]
            self._tell_ended(ended)
        return live

    def revoking_all(self, principal: str, keep: str | None = None) -> Op[int]:
        """End every session of a principal but `keep`; returns how many were live.

        A session being renewed meanwhile is found too: the record it replaces names it.
        """
        return self.confirmed(self._revoking_all(principal, keep))

    def _revoking_all(self, principal: str, keep: str | None) -> Op[int]:
        seen = set() if keep is None else {_handle(keep)}
        self.seen.forget_all(principal, keep)
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
        replies = checked((yield tuple(self._ending(name) for name in names)))
        ended = [Ended.read(name, reply) for name, reply in zip(names, replies, strict=True)]
        yield from ask(self._withdrawal(principal, names))
        self._tell_ended(ended)
        return ended

    def listing(self, principal: str) -> Op[list[SessionInfo]]:
        """The live sessions of a principal, newest first. One whose record is damaged is left out: nobody can use it."""
        names = yield from self._listed(principal, LISTED)
        if not names:
            return []
        calls = tuple(GLANCE.call((self._record(name),), (self.now(),)) for name in names)
        replies = checked((yield calls))
        found = [SessionInfo.read(name, reply) for name, reply in zip(names, replies, strict=True) if reply]
        return sorted((one for one in found if one), key=lambda info: info.created, reverse=True)

    def _listed(self, principal: str, most: int) -> Op[list[str]]:
        names = yield from ROSTER((self._index(principal),), (self.now(), most))
        return [name.decode() for name in names if is_handle(name)]

    # -- words -------------------------------------------------------------------------------------------

    def _record(self, handle: str) -> str:
        return self.keys.of("session", handle)

    def _index(self, principal: str) -> str:
        return self.keys.of("sessions", encoded(principal, "principal"))

    def _ending(self, handle: str) -> Call:
        self.seen.forget(handle)
        return REVOKE.call((self._record(handle),), (self.now(), TOMBSTONE_MS))

    def _withdrawal(self, principal: str, names: Sequence[str]) -> Call:
        return WITHDRAW.call((self._index(principal),), names)

    def _tell(self, kind: SessionEventKind, handle: str, principal: str | None = None) -> None:
        self.emit(SessionEvent(kind, handle, principal))

    def _tell_ended(self, ended: Iterable[Ended]) -> None:
        for one in ended:
            if one.live:
                self._tell(SessionEventKind.REVOKED, one.handle, one.principal or None)


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))


def checked(replies: Sequence[Reply]) -> Sequence[Reply]:
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
