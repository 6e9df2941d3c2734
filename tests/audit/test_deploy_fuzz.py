"""Whatever a file holds, reading it never fails: an audit goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statekit.audit.deploy.balancers import BALANCERS
from statekit.audit.deploy.blocks import entries
from statekit.audit.deploy.clusters import compose, yaml
from statekit.audit.deploy.commands import asked_by
from statekit.audit.deploy.entry import deployment
from statekit.audit.deploy.papers import READERS, Paper
from statekit.audit.reading import read

WORDS = [
    "workers", "threads", "=", ":", "- ", "\n", "  ", "\t", "#", "{", "}", "[", "]", '"', "'", ";", "\\\n", "1", "4", "²", "9" * 5000, "true", "|", ">",
    "upstream app", "server a", "ip_hash", "hash $cookie_x", "sticky", "cookie", "insert", "backend", "stick", "on src", "CMD", "ENV", "gunicorn", "-w",
    "--workers", "kind", "Deployment", "spec", "replicas", "services", "labels", "deploy", "command", "---", "&a", "*a", "<<", "memory", "\x00", "\ufeff",
    "preload_app", "True", "def post_fork(s, w):", "ExecStart", "numprocs", "[program:x]", "$(nproc)", "${N:-3}", "stickiness", "sessionAffinity", "ClientIP",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=40).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
)
KINDS = {**READERS, **BALANCERS, "compose": compose, "yaml": yaml}
MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", KINDS)
@MODEST
@given(text=TEXTS)
def test_no_text_fails(kind: str, text: str) -> None:
    paper = Paper("some/file", text)
    KINDS[kind](paper)
    assert all(one.number >= 1 and one.line >= 1 for one in paper.said)


@MODEST
@given(text=TEXTS)
def test_no_command_and_no_yaml_fails(text: str) -> None:
    asked_by(text)
    assert all(one.line >= 1 for one in entries(text))


CODE = """
import secrets, os, socketio
from flask import session
from flask_limiter import Limiter
from celery import Celery
INSTALLED_APPS = []
MIDDLEWARE = []
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, **more}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES["default"] = make()
SECRET_KEY = SECRET_KEY or secrets.token_hex()
limiter = Limiter(key, storage_uri=os.getenv("X", "memory://"))
sio = socketio.AsyncServer(**options)
def view(request):
    session["a"] = {"b": [lambda: 1]} if x else set()
    request.session.update({"k": open(path)})
""".splitlines()


@MODEST
@given(order=st.permutations(range(len(CODE))), cut=st.integers(0, 60))
def test_no_code_fails(order: list[int], cut: int, tmp_path: Path) -> None:
    lines = [CODE[at] if at > 11 else CODE[at].replace("default", "x" * (cut % 3)) for at in order]
    text = "\n".join(
        line.strip() if line.startswith(" ") and cut % 2 else line for line in lines[: len(lines) - cut % 5]
    )
    (tmp_path / "app.py").write_text(text)
    deployment(tmp_path, [read("app.py", text.encode())], [])
