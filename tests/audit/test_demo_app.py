"""The demo app is its own first case: what its memory form keeps in the processes is known, for it was planted.

Five states, all kept by one kit that `demo_app.state` makes: sessions, the limit of an API key, flags, connections
to the third party, tenants' settings. The form is chosen there and nowhere else, so a test makes it by leaving one
branch of that file out.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from statekit.audit import Category, Confidence, Config, Finding, audit

DEMO = Path(__file__).parents[2] / "demo_app"
SHARED = re.compile(r"    if settings\.state == State\.SHARED:\n        return StateKit\.connect\(.*\)\n")
MEMORY = re.compile(r"    return StateKit\.in_memory\(.*\)\n")
PLANTED = {
    Category.SESSION_STORE: ("app.py", r"sk = StatekitFlask\(app, kit, sessions=True"),
    Category.RATE_LIMITER: ("services.py", r"by_key = kit\.rate_limiter\("),
    Category.FLAG_CACHE: ("services.py", r"kit\.flags\."),
    Category.CLIENT_POOL: ("services.py", r"kit\.pools\.register\("),
    Category.TENANT_CONFIG: ("services.py", r"tenants = kit\.tenants\("),
}
"""What it is for; where it is bound, or first used where nothing binds it."""
SHOWN = {Confidence.HIGH, Confidence.MEDIUM}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "demo_app", ignore=shutil.ignore_patterns("__pycache__")))


def without(demo: Path, branch: re.Pattern[str]) -> Path:
    """Leave one way to keep state out of `demo_app.state`."""
    file = demo / "state.py"
    text, times = branch.subn("", file.read_text())
    assert times == 1, "demo_app/state.py chooses its kit in another way now"
    file.write_text(text)
    return demo


def findings(demo: Path) -> list[Finding]:
    report = audit(demo, Config(), cache=False)
    assert not report.unparsed
    return list(report.findings)


def told(found: list[Finding], demo: Path) -> dict[Category, tuple[str, str]]:
    """Category, file, and the line as it stands there."""
    assert len({one.category for one in found}) == len(found), found
    return {
        one.category: (one.path, (demo / one.path).read_text().splitlines()[one.line - 1]) for one in found
    }


def assert_planted(found: list[Finding], demo: Path) -> None:
    seen = told(found, demo)
    assert seen.keys() == PLANTED.keys()
    for category, (path, pattern) in PLANTED.items():
        assert seen[category][0] == path
        assert re.search(pattern, seen[category][1]), seen[category]


def test_what_the_memory_form_keeps_is_found_and_nothing_else(demo: Path) -> None:
    found = findings(without(demo, SHARED))
    assert_planted([one for one in found if one.confidence in SHOWN], demo)


def test_each_planted_state_names_the_endpoints_that_change_it(demo: Path) -> None:
    found = findings(without(demo, SHARED))
    handlers = {one.category: {site.handler.rpartition(".")[2] for site in one.writes} for one in found}
    assert "limited" in handlers[Category.RATE_LIMITER]
    assert "set_flag" in handlers[Category.FLAG_CACHE]
    assert "call" in handlers[Category.CLIENT_POOL]
    assert {"set_config", "quote"} & handlers[Category.TENANT_CONFIG]


def test_the_shared_form_keeps_nothing(demo: Path) -> None:
    found = findings(without(demo, MEMORY))
    assert [one for one in found if one.confidence in SHOWN] == []


def test_as_it_stands_the_memory_branch_alone_is_told_of(demo: Path) -> None:
    """A setting chooses: the states are listed, as less sure than where nothing else can be chosen."""
    found = findings(demo)
    assert_planted(found, demo)
    assert all(one.confidence is not Confidence.HIGH for one in found)
