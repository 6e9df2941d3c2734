"""The table of rules: whole, stable, explained, and the page made from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import statekit.audit.deploy
from statekit.audit.model import Category, Severity
from statekit.audit.rules import explain, page, rule_of, rules, selected, sort_of

PAGE = Path(__file__).parents[2] / "docs/audit-rules.md"
NUMBERS = {
    "rate_limiter": 1, "flag_cache": 2, "client_pool": 3, "tenant_config": 4, "session_store": 5, "memo_cache": 6,
    "background_worker": 7, "connection_manager": 8, "lock": 9, "counter": 10, "event_bus": 11, "misconfig": 12,
    "other_singleton": 13,
}  # fmt: skip
SHAPES = {
    "container": 1, "rebind": 2, "instance": 3, "class_attribute": 4, "attribute": 5, "app": 6, "closure": 7,
    "decorator": 8, "spawn": 9,
}  # fmt: skip


def test_ids_are_what_they_were_and_will_be() -> None:
    assert {one.value: sort_of(one).number for one in Category} == NUMBERS
    for category in Category:
        if category is not Category.MISCONFIG:
            for shape, digits in SHAPES.items():
                assert rule_of(category, shape).id == f"SK{NUMBERS[category]}{digits:02}"


def test_ids_and_names_are_unique_and_readable() -> None:
    table = rules()
    assert len({one.name for one in table.values()}) == len(table)
    for id_, rule in table.items():
        assert id_ == rule.id
        assert re.fullmatch(rf"SK{NUMBERS[rule.category]}\d\d", id_)
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)


@pytest.mark.parametrize("rule", rules().values(), ids=lambda rule: rule.id)
def test_every_rule_says_everything(rule) -> None:
    assert rule.severity in set(Severity)
    for said in (rule.title, rule.breaks, rule.use, rule.keep, rule.before, rule.after):
        assert said.strip()
    assert rule.keep.endswith(".")
    assert not rule.use.endswith(".")
    assert rule.url.endswith(f"#{rule.anchor}")


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m statekit.audit.rules > docs/audit-rules.md"


def test_the_page_has_a_place_for_every_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for rule in rules().values():
        assert text.count(f'<a id="{rule.anchor}"></a>') == 1
        assert rule.shape or f"`{rule.name}`" in text
    places = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^## (.+)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= places


def test_rules_that_deployment_uses_exist() -> None:
    used = {
        id_
        for path in Path(statekit.audit.deploy.__path__[0]).glob("*.py")
        for id_ in re.findall(r'"(SK\d+)"', path.read_text("utf-8"))
    }
    assert used <= set(rules())


@pytest.mark.parametrize(
    ("selector", "first", "count"),
    [
        ("SK101", "SK101", 1),
        ("sk101", "SK101", 1),
        ("rate-limiter-container", "SK101", 1),
        ("rate_limiter", "SK101", 9),
        ("SK1", "SK101", 9),
        ("SK1xx", "SK101", 9),
        ("SK10", "SK1001", 9),
        ("SK10xx", "SK1001", 9),
        ("misconfig", "SK1201", 13),
        ("all", "SK101", len(rules())),
    ],
)
def test_selecting(selector: str, first: str, count: int) -> None:
    found = selected(selector)
    assert len(found) == count
    assert first in found


@pytest.mark.parametrize(
    ("typo", "meant"), [("rate_limter", "rate_limiter"), ("SK1001x", "SK1001"), ("", "lists them")]
)
def test_a_selector_that_means_nothing_says_what_was_meant(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match=meant):
        selected(typo)


def test_explaining() -> None:
    said = explain("SK101")
    assert said == explain("rate-limiter-container") == explain("sk101")
    assert said.startswith("SK101 rate-limiter-container (error)\nRate limiter in a container of a module")
    for part in ("Before", "After", "kit.rate_limiter", "What stays:", "# statekit: ignore[SK101]"):
        assert part in said
    assert all(len(line) <= 100 for line in said.splitlines())
    assert len(explain("all").splitlines()) == len(rules())
    with pytest.raises(ValueError, match="did you mean"):
        explain("SK10l")
