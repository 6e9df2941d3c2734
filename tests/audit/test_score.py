"""The extraction score: on a small shop where the right order is plain, and on names nobody should choose."""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from statekit.audit import audit
from statekit.audit.engine import Analysis
from statekit.audit.model import Category, Confidence
from statekit.audit.output import render
from statekit.audit.reading import read
from statekit.audit.score import (
    BadSetting,
    Candidate,
    Factor,
    Grip,
    Hold,
    Score,
    SharedState,
    as_json,
    html,
    markdown,
    picture,
    recalled,
    score,
    settings_from,
    text,
)
from statekit.audit.score.arrange import PACKAGES, ROW, ROWS, arranged
from statekit.audit.score.sharing import WEIGHTS
from statekit.audit.score.viability import WORTH
from statekit.audit.score.words import WIDE

SVG = "{http://www.w3.org/2000/svg}"

SHOP = {
    "shop/__init__.py": "",
    # cleanly cut: routes of its own, words of its own, entered by tasks, nothing shared
    "shop/invoices/__init__.py": "",
    "shop/invoices/routes.py": """
from fastapi import APIRouter
from shop.invoices.ledger import post_invoice, render_invoice
router = APIRouter(prefix="/invoices")

@router.post("/")
async def create_invoice(order: str):
    await post_invoice(order)
    return {"status": "accepted"}

@router.get("/{number}")
async def show_invoice(number: int):
    return await render_invoice(number)
""",
    "shop/invoices/ledger.py": """
from celery import shared_task
LAST_RUN = {}

async def post_invoice(order):
    LAST_RUN[order.id] = order

async def render_invoice(number):
    return str(number)

@shared_task
def send_invoice(order):
    render_invoice(order)
""",
    # a tangle: sessions and baskets written from both sides, private names used from outside
    "shop/basket/__init__.py": "",
    "shop/basket/views.py": """
from flask import Blueprint, request
from shop.people.store import SESSIONS, _touch
from shop.invoices.ledger import send_invoice
bp = Blueprint("basket", __name__)
BASKETS = {}

@bp.route("/add", methods=["POST"])
def add():
    SESSIONS[request.cookies["sid"]] = request.form["item"]
    BASKETS.setdefault(request.cookies["sid"], []).append(request.form["item"])
    _touch(request.cookies["sid"])
    send_invoice.delay(request.form)
    return total(request.cookies["sid"])

@bp.route("/drop", methods=["POST"])
def drop():
    BASKETS.pop(request.cookies["sid"], None)
    return total(request.cookies["sid"])

def total(sid):
    return str(len(BASKETS.get(sid, [])))
""",
    "shop/people/__init__.py": "",
    "shop/people/store.py": """
SESSIONS = {}

def _touch(sid):
    SESSIONS[sid] = "seen"

def sign_out(sid):
    SESSIONS.pop(sid, None)
""",
    "shop/people/views.py": """
from flask import Blueprint, request
from shop.basket.views import BASKETS, total
from shop.people.store import SESSIONS, sign_out
bp = Blueprint("people", __name__)

@bp.route("/login", methods=["POST"])
def login():
    SESSIONS[request.form["sid"]] = request.form["user"]
    BASKETS[request.form["sid"]] = []
    if total(request.form["sid"]):
        return "0"
    return "welcome"

@bp.route("/logout", methods=["POST"])
def logout():
    sign_out(request.cookies["sid"])
    BASKETS.pop(request.cookies["sid"], None)
    return "bye"
""",
    "shop/wording.py": "def plural(word): return word + 's'\ndef singular(word): return word\ndef title(word): return word\n",
}


def analysed(files: dict[str, str], order: Iterable[str] | None = None) -> Analysis:
    return Analysis([read(path, files[path].encode()) for path in order or files])


@pytest.fixture(scope="module")
def shop() -> Score:
    return score(analysed(SHOP))


def named(result: Score, name: str) -> Candidate:
    return next(one for one in result.candidates if one.name == name)


def state(result: Score, name: str) -> SharedState:
    return next(one for one in result.states if one.name.endswith(name))


# -- the order, and where it comes from ------------------------------------------------------------------


def test_what_is_cleanly_cut_comes_before_the_tangle(shop: Score) -> None:
    names = [one.name for one in shop.candidates]
    assert names[0] == "shop.invoices"
    assert set(names) == {"shop.invoices", "shop.basket", "shop.people"}
    first, second = shop.candidates[:2]
    assert first.score > 4 * second.score


def test_what_serves_nothing_and_holds_nothing_is_no_candidate(shop: Score) -> None:
    assert "shop.wording" in shop.passed_over


def test_the_score_is_what_its_factors_say(shop: Score) -> None:
    for one in shop.candidates:
        assert one.score == round(one.clarity.value * one.viability.value / one.coupling.value, 1)
        for factor in (one.clarity, one.viability):
            weights = sum(part.weight for part in factor.parts)
            mean = sum(part.share * part.weight for part in factor.parts) / weights
            assert factor.value == round(1 + 9 * mean, 1)
        assert one.coupling.value == round(1 + sum(cost for _, cost in one.shares), 1)


def test_clarity_is_shown_with_its_inputs(shop: Score) -> None:
    parts = {part.name: part for part in named(shop, "shop.invoices").clarity.parts}
    assert parts["own routes"].said == "2 of 2 routes below /invoices"
    assert parts["own routes"].share == 1
    assert "invoice" in parts["own words"].said
    assert parts["narrow door"].said.startswith("outsiders use 1 of its ")
    people = {part.name: part for part in named(shop, "shop.people").clarity.parts}
    assert "1 of them private (_touch)" in people["narrow door"].said
    assert people["narrow door"].share < parts["narrow door"].share
    assert people["stays inside"].share < parts["stays inside"].share


def test_viability_counts_what_becomes_of_answers(shop: Score) -> None:
    invoices = {part.name: part for part in named(shop, "shop.invoices").viability.parts}
    said = invoices["need no answer"].said
    assert "2 background starts" in said  # the task, and the `.delay` that asks for it
    assert "1 acknowledged request" in said
    assert "1 answered request" in said
    basket = {part.name: part for part in named(shop, "shop.basket").viability.parts}
    assert "1 blocking call" in basket["need no answer"].said
    people = {part.name: part for part in named(shop, "shop.people").viability.parts}
    assert "2 ignored answers" not in people["need no answer"].said
    assert "1 ignored answer" in people["need no answer"].said


def test_coupling_says_which_state_is_shared_with_whom_and_how(shop: Score) -> None:
    sessions = state(shop, ".SESSIONS")
    assert sessions.category is Category.SESSION_STORE
    assert {hold.package: hold.grip for hold in sessions.holds} == {
        "shop.basket": Grip.WRITES,
        "shop.people": Grip.WRITES,
    }
    basket = next(hold for hold in sessions.holds if hold.package == "shop.basket")
    assert [one.rpartition(" ")[2] for one in basket.functions] == ["add"]
    assert sessions.cost("shop.basket") == 3.0 * 2 * 2 / 2
    assert named(shop, "shop.basket").partners == ("shop.people",)
    assert named(shop, "shop.invoices").shares == ()
    assert named(shop, "shop.invoices").coupling.value == 1.0


def test_who_calls_a_function_that_writes_holds_the_state_too() -> None:
    files = {
        "app/__init__.py": "",
        "app/core/__init__.py": "",
        "app/core/sessions.py": "SESSIONS = {}\ndef remember(sid, user):\n    SESSIONS[sid] = user\ndef forget(sid):\n    SESSIONS.pop(sid)\n"
        "def known(sid):\n    return sid in SESSIONS\n",
        "app/web.py": "from flask import Flask, request\nfrom app.core.sessions import remember, known\napp = Flask(__name__)\n"
        "@app.route('/in')\ndef sign_in():\n    remember(request.args['sid'], 'x')\n    return ''\n"
        "@app.route('/q')\ndef ask():\n    return str(known(request.args['sid']))\n@app.route('/')\ndef home():\n    return ''\n",
        "app/other.py": "def one(): pass\ndef two(): pass\ndef three(): pass\n",
    }
    sessions = state(score(analysed(files)), ".SESSIONS")
    grips = {hold.package: hold for hold in sessions.holds}
    assert grips["app.web"].grip is Grip.WRITES_BY_CALLS
    assert grips["app.web"].count == 1
    assert grips["app.core"].grip is Grip.WRITES


def test_an_object_is_held_by_who_calls_what_changes_it() -> None:
    files = {
        "app/limits/__init__.py": "",
        "app/limits/window.py": "class Limiter:\n    def __init__(self):\n        self.hits = {}\n    def hit(self, key):\n        self.hits[key] = self.hits.get(key, 0) + 1\n        if self.hits[key] > 5:\n            return 429\n"
        "    def reset(self, key):\n        self.hits.pop(key, None)\nlimiter = Limiter()\n",
        "app/web/__init__.py": "",
        "app/web/views.py": "from flask import Flask, request\nfrom app.limits.window import limiter\napp = Flask(__name__)\n"
        "@app.route('/login', methods=['POST'])\ndef login():\n    limiter.hit(request.remote_addr)\n    return 'ok'\n",
        "app/jobs/__init__.py": "",
        "app/jobs/tasks.py": "def one(): pass\n",
    }
    limiter = state(score(analysed(files)), ".limiter")
    assert {hold.package: hold.grip for hold in limiter.holds} == {
        "app.limits": Grip.BINDS,
        "app.web": Grip.WRITES,
    }


@pytest.mark.parametrize(
    ("comment", "without_a_reason"),
    [
        ("# per-process-ok: each may have its own", "# per-process-ok"),
        ("# statekit: ignore[SK501] ends with the process", "# statekit: ignore[SK501]"),
    ],
)
def test_what_is_accepted_or_suppressed_couples_nobody(comment: str, without_a_reason: str) -> None:
    def with_a(comment: str) -> Score:
        people = SHOP["shop/people/store.py"].replace("SESSIONS = {}", f"SESSIONS = {{}}  {comment}")
        return score(analysed({**SHOP, "shop/people/store.py": people}))

    assert [one.name for one in with_a(comment).shared] == ["shop.basket.views.BASKETS"]
    assert state(with_a(without_a_reason), ".SESSIONS").is_shared


def test_attributes_of_one_class_move_together() -> None:
    def held(name: str) -> SharedState:
        holds = (Hold("a", Grip.WRITES, (), 1), Hold("b", Grip.WRITES, (), 1))
        return SharedState(f"x.Hub.{name}", Category.COUNTER, Confidence.HIGH, "x.py", 1, 1.0, "x.Hub", holds)

    from statekit.audit.score.scoring import _costs

    assert _costs([held("one"), held("two"), held("three")], "a") == {
        "x.Hub.one": 2.0,
        "x.Hub.three": 0.5,
        "x.Hub.two": 0.5,
    }


def test_a_state_held_by_all_costs_three_times_what_two_would_pay() -> None:
    def cost(others: int) -> float:
        holds = tuple(Hold(f"p{n}", Grip.WRITES, (), 1) for n in range(others + 1))
        return SharedState("x.C", Category.COUNTER, Confidence.HIGH, "x.py", 1, 1.0, "", holds).cost("p0")

    assert [cost(n) for n in (0, 1, 2, 9, 40)] == [0, 2, 2.5, 6, 6]


# -- candidates ------------------------------------------------------------------------------------------


def test_a_package_too_large_to_move_is_cut_into_its_own() -> None:
    function = "def f{n}(): pass\n"
    many = "".join(function.format(n=n) for n in range(90))
    files = {f"app/big/{part}/x.py": many for part in "abc"} | {
        f"app/{name}.py": many[:200] for name in ("one", "two")
    }
    names = {one.name for one in score(analysed(files), {"include": ["*"]}).candidates}
    assert names == {"app.big.a", "app.big.b", "app.big.c", "app.one", "app.two"}
    flat = {one.name for one in score(analysed(files), {"include": ["*"], "depth": 1}).candidates}
    assert flat == {"app.big", "app.one", "app.two"}


def test_sources_below_src_are_named_without_it() -> None:
    files = {f"src/app/{name}/x.py": "def f(): pass" for name in "abc"} | {
        "setup.py": "",
        "src/app/__init__.py": "",
    }
    assert "app.a" in {one.name for one in score(analysed(files), {"include": ["*"], "depth": 3}).candidates}


@pytest.mark.parametrize("files", [{}, {"a.py": ""}, {"a.py": "def broken("}, {"a/b.py": "X = {}"}])
def test_little_or_nothing_gives_an_empty_score(files: dict[str, str]) -> None:
    result = score(analysed(files))
    assert result.candidates == ()
    assert "Nothing to score" in text(result)
    assert markdown(result) == ""
    assert "Nothing to score" in html(result)
    ET.fromstring(picture(result))


def test_the_order_of_the_files_changes_nothing(shop: Score) -> None:
    paths = list(SHOP)
    for seed in range(5):
        random.Random(seed).shuffle(paths)
        other = score(analysed(SHOP, paths))
        assert as_json(other) == as_json(shop)
        assert text(other) == text(shop)
        assert picture(other) == picture(shop)


# -- what a project says itself --------------------------------------------------------------------------

OVERRIDE = """
[score]
depth = 1
exclude = ["shop.people"]
include = ["shop.wording"]
[score.override]
"shop.b*" = { clarity = 9, coupling = 1.5, reason = "to be rewritten <anyway>" }
"shop.nothing" = { viability = 2, reason = "gone" }
"""


def test_factors_can_be_set_by_hand_and_say_so() -> None:
    result = score(analysed(SHOP), tomllib.loads(OVERRIDE)["score"])
    basket = named(result, "shop.basket")
    assert (basket.clarity.value, basket.coupling.value) == (9.0, 1.5)
    assert basket.clarity.derived != 9.0
    assert not basket.viability.reason
    assert basket.score == round(9 * basket.viability.value / 1.5, 1)
    assert result.excluded == ("shop.people",)
    assert "shop.wording" in {one.name for one in result.candidates}
    assert any("'shop.nothing' matches no package" in note for note in result.notes)
    assert "set by hand" in text(result)
    assert "to be rewritten <anyway>" in text(result)
    assert "9.0*" in markdown(result)
    assert "to be rewritten &lt;anyway&gt;" in html(result)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"dept": 2}, "did you mean 'depth'?"),
        ({"depth": 0}, "a number from 1 to 8"),
        ({"depth": True}, "a number from 1 to 8"),
        ({"include": "shop"}, "no list of globs"),
        ({"exclude": [1]}, "no list of globs"),
        ({"override": []}, "no table of globs"),
        ({"override": {"a": 3}}, "no table"),
        ({"override": {"a": {"clarity": 3}}}, 'add reason = "..."'),
        ({"override": {"a": {"clarity": 3, "reason": "  "}}}, 'add reason = "..."'),
        ({"override": {"a": {"reason": "why"}}}, "sets no factor"),
        ({"override": {"a": {"clarity": 11, "reason": "why"}}}, "no number from 1 to 10"),
        ({"override": {"a": {"coupling": "x", "reason": "why"}}}, "no number from 1 to 1000"),
        ({"override": {"a": {"clarty": 3, "reason": "why"}}}, "did you mean 'clarity'?"),
    ],
)
def test_a_setting_that_says_nothing_sensible_is_refused_with_a_cure(
    table: dict[str, object], said: str
) -> None:
    with pytest.raises(BadSetting, match=re.escape(said)) as refused:
        settings_from(table)
    assert str(refused.value).startswith("tool.statekit.audit.score")


# -- telling it ------------------------------------------------------------------------------------------


def test_the_text_shows_inputs_within_a_hundred_columns(shop: Score) -> None:
    said = text(shop)
    assert max(map(len, said.splitlines())) <= WIDE
    assert "shop.invoices" in said.splitlines()[4]
    assert "2 of 2 routes below /invoices" in said
    assert "+6.00 store.SESSIONS (session_store, weight 3): writes; shop.people writes" in said


def test_json_carries_everything_and_comes_back(shop: Score) -> None:
    record = json.loads(json.dumps(as_json(shop)))
    assert record["candidates"][0]["package"] == "shop.invoices"
    assert {"input", "share", "weight", "said"} == set(record["candidates"][0]["clarity"]["inputs"][0])
    assert as_json(recalled(record)) == as_json(shop)
    assert text(recalled(record)) == text(shop)
    assert picture(recalled(record)) == picture(shop)


def test_markdown_is_two_tables(shop: Score) -> None:
    lines = markdown(shop).splitlines()
    assert sum(line.startswith("|--") for line in lines) == 2
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
    assert set(widths) == {7, 4}


# -- the picture -----------------------------------------------------------------------------------------


def test_the_picture_links_who_holds_what(shop: Score) -> None:
    drawn = ET.fromstring(picture(shop))
    links = [one for one in drawn.iter(f"{SVG}path") if "link" in one.get("class", "")]
    assert len(links) == sum(len(one.holds) for one in shop.shared)
    titles = [one.findtext(f"{SVG}title", "") for one in links]
    assert any(
        title.startswith("shop.basket writes store.SESSIONS: shop/basket/views.py:") for title in titles
    )
    assert drawn.get("role") == "img"
    labelled = drawn.get("aria-labelledby", "").split()
    assert {drawn.find(f".//*[@id='{one}']") is not None for one in labelled} == {True}
    assert "Share nothing: shop.invoices." in "".join(drawn.itertext())
    assert "prefers-color-scheme:dark" in picture(shop)


def test_the_page_holds_the_table_and_the_picture(shop: Score) -> None:
    page = html(shop)
    assert page.count("<details>") == len(shop.candidates)
    assert "<svg" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


HOSTILE = (
    "<script>alert(1)</script>",
    "a\nb\r::error::x",
    "x|y`z`",
    "q\"'&amp;",
    "\x00\x1b[31m\ufffe",
    "]]><!--",
    "ü" * 300,
)


def hostile() -> Score:
    holds = tuple(Hold(name, Grip.WRITES, (f"{name}.py:1 {name}",), 1) for name in HOSTILE)
    states = tuple(
        SharedState(f"m.{name}", Category.COUNTER, Confidence.HIGH, f"{name}.py", 1, 1.0, "", holds)
        for name in HOSTILE
    )
    factor = Factor(5.0, 5.0, (), "<b>reason</b>|\n")
    candidates = tuple(
        Candidate(name, 1, 1, 1, factor, factor, factor, ((f"m.{name}", 1.0),), HOSTILE, 0)
        for name in HOSTILE
    )
    return Score(candidates, states, HOSTILE, HOSTILE, HOSTILE)


def test_hostile_names_stay_text() -> None:
    result = hostile()
    drawn = ET.fromstring(picture(result))
    assert {one.tag.removeprefix(SVG) for one in drawn.iter()} <= {
        "svg", "title", "desc", "style", "rect", "text", "tspan", "path", "g", "circle", "line",
    }  # fmt: skip
    page = html(result)
    assert "<script" not in page
    assert "<b>" not in page
    assert "\x00" not in page + text(result) + markdown(result) + picture(result)
    assert "\x1b" not in text(result) + markdown(result)
    assert all(len(line) <= WIDE for line in text(result).splitlines())
    assert not any(line.startswith("::") for line in text(result).splitlines())
    rows = [line for line in markdown(result).splitlines() if line.startswith("| **")]
    assert len(rows) == len(HOSTILE)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}


def crowd(packages: int, states: int) -> Score:
    chance = random.Random(7)
    categories = [one for one in Category if one is not Category.MISCONFIG]

    def one(n: int) -> SharedState:
        holders = sorted(chance.sample(range(packages), chance.randint(2, 5)))
        holds = tuple(Hold(f"app.p{p:02}", chance.choice(list(Grip)), (), 1) for p in holders)
        return SharedState(
            f"app.m{n}.S{n}", chance.choice(categories), Confidence.HIGH, "m.py", n, 1.0, "", holds
        )

    return Score((), tuple(one(n) for n in range(states)))


@pytest.mark.parametrize(("packages", "states"), [(5, 8), (40, 20), (40, 60), (90, 200)])
def test_the_picture_keeps_rows_apart_and_says_what_it_leaves_out(packages: int, states: int) -> None:
    result = crowd(packages, states)
    placed = arranged(result)
    assert len(placed.packages) <= PACKAGES
    assert len(placed.drawn) <= ROWS
    for heights in (placed.packages, placed.rows):
        ordered = sorted(heights.values())
        assert all(low + ROW - 0.01 <= high for low, high in pairwise(ordered))
        assert ordered[0] >= 0
        assert ordered[-1] <= placed.height
    missing = states - len(placed.drawn)
    assert placed.left_out[1] == missing
    assert (f"No room for {missing} more shared states" in picture(result)) is bool(missing)


def test_attributes_shared_alike_make_one_row() -> None:
    holds = (Hold("a", Grip.READS, (), 1), Hold("b", Grip.WRITES, (), 1))
    states = tuple(
        SharedState(f"m.Hub.{name}", Category.COUNTER, Confidence.HIGH, "m.py", n, 1.0, "m.Hub", holds)
        for n, name in enumerate(("one", "two", "three"))
    )
    placed = arranged(Score((), states))
    assert [one.label for one in placed.drawn] == ["Hub: one, two and 1 more"]
    assert placed.left_out == (0, 0)
    assert "3 states" in picture(Score((), states))


# -- the page --------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "audit-score.md"


def test_the_example_of_the_page_is_what_comes_out() -> None:
    page = PAGE.read_text(encoding="utf-8")
    files = {found[1]: found[2] for found in re.finditer(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)}
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert shown[1] == text(score(analysed(files)))


def test_the_settings_of_the_page_are_understood() -> None:
    shown = re.search(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    settings = settings_from(tomllib.loads(shown[1])["tool"]["statekit"]["audit"]["score"])
    assert settings.depth == 2
    assert settings.overridden("shop.billing.tax", "clarity") == (9.0, "a bounded context since 2023, ADR 12")


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for how, worth in WORTH.items():
        assert f"| {how} | {worth:g} |" in page
    for grip in Grip:
        assert f"| {grip} | {grip.strength:g} |" in page
    for category, weight in WEIGHTS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {weight:g} | "))
        assert str(category).replace("_", " ") in row
    assert f"At most {PACKAGES} packages and {ROWS} rows" in page


# -- through the command ---------------------------------------------------------------------------------


def test_the_audit_carries_it_into_every_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path, source in SHOP.items():
        (tmp_path / "app" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / path).write_text(source)
    first = audit([tmp_path / "app"], score=True)
    again = audit([tmp_path / "app"], score=True)
    assert first.score is not None
    assert again.score is not None
    assert as_json(first.score) == as_json(again.score)
    assert json.loads(render(again, "json"))["score"]["candidates"][0]["package"] == "shop.invoices"
    assert "What to move first" in render(again, "text")
    assert "### What to move first" in render(again, "markdown")
    assert 'class="sk-who"' in render(again, "html")
    assert audit([tmp_path / "app"]).score is None
