"""README.md and docs/ hold together: links resolve, tests that are named exist, Python blocks are Python.

That the code of a page also runs is the business of that page's own test.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PICTURES = ROOT / "docs" / "images"
"""Taken of the demo's report; looked for once the first of them has been taken."""
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def named(page: Path) -> str:
    return page.name


def links(page: Path) -> list[tuple[str, str]]:
    """Text and target of each link that leads to a file of this repository."""
    found = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return [(text, target) for text, target in found if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links spell them."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_reads_links() -> None:
    assert LINK.findall("[`a[0]`](b.md#c), ![d](e.png)") == [("`a[0]`", "b.md#c"), ("d", "e.png")]
    assert "what-may-change-and-when" in anchors(ROOT / "docs" / "wire-format.md")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for _, target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if there.parent == PICTURES and not PICTURES.exists():
            continue
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_is_named_exists(page: Path) -> None:
    missing = []
    for text, target in links(page):
        name = text.strip("`")
        if name.startswith("test_") and not name.endswith(".py"):
            source = (page.parent / target).read_text(encoding="utf-8")
            if not re.search(rf"^(async )?def {name}\(", source, re.MULTILINE):
                missing.append(f"{target}::{name}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_python_block_is_python(page: Path) -> None:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        ast.parse(block)


def test_the_index_lists_every_page() -> None:
    listed = {target for _, target in links(ROOT / "docs" / "index.md")}
    assert listed >= {page.name for page in PAGES[1:]} - {"index.md"}
