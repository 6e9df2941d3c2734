"""The store is killed with -9 and comes back, again and again, under load."""

from __future__ import annotations

import random
import time

from tests.chaos.diary import Diary, Outcome
from tests.chaos.load import USUAL, load
from tests.chaos.visitor import FLEET, HITS, SLOTS, Terms
from tests.servers import KEPT, Server, binary

FORGETTING = Terms(keeps=False)


def killed_under_load(
    server: Server, namespace: str, times: int, terms: Terms = USUAL
) -> tuple[Diary, list[float], list[float]]:
    """The diary, when the store went down each time, and how long after its return full service was back."""
    dice = random.Random(times)
    down: list[float] = []
    up: list[float] = []
    with load(server.url, namespace, terms=terms) as running:
        for _ in range(times):
            time.sleep(dice.uniform(0.0, 0.3))
            down.append(time.monotonic())
            server.kill()
            time.sleep(dice.uniform(0.1, 0.5))
            server.start()
            up.append(time.monotonic())
            time.sleep(1.1)
        down.append(time.monotonic())
    diary = running.diary
    back = [diary.back(up[turn], down[turn + 1]) for turn in range(times)]
    print(f"\n{diary}\nfull service after {max(back) * 1000:.0f} ms at the latest, of {times} returns")
    return diary, down[:-1], back


def test_a_store_that_keeps_its_data_is_killed_twenty_times(namespace: str) -> None:
    with Server(binary("valkey"), KEPT) as server:
        diary, _, back = killed_under_load(server, namespace, 20)
    assert not diary.complaints
    assert diary.count(Outcome.RIGHT) > diary.count(Outcome.DEGRADED, Outcome.REFUSED)
    assert not diary.miscounted(HITS)
    assert diary.most_at_once("slots") <= SLOTS
    assert diary.most_at_once("clients") <= FLEET
    assert max(back) < 1.0


def test_a_store_that_comes_back_empty(namespace: str) -> None:
    with Server(binary("redis62")) as server:
        diary, down, back = killed_under_load(server, namespace, 3, FORGETTING)

    def lives(key: str) -> int:
        return 1 + sum(int(key) <= moment < int(key) + 2 for moment in down)

    assert not diary.complaints
    assert not diary.miscounted(HITS, lives)
    assert diary.most_at_once("slots") <= 2 * SLOTS
    assert diary.most_at_once("clients") <= FLEET
    assert max(back) < 1.0
