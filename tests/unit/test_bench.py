"""The harness of the benchmarks: its arithmetic, its fairness, and what it makes of a case. Nothing here is timed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.__main__ import fits
from benchmarks.bench import (
    Absent,
    AtLeast,
    AtMost,
    Check,
    Comparison,
    Contender,
    Faster,
    Figure,
    Figures,
    Lab,
    Skip,
    case,
)
from benchmarks.bench.model import CASES, Case
from benchmarks.bench.page import html
from benchmarks.bench.paired import Pace, paired
from benchmarks.bench.proofs import most_in_a_window, within
from benchmarks.bench.run import ran
from benchmarks.bench.score import judged, paired_ratios, spread
from benchmarks.bench.text import amount, documented, totals

PERFORMANCE = Path(__file__).parents[2] / "docs" / "performance.md"
PLACE_OF = re.compile(r"<!-- bench: (\S+) -->")
NOWHERE = "unix:///nowhere/s.sock"

# -- arithmetic ------------------------------------------------------------------------------------------


def test_spread_is_the_median_and_the_quartiles():
    assert spread([5, 1, 3, 2, 4]) == {"median": 3, "q1": 2, "q3": 4}
    assert spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0}


def test_ratios_are_taken_within_each_round():
    """The machine is ten times slower in the second round; the ratio does not notice."""
    assert paired_ratios([1, 10, 1], [2, 20, 2]) == [0.5, 0.5, 0.5]


def test_what_is_added_is_compared_above_what_was_there_before():
    assert paired_ratios([3, 5], [5, 9], above=[1, 1]) == [0.5, 0.5]


def test_a_single_value_is_compared_with_every_round():
    assert paired_ratios([6, 8], [2]) == [3, 4]


def test_nothing_over_nothing_is_nothing():
    assert paired_ratios([0], [0]) == [0.0]
    assert paired_ratios([1], [0]) == [float("inf")]


ROUNDS = {"ours": [1.0, 2.0, 3.0], "theirs": [4.0, 8.0, 12.0], "bare": [0.5, 1.0, 1.5]}
MEDIANS = {"ours": [1.0] * 3, "theirs": [2.0] * 3}


@pytest.mark.parametrize(
    ("promise", "measured", "kept"),
    [
        (AtMost("ours", 0.3, of="theirs"), 0.25, True),
        (AtMost("ours", 0.2, of="theirs"), 0.25, False),
        (AtMost("ours", 0.2, of="theirs", above="bare"), 0.5 / 3.5, True),
        (AtMost("ours", 0.4, of="theirs", p50=True), 0.5, False),
        (AtMost("ours", 2.0), 2.0, True),
        (AtLeast("theirs", 4, of="ours"), 4.0, True),
        (AtLeast("ours", 3), 2.0, False),
        (Faster("ours", 4, than="theirs"), 4.0, True),
        (Faster("ours", 5, than="theirs"), 4.0, False),
    ],
)
def test_a_promise_is_kept_or_not(promise, measured, kept):
    told = judged(promise, ROUNDS, MEDIANS, {})
    assert told["measured"] == pytest.approx(measured)
    assert told["kept"] is kept


def test_who_fails_a_check_has_broken_its_promise():
    told = judged(AtMost("ours", 9, of="theirs"), {"theirs": [1.0]}, {}, {"ours": "admits too many"})
    assert (told["measured"], told["kept"]) == (None, False)
    assert "admits too many" in told["why"]


def test_nobody_can_be_compared_with_a_peer_that_has_no_figure():
    told = judged(AtMost("ours", 9, of="theirs"), {"ours": [1.0]}, {}, {"theirs": "admits too many"})
    assert (told["measured"], told["kept"]) == (None, None)


# -- proofs ----------------------------------------------------------------------------------------------


def test_only_calls_that_lie_in_a_window_whole_are_proof():
    assert most_in_a_window([(0.0, 0.1), (0.5, 0.6), (0.95, 1.2)], 1.0) == 2
    assert most_in_a_window([(0.0, 0.1), (0.5, 0.6), (0.95, 0.99)], 1.0) == 3
    assert most_in_a_window([(0.0, 5.0), (1.0, 1.1)], 1.0) == 1
    assert most_in_a_window([], 1.0) == 0


def test_calls_exactly_a_window_apart_are_not_in_one():
    assert most_in_a_window([(0.0, 0.0), (1.0, 1.0)], 1.0) == 1


def test_a_violation_is_told_with_its_numbers():
    assert within([(0.0, 0.1)] * 3, 1.0, 3) is None
    assert within([(0.0, 0.1)] * 4, 1.0, 3) == "let 4 through within 1 s where 3 were allowed"


moments = st.integers(0, 60).map(lambda tick: tick / 4)
spans = st.tuples(moments, st.integers(0, 8).map(lambda tick: tick / 4)).map(lambda s: (s[0], s[0] + s[1]))


@settings(max_examples=200)
@given(st.lists(spans, max_size=25), st.sampled_from([0.5, 1.0, 3.0]))
def test_proofs_agree_with_looking_at_every_window(admitted, window):
    starts = [before for before, _ in admitted]
    looked = [sum(s <= before and after < s + window for before, after in admitted) for s in starts]
    assert most_in_a_window(admitted, window) == max(looked, default=0)


# -- the runner ------------------------------------------------------------------------------------------


def test_every_round_gives_every_contender_one_batch_in_changing_order():
    order: list[str] = []
    contenders = [
        Contender(name, lambda: sum(range(2000)), before=lambda name=name: order.append(name))
        for name in "abc"
    ]
    with Lab(NOWHERE) as lab:
        lanes = paired(lab, contenders, Pace(rounds=12, batch=0.0005, warm=1))
    assert [len(lane.rounds) for lane in lanes] == [12, 12, 12]
    rounds = [tuple(order[-3 * n - 3 : len(order) - 3 * n]) for n in range(12)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2


def test_a_batch_may_be_a_statement_or_a_coroutine_and_is_timed_for_one_unit():
    calls = Counter()

    async def fifty():
        calls["async"] += 50

    contenders = [
        Contender("statement", "d['k']", names={"d": {"k": 1}}),
        Contender("async", fifty, calls=50),
    ]
    with Lab(NOWHERE) as lab:
        statement, awaited = paired(lab, contenders, Pace(rounds=3, batch=0.0005, warm=0))
    assert len(statement.rounds) == 3
    assert calls["async"] >= 3 * awaited.size * 50
    assert max(awaited.rounds) < 0.01


def test_slow_calls_are_timed_one_by_one():
    with Lab(NOWHERE) as lab:
        (lane,) = paired(
            lab, [Contender("slow", lambda: sum(range(5000)))], Pace(rounds=3, batch=0.005, warm=0)
        )
    assert len(lane.p50) == len(lane.p99) == 3
    assert all(middle <= slowest for middle, slowest in zip(lane.p50, lane.p99, strict=True))


# -- a case, from the lab to the page --------------------------------------------------------------------


def mixed(_: Lab):
    yield Comparison(
        "two ways & a third",
        [
            Contender("statekit", "1 + 1", note="with <care>"),
            Contender("wrong", "2 + 2"),
            Contender("odd", "3 + 3"),
            Absent("elsewhere", "needs a server"),
        ],
        promises=[AtMost("statekit", 1.0), Faster("statekit", 2, than="wrong")],
        checks=[
            Check("statekit", "is right", lambda: None),
            Check("wrong", "is right", lambda: "it is not"),
            Check("odd", "is even", lambda: "it is odd", fatal=False),
        ],
        rounds=3,
    )
    yield Figures(
        "counted",
        "round trips",
        [Figure("statekit", 1), Figure("peer", [2, 3, 4]), Figure("bad", 1, failed="lost one")],
        promises=[AtMost("statekit", 1), AtLeast("peer", 3, of="statekit")],
    )


@pytest.fixture
def report():
    result = ran(Case("suite/mixed", "How are they <measured>?", mixed), NOWHERE, quick=True)
    assert "error" not in result, result.get("error")
    told = {
        "server": {"name": "Valkey", "version": "9.1", "transport": "a unix socket"},
        "packages": {"redis": "8"}, "load_before": 0.1,
        **dict.fromkeys(("cpu", "cores", "system", "python", "date", "commit", "method"), "x"),
    }  # fmt: skip
    return {"conditions": told, "results": [result]}


def test_who_fails_a_check_is_not_measured_and_the_others_are(report):
    compared, counted = report["results"][0]["results"]
    series = {one["name"]: one for one in compared["series"]}
    assert series["wrong"]["failed"] == "it is not"
    assert "median" not in series["wrong"]
    assert series["statekit"]["median"] > 0
    assert series["odd"]["median"] > 0
    assert series["elsewhere"] == {"name": "elsewhere", "role": "absent", "why": "needs a server"}
    assert [promise["kept"] for promise in compared["promises"]] == [True, None]
    assert [promise["kept"] for promise in counted["promises"]] == [True, True]
    assert totals(report["results"]) == {"kept": 3, "missed": 0, "void": 1}


def test_results_are_plain_data(report):
    assert json.loads(json.dumps(report)) == report


def test_the_page_is_one_file_and_escapes_what_it_shows(report):
    page = html(report)
    assert "How are they &lt;measured&gt;?" in page
    assert "with &lt;care&gt;" in page
    assert "no figure: it is not" in page
    assert 'src="' not in page
    assert 'href="http' not in page
    assert page.count("<svg") == 2


def test_tables_of_the_documentation_are_filled_and_filled_again(report):
    page = "a\n<!-- bench: suite/mixed -->\nthe tables of last time\n<!-- end of bench -->\nb\n<!-- bench: promises -->\n<!-- end of bench -->\n"
    filled = documented(page, report)
    assert "last time" not in filled
    assert "| **statekit** | 1 round trips |" in filled
    assert "MISSED" not in filled
    assert documented(filled, report) == filled


def test_a_place_whose_case_was_not_run_stays_as_it_is(report):
    page = "<!-- bench: another/case -->\nkept\n<!-- end of bench -->"
    assert documented(page, report) == page


def test_a_case_that_cannot_run_or_breaks_is_told():
    def cannot(_: Lab):
        raise Skip("no such server")
        yield

    def breaks(_: Lab):
        raise RuntimeError("oh")
        yield

    def lacks(_: Lab):
        import a_peer_nobody_has  # noqa: F401

        yield

    assert "statekit[bench]" in ran(Case("a/a", "?", lacks), NOWHERE, quick=True)["skipped"]
    assert ran(Case("a/b", "?", cannot), NOWHERE, quick=True)["skipped"] == "no such server"
    assert "RuntimeError: oh" in ran(Case("a/c", "?", breaks), NOWHERE, quick=True)["error"]


def test_what_a_lab_was_told_to_do_later_is_done():
    done = []
    with Lab(NOWHERE) as lab:
        lab.later(lambda: done.append("first"))
        lab.later(lambda: done.append("last"))
        assert lab.name() != lab.name()
    assert done == ["last", "first"]


def test_two_cases_cannot_share_a_name():
    import benchmarks.suites  # noqa: F401

    name = next(iter(CASES))
    with pytest.raises(ValueError, match=name):
        case(name, "?")(mixed)


def test_every_case_is_named_for_its_suite_and_asks_something():
    import benchmarks.suites  # noqa: F401

    assert all(name.count("/") == 1 and case.question for name, case in CASES.items())


def test_every_case_has_a_place_on_the_page_of_performance():
    import benchmarks.suites  # noqa: F401

    page = PERFORMANCE.read_text(encoding="utf-8")
    places = set(PLACE_OF.findall(page)) - {"conditions", "promises"}
    assert places >= set(CASES) - {"floors/local"}
    assert places <= set(CASES)


@pytest.mark.parametrize(
    ("globs", "wanted"),
    [
        (None, True),
        (["a/b"], True),
        (["a"], True),
        (["a/*"], True),
        (["*/b"], True),
        (["b"], False),
        (["x", "a/b"], True),
    ],
)
def test_cases_are_chosen_by_glob(globs, wanted):
    assert fits("a/b", globs) is wanted


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.25e-7, "s", "125 ns"), (5.61e-5, "s", "56.1 µs"), (0.0123, "s", "12.3 ms"), (2.5, "s", "2.5 s"), (0.0, "s", "0 ns"),
        (123456.7, "decisions/s", "123,457 decisions/s"), (8.128, "bytes a hit", "8.13 bytes a hit"), (3, "errors", "3 errors"),
    ],
)  # fmt: skip
def test_amounts_are_written_for_readers(value, unit, text):
    assert amount(value, unit) == text
