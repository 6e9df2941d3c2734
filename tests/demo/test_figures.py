"""The report's arithmetic, on records whose figures are known beforehand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.figures import Span, figures, percentile, worst_window, writes
from benchmarks.fleet.sightings import Sighting, load, save
from demo_app.report import write as write_report
from demo_app.report.promises import broken
from demo_app.settings import State
from demo_app.trial import Outcome


def seen(at, name="GET /x", status=200, took=0.01, pod="pod-1", pid=1, **fact):
    return Sighting(at, at + took, name, status, pod, pid, fact)


def permit(at, took=0.01):
    return seen(at, "GET /limited", 200, took)


class TestPermits:
    def test_none(self):
        assert worst_window([]) == 0

    def test_all_within_a_minute(self):
        assert worst_window([permit(second) for second in range(50)]) == 50

    def test_the_window_is_half_open(self):
        assert worst_window([permit(0, 0), permit(60, 0)]) == 1
        assert worst_window([permit(0, 0), permit(59.999, 0)]) == 2

    def test_a_slow_answer_is_not_taken_for_a_permit_too_many(self):
        assert worst_window([permit(0, took=0.5), permit(59.9, took=0.5)]) == 1

    @given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 5)), max_size=60))
    def test_agrees_with_counting(self, moments):
        permits = [permit(at, took) for at, took in moments]
        counted = max(
            (
                sum(other.sent >= one.sent and other.received < one.sent + 60 for other in permits)
                for one in permits
            ),
            default=0,
        )
        assert worst_window(permits) == counted


class TestFlags:
    def test_converged_when_the_last_old_answer_arrived(self):
        records = [
            seen(0, "PUT /flags", wrote=True),
            seen(0.005, read=False),
            seen(0.02, read=False, pid=2),
            seen(0.05, read=True),
            seen(0.06, read=True, pid=2),
            seen(1, "PUT /flags", wrote=False),
        ]
        (write,) = writes(records)
        assert write.seconds == pytest.approx(0.03)

    def test_never_when_one_worker_still_gave_the_old_answer(self):
        records = [
            seen(0, "PUT /flags", wrote=True),
            seen(0.5, read=True),
            seen(0.6, read=False, pid=2),
            seen(1, "PUT /flags", wrote=False),
        ]
        assert [write.seconds for write in writes(records)] == [None]
        assert figures(records)["flag_convergence_p99_ms"] is None

    def test_a_read_sent_before_the_write_may_see_the_old_value(self):
        records = [
            seen(0.99, read=False, took=0.3),
            seen(1, "PUT /flags", wrote=True),
            seen(1.05, read=True),
            seen(2, "PUT /flags", wrote=False),
        ]
        assert [write.seconds for write in writes(records)] == [0.0]

    def test_a_worker_not_asked_again_is_no_refusal_to_learn(self):
        records = [
            seen(0, "PUT /flags", wrote=True),
            seen(0.004, read=False, pid=2),
            seen(0.6, read=True),
            seen(1, "PUT /flags", wrote=False),
        ]
        assert [write.seconds for write in writes(records)] == [pytest.approx(0.014)]

    def test_at_once_when_no_old_answer_was_seen(self):
        records = [
            seen(0, "PUT /flags", wrote=True),
            seen(0.1, read=True),
            seen(1, "PUT /flags", wrote=False),
        ]
        assert [write.seconds for write in writes(records)] == [0.0]

    def test_a_write_that_failed_is_none(self):
        records = [
            seen(0, "PUT /flags", status=503, wrote=True),
            seen(0.1, read=False),
            seen(1, "PUT /flags", wrote=False),
        ]
        assert writes(records) == []

    def test_an_answer_without_a_value_says_nothing(self):
        records = [
            seen(0, "PUT /flags", wrote=True),
            seen(0.1, status=0, read=None),
            seen(1, "PUT /flags", wrote=False),
        ]
        assert [write.seconds for write in writes(records)] == [0.0]


class TestTraffic:
    def test_percentiles_are_values_that_were_seen(self):
        values = [float(n) for n in range(1, 101)]
        assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
        assert percentile([], 0.5) is None
        assert percentile([7.0], 0.99) == 7.0

    def test_failures_and_those_of_a_restart(self):
        records = [seen(0), seen(1, status=0), seen(5, status=503), seen(9, status=429), seen(20, status=500)]
        found = figures(records, [Span("pod-1", 4, 6)])
        assert (found["requests"], found["requests_failed"], found["requests_failed_in_restart"]) == (5, 3, 1)

    def test_what_straddles_a_restart_counts_to_it(self):
        found = figures([seen(3, status=0, took=2)], [Span("pod-1", 4, 6), Span("pod-2", 4.5, 6)])
        assert found["requests_failed_in_restart"] == 1

    def test_time_of_the_third_party_is_its_own(self):
        found = figures([seen(0, took=0.002), seen(0, "GET /upstream", took=0.5)])
        assert found["p99_ms"] == pytest.approx(2.0)

    def test_nothing_seen_is_no_error(self):
        assert figures([])["requests"] == 0


def test_sessions_connections_and_leaks():
    found = figures(
        [
            seen(0, session=1, event="opened"),
            seen(1, session=2, event="opened"),
            seen(2, session=1, event="held"),
            seen(3, session=2, event="lost", status=401),
            seen(4, "third party", max=7, connections=7, calls=1),
            seen(5, "third party", max=13, connections=2, calls=1),
            seen(6, "POST /tenants/…/quote", leak=True, stale=True),
            seen(7, "GET /tenants/…/config", leak=False, stale=True),
        ]
    )
    assert (found["sessions_opened"], found["sessions_lost"]) == (2, 1)
    assert found["upstream_connections_max"] == 13
    assert (found["tenant_quotes"], found["tenant_leaks"], found["tenant_stale"]) == (1, 1, 1)
    assert found["requests"] == 6


def test_records_survive_the_file(tmp_path):
    records = [seen(2, read=True), seen(1, wrote=False)]
    save(tmp_path / "sightings.jsonl", records)
    assert load(tmp_path / "sightings.jsonl") == records[::-1]
    assert [path.name for path in tmp_path.iterdir()] == ["sightings.jsonl"]


KEPT = [
    *(permit(n / 100) for n in range(100)),
    seen(0, session=1, event="opened"),
    seen(0.5, "PUT /flags", wrote=True),
    seen(0.6, read=True),
    seen(1.5, "PUT /flags", wrote=False),
    seen(1, "third party", max=12, connections=12, calls=1),
    seen(1, "POST /tenants/…/quote", leak=False, stale=False),
]
CONDITIONS = {
    "server": "Valkey <9.1>", "versions": {"python": "3"}, "cores": 2, "pods": 3, "workers": 2, "users": 45,
    "seconds": 46, "date": "2026-01-01",
}  # fmt: skip


def test_the_report_names_every_promised_figure_and_loads_nothing(tmp_path):
    outcomes = [Outcome(state, 0.0, KEPT, [Span("pod-1", 0.5, 1.0)]) for state in State]
    made = write_report(tmp_path, outcomes, CONDITIONS)
    assert made == json.loads((tmp_path / "report.json").read_text())
    assert list(made["variants"]) == ["memory", "sticky", "shared"]
    promised = [
        "permits_worst_window",
        "permit_limit",
        "sessions_opened",
        "sessions_lost",
        "requests",
        "requests_failed",
        "requests_failed_in_restart",
        "flag_writes",
        "flag_convergence_p50_ms",
        "flag_convergence_p99_ms",
        "upstream_connections_max",
        "upstream_budget",
        "tenant_quotes",
        "tenant_leaks",
        "rps",
        "p50_ms",
        "p95_ms",
        "p99_ms",
    ]
    assert set(promised) <= set(made["variants"]["shared"])
    assert broken(made["variants"]["shared"]) == []
    page = (tmp_path / "index.html").read_text()
    assert page.count("<svg") == 18
    assert "{{" not in page
    assert "Valkey &lt;9.1&gt;" in page
    assert "http" not in page.replace("https://git", "")


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("permits_worst_window", 101),
        ("permits_worst_window", 99),
        ("sessions_lost", 1),
        ("sessions_opened", 0),
        ("requests_failed_in_restart", 1),
        ("restarts", 0),
        ("flag_convergence_p99_ms", 50.1),
        ("flag_convergence_p99_ms", None),
        ("upstream_connections_max", 13),
        ("upstream_connections_max", 0),
        ("tenant_leaks", 1),
    ],
)
def test_a_broken_promise_is_noticed(figure, value):
    kept = figures(KEPT, [Span("pod-1", 0.5, 1.0)])
    assert len(broken({**kept, figure: value})) == 1
