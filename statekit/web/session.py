"""The session of one request: a statekit session behind a mapping that knows whether the app has used it.

Rule 1: a request that does not touch its session writes nothing, and neither does one that changes nothing.
Rule 2: a session that was revoked while the request ran is never written back.
Rule 3: what the app changed and could not be saved is an error, never a false success. Only where a route has
        declared to go on without the store, and the request was made by a method that asks for no change, the answer
        leaves all the same; and never if somebody was to be signed in or out.
Rule 4: what was seen last is for looking at. A request by a method that asks for a change is not made in the name of
        a session that may have been ended since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, TypeVar

from statekit.errors import NotReplicated, StoreError, StoreUnavailable
from statekit.sessions.model import Outage, SaveOutcome
from statekit.sessions.session import Session

__all__ = ["RequestSession"]

T = TypeVar("T")
SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods that ask for no change (RFC 9110, 9.2.1)."""
_UNSEEN = object()


class RequestSession(MutableMapping[str, Any]):
    """A mapping of text keys to data (str, int, float, bool, None, bytes, datetime, tuples, lists and dicts of them).

    Anything else raises `NonPrimitiveValue` at the assignment. A list or dict changed in place is saved.
    ``clear()`` ends the session: what is assigned afterwards begins a new one.
    """

    _sessions: Any
    """What it comes from: `Sessions` or `AsyncSessions`."""

    def __init__(self, sign_in_key: str | None = None, method: str = "GET") -> None:
        self._sign_in_key = sign_in_key
        self._asks_for_change = method not in SAFE
        self._signed_in_as: object = _UNSEEN
        self._opened: Session | None = None
        self.used = False
        """Whether the app has read or written anything of it."""

    def _fetched(self) -> Session:
        """The session, for the first use; each adapter has its own way to get it, or to refuse."""
        raise NotImplementedError

    def adopt(self, opened: Session) -> None:
        """Take what the operation that reads it returned."""
        self._opened = opened

    @property
    def opened(self) -> Session:
        """The `statekit.Session` behind it."""
        self.used = True
        if self._opened is None:
            self._opened = self._fetched()
        return self._opened

    # -- the mapping -------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        return self.opened[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._watch(key)
        self.opened[key] = value

    def __delitem__(self, key: str) -> None:
        self._watch(key)
        del self.opened[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.opened)

    def __len__(self) -> int:
        return len(self.opened)

    def __contains__(self, key: object) -> bool:
        return key in self.opened

    def clear(self) -> None:
        """End the session and start with an empty one."""
        self.opened.sign_out()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name}, not opened>" if self._opened is None else f"<{name} {self._opened!r}>"

    # -- what a statekit session has besides -------------------------------------------------------------

    @property
    def new(self) -> bool:
        """Whether nothing is stored under its id yet."""
        return self.opened.is_new

    @property
    def principal(self) -> str | None:
        """Whom the session is signed in as, or None."""
        return self.opened.principal

    @property
    def handle(self) -> str:
        """The public name, for lists, logs and ``sessions.revoke(handle)``; never the credential."""
        return self.opened.handle

    @property
    def degraded(self) -> bool:
        """True if the store could not be read: what is shown instead will not be written."""
        return self.opened.degraded

    @property
    def age(self) -> float | None:
        """Seconds since the store confirmed what is shown, if the session is the one seen last; else None."""
        return self.opened.age

    @property
    def changed(self) -> bool:
        """Whether saving would write anything."""
        return self._opened is not None and self._opened.modified

    def sign_in(self, principal: str) -> None:
        """Renew the id, keep the data, and list the session under `principal`, when it is saved."""
        self.opened.sign_in(principal)

    def renew(self) -> None:
        """Renew the id because privileges changed (a role, a password), when it is saved."""
        self.opened.renew()

    def sign_out(self) -> None:
        """End the session; same as `clear`."""
        self.opened.sign_out()

    def hydrate(self, key: str, load: Callable[[Any], T]) -> T | None:
        """The object the id under `key` stands for, loaded once a request."""
        return self.opened.hydrate(key, load)

    # -- when it could not be saved ----------------------------------------------------------------------

    def _shown(self, declared: str | None) -> str:
        """What this request shows of a session that cannot be read, on a route that has declared this."""
        policy: str = declared or self._sessions.rules.on_outage
        return Outage.RAISE if policy == Outage.LAST_SEEN and self._asks_for_change else policy

    def forgive(self, error: StoreError) -> bool:
        """Go on with an answer whose session could not be saved, if its route may; returns whether it does."""
        opened = self._opened
        if opened is None or self._asks_for_change or opened.on_outage in (None, Outage.RAISE):
            return False
        if opened.change is not opened.change.NONE or self._signs(opened) or isinstance(error, NotReplicated):
            return False
        if not opened.degraded:  # else it has been counted
            self._sessions.forgive(error)
        return True

    def _insisted(self, outcome: SaveOutcome) -> SaveOutcome:
        """Return the outcome of a save; raises `StoreUnavailable` if what was changed got lost."""
        if outcome is SaveOutcome.DEGRADED:
            raise StoreUnavailable(
                "the store was away when this session was read, so what was changed in it cannot be saved"
            )
        return outcome

    # -- before it is saved ------------------------------------------------------------------------------

    def _watch(self, key: str) -> None:
        if key == self._sign_in_key and self._signed_in_as is _UNSEEN:
            self._signed_in_as = self.opened.get(key)

    def _follow_sign_in(self, opened: Session) -> None:
        """Do for flask-login and its like what `sign_in` does: renew the id, list the session, or end it."""
        key = self._sign_in_key
        if key is None or opened.change is not opened.change.NONE or not self._signs(opened):
            return
        user = opened.get(key)
        if user is not None:
            opened.sign_in(str(user))
        else:
            rest = dict(opened)
            opened.sign_out()
            opened.update(rest)

    def _signs(self, opened: Session) -> bool:
        """Whether the key that stands for a sign-in has another value than before."""
        key = self._sign_in_key
        return key is not None and self._signed_in_as is not _UNSEEN and opened.get(key) != self._signed_in_as
