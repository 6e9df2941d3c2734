"""What the audit finds in small projects whose truth stands beside each line. See fixtures/README.md."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from statekit.audit import Category, Confidence, Config, Finding, audit

FIXTURES = Path(__file__).with_name("fixtures")
NOTE = re.compile(r"#\s*(expect|either|clear|write|undecided):\s*(.*?)[ \t]*$", re.MULTILINE)
SHOWN = {Confidence.HIGH, Confidence.MEDIUM}
BY_DEPLOYMENT = {Category.MISCONFIG}
"""Has tests of its own: it is about settings, not about what is written."""


@dataclass(frozen=True)
class Note:
    """What one line says about itself."""

    project: str
    path: str
    line: int
    verb: str
    said: str

    def __str__(self) -> str:
        return f"{self.project}:{self.path}:{self.line} {self.verb} {self.said}"


def _projects() -> Iterator[tuple[str, dict[str, str]]]:
    """Names, and sources by path. A single file is read as app.py: its own name must not give the answer away."""
    for entry in sorted(FIXTURES.glob("*/*")):
        name = f"{entry.parent.name}/{entry.stem}"
        if entry.is_dir():
            files = sorted(entry.rglob("*.py"))
            yield name, {one.relative_to(entry).as_posix(): one.read_text("utf-8") for one in files}
        elif entry.suffix == ".py":
            yield name, {"app.py": entry.read_text("utf-8")}


PROJECTS = dict(_projects())


def _notes() -> Iterator[Note]:
    for project, sources in PROJECTS.items():
        for path, source in sources.items():
            for number, text in enumerate(source.splitlines(), 1):
                match = NOTE.search(text)
                for said in match[2].split("; ") if match else ():
                    yield Note(project, path, number, match[1], said)


NOTES = list(_notes())


def _said(verb: str) -> list[Note]:
    return [note for note in NOTES if note.verb == verb]


@functools.cache
def _found(project: str) -> tuple[Finding, ...]:
    return _audited(PROJECTS[project])


def _audited(sources: dict[str, str]) -> tuple[Finding, ...]:
    with TemporaryDirectory() as name:
        for path, source in sources.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_bare(source), "utf-8")
        report = audit(name, Config(), cache=False)
    assert not report.unparsed
    assert report.files == len(sources)
    return report.findings


def _bare(source: str) -> str:
    """Without what a line says of itself: the audit reads comments too."""
    return "".join(NOTE.sub("", line) for line in source.splitlines(keepends=True))


def _at(note: Note) -> list[Finding]:
    return [one for one in _found(note.project) if (one.path, one.line) == (note.path, note.line)]


def _shown(project: str) -> list[Finding]:
    return [one for one in _found(project) if one.confidence in SHOWN]


def _told(findings: Iterable[Finding]) -> list[str]:
    return [
        f"{one.path}:{one.line} {one.name}: {one.category}, {one.confidence}, {one.rule} ({'; '.join(one.evidence)})"
        for one in findings
    ]


@functools.cache
def _names(project: str, path: str, line: int) -> set[str]:
    """What is bound on a line; empty where nothing is: a thread that is started and forgotten has no name."""
    tree = ast.parse(PROJECTS[project][path])
    targets: list[ast.AST] = []
    for node in ast.walk(tree):
        if getattr(node, "lineno", 0) != line:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return {node.name}
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets.append(node.target)
    return {_name(one) for target in targets for one in getattr(target, "elts", [target])}


def _name(target: ast.AST) -> str:
    if isinstance(target, ast.Subscript):
        return (
            ast.literal_eval(target.slice)
            if isinstance(target.slice, ast.Constant)
            else ast.unparse(target.slice)
        )
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


@pytest.mark.parametrize("note", _said("expect"), ids=str)
def test_what_is_state_is_found(note: Note) -> None:
    said, _, limit = note.said.partition(" (")
    wanted = set(Category) if said == "any" else {Category(one) for one in said.split(" or ")}
    allowed = {Confidence(limit.removesuffix(")"))} if limit else SHOWN
    found = _at(note)
    assert [one for one in found if one.confidence in allowed], f"not found: {_told(found)}"
    assert {one.category for one in found} <= wanted, _told(found)
    names = _names(note.project, note.path, note.line)
    assert not names or {one.name for one in found} <= names


@pytest.mark.parametrize(("project", "tag"), sorted({(one.project, one.said) for one in _said("either")}))
def test_what_can_be_told_in_two_places_is_told_in_one(project: str, tag: str) -> None:
    places = [one for one in _said("either") if (one.project, one.said) == (project, tag)]
    found = [one for place in places for one in _at(place) if one.confidence in SHOWN]
    assert len(found) == 1, _told(found)


@pytest.mark.parametrize("note", _said("clear"), ids=str)
def test_what_is_not_state_is_cleared(note: Note) -> None:
    assert _told(one for one in _at(note) if one.confidence in SHOWN) == []


@pytest.mark.parametrize("note", _said("write"), ids=str)
def test_every_write_is_listed_with_the_handler_that_gets_there(note: Note) -> None:
    names, _, handlers = note.said.partition(" via ")
    sites = [site for one in _found(note.project) if one.name in names.split(" or ") for site in one.writes]
    here = [site.handler for site in sites if (site.path, site.line) == (note.path, note.line)]
    assert here, f"not among the writes of {names}: {sites}"
    wanted = handlers.split(" or ")
    assert not handlers or any(by.rpartition(".")[2] in wanted for by in here), f"by way of {here}"


@pytest.mark.parametrize("project", PROJECTS)
def test_nothing_else_is_found(project: str) -> None:
    spoken = {(note.path, note.line) for note in NOTES if note.project == project and note.verb != "write"}
    assert _told(one for one in _shown(project) if (one.path, one.line) not in spoken) == []


@pytest.mark.parametrize("project", PROJECTS)
def test_each_project_shows_a_positive_and_a_negative(project: str) -> None:
    verbs = {note.verb for note in NOTES if note.project == project}
    assert "clear" in verbs
    assert verbs & {"expect", "either"}


@pytest.mark.parametrize("project", PROJECTS)
def test_neither_the_folder_nor_empty_lines_change_what_is_found(project: str) -> None:
    moved = {f"src/{path}": "\n\n\n" + source for path, source in PROJECTS[project].items()}
    there = [(one.path.removeprefix("src/"), one.line - 3, *_gist(one)) for one in _audited(moved)]
    assert there == [(one.path, one.line, *_gist(one)) for one in _found(project)]


def _gist(finding: Finding) -> tuple[object, ...]:
    writes = [
        (site.line - finding.line, site.handler) for site in finding.writes if site.path == finding.path
    ]
    return finding.rule, finding.name, finding.confidence, finding.severity, writes


SPLIT = {Category.CONNECTION_MANAGER, Category.BACKGROUND_WORKER, Category.LOCK, Category.CLIENT_POOL}
"""Sockets, threads, locks, connections: they cannot move to a store."""


@pytest.mark.parametrize("project", PROJECTS)
def test_each_finding_says_what_breaks_what_replaces_it_and_what_stays(project: str) -> None:
    for one in _found(project):
        assert one.why
        assert one.replacement
        assert one.rule.startswith("SK")
        assert one.qualified_name.endswith(one.name)
        assert one.keep or one.category not in SPLIT, one.qualified_name


def test_each_category_is_shown() -> None:
    shown = {one for note in _said("expect") for one in note.said.split(" (")[0].split(" or ")}
    assert set(Category) - BY_DEPLOYMENT <= shown
