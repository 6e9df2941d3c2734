"""Comments that speak to the audit: what they suppress, what they accept, and when they are told to be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from statekit.audit.model import Category, Finding
from statekit.audit.reading import read
from statekit.audit.run import audit
from statekit.audit.suppress import addressed, comments_in, suppressed
from tests.audit.findings import HITS


def finding(line: int, rule: str = "SK101", path: str = "app.py", name: str = "HITS") -> Finding:
    category = {"SK1": Category.RATE_LIMITER, "SK6": Category.MEMO_CACHE}[rule[:3]]
    return replace(
        HITS, rule=rule, category=category, path=path, line=line, name=name, qualified_name=f"app.{name}"
    )


def judged(
    source: str, *findings: Finding, rules: frozenset[str] | None = None
) -> tuple[list[str], list[str]]:
    comments = {"app.py": comments_in(source.encode())}
    done, said = suppressed(findings, comments, rules)
    return [f"{one.status}: {one.reason}".removesuffix(": ") for one in done], said


def test_at_the_binding_or_on_the_line_above() -> None:
    assert judged("HITS = {}  # statekit: ignore[SK101] keys are local\n", finding(1)) == (
        ["suppressed: keys are local"],
        [],
    )
    assert judged("# statekit: ignore[SK101] keys are local\nHITS = {}\n", finding(2)) == (
        ["suppressed: keys are local"],
        [],
    )
    assert judged("# statekit: ignore[SK101] too far\n\nHITS = {}\n", finding(3))[0] == ["open"]


def test_a_comment_behind_one_binding_does_not_speak_of_the_next() -> None:
    source = "LIMIT = 3  # statekit: ignore[SK101] not this one\nHITS = {}\n"
    status, said = judged(source, finding(2))
    assert status == ["open"]
    assert said == ["app.py:1: # statekit: ignore[SK101] concerns nothing here; remove it"]


def test_a_comment_inside_a_statement_does_not_speak_of_the_next_line() -> None:
    source = "LIMIT = f(\n    1,  # statekit: ignore[SK101] no\n    HITS := {},\n)\n"
    assert judged(source, finding(3))[0] == ["open"]


def test_what_stands_in_a_string_is_no_comment() -> None:
    source = 'HELP = """\n# statekit: ignore[SK101] and why\n"""\nTEXT = "x  # per-process-ok"\n'
    assert judged(source) == ([], [])


@pytest.mark.parametrize(
    "source", [b"\xff\xfe", b"x = (\n", b"if x:\n   y\n  z\n", b"# coding: none\n", b"\x00"]
)
def test_what_is_no_python_has_no_comments(source: bytes) -> None:
    assert comments_in(source) == []


def test_what_facts_tell_of_comments() -> None:
    source = b"X = {}  # per-process-ok: a metric\n# statekit: ignore[lock] why\n"
    found = addressed(read("app.py", source))
    assert [(one.line, one.rules, one.reason, one.accepts) for one in found] == [
        (1, (), "a metric", True),
        (2, ("lock",), "why", False),
    ]


def test_a_comment_behind_a_decorator_speaks_of_the_function() -> None:
    source = "@lru_cache  # statekit: ignore[SK608] pure\ndef f(): ...\n"
    assert judged(source, finding(2, "SK608")) == (["suppressed: pure"], [])


@pytest.mark.parametrize(
    "rules", ["SK101", "SK601, SK101", "SK101,SK601", "rate_limiter", "SK1xx", "rate-limiter-container"]
)
def test_several_rules_groups_and_categories(rules: str) -> None:
    assert judged(f"HITS = {{}}  # statekit: ignore[{rules}] so be it\n", finding(1)) == (
        ["suppressed: so be it"],
        [],
    )


def test_it_concerns_only_the_rules_it_names() -> None:
    status, said = judged("HITS = {}  # statekit: ignore[SK601] so be it\n", finding(1))
    assert status == ["open"]
    assert "concerns nothing here" in said[0]


@pytest.mark.parametrize("reason", ["", "   ", "  # noqa: E501", " - ", ": "])
def test_without_a_reason_it_does_nothing_and_is_told(reason: str) -> None:
    status, said = judged(f"HITS = {{}}  # statekit: ignore[SK101]{reason}\n", finding(1))
    assert status == ["open"]
    assert said == [
        "app.py:1: # statekit: ignore[SK101] gives no reason, and so does nothing; write the reason behind it"
    ]
    status, said = judged(f"HITS = {{}}  # per-process-ok{reason}\n", finding(1))
    assert status == ["open"]
    assert "gives no reason" in said[0]


def test_what_is_behind_the_reason_is_not_the_reason() -> None:
    assert judged("HITS = {}  # statekit: ignore[SK101]: one pod only  # noqa: X1\n", finding(1))[0] == [
        "suppressed: one pod only"
    ]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("# statekit: ignore because", "names no rule"),
        ("# statekit: ignore[] because", "names no rule"),
        ("# statekit: ignore[SK1O1] because", "'SK1O1' is neither a rule nor a category"),
        ("# statekit: ignore[rate_limitr] because", "did you mean 'rate_limiter'"),
    ],
)
def test_what_names_no_rule_is_told(comment: str, said: str) -> None:
    status, told = judged(f"HITS = {{}}  {comment}\n", finding(1))
    assert status == ["open"]
    assert said in told[0]


def test_accepted_is_another_thing_than_suppressed() -> None:
    assert judged("HITS = {}  # per-process-ok: a metric of this worker\n", finding(1)) == (
        ["accepted: a metric of this worker"],
        [],
    )
    assert judged("HITS = {}  # per-process-ok: a metric\n") == (
        [],
        ["app.py:1: # per-process-ok concerns nothing here; remove it"],
    )


def test_what_was_not_looked_for_is_not_called_unused() -> None:
    source = "HITS = {}  # statekit: ignore[SK601] so be it\n"
    assert judged(source, rules=frozenset({"SK101"})) == ([], [])
    assert judged(source, rules=frozenset({"SK601"}))[1] != []


def test_one_comment_for_two_findings_of_a_line() -> None:
    source = "HITS, SEEN = {}, {}  # statekit: ignore[rate_limiter] both\n"
    assert judged(source, finding(1), finding(1, name="SEEN")) == (["suppressed: both"] * 2, [])


def test_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask, request\napp = Flask(__name__)\n"
        "# statekit: ignore[rate_limiter] one pod, by contract\nHITS = {}\n"
        "SEEN = {}  # per-process-ok: shown on this worker's own page\n"
        "LIMIT = 5  # statekit: ignore[SK101] never was one\n"
        "@app.route('/login')\ndef login():\n"
        "    HITS[request.remote_addr] = HITS.get(request.remote_addr, 0) + 1\n"
        "    SEEN[request.remote_addr] = 1\n    return '429'\n"
    )
    report = audit(tmp_path, cache=False)
    assert {one.name: one.status for one in report.findings} == {"HITS": "suppressed", "SEEN": "accepted"}
    assert report.notes == ("app.py:6: # statekit: ignore[SK101] concerns nothing here; remove it",)
