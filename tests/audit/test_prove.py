"""`statekit prove`: the same load on one process and on several pods; where the answers differ, and where they do not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from statekit import Embedded
from statekit.errors import UsageError
from statekit.prove import at_most, ignored, invariant, report
from statekit.prove.apps import app_of
from statekit.prove.compare import compared, unlikely
from statekit.prove.declared import AtMost, told_to
from statekit.prove.paths import endpoint_of
from statekit.prove.records import Answer, Judgement, Seen, flat
from statekit.prove.run import Course, Proof
from tests.demo.runs import STATEKIT, running

ROOT = Path(__file__).parents[2]
VISITS = ROOT / "demo_app" / "visits.py"


# -- comparing: pure ---------------------------------------------------------------------------------------------


def seen(answer, visitors=10, steps=20, endpoint="GET /me", **rest):
    """A run in which each visitor's steps are answered by a function of visitor and step: status, document."""
    answers = []
    for visitor in range(visitors):
        for step in range(steps):
            status, document = answer(visitor, step)
            at = step + visitor / 100
            answers.append(Answer(at, at + 0.01, f"V-{visitor}", step, endpoint, status, "p", document))
    return Seen(answers, **rest)


def steady(visitor, step):
    return 200, {"user": visitor, "items": [step]}


def test_runs_that_are_alike_do_not_differ():
    result = compared(seen(steady), seen(steady), seen(steady))
    assert result.diverging == ()
    (endpoint,) = result.endpoints
    assert endpoint.one.statuses == {"200": 200}
    assert endpoint.one.p50_ms == pytest.approx(10, abs=0.2)


def test_another_status_is_named_with_how_often():
    lost = seen(lambda v, s: (401, {}) if s % 2 else steady(v, s))
    result = compared(seen(steady), seen(steady), lost)
    (difference,) = result.endpoints[0].differences
    assert (difference.kind, difference.count, difference.of) == ("status", 100, 200)
    assert (difference.one, difference.pods) == ("200", "401")
    assert result.diverging == ("GET /me",)


def test_another_value_and_another_shape():
    other = seen(
        lambda v, s: (200, {"user": v, "items": [] if s % 3 else [s], **({"lost": 1} if s % 2 else {})})
    )
    differences = {d.what: d for d in compared(seen(steady), seen(steady), other).endpoints[0].differences}
    assert differences["items"].kind == "value"
    assert (differences["items"].one, differences["items"].pods) == ("[1]", "[]")
    assert differences["lost"].kind == "shape"
    assert "user" not in differences


def test_what_differs_by_itself_is_not_judged():
    def stamped(run):
        return seen(lambda v, s: (200, {"user": v, "at": f"{run}-{v}-{s}"}))

    result = compared(stamped(1), stamped(2), stamped(3))
    assert result.diverging == ()
    assert result.endpoints[0].not_judged == ("at",)


def test_now_and_then_is_chance():
    def rarely(*steps):
        return seen(lambda v, s: (200, {"n": -1 if (v, s) in steps else s}))

    chance = compared(
        seen(lambda _v, s: (200, {"n": s})), rarely((1, 1), (2, 2)), rarely((3, 3), (4, 4), (5, 5))
    )
    assert chance.diverging == ()


def test_what_may_differ_is_left_out():
    def workers(count):
        return seen(lambda _v, _s: (200, {"fleet": {"workers": count}}), ignored=["workers"])

    assert compared(workers(1), workers(1), workers(3)).diverging == ()


def test_a_visitor_who_takes_another_way_is_compared_up_to_there():
    def then(endpoint):
        run = seen(steady, steps=20)
        late = [
            Answer(99.0, 99.1, a.user, 20 + a.step, endpoint, 200, "p", {"at": endpoint}) for a in run.answers
        ]
        return Seen(run.answers + late)

    assert compared(then("GET /a"), then("GET /a"), then("GET /b")).diverging == ()


def test_failures_count_if_one_process_had_none():
    failing = seen(lambda v, s: (0, None) if (v, s) == (3, 3) else steady(v, s))
    (difference,) = compared(seen(steady), seen(steady), failing).endpoints[0].differences
    assert (difference.kind, difference.count, difference.pods) == ("failures", 1, "no answer")
    assert compared(failing, seen(steady), failing).diverging == ()


def test_the_locustfiles_own_failures_are_compared():
    said = [Judgement("", held=False, endpoint="GET /me", detail="who is this?")] * 20
    result = compared(seen(steady), seen(steady), seen(steady, judgements=said))
    (difference,) = result.endpoints[0].differences
    assert difference.pods == "who is this?"
    assert compared(*[seen(steady, judgements=said)] * 3).diverging == ()


def test_invariants_that_break_with_pods_only():
    def judged(broken):
        rows = [Judgement("mine", held=n >= broken, endpoint="GET /me") for n in range(100)]
        return seen(steady, judgements=rows)

    (one,) = compared(judged(0), judged(0), judged(7)).invariants
    assert one.diverges
    assert (one.one, one.pods) == ("0 of 100 broken", "7 of 100 broken")
    (always,) = compared(judged(50), judged(50), judged(55)).invariants
    assert not always.diverges
    (worse,) = compared(judged(5), judged(5), judged(90)).invariants
    assert worse.diverges


def test_at_most_is_judged_over_all_visitors():
    rule = AtMost(150, "let through", "GET /me", within=100)

    def granting(count):
        return seen(lambda v, s: (200 if v * 20 + s < count else 429, {}), at_most=[rule])

    (kept,) = compared(granting(150), granting(150), granting(150)).invariants
    assert not kept.broken_in_pods
    result = compared(granting(150), granting(150), granting(190))
    assert result.invariants[0].diverges
    assert result.invariants[0].pods == "190 in 100 s"
    assert result.diverging == ("GET /me",)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((10, 20, 0, 20), True), ((3, 20, 0, 20), False), ((5, 1000, 5, 1000), False), ((1, 5, 0, 0), False)],
)
def test_how_sure_is_sure(counts, expected):
    assert unlikely(*counts) is expected


# -- records, declarations, commands ----------------------------------------------------------------------------


def test_a_document_as_paths():
    document = {"a": {"b": 1}, "items": ["x"], "rows": [{"id": 1}, {"id": 2, "on": True}], "none": None}
    assert flat(document) == {
        "a.b": "1",
        "items": '["x"]',
        "rows[]": "2",
        "rows[].id": "[1,2]",
        "rows[].on": "[(absent),true]",
        "none": "null",
    }
    assert flat([1, 2]) == {"(body)": "[1, 2]"}


def test_records_come_back(tmp_path):
    run = seen(
        steady,
        judgements=[Judgement("a", held=True, endpoint="b")],
        at_most=[AtMost(1, "n", "o")],
        ignored=["x"],
    )
    run.save(tmp_path / "seen.jsonl")
    assert Seen.load(tmp_path / "seen.jsonl") == run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/users/812/carts?x=1", "GET /users/{…}/carts"),
        ("/f/0f8fad5b-d9cb-469f-a165-70867728950e", "GET /f/{…}"),
        ("GET /flags", "GET /flags"),
        ("/me", "GET /me"),
    ],
)
def test_what_an_endpoint_is_called(name, expected):
    assert endpoint_of("GET", name) == expected


def test_declarations_are_collected():
    told = []
    declared = told_to(lambda *outcome: told.append(outcome))
    try:
        at_most(5, "logins", of="POST /login", within=10)
        ignored("pod")
        assert invariant("mine", [1], of="GET /me")
        assert not invariant("mine", [])
        assert told == [("mine", True, "GET /me"), ("mine", False, "")]
        assert declared.at_most == [AtMost(5, "logins", "POST /login", 200, 10)]
        with pytest.raises(UsageError, match="at_most"):
            at_most(-1, "x", of="y")
    finally:
        declared.at_most.clear()
        declared.ignored.clear()
        declared.judged = lambda *_: None


@pytest.mark.parametrize(
    ("target", "command", "message"),
    [
        ("", "", "name an app"),
        ("a:b", "c {port}", "not both"),
        ("", "serve --port 80", "{port}"),
        ("flask", "", "flask:app"),
        ("nothing_of_this_name:app", "", "cannot be imported"),
        ("json:__doc__", "", "no app"),
    ],
)
def test_apps_that_make_no_sense_are_said(target, command, message):
    with pytest.raises(UsageError, match=message):
        app_of(target, command, {})


ASGI = """
import os
SEEN = {"count": 0}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    SEEN["count"] += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"seen": %d}' % SEEN["count"]})
def create():
    return app
"""


def test_which_server_an_app_needs(tmp_path):
    (tmp_path / "one.py").write_text(ASGI + "\ndef wsgi(environ, start_response): ...\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    assert "uvicorn" in app_of("one:app", "", environment).command
    factory = app_of("one:create()", "", environment).on(81)
    assert {"--factory", "one:create", "81"} <= set(factory)
    assert "127.0.0.1:82" in app_of("one:wsgi", "", environment).on(82)
    assert app_of("", "serve --port {port}", {}).on(7) == ("serve", "--port", "7")


def test_what_apps_answer_does_no_harm_to_who_reads_the_report():
    hostile = "<script>alert(1)</script>\x1b[2J{{rows}}"
    other = seen(
        lambda v, _s: (200, {"user": v, hostile: hostile, "items": hostile}), endpoint=f"GET /{hostile}"
    )
    base = seen(steady, endpoint=f"GET /{hostile}")
    proof = Proof(hostile, Course(), compared(base, base, other), 0, {"one": 1, "control": 1, "pods": 1})
    assert proof.result.diverging
    assert "<script>" not in report.page(proof)
    assert "\x1b" not in report.text(proof)
    assert json.loads(json.dumps(report.document(proof)))["verdict"] == "diverges"


# -- for real ----------------------------------------------------------------------------------------------------


def proven(*arguments, cwd=ROOT, **environment):
    done = subprocess.run(
        [*STATEKIT, "prove", *arguments, "--json"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_demo_in_memory_diverges_endpoint_by_endpoint(tmp_path):
    code, told = proven(
        *("demo_app.wsgi:app", "-f", str(VISITS), "--pods", "2", "--seconds", "3", "--users", "16"),
        *("--out", str(tmp_path / "report")),
        STATE="memory",
    )
    assert code == 1
    assert told["verdict"] == "diverges"
    expected = {"GET /limited", "GET /cart", "GET /me", "GET /flags", "GET /tenants/…/config"}
    assert expected <= set(told["diverging"])
    broken = {one["name"] for one in told["invariants"] if one["diverges"]}
    assert {"the cart holds what was added", "a flag reads as it was written"} <= broken
    page = (tmp_path / "report" / "index.html").read_text()
    assert "GET /limited" in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == told


@pytest.mark.exhaustive
def test_the_demo_with_shared_state_does_not():
    with Embedded(ephemeral=True) as url:
        code, told = proven(
            *("demo_app.wsgi:app", "-f", str(VISITS), "--seconds", "9", "--users", "10"),
            *("--env", "STATEKIT_NAMESPACE=prove-{run}"),
            STATE="shared",
            STATEKIT_URL=url,
        )
    assert told["diverging"] == []
    assert code == 0
    assert told["replaced"] > 0
    assert sum(not one["broken_in_pods"] for one in told["invariants"]) == 5


FAST = """
from locust import FastHttpUser, constant, task
from statekit.prove import invariant

class Counter(FastHttpUser):
    fixed_count = 1
    wait_time = constant(0.02)
    before = 0

    @task
    def count(self):
        with self.client.get("/count", catch_response=True) as answer:
            seen = answer.json()["seen"]
            invariant("a count goes up", seen > self.before)
            if seen <= self.before:
                answer.failure("it went back")
            self.before = seen
"""


@pytest.mark.exhaustive
def test_an_asgi_app_and_a_fast_client(tmp_path):
    (tmp_path / "counting.py").write_text(ASGI)
    (tmp_path / "locustfile.py").write_text(FAST)
    code, told = proven("counting:app", "--pods", "2", "--seconds", "3", "--users", "1", cwd=tmp_path)
    assert code == 1
    (endpoint,) = told["endpoints"]
    assert endpoint["name"] == "GET /count"
    assert {"value", "failures"} == {one["kind"] for one in endpoint["differences"]}
    assert told["invariants"][0]["diverges"]


def test_a_pod_that_does_not_start_is_said_and_its_log_is_kept(tmp_path):
    done = subprocess.run(
        [
            *STATEKIT,
            "prove",
            "--command",
            "python -c 'raise SystemExit(\"no port {port}\")'",
            "-f",
            str(VISITS),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pod-1 did not get ready" in done.stderr
    folder = Path(done.stderr.rsplit("logs: ", 1)[1].strip())
    assert "no port" in (folder / "one" / "pod-1.log").read_text()
    shutil.rmtree(folder)


def test_a_locustfile_that_is_not_there_is_bad_usage():
    done = subprocess.run(
        [*STATEKIT, "prove", "a:b", "-f", "nowhere.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nowhere.py" in done.stderr


@pytest.mark.exhaustive
def test_interrupted_it_leaves_nothing_behind():
    with running("prove", "demo_app.wsgi:app", "-f", str(VISITS), STATE="memory") as run:
        for line in run.process.stderr:
            if line.startswith("one process:"):
                break
        while not any("gunicorn" in " ".join(one.cmdline()) for one in run.members()):
            assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(40) == 130
        assert run.gone() == []
