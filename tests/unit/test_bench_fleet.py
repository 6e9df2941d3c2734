"""The processes of a benchmark: started afresh, in step, and their limiters held to the bound."""

from __future__ import annotations

import pytest

from benchmarks.bench import Fleet, Lab
from benchmarks.bench.proofs import most_in_a_window
from benchmarks.suites.leases import witness


def test_processes_take_turns_and_share_one_limit(valkey_url, namespace):
    with Fleet(2, witness, "exact", valkey_url, namespace, 50) as fleet:
        assert len(set(fleet.pids)) == 2
        seen = [fleet.turn(0.4), fleet.turn(0.4)]
    spans = [span for turn in seen for process in turn for span in process]
    assert len(spans) >= 48
    assert most_in_a_window(spans, 1.0) <= 50


def test_a_process_that_dies_is_told(valkey_url, namespace):
    with (
        pytest.raises(RuntimeError, match="has died"),
        Fleet(1, witness, "limits", "no-such-url", namespace, 5),
    ):
        pass


def test_what_the_server_was_told_is_counted(valkey_url):
    with Lab(valkey_url) as lab:
        client = lab.client()
        key = lab.name()
        with lab.commands() as counted:
            for _ in range(3):
                client.getdel(key)
        assert counted["getdel"] == 3
        assert lab.reads(lambda: client.get(key), 50) == pytest.approx(
            1.0, abs=0.11
        )  # others may beat meanwhile

        def pipelined():
            with client.pipeline(transaction=False) as pipe:
                pipe.get(key).get(key).execute()

        assert lab.reads(pipelined, 50) == pytest.approx(1.0, abs=0.11)
        kit = lab.kit()
        kit.ping()
        with lab.round_trips(kit) as trips:
            kit.ping()
        assert trips == [("PING",)]
