"""What connection pools promise, on every store and in both colours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from statekit.errors import BudgetError, PoolExhausted, UnknownPool, UsageError
from statekit.pools import Bound, ConnectionLeaked, PoolConfig
from statekit.store.hooks import Degraded
from statekit.store.op import command
from statekit.testing import FrozenClock, recorded, store_down
from tests.servers import wait_until


class Service:
    """A third party that counts its clients; shared by all kits of a test."""

    def __init__(self) -> None:
        self.open = self.most = self.total = 0
        self.healthy = True
        self.pings = 0
        self._lock = threading.Lock()

    def connect(self) -> Client:
        with self._lock:
            if not self.healthy:
                raise ConnectionRefusedError("the service is down")
            self.open += 1
            self.total += 1
            self.most = max(self.most, self.open)
            return Client(self, self.total)

    def ping(self, client: Client) -> bool:
        self.pings += 1
        return client.alive


class Client:
    def __init__(self, service: Service, number: int) -> None:
        self.service, self.number, self.alive = service, number, True

    def close(self) -> None:
        with self.service._lock:
            self.service.open -= 1


@pytest.fixture
def service() -> Service:
    return Service()


def register(kit: Any, service: Service, **options: Any) -> Any:
    options = {"per_process": 2, "fleet": 3, "leak_after": None, **options}
    return kit.pools.register("billing", open=service.connect, **options)


def take(stack: ExitStack, kit: Any, count: int) -> list[Any]:
    return [stack.enter_context(kit.pools.checkout("billing", timeout=20)) for _ in range(count)]


def silence(kit: Any) -> None:
    """End the kit's background, so that only what a test does is seen: the process is as good as dead."""
    kit.store.push.close()
    kit.store.pulse.close()


# -- one process -----------------------------------------------------------------------------------------


def test_nothing_is_opened_before_the_first_checkout_and_then_it_is_reused(
    kit: Any, service: Service
) -> None:
    register(kit, service)
    assert service.total == 0
    for _ in range(3):
        with kit.pools.checkout("billing") as client:
            assert client.number == 1
    stats = kit.pools.stats()["billing"]
    assert (stats.open, stats.in_use, stats.idle, stats.opened_total, stats.checkouts_total) == (
        1,
        0,
        1,
        1,
        3,
    )


def test_the_client_used_last_is_handed_out_first(kit: Any, service: Service) -> None:
    register(kit, service)
    with kit.pools.checkout("billing") as first, kit.pools.checkout("billing") as second:
        assert {first.number, second.number} == {1, 2}
    with kit.pools.checkout("billing") as again:
        assert again is first


def test_the_cap_of_a_process_is_named_with_who_holds_what(kit: Any, service: Service) -> None:
    register(kit, service, fleet=12)
    with ExitStack() as stack:
        take(stack, kit, 2)
        with pytest.raises(
            PoolExhausted, match=r"per_process=2 .*Held by .+ for \d+\.\d s since .+\.py:\d+ in"
        ) as raised:
            kit.pools.checkout("billing", timeout=0).__enter__()
    assert raised.value.bound == Bound.PROCESS
    assert len(raised.value.holders) == 2
    assert service.most == 2


def test_a_waiting_caller_gets_what_comes_back(kit: Any, service: Service) -> None:
    register(kit, service, per_process=1)
    got: list[int] = []

    def wait() -> None:
        with kit.pools.checkout("billing", timeout=30) as client:
            got.append(client.number)

    with kit.pools.checkout("billing"):
        waiting = [threading.Thread(target=wait) for _ in range(3)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: kit.pools.stats()["billing"].waiting == 3)
    for thread in waiting:
        thread.join(30)
    assert got == [1, 1, 1]
    assert service.total == 1


def test_a_broken_connection_is_not_reused(kit: Any, service: Service) -> None:
    register(kit, service)
    with pytest.raises(ConnectionResetError), kit.pools.checkout("billing"):
        raise ConnectionResetError
    assert service.open == 0
    with kit.pools.checkout("billing") as client:
        assert client.number == 2


def test_after_any_other_error_the_client_is_pinged_first(kit: Any, service: Service) -> None:
    register(kit, service, ping=service.ping)
    with pytest.raises(ValueError, match="mine"), kit.pools.checkout("billing"):
        raise ValueError("mine")
    with kit.pools.checkout("billing") as client:
        assert (client.number, service.pings) == (1, 1)
        client.alive = False
    with pytest.raises(ValueError, match="mine"), kit.pools.checkout("billing"):
        raise ValueError("mine")
    with kit.pools.checkout("billing") as client:
        assert client.number == 2
    assert service.open == 1


def test_a_client_nobody_can_ping_is_not_trusted_after_an_error(kit: Any, service: Service) -> None:
    register(kit, service)
    with pytest.raises(ValueError, match="mine"), kit.pools.checkout("billing"):
        raise ValueError("mine")
    assert service.open == 0


def test_the_caller_may_know_better_what_breaks_a_client(kit: Any, service: Service) -> None:
    register(kit, service, broken=lambda error: "fatal" in str(error))
    for text, left in (("harmless", 1), ("fatal", 0)):
        with pytest.raises(ConnectionError), kit.pools.checkout("billing"):
            raise ConnectionError(text)
        assert service.open == left


def test_a_client_can_be_discarded(kit: Any, service: Service) -> None:
    register(kit, service)
    loan = kit.pools.checkout("billing")
    with loan:
        loan.discard()
    assert service.open == 0


def test_an_open_that_fails_leaves_its_room_free(kit: Any, service: Service) -> None:
    register(kit, service)
    service.healthy = False
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError), kit.pools.checkout("billing"):
            pass
    service.healthy = True
    with ExitStack() as stack:
        take(stack, kit, 2)
    assert kit.pools.stats()["billing"].open == 2


def test_idle_clients_are_closed_and_their_share_given_back(kit: Any, service: Service) -> None:
    register(kit, service, idle=0.05)
    with kit.pools.checkout("billing"):
        pass
    wait_until(lambda: service.open == 0)
    wait_until(lambda: kit.pools.fleet("billing").granted == 0)


def test_a_client_past_its_lifetime_is_closed_when_it_comes_back(kit: Any, service: Service) -> None:
    register(kit, service, lifetime=0.02)
    with kit.pools.checkout("billing") as client:
        born = client.number
        wait_until(lambda: kit.pools.stats()["billing"].holders[0].seconds > 0.03)
    with kit.pools.checkout("billing") as client:
        assert client.number == born + 1


def test_a_client_held_too_long_is_reported_once(kit: Any, service: Service) -> None:
    register(kit, service, leak_after=0.01)
    leaks: list[ConnectionLeaked] = []
    kit.hooks.subscribe(lambda event: leaks.append(event) if isinstance(event, ConnectionLeaked) else None)
    with kit.pools.checkout("billing"):
        wait_until(lambda: leaks)
        kit.pools.tend()
        kit.pools.tend()
    assert len(leaks) == 1
    assert leaks[0].pool == "billing"
    assert kit.pools.stats()["billing"].leaks_total == 1


def test_a_closed_pool_closes_its_clients_and_refuses(kit: Any, service: Service) -> None:
    register(kit, service)
    with kit.pools.checkout("billing"):
        with kit.pools.checkout("billing"):
            pass
        kit.pools.close()
        assert service.open == 1
    assert service.open == 0
    with pytest.raises(PoolExhausted, match="closed") as raised, kit.pools.checkout("billing"):
        pass
    assert raised.value.bound == Bound.CLOSED


def test_what_cannot_be_is_refused_by_name(kit: Any, service: Service) -> None:
    with pytest.raises(BudgetError, match=r"per_process=4 passes fleet=3"):
        register(kit, service, per_process=4)
    for wrong in ({"per_process": 0}, {"fleet": -1}, {"per_process": 1.5}, {"fleet": True}):
        with pytest.raises(BudgetError, match=r"whole number"):
            register(kit, service, **wrong)
    for wrong in (
        {"idle": -1},
        {"lease": 0.01},
        {"on_outage": "panic"},
        {"timeout": None},
        {"lifetime": "1h"},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            register(kit, service, **wrong)
    with pytest.raises(UnknownPool, match="no pool 'billing' is registered"):
        kit.pools.checkout("billing")
    register(kit, service)
    with pytest.raises(UsageError, match="registered already"):
        register(kit, service)


# -- the fleet -------------------------------------------------------------------------------------------


def test_the_fleet_never_passes_its_budget(kit: Any, another_kit: Any, service: Service) -> None:
    register(kit, service), register(another_kit, service)
    with ExitStack() as stack:
        take(stack, kit, 2)
        take(stack, another_kit, 1)
        with pytest.raises(
            PoolExhausted, match=r"budget of 3 is the limit: this process has 1, 1 others have 2"
        ) as raised:
            another_kit.pools.checkout("billing", timeout=0).__enter__()
        assert raised.value.bound == Bound.FLEET
    assert service.most == 3


def test_an_idle_share_moves_to_who_waits(kit: Any, another_kit: Any, service: Service) -> None:
    register(kit, service, fleet=2), register(another_kit, service, fleet=2)
    with ExitStack() as stack:
        take(stack, kit, 2)
    with ExitStack() as stack:
        take(stack, another_kit, 2)
        assert service.open == 2
    assert service.most == 2


def test_who_holds_an_idle_share_is_called_and_need_not_wait_for_its_next_report(
    kit: Any, another_kit: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PoolConfig, "tick", 60.0)
    register(kit, service, fleet=2, lease=90), register(another_kit, service, fleet=2, lease=90)
    with ExitStack() as stack:
        take(stack, kit, 2)
    wait_until(lambda: kit.store.push.live is not None)
    with ExitStack() as stack:
        take(stack, another_kit, 2)
    assert service.most == 2


def test_a_share_in_use_moves_when_it_comes_back(kit: Any, another_kit: Any, service: Service) -> None:
    register(kit, service, fleet=2), register(another_kit, service, fleet=2)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            with kit.pools.checkout("billing", timeout=20):
                done.wait(0.002)

    busy = [threading.Thread(target=work) for _ in range(4)]
    for thread in busy:
        thread.start()
    try:
        wait_until(lambda: service.open == 2)
        with another_kit.pools.checkout("billing", timeout=20):
            assert service.open <= 2
    finally:
        done.set()
        for thread in busy:
            thread.join(20)
    assert service.most == 2


def test_everybody_sees_the_whole_fleet(kit: Any, another_kit: Any, service: Service) -> None:
    register(kit, service), register(another_kit, service)
    with ExitStack() as stack:
        take(stack, kit, 2)
        kit.pools.tend()
        view = another_kit.pools.fleet("billing")
    assert (view.budget, view.granted, view.open) == (3, 2, 2)
    (process,) = view.processes
    assert (process.worker, process.in_use, process.waiting) == (kit.store.worker, 2, 0)
    assert 0 < process.lease_left <= 6


def test_the_lowest_budget_binds_and_the_conflict_shows(kit: Any, another_kit: Any, service: Service) -> None:
    register(kit, service, fleet=2), register(another_kit, service, fleet=5)
    with ExitStack() as stack:
        take(stack, kit, 1)
        take(stack, another_kit, 1)
        with pytest.raises(PoolExhausted, match="budget of 2"):
            another_kit.pools.checkout("billing", timeout=0).__enter__()
        view = kit.pools.fleet("billing")
    assert view.budget == 2
    assert view.conflict


def test_a_dead_process_s_share_returns_after_its_lease(
    new_kit: Callable[..., Any], clock: FrozenClock, service: Service
) -> None:
    dead, alive = new_kit(clock=clock), new_kit(clock=clock)
    register(dead, service), register(alive, service)
    with ExitStack() as stack:
        take(stack, dead, 2)
        silence(dead)
        clock.advance(5.9)
        take(stack, alive, 1)
        with pytest.raises(PoolExhausted):
            alive.pools.checkout("billing", timeout=0).__enter__()
        clock.advance(0.2)
        take(stack, alive, 1)
        assert [p.worker for p in alive.pools.fleet("billing").processes] == [alive.store.worker]


def test_a_process_that_leaves_gives_its_share_back_at_once(
    kit: Any, another_kit: Any, service: Service
) -> None:
    register(kit, service), register(another_kit, service)
    with ExitStack() as stack:
        take(stack, kit, 2)
    kit.pools.close()
    wait_until(lambda: another_kit.pools.fleet("billing").processes == ())


def test_checkout_and_return_talk_to_nobody(kit: Any, service: Service) -> None:
    register(kit, service)
    with kit.pools.checkout("billing"):
        pass
    silence(kit)
    with recorded(kit) as trips:
        for _ in range(10):
            with kit.pools.checkout("billing"):
                pass
        assert [trip.commands for trip in trips] == []
        with ExitStack() as stack:
            take(stack, kit, 2)
        assert [trip.commands for trip in trips] == [("pools.renew",)]


def test_without_a_fleet_budget_nothing_is_ever_stored(kit: Any, service: Service) -> None:
    register(kit, service, fleet=None)
    with recorded(kit) as trips:
        with ExitStack() as stack:
            take(stack, kit, 2)
            kit.pools.tend()
        kit.pools.close()
    assert [trip.commands for trip in trips] == []


# -- outages ---------------------------------------------------------------------------------------------


def test_with_the_store_down_the_last_share_is_kept_and_not_passed(kit: Any, service: Service) -> None:
    register(kit, service)
    degraded: list[Degraded] = []
    kit.hooks.subscribe(lambda event: degraded.append(event) if isinstance(event, Degraded) else None)
    with kit.pools.checkout("billing"), kit.pools.checkout("billing"):
        pass
    silence(kit)
    with store_down(kit):
        kit.pools.tend()
        assert kit.pools.stats()["billing"].degraded
        for _ in range(3):
            with ExitStack() as stack:
                take(stack, kit, 2)
        with pytest.raises(ConnectionResetError), kit.pools.checkout("billing"):
            raise ConnectionResetError  # one breaks: it may be replaced
        with ExitStack() as stack:
            take(stack, kit, 2)
    assert service.most == 2
    assert [event.primitive for event in degraded] == ["pools"]
    kit.pools.tend()
    assert not kit.pools.stats()["billing"].degraded


def test_with_the_store_down_no_share_is_invented(kit: Any, service: Service) -> None:
    register(kit, service)
    with store_down(kit), pytest.raises(PoolExhausted, match="store could not be asked") as raised:
        kit.pools.checkout("billing", timeout=0.05).__enter__()
    assert raised.value.bound == Bound.STORE
    assert service.total == 0
    with kit.pools.checkout("billing", timeout=20):
        pass


def test_a_strict_pool_closes_before_its_lease_runs_out(kit: Any, service: Service) -> None:
    register(kit, service, on_outage="close", lease=0.6)
    with kit.pools.checkout("billing"):
        pass
    with store_down(kit):
        wait_until(lambda: service.open == 0)
        with pytest.raises(PoolExhausted, match="store could not be asked"):
            kit.pools.checkout("billing", timeout=0.05).__enter__()
    with kit.pools.checkout("billing", timeout=20):
        pass


def test_after_the_store_lost_its_data_nothing_is_granted_before_all_have_reported(
    new_kit: Callable[..., Any], clock: FrozenClock, service: Service
) -> None:
    kits = [new_kit(clock=clock) for _ in range(3)]
    for one in kits:
        register(one, service)
    first, second, third = kits
    with ExitStack() as stack:
        take(stack, first, 2)
        take(stack, second, 1)
        for one in kits:
            silence(one)
        first.store.run(command("DEL", first.store.keys.of("pool", "billing")))
        first.pools.tend()
        assert first.pools.fleet("billing").settling
        for one in (second, third):  # one that re-books what it has, one that is new and wants
            with pytest.raises(PoolExhausted):
                one.pools.checkout("billing", timeout=0).__enter__()
        assert first.pools.fleet("billing").granted == 3
    clock.advance(6)
    with third.pools.checkout("billing", timeout=20):
        assert not third.pools.fleet("billing").settling
    assert service.most == 3
