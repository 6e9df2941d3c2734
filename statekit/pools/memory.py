"""The twins of the pool scripts, for one process: same records, same replies as the Lua beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statekit.store.memory import Data, Twins
from statekit.store.op import Arg, Reply

__all__ = ["TWINS"]

SECOND = 1_000_000


@dataclass(slots=True)
class Member:
    """One process of a fleet: what its record holds, and its fair share while it is being worked out."""

    name: str
    share: int = 0
    open: int = 0
    in_use: int = 0
    waiting: int = 0
    want: int = 0
    expires: int = 0
    budget: int = 0
    seq: int = 0
    grew: int = 0
    hungry: int = 0
    fair: int = 0

    def record(self) -> bytes:
        numbers = (self.share, self.open, self.in_use, self.waiting, self.want, self.expires, self.budget)
        return " ".join(map(str, (*numbers, self.seq, self.grew, self.hungry))).encode()


@dataclass(slots=True)
class Fleet:
    """What the hash of a fleet holds. Replaced whole by each write, as a server would."""

    members: dict[str, Member]
    epoch: int
    settled: int
    last: int

    def set_back(self, now: int) -> None:
        """Take all moments back with the clock."""
        back, self.last = self.last - now, now
        self.settled = max(0, self.settled - back)
        for one in self.members.values():
            one.expires, one.grew, one.hungry = (
                max(0, moment - back) for moment in (one.expires, one.grew, one.hungry)
            )


def renew(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of renew.lua; see its header for the arguments."""
    worker = str(args[0])
    seq, epoch, keep, in_use, waiting, want, budget, lease, slice_ = map(int, args[1:10])
    now = data.now(args[10])
    stored: Fleet | None = data.get(keys[0])
    if stored is not None and stored.last - now >= SECOND:
        stored.set_back(now)
    members = {m.name: m for m in stored.members.values() if m.expires > now} if stored else {}
    me = members.get(worker)
    if me is not None and seq <= me.seq:
        return [b"overtaken"]
    fleet = _founded(stored, members, now + lease if epoch else 0, now)
    if stored is not None and epoch and epoch != fleet.epoch and me is None:
        fleet.settled = max(fleet.settled, min(fleet.epoch, now) + lease)
    me = members.setdefault(worker, Member(worker))
    before, me.open, me.in_use, me.waiting = me.share, keep, in_use, waiting
    me.want, me.expires, me.budget, me.seq = want, now + lease, budget, seq
    budget = min(member.budget for member in members.values())
    others = sum(member.share for member in members.values()) - before
    me.share = max(0, min(keep, max(before, budget - others)))
    gave = me.share < before
    me.hungry = 0 if want <= me.share else now if gave else me.hungry or now
    left = _divide([members[name] for name in sorted(members)], budget, slice_, now)
    settling = now < fleet.settled
    due = sum(max(0, m.fair - m.share) for m in members.values() if (m.hungry, m.name) < (me.hungry, me.name))
    more = min(min(want, me.fair) - me.share, budget - others - me.share - due)
    if more > 0 and not settling:
        me.share, me.grew = me.share + more, now
        me.hungry = 0 if want <= me.share else now
    surplus = _surpluses(members, left)
    data.put(keys[0], fleet, -(-max(m.expires - now for m in members.values()) // 500))
    called = [name for name, over in surplus.items() if over and name != worker]
    if me.hungry == now and called:
        data.publish(keys[0], " ".join(called))
    return [b"renewed", me.share, surplus[worker], fleet.epoch, budget, others, len(members), int(settling)]


def _founded(stored: Fleet | None, members: dict[str, Member], settled: int, now: int) -> Fleet:
    if stored is None:
        return Fleet(members, now, settled, now)
    return Fleet(members, stored.epoch, stored.settled, now)


def _divide(members: list[Member], budget: int, slice_: int, now: int) -> int:
    """Set every member's fair share, and return what is left when all wants are met."""
    queue = sorted(members, key=lambda member: member.want)
    left = budget
    while queue and queue[0].want <= left // len(queue):
        met = queue.pop(0)
        met.fair = met.want
        left -= met.want
    if not queue:
        return left
    level, extra = divmod(left, len(queue))

    def rank(member: Member) -> tuple[int, int, str]:
        if level:
            return int(member.share <= level), member.hungry, member.name
        if member.share:
            return 0 if now - member.grew < slice_ else 2, -member.grew, member.name
        return 1, member.hungry, member.name

    for place, member in enumerate(sorted(queue, key=rank)):
        member.fair = level + (place < extra)
    return 0


def _surpluses(members: dict[str, Member], left: int) -> dict[str, int]:
    """How many of its share each has to give back, after what is left was kept by who comes first by name."""
    surpluses = {}
    for name in sorted(members):
        over = max(0, members[name].share - members[name].fair)
        kept = min(over, left)
        left -= kept
        surpluses[name] = over - kept
    return surpluses


def release(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of release.lua."""
    worker, seq = str(args[0]), int(args[1])
    fleet: Fleet | None = data.get(keys[0])
    if fleet is None or worker not in fleet.members or seq <= fleet.members[worker].seq:
        return 0
    del fleet.members[worker]
    return 1


def view(data: Data, keys: Sequence[str], args: Sequence[Arg]) -> Reply:
    """Twin of view.lua."""
    now = data.now(args[0])
    fleet: Fleet | None = data.get(keys[0])
    if fleet is None:
        return [now, 0]
    live = sorted((m for m in fleet.members.values() if m.expires > now), key=lambda m: m.name)
    rows = [part for member in live for part in (member.name.encode(), member.record())]
    return [now, int(now < fleet.settled), *rows]


TWINS: Twins = {"pools.renew": renew, "pools.release": release, "pools.view": view}
