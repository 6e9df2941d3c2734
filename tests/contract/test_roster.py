"""Who lives: how a limiter that counts locally in an outage knows among how many it divides its limits."""

import pytest

from statekit.store import roster
from statekit.testing import store_down
from tests.conftest import COLOURS
from tests.servers import SERVERS, wait_until

shared = pytest.mark.parametrize(
    "backend", [f"{store}-{colour}" for store in ("fakeredis", *SERVERS) for colour in COLOURS], indirect=True
)
alone = pytest.mark.parametrize("backend", [f"memory-{colour}" for colour in COLOURS], indirect=True)


@pytest.fixture
def _quick(monkeypatch):
    """Signs come quickly."""
    monkeypatch.setattr(roster, "EVERY", 0.02)


def local(kit, limit="100/hour", **options):
    return kit.rate_limiter("api", limit, on_outage="local", **options)


def admitted(limiter, key, most=200):
    decisions = [limiter.hit(key) for _ in range(most)]
    assert all(decision.degraded for decision in decisions)
    return sum(decision.allowed for decision in decisions)


@shared
@pytest.mark.usefixtures("_quick")
def test_workers_that_live_share_the_limit(new_kit):
    kits = [new_kit() for _ in range(3)]
    limiters = [local(kit) for kit in kits]
    assert [limiter.workers for limiter in limiters] == [None] * 3
    for limiter in limiters:
        limiter.hit("other")
    wait_until(lambda: [limiter.workers for limiter in limiters] == [3] * 3, 30)
    total = 0
    for kit, limiter in zip(kits, limiters, strict=True):
        with store_down(kit):
            total += admitted(limiter, "k")
    assert total == 99, "a third each, rounded down"


@shared
@pytest.mark.usefixtures("_quick")
def test_a_peek_a_reservation_and_several_limiters_sign_too(new_kit):
    kits = [new_kit() for _ in range(3)]
    local(kits[0]).peek("k")
    local(kits[1]).reserve("k")
    plain = kits[2].rate_limiter("plain", "5/minute")
    kits[2].hit_all([(plain, "k"), (local(kits[2]), "k")])
    wait_until(lambda: local(kits[0]).workers == 3, 30)


@shared
def test_who_does_not_know_takes_one_unit(kit, monkeypatch):
    """The first count is not believed yet: all may have begun at this moment."""
    monkeypatch.setattr(roster, "EVERY", 600)
    limiter = local(kit)
    limiter.hit("other")
    with store_down(kit):
        assert admitted(limiter, "k", 5) == 1
    assert limiter.workers is None


@shared
def test_a_count_falls_only_when_it_has_fallen_for_a_while(frozen_kit, new_kit, clock):
    """A store that came back empty tells too small ones at first."""
    others = [new_kit(clock=clock) for _ in range(4)]
    limiter = local(frozen_kit)
    for _ in range(2):
        for kit in (*others, frozen_kit):
            kit.store.roster.sign()
    assert limiter.workers == 5
    clock.advance(roster.LIFETIME)
    for _ in range(roster.KEPT - 1):
        frozen_kit.store.roster.sign()
        assert limiter.workers == 5
    frozen_kit.store.roster.sign()
    assert limiter.workers == 1


@shared
def test_an_outage_changes_nothing_about_what_is_known(frozen_kit, new_kit, clock):
    other, limiter = new_kit(clock=clock), local(frozen_kit)
    for _ in range(2):
        other.store.roster.sign()
        frozen_kit.store.roster.sign()
    with store_down(frozen_kit):
        for _ in range(10):
            clock.advance(60)
            frozen_kit.store.roster.sign()
            assert limiter.workers == 2


@shared
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("options", [{"on_outage": "allow"}, {"on_outage": "local", "workers": 4}])
def test_nobody_signs_who_need_not(kit, options):
    limiter = kit.rate_limiter("api", "5/minute", **options)
    limiter.hit("k")
    kit.hit_all([(limiter, "k")])
    limiter.peek("k")
    assert kit.store.roster._beat is None


@alone
def test_a_kit_in_memory_is_alone(kit):
    limiter = local(kit, "5/minute")
    assert limiter.workers == 1
    with store_down(kit):
        assert admitted(limiter, "k", 9) == 5


def test_in_one_call_each_limiter_has_its_own_share(kit):
    few = kit.rate_limiter("few", "12/hour", on_outage="local", workers=2)
    many = kit.rate_limiter("many", "12/hour", on_outage="local", workers=lambda: 4)
    with store_down(kit):
        decision = kit.hit_all([(many, "k"), (few, "k")])
    assert [state.remaining for state in decision.limits] == [2, 5]
    assert (few.workers, many.workers) == (2, 4)
