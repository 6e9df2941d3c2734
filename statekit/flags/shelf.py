"""The flags of one process, compiled: when they change, or, of very many at once, when they are first asked for.

Rule 1: reading takes no lock and sees one flag whole; what changed together is swapped together.
Rule 2: a flag that is in use, or that changes with few others, is read at once: that its document makes no flag
        is told when it arrives, and leaves the earlier one in force.
Rule 3: a change of one flag costs the same however many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

from statekit.errors import DocumentInvalid
from statekit.flags.compiled import Clock, Decide, Lookup, compiled
from statekit.flags.core import Flag
from statekit.flags.explain import FlagInvalid
from statekit.replica import Change
from statekit.store.codec import tree

__all__ = ["Shelf"]

FEW = 1000
"""Flags of one change that are read at once, whether or not anybody will ask for them."""


class Shelf:
    """Documents in, decisions out."""

    def __init__(self, lookup: Lookup, clock: Clock, tell: Callable[[Any], None]) -> None:
        self._lookup = lookup
        self._clock = clock
        self._tell = tell
        self._lock = threading.RLock()
        self._unread: dict[str, str] = {}
        self.rules: dict[str, Decide] = {}
        """What was read; a flag that is not here may still be found by `find`."""
        self.flags: dict[str, Flag] = {}
        self.errors: dict[str, str] = {}

    def take(self, change: Change) -> None:
        """Put the documents that changed in the place of the earlier ones."""
        with self._lock:
            rules, flags = self.rules, self.flags
            if len(change.names) > 1:
                rules, flags = rules.copy(), flags.copy()
            read = [name for name in change.names if self._put(name, change, rules, flags)]
            self.flags, self.rules = flags, rules
            for name in read:  # last, so that at every moment a reader finds a flag in one place or the other
                self._unread.pop(name, None)
        self._report(change.names)

    def find(self, name: str) -> Decide | None:
        """What decides a flag, read now if it has not been; None if there is none, or none that is valid."""
        if name in self._unread:
            with self._lock:
                text = self._unread.get(name)
                if text is not None:
                    self._read(name, text, self.rules, self.flags)
                    del self._unread[name]
            if text is not None:
                self._report((name,))
        return self.rules.get(name)

    def flag(self, name: str) -> Flag | None:
        """What a flag says."""
        self.find(name)
        return self.flags.get(name)

    def names(self, most: int | None = None) -> set[str]:
        """The names of all flags, or of some."""
        with self._lock:
            return {*islice(chain(self.flags, self._unread), most)}

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def _put(self, name: str, change: Change, rules: dict[str, Decide], flags: dict[str, Flag]) -> bool:
        """Take one document; true if what was there unread before is of no use any more."""
        document = change.snapshot.documents.get(name)
        self.errors.pop(name, None)
        if document is None:
            rules.pop(name, None)
            flags.pop(name, None)
            return True
        if name in rules or len(change.names) <= FEW:
            return self._read(name, document.text, rules, flags)
        self._unread[name] = document.text
        return False

    def _read(self, name: str, text: str, rules: dict[str, Decide], flags: dict[str, Flag]) -> bool:
        """Compile a flag; a document that makes none leaves the earlier one in force."""
        try:
            flag = Flag.of(tree(text))
            decide = compiled(name, flag, self._lookup, self._clock)
        except (DocumentInvalid, ValueError) as error:
            self.errors[name] = str(error)
            return False
        flags[name], rules[name] = flag, decide
        return True

    def _report(self, names: Iterable[str]) -> None:
        for name in names if self.errors else ():
            error = self.errors.get(name)
            if error is not None:
                self._tell(FlagInvalid(name, error))
