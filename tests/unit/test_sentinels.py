"""In which order sentinels are asked, by the pure rule that both colours follow."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.sentinel

from statekit.store.connect import _InTurn

MASTER = {"main": {"ip": "10.0.0.1", "port": 6379}}
NOBODY: dict[str, Any] = {}
HANGS = None
GONE = redis.ConnectionError("refused")


class Turns(_InTurn):
    def __init__(self) -> None:
        self.sentinels = ["a", "b", "c"]
        self.check_master_state = lambda state, _: not state.get("down")

    def asked(self, **answers: Any) -> str:
        """Look for a master once; who was asked, and ``!`` if somebody named one."""
        asking, seen, answer = self._asked("main"), "", None
        try:
            while True:
                one = asking.send(answer)
                seen += one
                answer = answers.get(one, MASTER)
                if answer is HANGS:
                    asking.close()
                    return seen
        except StopIteration as stop:
            return seen + ("!" if stop.value == ("10.0.0.1", 6379) else "?")
        except redis.sentinel.MasterNotFoundError:
            return seen


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_who_named_the_master_last_is_asked_first(turns: Turns) -> None:
    assert turns.asked(a=GONE, b=NOBODY) == "abc!"
    assert turns.asked() == "c!"


def test_who_hangs_is_asked_last_from_then_on(turns: Turns) -> None:
    assert turns.asked(a=HANGS) == "a"
    assert turns.asked(a=HANGS) == "b!"
    assert turns.asked(a=HANGS, b=GONE) == "bc!"


def test_who_hangs_is_left_out_as_long_as_others_answer(turns: Turns) -> None:
    turns.asked(b=HANGS, a=GONE)
    for _ in range(5):
        assert "b" not in turns.asked(a=NOBODY, b=HANGS, c={"main": {"down": True}})
    assert turns.asked(a=GONE, b=HANGS) in ("ac!", "c!")


def test_when_all_hang_each_gets_its_turn(turns: Turns) -> None:
    silent = {"a": HANGS, "b": HANGS, "c": HANGS}
    assert [turns.asked(**silent) for _ in range(4)] == ["a", "b", "c", "a"]
    assert "!" in turns.asked(a=HANGS) + turns.asked(a=HANGS)


def test_nobody_names_a_master(turns: Turns) -> None:
    assert sorted(turns.asked(a=NOBODY, b=GONE, c={"main": {"down": True}})) == ["a", "b", "c"]
    assert "!" in turns.asked()
