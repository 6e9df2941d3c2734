"""What a replicated set of documents is: a log of writes. Each version of each epoch is one mapping, for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

Documents = dict[str, tuple[int, str]]
"""By name: the version of the last write, and its text."""


@dataclass
class History:
    """Everything the store ever held: by epoch and version, the documents there were."""

    held: dict[tuple[str, int], Documents] = field(default_factory=dict)
    now: tuple[str, int] | None = None
    """The epoch and version the store holds; None: it lost everything."""

    def wrote(self, epoch: str, version: int, name: str, text: str | None) -> None:
        """A write happened: it is the next version, or the first of a new epoch."""
        before = self.held[self.now] if self.now else {}
        assert (epoch, version) == ((self.now[0], self.now[1] + 1) if self.now else (epoch, 1))
        after = {key: one for key, one in before.items() if key != name}
        self._holds(epoch, version, after if text is None else {**after, name: (version, text)})

    def put_back(self, epoch: str, version: int, documents: Documents) -> None:
        """A reader gave a store that was empty what it shows."""
        assert self.now is None
        self._holds(epoch, version, documents)

    def renamed(self, epoch: str, version: int) -> None:
        """The store turned out to be older than a reader: what it holds is a data set of its own from here on."""
        assert self.now
        self._holds(epoch, version, self.held[self.now])

    def _holds(self, epoch: str, version: int, documents: Documents) -> None:
        assert (epoch, version) not in self.held, "one name for two states"
        self.held[(epoch, version)], self.now = documents, (epoch, version)

    def lost(self, since: tuple[str, int] | None) -> None:
        """A server took over that knew no more than `since`: later versions of that epoch may be given out again."""
        epoch, version = since or ("", 0)
        self.held = {name: one for name, one in self.held.items() if name[0] != epoch or name[1] <= version}
