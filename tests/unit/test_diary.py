"""The judge of the chaos tests is judged: it notices what is wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from statekit import StateKit
from statekit.errors import StoreUnavailable
from statekit.flags import Flag
from statekit.testing import store_down
from tests.chaos.diary import Diary, Outcome, together
from tests.chaos.load import Settings
from tests.chaos.visitor import HITS, Terms, Visitor, noted, straight


async def test_calls_are_judged() -> None:
    diary = Diary()

    def failing(error: Exception) -> Any:
        raise error

    assert await diary.ask("call", lambda: 1) == 1
    await diary.ask("call", lambda: 1, lambda answer: answer == 1 and "it is 1")
    await diary.ask("call", lambda: failing(StoreUnavailable("gone")))
    await diary.ask("call", lambda: failing(ZeroDivisionError()))
    assert {outcome: diary.counts["call", outcome] for outcome in Outcome} == {
        Outcome.RIGHT: 1,
        Outcome.DEGRADED: 0,
        Outcome.REFUSED: 1,
        Outcome.WRONG: 1,
        Outcome.CRASH: 1,
    }
    assert ["it is 1" in one or "ZeroDivisionError" in one for one in diary.complaints] == [True, True]
    assert len(diary.troubles) == 3


def test_full_service_is_back_when_it_stays() -> None:
    diary = Diary(troubles=[9.0, 10.1, 10.2, 12.0])
    assert diary.back(10.0, 11.0) == pytest.approx(0.2)
    assert diary.back(11.0, 11.9) == 0
    assert diary.back(11.95, 12.1) == float("inf")


def test_how_many_at_once() -> None:
    one, two = Diary(), Diary()
    one.spans["slots"] += [(1.0, 3.0), (3.0, 4.0)]
    two.spans["slots"] += [(2.0, 5.0)]
    assert together([one, two]).most_at_once("slots") == 2


def test_what_was_miscounted() -> None:
    diary = Diary()
    diary.hits["exact"] = Counter(admitted=5, refused=9)
    diary.hits["too many"] = Counter(admitted=6)
    diary.hits["too early"] = Counter(admitted=3, unknown=1, refused=1)
    diary.hits["perhaps"] = Counter(admitted=3, unknown=2, refused=1)
    assert [complaint.partition(":")[0] for complaint in diary.miscounted(5)] == ["too early", "too many"]
    assert len(diary.miscounted(5, lambda _: 2)) == 1


def visitor(kit: StateKit) -> Visitor:
    kit.flags.set("on", Flag(default=True))
    kit.flags.set("size", Flag(default=1))
    kit.tenants(Settings).update("acme", {"plan": "pro"})
    return Visitor(kit, "0.0", Terms(pause=0))


def test_a_visitor_is_content_with_a_store_that_works_and_with_one_that_is_down() -> None:
    kit = StateKit.in_memory()
    one = visitor(kit)
    with noted(kit, one.diary):
        straight(one.visit())
        with store_down(kit):
            straight(one.visit())
        straight(one.visit())
    kit.close()
    assert not one.diary.complaints
    assert not one.diary.miscounted(HITS)
    assert one.diary.counts["hit", Outcome.DEGRADED] == one.diary.counts["open", Outcome.REFUSED] == 1
    assert one.diary.most_at_once("clients") == 1


def test_a_visitor_notices_what_was_lost() -> None:
    kit = StateKit.in_memory()
    one = visitor(kit)
    with noted(kit, one.diary):
        straight(one.visit())
        kit.sessions().revoke(kit.sessions().load(kit.sessions().lazy(one._cookie)).handle)
        kit.flags.set("on", Flag(enabled=False))
        kit.tenants(Settings).update("acme", {"plan": "free"})
        straight(one.visit())
    kit.close()
    assert [complaint.partition(":")[0] for complaint in one.diary.complaints] == [
        "open",
        "enabled",
        "tenants.get",
    ]
