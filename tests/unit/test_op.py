"""Operations, stepped by hand: no server, no clock, no event loop."""

from __future__ import annotations

from typing import Any

import pytest

from statekit.errors import StoreRejected, StoreTimeout, StoreUnavailable, UsageError
from statekit.store.op import Call, Op, Script, ask, command, together


def steps(number: int, name: str = "S") -> Op[list[Any]]:
    """An operation of `number` rounds."""
    replies = []
    for index in range(number):
        replies.append((yield from command(name, index)))  # noqa: PERF401 - a comprehension cannot yield
    return replies


def run(op: Op[Any], answer: Any) -> tuple[Any, list[int]]:
    """Answer every round; returns the result and the sizes of the rounds."""
    sizes = []
    try:
        calls = next(op)
        while True:
            sizes.append(len(calls))
            calls = op.send([answer(call) for call in calls])
    except StopIteration as stop:
        return stop.value, sizes


def echo(call: Call) -> Any:
    return call.args


def test_together_shares_rounds() -> None:
    result, sizes = run(together(steps(1, "A"), steps(3, "B"), steps(0), steps(2, "C")), echo)
    assert sizes == [3, 2, 1]
    assert result == (
        [("A", 0)],
        [("B", 0), ("B", 1), ("B", 2)],
        [],
        [("C", 0), ("C", 1)],
    )


def test_together_of_nothing_is_no_round_trip() -> None:
    assert run(together(), echo) == ((), [])
    assert run(together(steps(0)), echo) == (([],), [])


def test_together_nests() -> None:
    result, sizes = run(together(steps(2, "A"), together(steps(1, "B"), steps(2, "C"))), echo)
    assert sizes == [3, 2]
    assert result[1] == ([("B", 0)], [("C", 0), ("C", 1)])


def test_one_failing_operation_does_not_stop_its_neighbours() -> None:
    done = []

    def noted() -> Op[None]:
        done.append((yield from steps(3, "B")))

    def answer(call: Call) -> Any:
        return StoreRejected("no") if call.args[0] == "A" else call.args

    with pytest.raises(StoreRejected, match="no"):
        run(together(steps(2, "A"), noted()), answer)
    assert done == [[("B", 0), ("B", 1), ("B", 2)]]


def test_each_operation_answers_an_outage_in_its_own_way() -> None:
    def tolerant() -> Op[str]:
        try:
            yield from command("X")
        except StoreUnavailable:
            return "degraded"
        return "fresh"

    op = together(tolerant(), tolerant())
    next(op)
    with pytest.raises(StopIteration) as stop:
        op.throw(StoreTimeout("late"))
    assert stop.value.value == ("degraded", "degraded")

    op = together(tolerant(), steps(1))
    next(op)
    with pytest.raises(StoreTimeout):
        op.throw(StoreTimeout("late"))


def test_an_error_reply_is_raised_where_it_belongs() -> None:
    with pytest.raises(StoreRejected, match="WRONGTYPE"):
        run(command("GET", "k"), lambda _: StoreRejected("WRONGTYPE"))


def test_a_script_is_known_by_its_digest() -> None:
    script = Script("x.y", "return 1")
    assert script.sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    (call,) = next(script(("k",), (1, "a")))
    assert (call.args, call.keys, call.script) == (("k", 1, "a"), 1, script)
    assert run(ask(script.call(("k",))), lambda _: 5) == (5, [1])


def test_together_runs_an_operation_that_has_nothing_to_send_for_a_round() -> None:
    def pausing() -> Op[str]:
        replies = yield ()
        assert list(replies) == []
        (reply,) = yield (Call(("PING",)),)
        return f"paused {reply}"

    op = together(pausing(), command("ECHO", "a"), pausing())
    assert next(op) == (Call(("ECHO", "a")),)
    assert op.send(["a"]) == (Call(("PING",)), Call(("PING",)))
    with pytest.raises(StopIteration) as end:
        op.send([1, 2])
    assert end.value.value == ("paused 1", "a", "paused 2")


def test_together_raises_the_first_failure_in_order_when_all_have_ended() -> None:
    ended = []

    def failing(after: int) -> Op[None]:
        for _ in range(after):
            yield (Call(("PING",)),)
        ended.append(after)
        raise UsageError(str(after))

    op = together(failing(3), failing(0), failing(1))
    replies: list[object] | None = None
    with pytest.raises(UsageError, match="3"):
        while True:
            replies = [b"x"] * len(op.send(replies))  # type: ignore[arg-type]
    assert ended == [0, 1, 3]
