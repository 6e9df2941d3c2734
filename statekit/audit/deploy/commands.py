"""Command lines that start a server: how many processes and threads they ask for, and whether they import first."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Asked", "amount", "asked_by", "split"]

SERVERS = {
    "gunicorn": {"-w": "workers", "--workers": "workers", "--threads": "threads", "--preload": "preload", "--preload-app": "preload"},
    "uvicorn": {"--workers": "workers"},
    "hypercorn": {"-w": "workers", "--workers": "workers"},
    "granian": {"--workers": "workers", "--runtime-threads": "threads"},
    "uwsgi": {"--processes": "workers", "-p": "workers", "--workers": "workers", "--threads": "threads"},
    "fastapi": {"--workers": "workers"},
    "sanic": {"--workers": "workers", "-w": "workers", "--fast": "fast"},
    "daphne": {},
    "waitress-serve": {"--threads": "threads"},
    "mod_wsgi-express": {"--processes": "workers", "--threads": "threads"},
    "circusd": {},
}  # fmt: skip
FLAGS = {"preload", "fast"}
DEFAULTED = re.compile(r"^\$\{\w+:?[-=]([^}]*)\}$")
NUMBER = re.compile(r"[0-9]{1,5}")
PER_CORE = re.compile(r"nproc|cpu_count|ncpu", re.IGNORECASE)
PER_CORE_WORD = "per-core-nproc"
"""What ``$(nproc)`` and its like become while a command is taken apart."""
ASSIGNED = re.compile(
    r"^(WEB_CONCURRENCY|GUNICORN_WORKERS|UVICORN_WORKERS|WORKERS|NUM_WORKERS|MAX_WORKERS|WEB_WORKERS)$",
    re.IGNORECASE,
)


class Asked(NamedTuple):
    """What a command asks for."""

    what: str
    number: int
    text: str


def amount(text: str) -> int | None:
    """How many at least: a number, the default of a variable, one per core; None if it cannot be told."""
    text = text.strip().strip("\"'")
    default = DEFAULTED.match(text)
    if default:
        return amount(default[1])
    if NUMBER.fullmatch(text):
        return int(text)
    return 2 if PER_CORE.search(text) else None


def split(command: str) -> list[str]:
    """The words of a command, as far as its quotes allow."""
    bare = re.sub(
        r"\$\(([^()]*)\)", lambda match: PER_CORE_WORD if PER_CORE.search(match[1]) else "$", command
    )
    bare = re.sub(r"(&&|\|\||;|\|)", r" \1 ", bare)
    try:
        return shlex.split(bare, comments=False)
    except ValueError:
        return bare.replace('"', " ").replace("'", " ").split()


def asked_by(command: str, deep: int = 2) -> list[Asked]:
    """Everything one command line says about how the app is run."""
    return list(_asked(split(command), deep))


def _asked(words: list[str], deep: int) -> Iterator[Asked]:
    options: dict[str, str] = {}
    server = ""
    for at, word in enumerate(words):
        name = word.rpartition("/")[2]
        if word in {"&&", "||", ";", "|"}:
            options, server = {}, ""
        elif " " in word and deep:
            yield from _asked(split(word), deep - 1)
        elif name in SERVERS and not server:
            server, options = name, SERVERS[name]
        elif not server and name.partition("=")[0] and ASSIGNED.match(name.partition("=")[0]) and "=" in name:
            yield from _value("workers", name.partition("=")[2], word)
        elif server:
            yield from _option(options, words, at)


def _option(options: dict[str, str], words: list[str], at: int) -> Iterator[Asked]:
    word = words[at]
    name, equals, value = word.partition("=")
    what = options.get(name)
    if what in FLAGS:
        yield Asked("workers" if what == "fast" else str(what), 2 if what == "fast" else 1, word)
    elif what and equals:
        yield from _value(what, value, word)
    elif what and at + 1 < len(words):
        yield from _value(what, words[at + 1], f"{word} {words[at + 1]}")
    elif word[:2] in options and NUMBER.fullmatch(word[2:]):
        yield from _value(options[word[:2]], word[2:], word)


def _value(what: str, value: str, text: str) -> Iterator[Asked]:
    number = amount(value)
    if number is not None:
        yield Asked(what, number, text.replace(PER_CORE_WORD, "$(nproc)"))
