"""What both faces of the flags share: all that is local, and it is most of it."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from statekit.errors import DocumentInvalid, UnknownFlag, UsageError
from statekit.flags.buckets import bucket
from statekit.flags.compiled import Decide, Outcome, Reason, override_outcome
from statekit.flags.core import Flag, Kind
from statekit.flags.explain import (
    Explanation,
    FlagChange,
    FlagMismatch,
    FlagRevision,
    FlagUnknown,
)
from statekit.flags.shelf import Shelf
from statekit.replica import AsyncReplica, Change, Entry, Replica, Written
from statekit.replica.core import Absent
from statekit.replica.protocol import dumped
from statekit.store.codec import tree
from statekit.store.fork import on_fork
from statekit.store.hooks import Hooks
from statekit.store.op import Op
from statekit.store.store import Clock

__all__ = ["LocalFlags", "checked", "revision"]

R = TypeVar("R", Replica, AsyncReplica)

COMPARED = 1000
"""Names that one unknown is compared with, to say which may have been meant: it takes 10 µs each."""
_overrides: ContextVar[Mapping[tuple[int, str], Outcome] | None] = ContextVar("statekit_flags", default=None)
"""What `override` set in this context; one variable for all kits, because context variables are for ever."""
_overriding = False
"""Whether anything was ever overridden in this process: mostly not, and asking a context variable takes 30 ns."""


class LocalFlags(Generic[R]):
    """Flags answered from the copy in this process."""

    def __init__(self, replica: R, hooks: Hooks, clock: Clock | None = None) -> None:
        self._replica: R = replica
        self._hooks = hooks
        self._shelf = Shelf(self._lookup, clock or replica.store_time, hooks.emit)
        self._rules = self._shelf.rules
        """What is answered from at once: all that was read, or nothing until `_ready` has asked the store."""
        self._told: set[object] = set()
        replica.derive(self._take)
        on_fork(self)

    # -- local answers -----------------------------------------------------------------------------------
    # The name is positional only: Python compares each attribute given by keyword with every parameter that could
    # be meant, 30 ns a pair; and an attribute may be called "name".

    def enabled(self, name: str, /, *, actor: Any = None, default: bool = False, **attributes: Any) -> bool:
        """Whether a flag is on for an actor; local, well under a microsecond, never raises for the store.

        `actor` is who a percentage is decided by (a user id, a tenant: any text or number); `attributes` are
        what rules speak of. `default` is answered for a flag nobody has set.

        >>> from statekit import Flag, StateKit
        >>> kit = StateKit.in_memory()
        >>> _ = kit.flags.set("new-checkout", Flag(rollout=25), by="ann")
        >>> kit.flags.enabled("new-checkout", actor="user:4"), kit.flags.enabled("new-checkout", actor="user:7")
        (True, False)
        """
        try:
            decide = self._rules[name]
        except (KeyError, TypeError):  # a list or dict cannot even be looked up
            return self._decided(name, actor, default, attributes).enabled
        if _overriding and _overrides.get() is not None:
            return self._decided(name, actor, default, attributes).enabled
        return decide(actor, attributes).enabled

    def value(self, name: str, /, default: Any = None, *, actor: Any = None, **attributes: Any) -> Any:
        """The value a flag serves to an actor, of the type of `default`; local, never raises for the store.

        `default` is answered for a flag nobody has set, for a flag that is off (a boolean flag that is off
        is False), and for a value of another type than `default`, which is reported to the hooks once. A dict
        or list is the caller's own copy.
        """
        try:
            decide = None if _overriding and _overrides.get() is not None else self._rules.get(name)
        except TypeError:  # as above
            decide = None
        outcome = decide(actor, attributes) if decide else self._decided(name, actor, default, attributes)
        if outcome.silent:
            return default
        value = outcome.value
        if type(value) is type(default) and not outcome.shared:
            return value
        return self._typed(name, outcome, default)

    def explain(
        self, name: str, /, *, actor: Any = None, default: Any = None, **attributes: Any
    ) -> Explanation:
        """Why a flag answers what it answers: the rule, the bucket, the version; local."""
        outcome = self._decided(name, actor, default, attributes)
        flag = self._shelf.flag(name)
        salt = (flag.salt if flag else "") or name
        return Explanation(
            name=name,
            value=default if outcome.silent else self._typed(name, outcome, default),
            enabled=outcome.enabled,
            variant=outcome.variant,
            reason=outcome.reason,
            rule=outcome.rule,
            bucket=None if actor is None else bucket(salt, actor),
            version=self._replica.version,
            stale=self._replica.stale,
            suggestion=self._similar(name) if outcome.reason is Reason.UNKNOWN else None,
            error=self._shelf.errors.get(name),
        )

    @contextlib.contextmanager
    def override(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Answer these values in this context: ``with kit.flags.override({"new-checkout": True}):``.

        Seen by this thread or asyncio task and those it starts with its context, by nobody else; may be nested.
        """
        if not isinstance(values, Mapping):
            raise UsageError(
                f"override({values!r}): give a mapping of names to values, {{'new-checkout': True}}"
            )
        global _overriding  # noqa: PLW0603 - set once, for ever
        mine = {(id(self), _named(name)): override_outcome(value) for name, value in values.items()}
        before = _overrides.get()
        _overriding = True
        _overrides.set({**(before or {}), **mine})
        try:
            yield
        finally:
            _overrides.set(before)  # not a reset by token: the end may come in a copy of the context

    def names(self) -> tuple[str, ...]:
        """The names of all flags, sorted."""
        self._ready()
        return tuple(sorted(self._shelf.names()))

    def all(self) -> Mapping[str, Flag]:
        """All flags by name, as they are now."""
        self._ready()
        told = ((name, self._shelf.flag(name)) for name in self._shelf.names())
        return MappingProxyType({name: flag for name, flag in told if flag is not None})

    def get(self, name: str) -> Flag | None:
        """One flag's document, or None."""
        self._ready()
        return self._shelf.flag(_named(name))

    @property
    def version(self) -> int:
        """The version of the flags this process shows; it grows by one with each write, of whichever flag."""
        return self._replica.version

    @property
    def epoch(self) -> str:
        """The data set the version counts in; another one after the store was flushed and refilled."""
        return self._replica.epoch

    @property
    def stale(self) -> bool:
        """Whether the flags may be behind: the store has not confirmed them lately, or lost its data."""
        return self._replica.stale

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that these flags are current; infinite if it never has."""
        return self._replica.age

    def on_change(self, callback: Callable[[FlagChange], None]) -> Callable[[], None]:
        """Call ``callback(change)`` when flags have changed here; returns a function that ends it.

        It runs in the background thread or task that applied the change; the new answers are already given.
        """
        if not callable(callback):
            raise UsageError(f"on_change({callback!r}): give a function of one argument, the change")
        return self._replica.on_change(
            lambda change: callback(FlagChange(change.names, change.snapshot.version))
        )

    # -- operations, for adapters that share round trips -------------------------------------------------

    def setting(
        self, name: str, flag: Flag, *, by: str = "", reason: str = "", if_version: int | None = None
    ) -> Op[Written]:
        """The operation behind `set`; hand its result to `took`."""
        return self._replica.writing(
            name, checked(self._shelf.flag, name, flag), by=by, reason=reason, if_version=if_version
        )

    def took(self, written: Written) -> None:
        """Show a write of `setting` in this process at once."""
        self._replica.took(written)

    # -- the inside --------------------------------------------------------------------------------------

    def _ready(self) -> None:
        """Have the flags at hand as far as that is possible without awaiting."""
        raise NotImplementedError

    def _answer_at_once(self) -> None:
        while self._rules is not self._shelf.rules:  # again if a change came in between
            self._rules = self._shelf.rules

    def after_fork(self) -> None:
        """Answer nothing in a child before `_ready` has run there: a blocking one then asks the store itself."""
        self._rules = {}
        self._shelf.after_fork()

    def _decided(self, name: str, actor: Any, default: Any, attributes: dict[str, Any]) -> Outcome:
        _named(name)
        overrides = _overrides.get()
        overridden = overrides.get((id(self), name)) if overrides else None
        if overridden is not None:
            return overridden
        self._ready()
        decide = self._shelf.find(name)
        return decide(actor, attributes) if decide else self._unknown(name, default)

    def _lookup(self, name: str) -> Decide | None:
        overrides = _overrides.get()
        overridden = overrides.get((id(self), name)) if overrides else None
        return self._shelf.find(name) if overridden is None else lambda _actor, _attributes: overridden

    def _unknown(self, name: str, default: Any) -> Outcome:
        if name in self._shelf.errors:
            return _unset(default, Reason.INVALID)
        if name not in self._told:
            self._tell(name, lambda: FlagUnknown(name, self._similar(name)))
        return _UNSET if default is False else _unset(default, Reason.UNKNOWN)

    def _typed(self, name: str, outcome: Outcome, default: Any) -> Any:
        value = outcome.value
        if default is None or type(value) is type(default):
            return deepcopy(value) if outcome.shared else value
        if type(default) is float and type(value) is int:
            return float(value)
        if outcome.shared and isinstance(default, dict | list):
            return deepcopy(value)
        self._tell(("mismatch", name), lambda: FlagMismatch(name, value, default))
        return default

    @contextlib.contextmanager
    def _existing(self, name: str) -> Iterator[None]:
        """Say of a flag that cannot be deleted because it is not there what may have been meant."""
        try:
            yield
        except Absent:
            near = self._similar(name)
            cure = f"did you mean {near!r}?" if near else "flags.names() lists those there are"
            raise UnknownFlag(f"there is no flag {name!r:.80}: {cure}; nothing was written") from None

    def _similar(self, name: str) -> str | None:
        return next(iter(difflib.get_close_matches(name, self._shelf.names(COMPARED), 1)), None)

    def _tell(self, once: object, event: Callable[[], object]) -> None:
        if self._hooks and once not in self._told and len(self._told) < 10_000:  # names may come from outside
            self._told.add(once)
            self._hooks.emit(event())

    def _take(self, change: Change) -> None:
        self._shelf.take(change)
        self._rules = self._shelf.rules


def _unset(default: Any, reason: Reason) -> Outcome:
    return Outcome(
        on=False, enabled=default is True, value=default, kind=Kind.OBJECT, variant=None, reason=reason
    )


_UNSET = _unset(False, Reason.UNKNOWN)  # noqa: FBT003


def _named(name: str) -> str:
    if not isinstance(name, str):
        raise UsageError(f"flag name={name!r} is {type(name).__name__}: give text")
    return name


def checked(known: Callable[[str], Flag | None], name: str, flag: Flag) -> str:
    """The text of a flag to be stored; refuses what would never be on."""
    if not isinstance(flag, Flag):
        raise UsageError(f"{name!r}: {flag!r} is {type(flag).__name__}, not a Flag: give Flag(enabled=…)")
    _no_circle(known, name, flag)
    return dumped(flag.document())


def _no_circle(known: Callable[[str], Flag | None], name: str, flag: Flag) -> None:
    seen: set[str] = set()
    todo = list(flag.prerequisites)
    while todo:
        other = todo.pop()
        if other == name:
            raise UsageError(f"{name!r} would be its own prerequisite, by way of {sorted(seen | {other})}")
        there = None if other in seen else known(other)
        if there is not None:
            seen.add(other)
            todo += there.prerequisites


def revision(entry: Entry) -> FlagRevision:
    before, after = (_readable(text) for text in (entry.before, entry.after))
    return FlagRevision(entry.version, entry.at, entry.name, entry.by, entry.reason, before, after)


def _readable(text: str | None) -> Flag | None:
    if text is None:
        return None
    with contextlib.suppress(DocumentInvalid, ValueError):
        return Flag.of(tree(text))
    return None
