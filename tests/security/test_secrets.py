"""Credentials stay where they belong: a tour of everything, then a search through all that was written anywhere."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import redis
from click.testing import CliRunner
from fastapi import FastAPI
from flask import Flask, session

from statekit import AsyncStateKit, StateKit, StatekitError
from statekit.cli._tree import tree
from statekit.testing import store_down
from statekit_asgi import StatekitMiddleware
from statekit_asgi.fastapi import SessionDep
from statekit_flask import StatekitFlask, by_header
from tests.conftest import PATIENT
from tests.servers import Server, binary
from tests.tour import tour


class Heard:
    """Everything the kits said: to the log, to hooks, in answers, errors and reprs."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, *things: object) -> None:
        self.texts += [text for thing in things for text in (repr(thing), str(thing))]

    def attempt(self, ask: Any, *args: Any) -> None:
        try:
            self.say(ask(*args))
        except Exception as error:
            while error is not None:
                self.say(error, *error.args)
                error = error.__cause__ or error.__context__  # type: ignore[assignment]


class _Ear(logging.Handler):
    def __init__(self, heard: Heard) -> None:
        super().__init__(logging.DEBUG)
        self._heard = heard
        self._format = logging.Formatter("%(name)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.texts.append(self._format.format(record))


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What is said from now on, with every logger at DEBUG: redis-py's, asyncio's, the frameworks'."""
    one = Heard()
    ear, root = _Ear(one), logging.getLogger()
    known = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in (root, *known)]
    root.addHandler(ear)
    for logger in (root, *known):
        logger.setLevel(logging.DEBUG)
    yield one
    root.removeHandler(ear)
    for logger, level in before:
        logger.setLevel(level)


class Sent:
    """Everything a server was sent, by MONITOR."""

    def __init__(self, url: str) -> None:
        self.lines: list[str] = []
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor().__enter__()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(Exception):
            while True:
                self.lines.append(self._monitor.next_command()["command"])

    def until(self, word: str) -> str:
        """All that was sent before a command with this word, which is sent now."""
        from tests.servers import wait_until

        self._client.echo(word)
        wait_until(lambda: any(word in line for line in self.lines), 20)
        return "\n".join(self.lines)


def dump(url: str) -> list[bytes]:
    """Every key and every value of a store, the parts of each value one by one."""
    found: list[bytes] = []
    with redis.Redis.from_url(url) as raw:
        for key in raw.scan_iter(count=1000):
            found.append(key)
            match raw.type(key):
                case b"string":
                    found.append(raw.get(key))  # type: ignore[arg-type]
                case b"hash":
                    found += [part for pair in raw.hgetall(key).items() for part in pair]
                case b"zset":
                    found += raw.zrange(key, 0, -1)
                case b"list":
                    found += raw.lrange(key, 0, -1)
                case other:
                    raise AssertionError(other)
    return found


def spellings(secret: str) -> set[str]:
    """A secret as text, as the bytes it stands for, and in hexadecimal."""
    padded = secret + "=" * (-len(secret) % 4)
    with suppress(ValueError):
        return {secret, base64.urlsafe_b64decode(padded).hex(), secret.encode().hex()}
    return {secret, secret.encode().hex()}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of one's own, as its whole content is looked at."""
    with Server(binary("valkey")) as one:
        yield one


API_KEY = "sk_live_" + secrets.token_hex(16)


def flask_visit(kit: StateKit, heard: Heard, cookies: list[str]) -> None:
    """Sign in, be refused, sign out; with an API key, and a cookie somebody made up."""
    app = Flask(__name__)
    app.testing = False
    sk = StatekitFlask(app, kit, default_limits=["100/hour"], limit_key=by_header("X-API-Key"))

    @app.post("/login")
    def login() -> str:
        session["cart"] = 1
        sk.sign_in("user:7")
        heard.say(session, sk.session.opened)
        return "in"

    @app.post("/logout")
    def logout() -> str:
        sk.sign_out()
        return "out"

    @app.get("/broken")
    @sk.limit("1/hour", key="header:X-API-Key")
    def broken() -> str:
        session["cart"] = object()
        return ""

    browser = app.test_client()
    key = {"X-API-Key": API_KEY}
    made_up = secrets.token_urlsafe(32)
    browser.set_cookie("session", made_up, domain="localhost")
    for path in ("/login", "/login", "/broken", "/broken", "/logout"):
        answer = browser.open(path, method="GET" if path == "/broken" else "POST", headers=key)
        heard.say(answer.text, *(one for one in answer.headers.items() if one[0] != "Set-Cookie"))
        cookies += re.findall(r"session=([\w-]{43})", str(answer.headers.getlist("Set-Cookie")))
    cookies.append(made_up)


async def asgi_visit(kit: AsyncStateKit, heard: Heard, cookies: list[str]) -> None:
    app = FastAPI()
    app.add_middleware(StatekitMiddleware, kit=kit, default_limits=["100/hour"], limit_key="header:X-API-Key")

    @app.post("/login")
    async def login(session: SessionDep) -> str:
        session["cart"] = 1
        session.sign_in("user:8")
        heard.say(session, session.opened)
        return "in"

    made_up = secrets.token_urlsafe(32)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://localhost",
        headers={"X-API-Key": API_KEY},
        cookies={"session": made_up},
    ) as browser:
        for _ in range(2):
            answer = await browser.post("/login")
            heard.say(answer.text, *(one for one in answer.headers.items() if one[0] != "set-cookie"))
            cookies += re.findall(r"session=([\w-]{43})", answer.headers.get("set-cookie", ""))
    cookies.append(made_up)


def mistakes(kit: StateKit, heard: Heard, ids: list[str]) -> None:
    """Hand an id to everything that takes something else, and meet every kind of error with one in hand."""
    sessions = kit.sessions()
    one = sessions.open(None)
    one["token"], one["list"] = ids[0], [1]
    sessions.save(one)
    ids.append(one.id)
    for ask in (sessions.revoke, sessions.open):
        heard.attempt(ask, one.id)
    heard.attempt(sessions.revoke_all, "user:7", one.id)
    heard.attempt(sessions.open, one.id + "x")
    heard.attempt(sessions.open, one.id[:-1] + "\n")
    again = sessions.open(one.id)
    heard.say(
        again,
        sessions,
        kit,
        kit.describe(),
        sessions.sessions_of("user:7"),
    )
    heard.attempt(again.__setitem__, "list", object())
    heard.attempt(again.__getitem__, "missing")
    heard.say(sessions.destroy(again), again)
    with store_down(kit):
        heard.attempt(sessions.open(one.id).get, "a")
        heard.attempt(sessions.destroy, sessions.open(one.id))
        heard.attempt(sessions.save, one)


async def test_no_credential_is_in_logs_hooks_errors_reprs_answers_commands_or_the_store(
    server: Server, heard: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, ids = Sent(server.url), [secrets.token_urlsafe(32)]
    kit = StateKit.connect(server.url, "atlas", budget=PATIENT)
    asyncio_kit = AsyncStateKit.connect(server.url, "atlas", budget=PATIENT)
    kit.hooks.subscribe(heard.say)
    asyncio_kit.hooks.subscribe(heard.say)
    tour(kit)
    flask_visit(kit, heard, ids)
    await asgi_visit(asyncio_kit, heard, ids)
    stored = dump(server.url)
    mistakes(kit, heard, ids)
    for words in (
        ["list", "user:7"],
        ["list", "user:8", "--json"],
        ["revoke-all", "user:8"],
        ["revoke", ids[-1]],
    ):
        result = CliRunner().invoke(tree(), ["sessions", *words, "--url", server.url, "--namespace", "atlas"])
        heard.say(result.output, result.exception)
    stored += dump(server.url)
    await asyncio_kit.close()
    kit.close()
    written = b"\n".join(stored).decode("latin-1")
    output = capsys.readouterr()
    places = {"heard": "\n".join(heard.texts), "sent": sent.until("the-end"), "out": output.out + output.err}
    assert len(ids) >= 8
    for secret in {*ids[1:], API_KEY}:
        for spelling in spellings(secret):
            for place, text in {**places, "stored": written}.items():
                assert spelling not in text, f"{place} holds a secret"
    # what was looked at did hold something to find: the public names, and a value an app chose to store
    handle = hashlib.sha256(ids[-1].encode()).hexdigest()
    assert handle in places["sent"]
    assert handle in places["heard"]
    assert ids[0] in places["sent"]


def test_a_dump_of_the_store_yields_no_usable_credential(server: Server) -> None:
    with StateKit.connect(server.url, "atlas", budget=PATIENT) as kit:
        sessions = kit.sessions()
        issued = []
        for number in range(5):
            session = sessions.open(None)
            session["n"] = number
            session.sign_in(f"user:{number}")
            sessions.save(session)
            issued.append(session.id)
        sessions.revoke(sessions.open(issued.pop()).handle)
        texts = {part.decode("latin-1") for part in dump(server.url)}
        words = {word for text in texts for word in re.split(r"[^\w-]+", text)} | texts
        words |= {word[at : at + 43] for word in words if len(word) <= 4096 for at in range(len(word) - 42)}
        assert len(words) > 100
        for word in words:
            taken = sessions.open(word)
            assert taken.is_new
            assert taken.principal is None
        assert all(sessions.open(one)["n"] >= 0 for one in issued)


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:hunter2@127.0.0.1:1/0",
        "redis://:hunter2@127.0.0.1:1/0",
        "redis://127.0.0.1:1/0?password=hunter2",
        "rediss://app:hunter2@127.0.0.1:1/0",
        "redis+cluster://app:hunter2@127.0.0.1:1",
        "redis+sentinel://app:hunter2@127.0.0.1:1/main?sentinel_password=hunter2",
        "redis://app:hunter2@127.0.0.1:1/x",
        "redis://app:hunter2@host:99999/0",
        "reddis://app:hunter2@host/0",
        "redis://app:hunter2@a,b/0",
        "redis://app:hunter2@h/0?retry=hunter2&nonsense=1",
    ],
)
def test_no_text_holds_the_password_of_a_url(url: str, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def use() -> None:
        with StateKit.connect(url, snapshot_dir=None) as kit:
            heard.say(kit, kit.describe(), kit.store.transport)
            kit.ping()

    heard.attempt(use)
    monkeypatch.setenv("STATEKIT_URL", url)
    result = CliRunner().invoke(tree(), ["sessions", "list", "user:7"])
    heard.say(result.output)
    assert heard.texts
    assert "hunter2" not in "\n".join(heard.texts)


@pytest.mark.parametrize("name", ["valkey", "redis7", "redis62"])
def test_a_wrong_password_is_not_repeated(name: str, heard: Heard) -> None:
    with Server(binary(name), ("--requirepass", "right")) as server:
        url = server.url.replace("unix://", "unix://:hunter2@")
        with StateKit.connect(url, "atlas", budget=PATIENT, snapshot_dir=None) as kit:
            heard.attempt(kit.ping)
            with pytest.raises(StatekitError):
                kit.ping()
    assert "hunter2" not in "\n".join(heard.texts)
