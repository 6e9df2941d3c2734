"""``statekit audit``, from the command line: options, formats, exit codes, and how little it needs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from statekit.cli._tree import tree
from tests.audit.findings import PROMISED

APP = """
import time
from flask import Flask, request
app = Flask(__name__)
ATTEMPTS = {}
@app.route("/login", methods=["POST"])
def login():
    ATTEMPTS.setdefault(request.remote_addr, []).append(time.time())
    if len(ATTEMPTS[request.remote_addr]) > 5:
        return "Too many", 429
    return "ok"
@app.route("/reset", methods=["POST"])
def reset():
    ATTEMPTS.pop(request.remote_addr, None)
    return "ok"
"""
CLEAN = "LIMIT = 5\nNAMES = {'a': 1}\n\ndef limit():\n    return LIMIT, NAMES['a']\n"


class Ran:
    """What one run printed, and how it ended."""

    def __init__(self, done: Any) -> None:
        self.code = done.exit_code
        self.out = done.stdout
        self.err = done.stderr
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src" / "app.py").write_text(APP)
    monkeypatch.chdir(root)
    return root


def run(*arguments: str) -> Ran:
    return Ran(CliRunner().invoke(tree(), ["audit", *arguments]))


def git(*arguments: str) -> None:
    who = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


# -- what is found ---------------------------------------------------------------------------------------


def test_it_finds_and_says_where_and_ends_with_one() -> None:
    done = run("src")
    assert done.code == 1
    assert "ATTEMPTS" in done.out
    assert "SK101" in done.out
    assert "app.py:5" in done.out


def test_nothing_found_ends_with_zero(project: Path) -> None:
    (project / "src" / "app.py").write_text(CLEAN)
    assert run("src").code == 0
    assert run("src", "--json").json["findings"] == []


def test_without_a_path_it_is_here() -> None:
    assert [one["path"] for one in run("--json").json["findings"]] == ["src/app.py"]


def test_json_says_what_is_promised() -> None:
    done = run("src", "--format", "json")
    (found,) = done.json["findings"]
    assert set(found) >= PROMISED
    assert {key: found[key] for key in ("rule", "category", "confidence", "path", "line", "name")} == {
        "rule": "SK101", "category": "rate_limiter", "confidence": "high", "path": "app.py", "line": 5, "name": "ATTEMPTS",
    }  # fmt: skip
    assert found["qualified_name"] == "app.ATTEMPTS"
    sites = [(one["path"], one["line"], one["handler"]) for one in found["writes"]]
    assert sites == [("app.py", 8, "login"), ("app.py", 14, "reset")]
    assert done.json["unparsed"] == []
    assert run("src", "--json").out == done.out


def test_a_path_that_does_not_exist_is_bad_usage() -> None:
    done = run("nowhere")
    assert (done.code, done.out) == (2, "")
    assert "'nowhere' does not exist" in done.err


# -- formats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "begins"),
    [("text", ""), ("json", "{"), ("sarif", "{"), ("github", "::"), ("html", "<!"), ("markdown", "")],
)
def test_each_format_is_written_and_names_the_finding(form: str, begins: str) -> None:
    done = run("src", "--format", form)
    assert done.code == 1
    assert "ATTEMPTS" in done.out
    assert done.out.lower().startswith(begins)


def test_files_are_written_by_their_suffix_and_text_is_printed(project: Path) -> None:
    done = run("src", "-o", "out/a.json", "-o", "a.sarif", "-o", "a.html", "-o", "a.md", "-o", "a.txt")
    assert done.code == 1
    assert "SK101" in done.out
    assert json.loads((project / "out" / "a.json").read_text())["findings"]
    assert json.loads((project / "a.sarif").read_text())["version"] == "2.1.0"
    assert "<html" in (project / "a.html").read_text()
    assert "ATTEMPTS" in (project / "a.md").read_text()
    assert "\x1b" not in (project / "a.txt").read_text()
    assert "wrote out/a.json" in done.err


def test_one_file_takes_the_format_that_is_named(project: Path) -> None:
    done = run("src", "--format", "sarif", "-o", "report.out")
    assert (done.code, done.out) == (1, "")
    assert json.loads((project / "report.out").read_text())["version"] == "2.1.0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "jsn"], "did you mean 'json'"),
        (["-o", "report.xyz"], "no format has this suffix"),
        (["-o", "who.svg"], "comes with --score"),
        (["--confidence", "hi"], "give one of: high, medium, low"),
        (["--fail-on", "warn"], "did you mean 'warning'"),
        (["--select", "SK1O1"], "neither a rule nor a category"),
        (["--ignore", "lock,lokc"], "neither a rule nor a category"),
        (["--baseline", "none.json"], "write it with --update-baseline"),
        (["--update-baseline"], "needs --baseline FILE"),
        (["--baseline", "x.json", "--update-baseline", "--diff", "HEAD"], "give one of them"),
        (["--explain", "SK9x9"], "neither a rule nor a category"),
        (["-o", "src/app.py/x.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_bad_usage_with_its_cure(arguments: list[str], said: str) -> None:
    done = run("src", *arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_bad_setting_is_bad_usage(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.statekit.audit]\nexlude = []\n")
    done = run("src")
    assert done.code == 2
    assert "did you mean 'exclude'" in done.err


def test_a_rule_is_explained() -> None:
    done = run("--explain", "SK101")
    assert done.code == 0
    assert "SK101" in done.out
    assert "Before" in done.out
    assert "SK1001" in run("--explain", "all").out


# -- confidence and what fails ---------------------------------------------------------------------------

UNSURE = "SEEN = []\n\ndef note(what):\n    SEEN.append(what)\n"
"""Nobody is known to call it."""


def test_text_shows_what_is_sure_and_says_how_to_see_the_rest(project: Path) -> None:
    (project / "src" / "app.py").write_text(UNSURE)
    (found,) = run("src", "--json", "--confidence", "low").json["findings"]
    level = found["confidence"]
    assert level != "high"
    done = run("src")
    assert done.code == 0
    assert "SEEN" not in done.out
    assert f"--confidence {level}" in done.out
    assert run("src", "--confidence", level).code == 1
    assert run("src", "--fail-on", level).code == 1  # though it is not shown


def test_what_makes_it_fail_can_be_chosen(project: Path) -> None:
    severity = run("src", "--json").json["findings"][0]["severity"]
    assert severity == "error"
    assert run("src", "--fail-on", "high").code == 1
    assert run("src", "--fail-on", "warning").code == 1
    assert run("src", "--exit-zero").code == 0
    assert run("src", "--fail-on", "never").code == 0
    (project / "pyproject.toml").write_text(
        '[tool.statekit.audit]\nfail-on = "error"\nintent = "single-process"\n'
    )
    done = run("src", "--json")
    assert done.code == 0
    assert done.json["findings"][0]["severity"] == "warning"
    assert run("src", "--fail-on", "any").code == 1


def test_select_and_ignore(project: Path) -> None:
    assert run("src", "--select", "lock,memo_cache").code == 0
    assert run("src", "--select", "SK1xx").code == 1
    assert run("src", "--ignore", "rate_limiter").code == 0
    (project / "pyproject.toml").write_text(
        '[tool.statekit.audit]\nper-file-ignores = { "app.py" = ["SK101"] }\n'
    )
    assert run("src").code == 0
    (project / "pyproject.toml").write_text('[tool.statekit.audit]\nexclude = ["app.py"]\n')
    assert run("src").code == 0


def test_files_that_cannot_be_read_are_listed_and_with_strict_end_with_two(project: Path) -> None:
    (project / "src" / "app.py").write_text(CLEAN)
    (project / "src" / "odd.py").write_text("print 'Python 2'\n")
    done = run("src", "--json")
    assert done.code == 0
    assert [one["path"] for one in done.json["unparsed"]] == ["odd.py"]
    assert "odd.py" in run("src").out
    assert run("src", "--strict").code == 2


ODD = {
    "null.py": b"X = 1\x00\n",
    "latin.py": "# coding: latin-1\nNAME = 'gr\xf6\xdfe'\n".encode("latin-1"),
    "undeclared.py": "NAME = 'gr\xf6\xdfe'\n".encode("latin-1"),
    "marked.py": b"\xef\xbb\xbfNAMES = {}\n",
    "coding.py": b"# coding: klingon\nX = 1\n",
    "deep.py": b"X = " + b"(" * 300 + b"1" + b")" * 300 + b"\n",
    "deeper.py": b"X = " + b"-" * 100_000 + b"1\n",
    "sum.py": b"X = " + b"1 + " * 20_000 + b"1\n",
    "long.py": b"X = '" + b"x" * 1_000_000 + b"'\n",
    "binary.py": bytes(range(256)) * 20,
    "empty.py": b"",
    "newer.py": b"type X = int\ndef f[T](x: T) -> T: return x\n",
    "template.py": b"import {{ cookiecutter.name }}\n",
}


def test_whatever_stands_in_a_file_the_others_are_audited(project: Path) -> None:
    for name, content in ODD.items():
        (project / "src" / name).write_bytes(content)
    (project / "src" / "loop").symlink_to(project / "src")
    done = run("src", "--json", "--no-cache")
    assert [one["name"] for one in done.json["findings"]] == ["ATTEMPTS"]
    assert done.json["files"] == len(ODD) + 1
    unread = {one["path"] for one in done.json["unparsed"]}
    assert {"null.py", "undeclared.py", "coding.py", "deeper.py", "binary.py", "template.py"} <= unread
    assert not unread & {"latin.py", "marked.py", "long.py", "empty.py", "app.py"}


# -- what is known, what is new --------------------------------------------------------------------------


def test_a_baseline_is_written_and_keeps_what_is_known_quiet(project: Path) -> None:
    done = run("src", "--baseline", "known.json", "--update-baseline")
    assert done.code == 0
    assert "holds 1 known finding" in done.err
    assert run("src", "--baseline", "known.json").code == 0
    moved = "import os\n\n\n" + APP.replace("ATTEMPTS = {}", "ATTEMPTS = {}\nFAILURES = {}").replace(
        'return "ok"', "FAILURES[request.remote_addr] = 1"
    )
    (project / "src" / "app.py").write_text(moved)
    done = run("src", "--baseline", "known.json", "--json")
    assert done.code == 1
    assert {one["name"]: one["status"] for one in done.json["findings"]} == {
        "ATTEMPTS": "baseline",
        "FAILURES": "open",
    }
    (project / "src" / "app.py").write_text(CLEAN)
    done = run("src", "--baseline", "known.json", "--json")
    assert done.code == 0
    assert "is not found any more" in done.json["notes"][0]


def test_an_update_of_some_rules_keeps_the_entries_of_others() -> None:
    run("src", "--baseline", "known.json", "--update-baseline")
    run("src", "--baseline", "known.json", "--update-baseline", "--select", "lock")
    assert run("src", "--baseline", "known.json").code == 0


def test_a_diff_shows_only_what_was_touched(project: Path) -> None:
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "start")
    assert run("src", "--diff", "HEAD").code == 0
    (project / "src" / "new.py").write_text(APP.replace("ATTEMPTS", "TRIES"))
    done = run("src", "--diff", "HEAD", "--json")
    assert done.code == 1
    assert [one["name"] for one in done.json["findings"]] == ["TRIES"]
    (project / "src" / "new.py").unlink()
    (project / "src" / "app.py").write_text(APP.replace(".append(time.time())", ".append(time.time()+0)"))
    assert [one["name"] for one in run("src", "--diff", "HEAD", "--json").json["findings"]] == ["ATTEMPTS"]
    assert run("src", "--diff", "nowhere").code == 2


def test_a_diff_outside_a_repository_is_bad_usage() -> None:
    done = run("src", "--diff", "HEAD")
    assert done.code == 2
    assert "no git repository" in done.err


def test_any_output_can_be_written_to(project: Path) -> None:
    """Colours where they are wanted, whatever letters there are, and no complaint when nobody listens."""
    (project / "src" / "größe.py").write_text(APP)
    command = [sys.executable, "-c", "from statekit.cli import main; main()", "audit", "src", "--exit-zero"]
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}

    def printed(**set_: str) -> str:
        done = subprocess.run(command, env=kept | set_, capture_output=True, check=True)
        return done.stdout.decode("utf-8")

    assert "\x1b[" not in printed()
    assert "\x1b[" in printed(FORCE_COLOR="1")
    assert "\x1b[" not in printed(FORCE_COLOR="1", NO_COLOR="1")
    assert "ATTEMPTS" in printed(PYTHONIOENCODING="ascii")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, env=kept, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert b"Traceback" not in done.stderr


# -- the score -------------------------------------------------------------------------------------------


def test_the_score_comes_when_asked_for_and_from_the_cache_too(project: Path) -> None:
    assert "score" not in run("src", "--json").json
    first = run("src", "--json", "--score").json["score"]
    assert run("src", "--json", "--score").json["score"] == first
    assert run("src", "--score", "-o", "who.svg").code == 1
    assert "<svg" in (project / "who.svg").read_text()
    (project / "pyproject.toml").write_text("[tool.statekit.audit.score]\ndepht = 2\n")
    done = run("src", "--score")
    assert done.code == 2
    assert "depht" in done.err


# -- starting --------------------------------------------------------------------------------------------


def loaded(code: str) -> tuple[set[str], str]:
    """The packages that a program has loaded in the end, and what it printed."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}, done.stdout


HEAVY = {"redis", "rich", "flask", "asyncio", "multiprocessing", "sqlite3", "mmh3"}


def test_the_command_loads_no_store() -> None:
    code = (
        "import sys\nsys.argv = ['statekit', 'audit', 'src', '--no-cache', '--exit-zero', '--json']\n"
        "from statekit.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    )
    found, printed = loaded(code)
    assert json.loads(printed)["findings"]
    assert not found & HEAVY


def test_the_audit_itself_needs_the_standard_library_alone() -> None:
    found, printed = loaded(
        "from statekit.audit import audit; print(len(audit('src', cache=False).findings))"
    )
    assert int(printed) == 1
    assert not found & (HEAVY | {"pydantic", "typer", "click"})
