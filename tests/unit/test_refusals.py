"""What may go wrong between an answer and a message about it, played step by step; and what memory it takes."""

import asyncio
import os
import sys

import pytest

from statekit import AsyncStateKit, StateKit
from statekit.ratelimit import refusals
from statekit.ratelimit.core import freed_channel
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.refusals import Refusals, refusals_of
from statekit.ratelimit.rule import Hit, Rule
from statekit.store.keys import Keys
from tests.servers import wait_until

LOGIN = Rule.of("login", ("1/hour",), "sliding-log", "allow", shadow=False)


class Push:
    """A subscription under the test's control."""

    live = None

    def subscribe(self, channel, listener):
        self.live = object()


class Kept:
    """The refusals of a process, its clock and its connection in the test's hand."""

    def __init__(self):
        self.time, self.push = 1_000_000, Push()
        self.refusals = Refusals(self.push, freed_channel(Keys("t")), lambda: self.time)

    def join(self):
        self.push.live = object()
        self.refusals.heard(None)
        return self

    def refuse(self, key="k", asked=None, wait=60_000_000):
        hit = Hit.of(LOGIN, key, 1)
        decision = Decision(allowed=False, hits=(hit,), figures=(0, 5, 0, wait, wait, wait))
        self.refusals.remember((hit,), decision, asked or self.refusals.asking())

    def known(self, key="k"):
        return self.refusals.known(LOGIN, key, 1)


def test_nothing_is_kept_before_messages_can_be_heard():
    kept = Kept()
    kept.refuse()
    assert kept.known() is None  # it has just subscribed
    kept.refuse()
    assert kept.known() is None  # the subscription is not confirmed
    kept.join().refuse()
    assert kept.known() is not None


def test_an_answer_from_before_the_subscription_is_not_kept():
    kept = Kept()
    kept.refuse()
    asked = kept.refusals.asking()
    kept.join().refuse(asked=asked)
    assert kept.known() is None


def test_an_answer_overtaken_by_a_message_is_not_kept():
    kept = Kept().join()
    asked = kept.refusals.asking()
    kept.refusals.heard(b"login:k")
    kept.refuse(asked=asked)
    assert kept.known() is None
    kept.refuse()
    assert kept.known() is not None
    kept.refusals.heard(b"login:other")
    assert kept.known() is not None
    kept.refusals.heard(b"login:k")
    assert kept.known() is None


def test_a_lost_connection_ends_all():
    kept = Kept().join()
    kept.refuse()
    kept.push.live = None
    assert kept.known() is None
    kept.push.live = object()  # connected again, but what was missed is not known yet
    assert kept.known() is None
    kept.refusals.heard(None)
    assert kept.known() is None
    kept.refuse()
    assert kept.known() is not None


def test_it_ends_as_long_after_asking_as_the_store_said():
    kept = Kept().join()
    asked = kept.refusals.asking()
    kept.time += 300
    kept.refuse(asked=asked, wait=1000)
    kept.time += 699
    assert kept.known().retry_after == pytest.approx(0.000301)
    kept.time += 1
    assert kept.known() is None


def test_memory_is_bounded_whatever_an_attacker_sends(monkeypatch):
    monkeypatch.setattr(refusals, "MOST", 100)
    kept = Kept().join()
    for number in range(1000):
        kept.refuse(f"key-{number}")
        kept.refusals.heard(f"login:gone-{number}".encode())
    inside = kept.refusals
    assert len(inside._refused) == len(inside._callers) == 100
    assert len(inside._freed) <= 100
    assert kept.known("key-999") is not None
    assert kept.known("key-899") is None


def test_many_costs_of_one_caller_are_bounded():
    kept = Kept().join()
    for cost in range(1, 200):
        hit = Hit.of(Rule.of("login", ("1000/hour",), "gcra", "allow", shadow=False), "k", cost)
        decision = Decision(allowed=False, hits=(hit,), figures=(0, 5, 0, 99, 99, 99))
        kept.refusals.remember((hit,), decision, kept.refusals.asking())
    (one,) = kept.refusals._refused.values()
    assert len(one) <= refusals.COSTS


def test_a_real_connection_that_dies_takes_the_refusals_with_it(valkey_url, namespace):
    with StateKit.connect(valkey_url, namespace) as kit:
        login = kit.rate_limiter("login", "1/hour")
        login.hit("k")
        wait_until(lambda: login.hit("k").local)
        before = kit.store.push.live
        before._connection._sock.shutdown(2)
        wait_until(lambda: kit.store.push.live not in (None, before))
        assert not login.hit("k").allowed
        wait_until(lambda: login.hit("k").local)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_asks_for_itself(valkey_url, namespace):
    with StateKit.connect(valkey_url, namespace) as kit:
        login = kit.rate_limiter("login", "1/hour")
        login.hit("k")
        wait_until(lambda: login.hit("k").local)
        child = os.fork()
        if not child:
            asked = not login.hit("k").local
            kept = wait_until(lambda: login.hit("k").local)
            os._exit(0 if asked and kept else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert login.hit("k").local


def test_another_event_loop_starts_over(valkey_url, namespace):
    async def refused(login):
        async with asyncio.timeout(10):
            while not (await login.hit("k")).local:  # noqa: ASYNC110 - true once another task has heard
                await asyncio.sleep(0.001)

    kit = AsyncStateKit.connect(valkey_url, namespace)
    login = kit.rate_limiter("login", "1/hour")

    async def first():
        await login.hit("k")
        await refused(login)

    async def second():
        assert not (await login.hit("k")).local
        await refused(login)
        await kit.close()

    asyncio.run(first())
    asyncio.run(second())


def test_a_kit_and_its_refusals_go_together(valkey_url, namespace):
    kit = StateKit.connect(valkey_url, namespace)
    assert refusals_of(kit.store) is refusals_of(kit.store)
    known = len(refusals._kept)
    kit.close()
    del kit
    assert len(refusals._kept) < known or sys.implementation.name != "cpython"
