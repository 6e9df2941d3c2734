"""What slots are: at most so many leases that have not ended, each under a fence that grows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Slots:
    """One key: the end of each lease by the name of its slot, and the last fence given out. Microseconds."""

    ends: dict[str, int] = field(default_factory=dict)
    last: int = 0
    wanted_until: int = 0
    """Until when somebody wants to hear of a slot that comes free."""

    def live(self, now: int) -> list[int]:
        """When the leases end that have not; one that ends now has."""
        return sorted(end for end in self.ends.values() if end > now)

    def acquire(self, limit: int, lease: int, token: str, announce: int, now: int) -> tuple[str, int, int]:
        """``held``, fence and slots taken; or ``full``, slots taken and the wait until enough leases have ended."""
        if self.last > now + lease:  # the clock was set back: no lease may end later than one from now
            self._forget(now)
            self.ends = {name: min(end, now + lease) for name, end in self.ends.items()}
        live = self.live(now)
        if len(live) < limit:
            self._forget(now)
            self.last = max(now, self.last + 1)
            self.ends[f"{self.last} {token}"] = now + lease
            return "held", self.last, len(live) + 1
        if limit == 0:
            return "full", len(live), -1
        self.wanted_until = now + announce if announce else self.wanted_until
        return "full", len(live), live[len(live) - limit] - now

    def renew(self, lease: int, now: int, names: list[str]) -> list[int]:
        """A lease that has ended is not brought back."""
        self._forget(now)
        held = [int(name in self.ends) for name in names]
        self.ends |= {name: now + lease for name in names if name in self.ends}
        return held

    def release(self, now: int, names: list[str]) -> tuple[list[int], bool]:
        """Whether each was its holder's until now; and whether that is announced."""
        found = [self._found(name) for name in names]
        held = [int(self.ends.get(name, 0) > now) for name in dict.fromkeys(found)]
        freed = [name for name in found if self.ends.pop(name, None) is not None]
        return held, bool(freed) and self.wanted_until > now

    def _found(self, name: str) -> str:
        """Who never heard which fence he was given asks with 0 in its place."""
        fence, _, token = name.partition(" ")
        return (
            next((one for one in self.ends if one.partition(" ")[2] == token), name) if fence == "0" else name
        )

    def _forget(self, now: int) -> None:
        self.ends = {name: end for name, end in self.ends.items() if end > now}
