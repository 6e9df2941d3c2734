"""What a replicated set of documents is: a log of writes. What a version was when it was written, it is for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Documents = dict[str, tuple[int, str]]
"""By name: the version of the last write, and its text."""


class Name(NamedTuple):
    """A state of a data set. Servers that take over give versions out again, but not at the same moment."""

    epoch: str
    version: int
    at: int = 0


@dataclass
class History:
    """Everything any server ever held, by name."""

    held: dict[Name, Documents] = field(default_factory=dict)
    now: Name | None = None
    """What the store holds; None: it lost everything."""

    def wrote(self, name: Name, document: str, text: str | None) -> None:
        """A write happened: it is the next version, or the first of a new epoch."""
        before = self.held[self.now] if self.now else {}
        assert name[:2] == ((self.now.epoch, self.now.version + 1) if self.now else (name.epoch, 1))
        after = {key: one for key, one in before.items() if key != document}
        self._holds(name, after if text is None else {**after, document: (name.version, text)})

    def put_back(self, epoch: str, version: int, documents: Documents) -> None:
        """A reader gave a store that was empty what it shows."""
        assert self.now is None
        self._holds(Name(epoch, version), documents)

    def renamed(self, epoch: str, version: int) -> None:
        """The store is not the one a reader has seen: what it holds is a data set of its own from here on."""
        assert self.now
        assert (epoch, version) != self.now[:2]
        self._holds(Name(epoch, version), self.held[self.now])

    def _holds(self, name: Name, documents: Documents) -> None:
        assert name not in self.held, "one name for two states"
        self.held[name], self.now = documents, name
