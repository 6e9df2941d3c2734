"""What the load saw, as it is written down: one answer a row, and what the visitors judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from statekit.prove.declared import AtMost

__all__ = ["ABSENT", "Answer", "Judgement", "Seen", "flat"]

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request of one visitor, and its answer."""

    sent: float
    received: float
    user: str
    """The visitor: its class and number, the same in every run."""
    step: int
    endpoint: str
    """Method and path: ``GET /me``."""
    status: int
    """0 when no answer came."""
    pod: str
    document: Any = None
    """The JSON of the answer; of anything else ``{"(body)": digest}``."""

    @property
    def failed(self) -> bool:
        """True when there was no answer, or the server's own failure."""
        return self.status == 0 or self.status >= 500

    @property
    def took(self) -> float:
        return self.received - self.sent


@dataclass(frozen=True, slots=True)
class Judgement:
    """One outcome of an invariant, or (`name` is '') an answer the locustfile itself called a failure."""

    name: str
    held: bool
    endpoint: str
    user: str = ""
    detail: str = ""


@dataclass(slots=True)
class Seen:
    """All one run saw."""

    answers: list[Answer] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    at_most: list[AtMost] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it down; the file appears whole or not at all."""
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as out:
            for kind in ("answers", "judgements", "at_most"):
                for row in getattr(self, kind):
                    out.write(json.dumps([kind, asdict(row)], separators=(",", ":")) + "\n")
            out.write(json.dumps(["ignored", self.ignored]) + "\n")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Seen:
        """Read it back. Raises `OSError` if it was never written."""
        seen, kinds = cls(), {"answers": Answer, "judgements": Judgement, "at_most": AtMost}
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                kind, row = json.loads(line)
                if kind == "ignored":
                    seen.ignored = row
                else:
                    getattr(seen, kind).append(kinds[kind](**row))
        return seen

    def by_user(self) -> dict[str, list[Answer]]:
        """Each visitor's answers, in order."""
        found: dict[str, list[Answer]] = {}
        for answer in sorted(self.answers, key=lambda one: one.step):
            found.setdefault(answer.user, []).append(answer)
        return found


def flat(document: Any) -> dict[str, str]:
    """A JSON document as paths and values: ``items`` → ``["tea"]``, ``sessions[].this`` → ``[true,false]``."""
    return dict(_paths("", document))


def _paths(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _paths(f"{path}.{key}" if path else str(key), one)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        yield f"{path}[]", str(len(value))
        rows = [dict(_paths("", one)) for one in value]
        for key in dict.fromkeys(key for row in rows for key in row):
            yield f"{path}[].{key}", "[" + ",".join(row.get(key, ABSENT) for row in rows) + "]"
    else:
        yield path or "(body)", json.dumps(value, ensure_ascii=False)
