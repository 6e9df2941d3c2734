"""What every kit does, on every store and in both colours."""

from __future__ import annotations

from typing import Any

from statekit.store.op import command, together
from statekit.testing import recorded


def test_ping_is_one_round_trip(kit: Any) -> None:
    with recorded(kit) as trips:
        assert kit.ping() >= 0
    assert [trip.commands for trip in trips] == [("PING",)]


def test_operations_share_a_round_trip(kit: Any) -> None:
    with recorded(kit) as trips:
        replies = kit.store.run(together(command("PING"), command("EXISTS", "nothing"), command("PING")))
    assert replies == (b"PONG", 0, b"PONG")
    assert len(trips) == 1


def test_two_kits_see_one_store(kit: Any, another_kit: Any) -> None:
    key = kit.store.keys.of("test", "x")
    assert kit.store.run(command("EXISTS", key)) == 0
    if hasattr(kit.store.transport, "data"):
        kit.store.transport.data.put(key, "1", 60_000)
    else:
        kit.store.run(command("SET", key, "1", "PX", 60_000))
    assert another_kit.store.run(command("GET", key)) == b"1"


def test_a_kit_says_where_it_points(kit: Any) -> None:
    assert kit.namespace in kit.describe()


def test_closing_twice_is_fine(kit: Any) -> None:
    kit.ping()
    kit.close()
    kit.close()
