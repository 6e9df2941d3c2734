"""Races, played out command by command: every order in which two operations can interleave.

Each command of a round is delivered on its own and in any order, as the nodes of a cluster may do it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from statekit.kit import StateKit
from statekit.sessions import SaveOutcome, Session, Sessions, faces
from statekit.store.op import Op


class Player:
    """One operation under way, whose commands are delivered one at a time."""

    def __init__(self, op: Op[Any], transport: Any) -> None:
        self.op, self.transport = op, transport
        self.result: Any = None
        self.calls: list[Any] = []
        self.replies: dict[int, Any] = {}
        self.advance(None)

    def advance(self, replies: Any) -> None:
        try:
            self.calls, self.replies = list(self.op.send(replies)), {}
        except StopIteration as stop:
            self.calls, self.result = [], stop.value

    @property
    def choices(self) -> list[int]:
        return [index for index in range(len(self.calls)) if index not in self.replies]

    def deliver(self, index: int) -> None:
        (self.replies[index],) = self.transport.exchange((self.calls[index],), 1.0)
        if not self.choices:
            self.advance([self.replies[i] for i in range(len(self.calls))])


def every_order(scene: Callable[[], tuple[Any, list[Op[Any]], Callable[..., None]]]) -> int:
    """Play a scene in every order; the scene's last part checks how it ended. Returns how many orders."""
    ahead: list[list[int]] = [[]]
    played = 0
    while ahead:
        script = ahead.pop()
        transport, ops, check = scene()
        players = [Player(op, transport) for op in ops]
        for step in itertools.count():
            moves = [(player, index) for player in players for index in player.choices]
            if not moves:
                break
            if step >= len(script):
                ahead += [[*script, other] for other in range(1, len(moves))]
                script = [*script, 0]
            player, index = moves[script[step]]
            player.deliver(index)
        check(*(player.result for player in players))
        played += 1
    return played


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Any, Sessions, Session]]:
    """A fresh store with one session of user:7, loaded; the same in each replay, ids and moment included."""

    def build() -> tuple[Any, Sessions, Session]:
        numbers = itertools.count()
        monkeypatch.setattr(faces, "_new_id", lambda: f"{next(numbers):043}")
        kit = StateKit.in_memory(clock=lambda: 1_800_000_000_000_000)
        sessions = kit.sessions()
        session = sessions.open(None)
        session["k"] = 1
        session.sign_in("user:7")
        sessions.save(session)
        return kit.store.transport, sessions, sessions.load(sessions.open(session.id))

    return build


def listed(sessions: Sessions) -> list[str]:
    return [info.handle for info in sessions.sessions_of("user:7")]


def test_a_renewal_never_slips_through_revoke_all(stage: Any) -> None:
    def scene() -> Any:
        transport, sessions, session = stage()
        old = session.id
        session.renew()

        def check(_: SaveOutcome, revoked: int) -> None:
            assert revoked in (0, 1), "0: caught between its two names"
            assert sessions.open(old).is_new
            assert sessions.open(session.id).is_new
            assert listed(sessions) == []

        return transport, [sessions.saving(session), sessions.revoking_all("user:7")], check

    assert every_order(scene) > 50


def test_a_renewal_never_slips_through_a_revoke_of_its_old_name(stage: Any) -> None:
    def scene() -> Any:
        transport, sessions, session = stage()
        old = session.handle
        session.renew()

        def check(outcome: SaveOutcome, revoked: bool) -> None:
            assert outcome in (SaveOutcome.RENEWED, SaveOutcome.GONE)
            assert revoked or outcome is SaveOutcome.GONE
            assert sessions.open(session.id).is_new
            assert listed(sessions) == []

        return transport, [sessions.saving(session), sessions.revoking(old)], check

    assert every_order(scene) > 10


def test_a_sign_in_beside_revoke_all_is_ended_too_or_whole(stage: Any) -> None:
    def scene() -> Any:
        transport, sessions, first = stage()
        session = sessions.open(None)
        session.sign_in("user:7")

        def check(outcome: SaveOutcome, _: int) -> None:
            assert sessions.open(first.id).is_new
            alive = not sessions.open(session.id).is_new
            assert listed(sessions) == ([session.handle] if alive else [])
            assert outcome is SaveOutcome.CREATED or not alive

        return transport, [sessions.saving(session), sessions.revoking_all("user:7")], check

    assert every_order(scene) > 10


def test_a_save_beside_a_renewal_is_in_the_new_session_or_told_it_is_not(stage: Any) -> None:
    def scene() -> Any:
        transport, sessions, session = stage()
        other = sessions.load(sessions.open(session.id))
        other["late"] = True
        session.renew()

        def check(renewed: SaveOutcome, saved: SaveOutcome) -> None:
            assert renewed is SaveOutcome.RENEWED
            assert saved in (SaveOutcome.SAVED, SaveOutcome.SUPERSEDED)
            assert ("late" in sessions.open(session.id)) is (saved is SaveOutcome.SAVED)

        return transport, [sessions.saving(session), sessions.saving(other)], check

    assert every_order(scene) >= 3


def test_a_save_beside_a_sign_out_brings_nothing_back(stage: Any) -> None:
    def scene() -> Any:
        transport, sessions, session = stage()
        other = sessions.load(sessions.open(session.id))
        other["late"] = True

        def check(*_: object) -> None:
            assert sessions.open(other.id).is_new
            assert listed(sessions) == []
            assert transport.data.get(sessions._store.keys.of("session", other.handle)) == {b"ended": b"1"}

        session.sign_out()
        return transport, [sessions.saving(session), sessions.saving(other)], check

    assert every_order(scene) >= 3


def test_a_sign_in_cut_short_anywhere_leaves_nobody_signed_in_outside_the_index(stage: Any) -> None:
    for cut, order in itertools.product(range(5), (0, -1)):
        transport, sessions, session = stage()
        session.sign_in("user:8")
        player = Player(sessions.saving(session), transport)
        for _ in range(cut):
            if player.choices:
                player.deliver(player.choices[order])
        new = sessions.open(session.id)
        assert new.is_new or session.handle in [info.handle for info in sessions.sessions_of("user:8")]
        sessions.revoke_all("user:8")
        assert sessions.open(session.id).is_new
