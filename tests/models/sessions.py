"""What sessions are: a dict under each id, with two deadlines, that ends and is renewed. Ids name everything here."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Content = dict[str, Any]


@dataclass
class Rules:
    """Spans in microseconds."""

    idle: int
    absolute: int
    touch: int
    grace: int


@dataclass
class Record:
    """What lies under one id."""

    created: int = 0
    absolute: int = 0
    touched: int = 0
    principal: str | None = None
    content: Content = field(default_factory=dict)
    before: str | None = None
    after: str | None = None
    retired: int | None = None
    """Until when this id, which was renewed, shows its view."""
    ended: bool = False


@dataclass
class Visit:
    """What one request holds: what it was shown, and what it made of that."""

    id: str | None = None
    """The id under which it was found; None: it was not."""
    known: Content = field(default_factory=dict)
    shown: Content = field(default_factory=dict)
    principal: str | None = None
    view: bool = False
    change: str = ""
    carries: bool = True
    assigned: set[str] = field(default_factory=set)
    created: int = 0
    absolute: int = 0

    @property
    def changed(self) -> Content:
        """What it wants written: values that are not what it knows to be there; signing in, also what it assigned."""
        insists = self.assigned if self.change == "sign-in" else set[str]()
        return {
            key: value
            for key, value in self.shown.items()
            if key in insists or key not in self.known or self.known[key] != value
        }

    def assign(self, key: str, value: Any) -> None:
        self.shown[key] = deepcopy(value)
        self.assigned.add(key)

    def delete(self, key: str) -> Any:
        self.assigned.discard(key)
        return self.shown.pop(key, None)

    @property
    def deleted(self) -> set[str]:
        return set(self.known) - set(self.shown)

    def sign_in(self, principal: str) -> None:
        self.change, self.principal = "sign-in", principal

    def renew(self) -> None:
        if self.id is not None:
            self.change = self.change or "renew"

    def sign_out(self) -> None:
        self.known, self.shown, self.principal, self.carries, self.assigned = {}, {}, None, False, set()
        self.change = "sign-out" if self.id is not None else ""

    def stands(self, id_: str | None, record: Record | None) -> None:
        """From here on it starts from what was written."""
        content, self.assigned = deepcopy(record.content) if record else {}, set()
        self.id, self.known, self.shown, self.change, self.carries = id_, content, deepcopy(content), "", True
        self.principal, self.view = (record.principal, False) if record else (None, False)
        self.created, self.absolute = (record.created, record.absolute) if record else (0, 0)


class Store:
    """Every record there ever was, and who was signed in to which."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.records: dict[str, Record] = {}
        self.index: dict[str, dict[str, int]] = {}
        self.now = 0

    def _alive(self, record: Record | None) -> bool:
        """Neither ended nor past a deadline; it may be the past of one that was renewed."""
        if record is None or record.ended:
            return False
        return self.now < record.touched + self.rules.idle and self.now < record.absolute

    def _in_use(self, record: Record | None) -> bool:
        return record is not None and self._alive(record) and record.retired is None

    def open(self, id_: str | None) -> Visit:
        """What an id shows: its record, the view it left for a while when it was renewed, or nothing."""
        record, visit = self.records.get(id_ or ""), Visit()
        if (
            not self._alive(record)
            or record is None
            or (record.retired is not None and self.now >= record.retired)
        ):
            return visit
        visit.stands(id_, record)
        visit.view = record.retired is not None
        if record.retired is None and self.now - record.touched >= self.rules.touch:
            record.touched = self.now
        return visit

    def save(self, visit: Visit, fresh: str) -> str:
        """Write what changed; `fresh` is the id that a new record gets."""
        if not visit.change:
            return self._updated(visit, fresh)
        if visit.change == "sign-out":
            assert visit.id is not None
            self.revoke(visit.id)
            content = visit.changed
            if content:
                return self._created(visit, fresh, Record(content=content))
            visit.stands(None, None)
            return "ended"
        return self._renewed(visit, fresh)

    def _updated(self, visit: Visit, fresh: str) -> str:
        if not visit.changed and not visit.deleted:
            return "untouched"
        if visit.id is None:
            return self._created(visit, fresh, Record(content=visit.changed))
        record = self.records.get(visit.id)
        if visit.view:
            return "superseded"
        if record is None or not self._alive(record):
            return "gone"
        if record.retired is not None:
            return "superseded"
        record.content = self._merged(record.content, visit)
        record.touched = self.now
        visit.known, visit.assigned = deepcopy(visit.shown), set()
        return "saved"

    def _renewed(self, visit: Visit, fresh: str) -> str:
        old = self.records.get(visit.id or "")
        signs_in = visit.change == "sign-in"
        new = Record(content=visit.changed, principal=visit.principal)
        if visit.principal is not None:
            last = self.now + self.rules.absolute if signs_in else visit.absolute
            self._enroll(visit.principal, fresh, last)
        shows = self._alive(old) and old is not None and (old.retired is None or self.now < old.retired)
        if not signs_in and not (shows and old and old.retired is None):
            return "superseded" if shows else "gone"
        if shows and old:
            if visit.carries:
                new.content = self._merged(old.content, visit)
            new.before = visit.id
            if not signs_in:
                new.created, new.absolute = old.created, old.absolute
            self._retire(old, fresh, signs_in=signs_in)
        return self._created(visit, fresh, new)

    def _retire(self, old: Record, fresh: str, *, signs_in: bool) -> None:
        """The old id shows what it showed, for the grace; not if that would give away who had been signed in."""
        if old.retired is not None:
            return
        grace = 0 if signs_in and old.principal is not None else self.rules.grace
        old.after = None if signs_in else fresh
        old.ended = grace == 0
        old.before = (
            None if old.ended else old.before
        )  # a name that is only kept taken tells no more than its successor
        old.retired = min(self.now + grace, old.touched + self.rules.idle, old.absolute)

    def _created(self, visit: Visit, fresh: str, record: Record) -> str:
        assert fresh not in self.records, "an id was given out twice"
        record.content = deepcopy(record.content)
        record.created = record.created or self.now
        record.absolute = record.absolute or self.now + self.rules.absolute
        record.touched = self.now
        self.records[fresh] = record
        visit.stands(fresh, record)
        return "renewed" if record.before else "created"

    def _merged(self, content: Content, visit: Visit) -> Content:
        """Only what this request changed: others may have written meanwhile."""
        kept = {key: value for key, value in content.items() if key not in visit.deleted}
        return deepcopy({**kept, **visit.changed})

    # -- ending --------------------------------------------------------------------------------------------

    def destroy(self, visit: Visit) -> bool:
        live = visit.id is not None and self.revoke(visit.id)
        visit.stands(None, None)
        return live

    def revoke(self, id_: str) -> bool:
        """End it, and what it was renewed from or into; whether one of them was in use."""
        return self._end([id_], set()) > 0

    def revoke_all(self, principal: str, keep: str | None) -> int:
        spared = {keep} if keep else set()
        return self._end([id_ for id_ in self._listed(principal) if id_ not in spared], spared)

    def _end(self, names: list[str], seen: set[str]) -> int:
        live = 0
        while names:
            id_ = names.pop()
            if id_ in seen:
                continue
            seen.add(id_)
            record = self.records.get(id_)
            live += self._in_use(record)
            if record is not None:
                names += [kin for kin in (record.before, record.after) if kin]
                self.index.get(record.principal or "", {}).pop(id_, None)
            self.records[id_] = Record(ended=True)
        return live

    def sessions_of(self, principal: str) -> dict[str, tuple[int, int, int, int]]:
        """Those in use: created, last use, when it would end unused, when it ends in any case."""
        found = {}
        for id_ in self._listed(principal):
            record = self.records.get(id_)
            if record is not None and self._in_use(record):
                idle = min(record.touched + self.rules.idle, record.absolute)
                found[id_] = (record.created, record.touched, idle, record.absolute)
        return found

    def _enroll(self, principal: str, id_: str, absolute: int) -> None:
        self.index.setdefault(principal, {})[id_] = absolute

    def _listed(self, principal: str) -> list[str]:
        return [id_ for id_, absolute in self.index.get(principal, {}).items() if absolute > self.now]
