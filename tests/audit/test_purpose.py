"""What a piece of state is for, where its name alone would say something else: each rule, and what it must not touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from statekit.audit import Config, audit

HEAD = """
import asyncio
import time
import threading

import httpx
from flask import Flask, abort, request

app = Flask(__name__)


"""
PLACES: dict[str, tuple[str, str, str]] = {
    "the clock, and who notes it has looked: the next one is held back": (
        "PREVIEWED",
        "rate_limiter",
        """
        PREVIEWED = {}
        @app.post("/preview")
        def preview():
            now = time.time()
            if now - PREVIEWED.get(request.json["page"], 0) < 60:
                return ""
            PREVIEWED[request.json["page"]] = now
            return render()
        """,
    ),
    "the clock, and nobody looks before: it is only shown": (
        "FETCHED",
        "other_singleton",
        """
        FETCHED = {}
        @app.post("/fetch")
        def fetch():
            FETCHED[request.json["source"]] = time.time()
            return ""
        @app.get("/about")
        def about():
            return str(FETCHED)
        """,
    ),
    "what was seen last": (
        "_last_jobs",
        "other_singleton",
        """
        _last_jobs = {}
        @app.post("/report")
        def report():
            _last_jobs[request.json["machine"]] = request.json["colour"]
            return ""
        """,
    ),
    "a name that is claimed while something is done": (
        "BUILDS",
        "lock",
        """
        BUILDS = set()
        @app.post("/build")
        def build():
            name = request.json["name"]
            if name in BUILDS:
                return "already", 409
            BUILDS.add(name)
            try:
                return make(name)
            finally:
                BUILDS.discard(name)
        """,
    ),
    "a name that stays": (
        "BUILDS",
        "other_singleton",
        """
        BUILDS = set()
        @app.post("/build")
        def build():
            name = request.json["name"]
            if name not in BUILDS:
                BUILDS.add(name)
            return make(name)
        """,
    ),
    "a 429 beside what is counted": (
        "ASKED",
        "rate_limiter",
        """
        ASKED = {}
        @app.post("/ask")
        def ask():
            ASKED[request.remote_addr] += 1
            if ASKED[request.remote_addr] > 9:
                abort(429)
            return ""
        """,
    ),
    "a 429 beside something else": (
        "COLOUR",
        "other_singleton",
        """
        COLOUR = {}
        @app.post("/paint")
        def paint():
            if full():
                abort(429)
            COLOUR["door"] = request.json["colour"]
            return ""
        """,
    ),
    "started where it is noted": (
        "active_exports",
        "background_worker",
        """
        active_exports = {}
        @app.post("/export")
        def export():
            active_exports[request.json["report_id"]] = {"status": "started"}
            threading.Thread(target=write, args=(request.json["report_id"],)).start()
            return ""
        @app.delete("/export")
        def forget():
            del active_exports[request.json["report_id"]]
            return ""
        """,
    ),
    "beside a queue": (
        "_spans",
        "event_bus",
        """
        class Collector:
            def __init__(self):
                self._queue = asyncio.Queue()
                self._spans = []
            def take(self, span):
                self._spans.append(span)
                self._queue.put_nowait(1)
        collector = Collector()
        @app.post("/span")
        def span():
            collector.take(request.json)
            return ""
        """,
    ),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_place_is_filed_by_what_is_done_with_it(what: str, tmp_path: Path) -> None:
    name, category, code = PLACES[what]
    lines = code.strip("\n").splitlines()
    (tmp_path / "app.py").write_text(HEAD + "\n".join(line[8:] for line in lines) + "\n")
    report = audit(tmp_path, Config(), cache=False)
    found = {one.name: one.category.value for whole in report.findings for one in (whole, *whole.parts)}
    assert found.get(name) == category
