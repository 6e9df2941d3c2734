"""A session as a request sees it: a mapping that knows what was changed. No I/O happens here.

Rule 1: reading loads (through the loader a face has bound), assigning checks, and only `core` writes.
Rule 2: values are decoded when they are first read, and encoded again when the session is saved; what
        differs from what was loaded is what gets written. So a list changed in place is not lost.
Rule 3: the id is shown by `id` alone: no repr, error, log or event carries it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

from statekit.errors import CorruptValue, NonPrimitiveValue, StoreError, StoreUnavailable, UsageError
from statekit.sessions.model import Outage, handle_of, moment
from statekit.sessions.record import SEALED, Record
from statekit.sessions.seals import Seals
from statekit.store.codec import checked, decode, encode, is_plain

__all__ = ["UNCHANGED", "Change", "Session"]

T = TypeVar("T")


class Change(StrEnum):
    """What shall happen to the id when the session is saved."""

    NONE = "none"
    RENEW = "renew"
    SIGN_IN = "sign-in"
    SIGN_OUT = "sign-out"


UNCHANGED = Change.NONE
UNALTERABLE = frozenset((str, int, float, bool, NoneType, bytes))
"""Types whose values nobody can change in place: what was read and not assigned anew is what is stored."""


class Session(MutableMapping[str, Any]):
    """One visitor's state: a mapping of text keys to data, kept in the store under the hash of its id.

    Values are str, int, float, bool, None, bytes, datetime, date, and tuples, lists and dicts of them;
    anything else raises `NonPrimitiveValue` at the assignment, naming key, type and cure. Handed out by
    ``sessions.open(cookie)``; written by ``sessions.save(s)``. Belongs to one request: it is not thread-safe.

    Reading the first key of a session that is not loaded yet costs one round trip. If the store does not answer it
    raises `StoreUnavailable`, unless ``on_outage`` says what to show instead.
    """

    _id: str | None = None
    _principal: str | None = None
    record: Record | None = None
    """What was loaded; None for a new session."""
    wire: Mapping[str, bytes] = MappingProxyType({})
    """The values as they are in the store, by key: encoded, and encrypted if that was asked for."""
    on_outage: Outage | None = None
    """What it shows if the store cannot be read; None: what its `sessions` were told."""
    outage: StoreError | None = None
    """Why the store could not be read, if something was shown instead."""
    asked = 0
    """When the store was asked for it, by this process's clock, if such moments are noted."""
    change = UNCHANGED
    carries = True
    """False once signed out: nothing of the old record may enter the new one."""
    _age: float | None = None

    def __init__(
        self,
        presented: str | None,
        mint: Callable[[], str],
        load: Callable[[Session], object] | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.presented = presented
        """The well-formed id the request came with, whether or not it names a session."""
        self._mint = mint
        self._load = load
        self._seals = seals
        self._values: dict[str, Any] = {}
        self._assigned: set[str] = set()
        self._deleted: set[str] = set()
        self._hydrated: dict[str, tuple[Any, Any]] = {}
        self.loaded = presented is None

    # -- who it is ---------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The credential: 256 random bits as 43 characters. Only for the cookie; never log it."""
        self._ready()
        if self._id is None:
            self._id = self._mint()
        return self._id

    @property
    def handle(self) -> str:
        """The public name, for lists, logs and `revoke`: the SHA-256 of the id in hexadecimal."""
        return handle_of(self.id)

    @property
    def is_new(self) -> bool:
        """Whether this session has never been written: no cookie, or one that names no session."""
        self._ready()
        return self.record is None

    @property
    def principal(self) -> str | None:
        """Whom the session is signed in as, or None."""
        self._ready()
        return self._principal

    @property
    def read_only(self) -> bool:
        """Whether this is the view an old id shows during its grace, or a degraded session: saves do nothing."""
        self._ready()
        return self.degraded or (self.record is not None and self.record.retired)

    @property
    def degraded(self) -> bool:
        """True if the store could not be read: what is shown instead will not be written, nor change its id."""
        self._ready()
        return self.outage is not None

    @property
    def age(self) -> float | None:
        """Seconds since the store confirmed what is shown, if that was not now: ``on_outage="last-seen"``; else None."""
        self._ready()
        return self._age

    @property
    def created(self) -> datetime | None:
        """When the session was first written, in UTC; None for a new one."""
        self._ready()
        return moment(self.record.created) if self.record else None

    @property
    def expires(self) -> datetime | None:
        """The absolute deadline, in UTC; None for a new session."""
        self._ready()
        return moment(self.record.absolute) if self.record else None

    @property
    def modified(self) -> bool:
        """Whether saving now would write anything. Does not load a session that nobody has touched."""
        return self.loaded and (self.change is not UNCHANGED or any(self.delta()))

    # -- what changes its id -----------------------------------------------------------------------------

    def sign_in(self, principal: str) -> None:
        """Give the session a new id that belongs to `principal`, at the next save; the data comes along.

        The old id shows, for the store's grace, the session as it was before, read-only and signed in as
        nobody; then it is unknown. A session that was already signed in leaves no such view. The absolute
        deadline starts again. Raises `UsageError` for a principal that is not text, or empty, and
        `StoreUnavailable` on a degraded session, which could not remember it.
        """
        if not isinstance(principal, str) or not principal:
            raise UsageError(f"principal={principal!r}: give non-empty text such as 'user:7'")
        self._renewed(Change.SIGN_IN)
        self._principal = principal

    def renew(self) -> None:
        """Give the session a new id at the next save, because its privileges changed (a role, a password).

        Principal, data and absolute deadline stay. The old id shows the session as it was, read-only, for
        the store's grace. Does nothing to a new session, whose id is fresh. Raises `StoreUnavailable` on a degraded
        session.
        """
        if self.degraded or not self.is_new:
            self._renewed(Change.RENEW if self.change is UNCHANGED else self.change)

    def sign_out(self) -> None:
        """Empty the session, and end it in the store at the next save.

        What is assigned afterwards (a farewell message) goes into a new, anonymous session. Raises
        `StoreUnavailable` on a degraded session.
        """
        self._ready()
        if self.degraded:
            raise StoreUnavailable("the session could not be read, so it cannot be ended now: try again")
        self._values.clear()
        self._assigned.clear()
        self._deleted.clear()
        self.wire = {}
        self._id = self._principal = None
        self.carries = False
        self.change = Change.SIGN_OUT if self.record is not None else UNCHANGED

    def _renewed(self, change: Change) -> None:
        self._ready()
        if self.degraded:
            raise StoreUnavailable(
                "the session could not be read, so its id cannot be renewed now: try again"
            )
        if self.change is not change:
            self._id = None
        self.change = change

    # -- the mapping -------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        if not self.loaded:
            self._ready()
        if key in self._values:
            return self._values[key]
        if key in self._deleted:
            raise KeyError(key)
        value = self._values[key] = self._read(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise NonPrimitiveValue(
                f"session key {key!r} is {type(key).__name__}: keys are text, use str(key)"
            )
        if not is_plain(value):
            checked(value, f"session[{key!r}]")
        self._ready()
        self._values[key] = value
        self._assigned.add(key)
        self._deleted.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._values.pop(key, None)
        self._assigned.discard(key)
        if key in self.wire:
            self._deleted.add(key)

    def __iter__(self) -> Iterator[str]:
        self._ready()
        return iter([key for key in {**self.wire, **self._values} if key not in self._deleted])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        self._ready()
        return key in self._values or (key in self.wire and key not in self._deleted)

    def clear(self) -> None:
        """Remove every key; what could no longer be decoded goes too."""
        self._ready()
        self._values.clear()
        self._assigned.clear()
        self._deleted.update(self.wire)

    def __repr__(self) -> str:
        """Show the public handle and the names of the keys; never the id, never a value."""
        if not self.loaded:
            return "<Session, not loaded>"
        name = self.handle[:12] if self._id else "new"
        return f"<Session {name} principal={self._principal!r} keys={sorted(self)}>"

    # -- objects behind keys -----------------------------------------------------------------------------

    def hydrate(self, key: str, load: Callable[[Any], T]) -> T | None:
        """The object that the id under `key` stands for, loaded with ``load(id)`` once for this session object.

        None if the key is missing; loaded again if the id changed meanwhile. Store ``user.id``, not ``user``::

            user = s.hydrate("user_id", lambda id: db.get(User, id))
        """
        _hydratable(key, load)
        if key not in self:
            return None
        known = self._hydrated.get(key)
        if known is None or known[0] != self[key]:
            known = self._hydrated[key] = (self[key], load(self[key]))
        return known[1]

    def ahydrate(self, key: str, load: Callable[[Any], Awaitable[T]]) -> Awaitable[T | None]:
        """Same as `hydrate`, for a coroutine function; to be awaited."""
        _hydratable(key, load)
        return _hydrated(self, self._hydrated, key, load)

    # -- for core ----------------------------------------------------------------------------------------

    def arrived(self, record: Record | None) -> None:
        """Take what was loaded; without a record the session is a new one with an id of its own."""
        self.loaded, self.record = True, record
        if record is not None:
            self._id = self.presented
            self._written_under(self._id)
            self._principal = record.principal
            self.wire = record.fields

    def substituted(self, record: Record | None, age: float | None, error: StoreError) -> None:
        """Take what is shown instead of what the store could not be asked for."""
        self.arrived(record)
        self.outage, self._age = error, age

    def delta(self) -> tuple[dict[str, bytes], set[str]]:
        """What a save has to write: encoded values that differ from the stored ones, and keys to delete.

        A sign-in also writes what was assigned without differing: what is stored may have ended meanwhile.
        Raises `NonPrimitiveValue` if something that is not data was put inside a stored list or dict.
        """
        assigned, changed = self._assigned, {}
        insists = assigned if self.change is Change.SIGN_IN else ()
        stored = self.wire.get if self._seals is None else self._stored
        for key, value in self._values.items():
            if key in assigned or type(value) not in UNALTERABLE:
                raw = encode(value, f"session[{key!r}]")
                if raw != stored(key) or key in insists:
                    changed[key] = raw
        return changed, set(self._deleted)

    def sealed(self, content: dict[str, bytes]) -> dict[str, bytes]:
        """Encoded values as they are to lie in the store, under the id that the session then has."""
        return content if self._seals is None or not content else self._seals.sealed(content, self.id)

    def resealed(self, fields: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What lies in the store under the old id, for the new one."""
        return fields if self._seals is None else self._seals.resealed(fields, self.id)

    def written(self, record: Record | None) -> None:
        """Take note of what the store holds now; the next save starts from there."""
        self._written_under(self._id)
        renewed = self.change is not UNCHANGED
        self.record, self.change, self.carries = record, UNCHANGED, True
        self._principal = record.principal if record else None
        self.wire = record.fields if record else {}
        self._assigned.clear()
        self._deleted.clear()
        if renewed:
            self._reread()

    def _reread(self) -> None:
        """Forget values that the store does not hold: others wrote meanwhile, or it had ended.

        A list that was read before must not bring them back with the next save.
        """
        stale = [
            key
            for key, value in self._values.items()
            if key not in self.wire or encode(value, f"session[{key!r}]") != self._stored(key)
        ]
        for key in stale:
            del self._values[key]

    def mint_again(self) -> None:
        """Forget the id that was to be used: it is taken."""
        self._id = None

    def _ready(self) -> None:
        if self.loaded:
            return
        if self._load is None:
            raise UsageError(
                "this session is not loaded yet: `await sessions.load(session)` before reading it"
            )
        self._load(self)

    def _written_under(self, id_: str | None) -> None:
        if self._seals is not None:
            self._seals.written(id_ or "")

    def _stored(self, key: str) -> bytes | None:
        return self._seals.known(key, self.wire.get(key)) if self._seals else self.wire.get(key)

    def _read(self, key: str) -> Any:
        raw = self.wire[key]
        try:
            return decode(raw if self._seals is None else self._seals.plain(key, raw))
        except CorruptValue as error:
            why = str(error)
            if self._seals is None and raw.startswith(SEALED):
                why = "it is encrypted, and these sessions were made without encryption="
            raise CorruptValue(
                f"session[{key!r}] cannot be read: {why}; `del session[{key!r}]` removes it"
            ) from error


def _hydratable(key: object, load: object) -> None:
    if not isinstance(key, str):
        raise UsageError(
            f"hydrate({key!r:.80}): the first argument is a key of the session, such as 'user_id'"
        )
    if not callable(load):
        raise UsageError(
            f"hydrate({key!r:.80}, {load!r:.80}): give a function of the id that loads the object"
        )


async def _hydrated(
    session: Session, found: dict[str, tuple[Any, Any]], key: str, load: Callable[[Any], Awaitable[T]]
) -> T | None:
    if key not in session:
        return None
    known = found.get(key)
    if known is None or known[0] != session[key]:
        known = found[key] = (session[key], await load(session[key]))
    return known[1]
