"""The table of rules: what each id means, what breaks, what replaces it, what must stay. The words are in `rules.toml`.

`python -m statekit.audit.rules` prints the table as a page, which is docs/audit-rules.md.
"""

from __future__ import annotations

import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from statekit.audit.model import Category, Severity

__all__ = ["PAGE", "Rule", "Sort", "explain", "page", "rule_of", "rules", "selected", "sort_of"]

PAGE = "docs/audit-rules.md"
"""Where the rules are explained; ``helpUri`` in SARIF."""
OTHER_SHAPE = "attribute"
"""Where a shape without a number of its own belongs."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A category: what state of that sort does with two workers, and what replaces it."""

    category: Category
    number: int
    title: str
    problem: str
    """In a line, for the inventory."""
    severity: Severity
    breaks: str
    use: str
    keep: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What one id stands for."""

    id: str
    name: str
    """Readable, such as ``rate-limiter-container``; as stable as the id."""
    title: str
    category: Category
    shape: str
    """Where the state hides; '' for a rule that is not about a place in Python code."""
    severity: Severity
    """By default; a finding may be judged more mildly."""
    breaks: str
    use: str
    keep: str
    looks: str
    before: str
    after: str
    language: str = "python"
    """Of `before` and `after`."""

    @property
    def anchor(self) -> str:
        """The rule's place on the page, without the ``#``."""
        return self.id.lower()

    @property
    def url(self) -> str:
        """Where statekit's documentation explains it."""
        return f"{PAGE}#{self.anchor}"


@cache
def _words() -> dict[str, Any]:
    text = resources.files("statekit.audit").joinpath("rules.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _flowing(text: str) -> str:
    return " ".join(text.split())


@cache
def sort_of(category: Category) -> Sort:
    """What is said about a category."""
    row = _words()["category"][category.value]
    return Sort(
        category,
        row["number"],
        row["title"],
        row["problem"] if "problem" in row else _flowing(row["breaks"]),
        Severity(row["severity"]),
        _flowing(row["breaks"]),
        row["use"],
        row["keep"],
        row.get("before", "").strip("\n"),
        row.get("after", "").strip("\n"),
    )


@cache
def rules() -> dict[str, Rule]:
    """All rules by id, in the order of their numbers."""
    found = [*_crossed(), *_own()]
    return {one.id: one for one in sorted(found, key=_number)}


def _number(rule: Rule) -> tuple[int, str]:
    return sort_of(rule.category).number, rule.id


def _crossed() -> Iterator[Rule]:
    """A rule for each category in each shape; wrong settings have rules of their own."""
    for category in Category:
        sort = sort_of(category)
        for shape, row in _words()["shape"].items():
            if category is not Category.MISCONFIG:
                yield Rule(
                    f"SK{sort.number}{row['number']:02}",
                    f"{category.value}-{shape}".replace("_", "-"),
                    f"{sort.title} {row['title']}",
                    category,
                    shape,
                    sort.severity,
                    sort.breaks,
                    sort.use,
                    sort.keep,
                    row["looks"],
                    sort.before,
                    sort.after,
                )


def _own() -> Iterator[Rule]:
    for id_, row in _words()["rule"].items():
        yield Rule(
            id_,
            row["name"],
            row["title"],
            Category(row["category"]),
            "",
            Severity(row["severity"]),
            _flowing(row["breaks"]),
            row["use"],
            row["keep"],
            "",
            row["before"].strip("\n"),
            row["after"].strip("\n"),
            row.get("language", "python"),
        )


@cache
def rule_of(category: Category, shape: str) -> Rule:
    """The rule for state of a category in a shape."""
    shapes = _words()["shape"]
    number = shapes[shape if shape in shapes else OTHER_SHAPE]["number"]
    return rules()[f"SK{sort_of(category).number}{number:02}"]


def selected(selector: str) -> frozenset[str]:
    """The ids somebody means by an id, a rule's name, a category, or ``SK1`` for all of one category.

    Raises `ValueError`, with the nearest known name, for anything else.
    """
    wanted = selector.strip()
    if wanted.upper() == "ALL":
        return frozenset(rules())
    bare = wanted.lower().replace("-", "_")
    found = frozenset(
        one.id
        for one in rules().values()
        if wanted.upper()
        in {one.id, f"SK{sort_of(one.category).number}", f"SK{sort_of(one.category).number}XX"}
        or bare in {one.category.value, one.name.replace("-", "_")}
    )
    if not found:
        raise ValueError(f"{selector!r} is neither a rule nor a category{_nearest(wanted)}")
    return found


def _nearest(wanted: str) -> str:
    known = [*rules(), *(one.name for one in rules().values()), *(one.value for one in Category)]
    near = get_close_matches(wanted, known, n=1) or get_close_matches(wanted.upper(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; `statekit audit --explain all` lists them"


# -- explaining ----------------------------------------------------------------------------------------------


def explain(rule: str) -> str:
    """A rule in plain text; ``all`` lists them. Raises `ValueError` for what is neither an id nor a name."""
    if rule.strip().lower() == "all":
        return "\n".join(
            f"{one.id:<7} {one.name:<36} {one.severity:<8} {one.title}" for one in rules().values()
        )
    named = rule.strip().lower().replace("_", "-")
    found = rules().get(rule.strip().upper()) or next(
        (one for one in rules().values() if one.name == named), None
    )
    if found:
        return _explained(found)
    return "\n\n".join(
        _explained(rules()[id_]) for id_ in sorted(selected(rule), key=list(rules()).index)[:1]
    )


def _explained(rule: Rule) -> str:
    parts = [
        f"{rule.id} {rule.name} ({rule.severity})\n{rule.title}",
        f"What it looks like: {rule.looks}." if rule.looks else "",
        _wrapped(rule.breaks),
        "Before\n\n" + _indented(rule.before),
        "After\n\n" + _indented(rule.after),
        _wrapped(f"Use instead: {rule.use}."),
        _wrapped(f"What stays: {rule.keep}"),
        f"On purpose? Say so where the name is bound:  # statekit: ignore[{rule.id}] and why",
        rule.url,
    ]
    return "\n\n".join(filter(None, parts))


def _wrapped(text: str, width: int = 80) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _indented(code: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in code.splitlines())


# -- the page ----------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/audit-rules.md."""
    return "\n".join(
        [_words()["page"]["opening"].strip("\n"), "", *_inventory(), *_shapes(), *_categories(), ""]
    )


def _inventory() -> Iterator[str]:
    yield "| ids | what | severity | what happens with N workers |"
    yield "|---|---|---|---|"
    for category in Category:
        sort = sort_of(category)
        place = sort.title.lower().replace(" ", "-")
        yield f"| SK{sort.number}xx | [{sort.title}](#{place}) | {sort.severity} | {_flowing(sort.problem)} |"
    yield ""


def _shapes() -> Iterator[str]:
    yield from (
        _words()["page"]["shapes"].strip("\n"),
        "",
        "| digits | the state is | what it looks like |",
        "|---|---|---|",
    )
    for row in _words()["shape"].values():
        yield f"| {row['number']:02} | {row['title']} | {row['looks']} |"
    yield ""


def _categories() -> Iterator[str]:
    for category in Category:
        sort = sort_of(category)
        mine = [one for one in rules().values() if one.category is category]
        yield from (f"## {sort.title}", "", _filled(sort.breaks), "")
        if sort.before:
            yield from (*_change(sort.before, sort.after), "")
        yield from (_filled(f"**Use** {sort.use}."), "", _filled(f"**What stays.** {sort.keep}"), "")
        crossed = [
            f'<a id="{one.anchor}"></a>`{one.id}` {one.shape.replace("_", " ")}' for one in mine if one.shape
        ]
        yield from (" ·\n".join(crossed), "") if crossed else ()
        for one in mine:
            if not one.shape:
                yield from _own_section(one)


def _own_section(rule: Rule) -> Iterator[str]:
    yield from (f'### <a id="{rule.anchor}"></a>{rule.id} `{rule.name}`', "")
    yield from (_filled(f"**{rule.title}** ({rule.severity}). {rule.breaks}"), "")
    yield from (*_change(rule.before, rule.after, rule.language), "")
    yield from (_filled(f"**Use** {rule.use}. **What stays.** {rule.keep}"), "")


def _filled(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _change(before: str, after: str, language: str = "python") -> Iterator[str]:
    yield from (f"```{language}", "# before", before, "", "# after", after, "```")


if __name__ == "__main__":
    sys.stdout.write(page())
