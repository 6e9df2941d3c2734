"""How many processes are to serve the app, as far as can be told from inside one of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["configured_workers"]

SERVERS = ("gunicorn", "uvicorn", "hypercorn", "granian", "fastapi", "daphne", "waitress")
FLAGS = ("-w", "--workers")


def configured_workers(
    environment: Mapping[str, str] = os.environ, arguments: Sequence[str] | None = None
) -> tuple[int, str]:
    """The number of worker processes and what says so; 1 and '' where nothing does.

    Asked, in this order: the server that is running this code, uWSGI, the command line, ``GUNICORN_CMD_ARGS``,
    ``WEB_CONCURRENCY``.
    """
    told = [*_running(), *_uwsgi()]
    given = sys.argv if arguments is None else arguments
    if any(name in given[0] for name in SERVERS if given):
        told += _flagged(given[1:], "the command line")
    told += _flagged(shlex.split(environment.get("GUNICORN_CMD_ARGS", "")), "GUNICORN_CMD_ARGS")
    told += [(count, "WEB_CONCURRENCY") for count in _number(environment.get("WEB_CONCURRENCY", ""))]
    return next(iter(told), (1, ""))


def _running() -> Iterator[tuple[int, str]]:
    """A server that imports the app is on the stack: gunicorn's arbiter, uvicorn's configuration."""
    frame = sys._getframe(1)  # noqa: SLF001 - who called us is the question
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == "gunicorn.arbiter":
            cfg = getattr(frame.f_locals.get("self"), "cfg", None)
            yield from ((count, "gunicorn") for count in _number(getattr(cfg, "workers", "")))
        elif module == "uvicorn.config":
            config = frame.f_locals.get("self")
            yield from ((count, "uvicorn") for count in _number(getattr(config, "workers", "")))
        frame = frame.f_back  # type: ignore[assignment]


def _uwsgi() -> Iterator[tuple[int, str]]:
    module = sys.modules.get("uwsgi")
    yield from ((count, "uWSGI") for count in _number(getattr(module, "numproc", "")))


def _flagged(arguments: Sequence[str], source: str) -> Iterator[tuple[int, str]]:
    for index, one in enumerate(arguments):
        flag, _, value = one.partition("=")
        if flag in FLAGS:
            value = value or (arguments[index + 1] if index + 1 < len(arguments) else "")
        elif one.startswith("-w") and not one.startswith("--"):
            value = one[2:]
        else:
            continue
        yield from ((count, f"{flag[:9]} on {source}") for count in _number(value))


def _number(value: Any) -> Iterator[int]:
    text = str(value)
    if text.isdigit() and int(text) > 0:
        yield int(text)
