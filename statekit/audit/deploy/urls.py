"""`memory://` and its like: brokers, storages and channels that are spelt as an address."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from statekit.audit.deploy.found import REDIS, Hit, Place
from statekit.audit.deploy.ground import Ground, developing
from statekit.audit.deploy.look import Called, Module, Setting
from statekit.audit.deploy.options import GETTERS, Certainty, Option, branch_of, options, text_of
from statekit.audit.model import Confidence

__all__ = ["SURE", "in_memory", "memory_urls"]

MEMORY = re.compile(r"^(async\+|cache\+)*(in-?)?mem(ory)?://(localhost)?/*$")
SPOKEN = re.compile(r"mem(ory|cache)?://|:memory:|sqlite[+\w]*:/?/?[\"']")
DATABASE = re.compile(r"^(:memory:|(sqlite(\+\w+)?:)(//)?/?(/:memory:)?|file::memory:.*)$")
DATABASE_NAME = re.compile(r"database|(^|_)db(_|$)|sqlite|(^|_)dsn$", re.IGNORECASE)
SPELLING = re.compile(r"prefix|scheme|proto|dialect|driver|pattern|example", re.IGNORECASE)
"""Names of what addresses are made of, or compared with."""
TASKS = re.compile(r"broker|celery|result|kombu|taskiq|dramatiq|huey", re.IGNORECASE)
SOCKETS = re.compile(r"broadcast|channel|pubsub|message_queue", re.IGNORECASE)
ARGUMENTS = frozenset(
    [
        "broker",
        "backend",
        "storage_uri",
        "storage_url",
        "storage",
        "url",
        "uri",
        "broker_url",
        "result_backend",
        "default",
        "dsn",
        "location",
        "cache_url",
        "message_queue",
        "result_backend_url",
    ]
)
BY_POSITION = {"Broadcast", "Celery", "Connection", "from_url", "storage_from_string", "setup"}
SURE = {
    Certainty.PLAIN: Confidence.HIGH,
    Certainty.DEFAULT: Confidence.MEDIUM,
    Certainty.CHOICE: Confidence.LOW,
}


def in_memory(node: ast.expr) -> bool:
    """Whether a constant is the address of something in this process."""
    return bool(MEMORY.match(text_of(node)))


def memory_urls(ground: Ground) -> Iterator[Hit]:
    """Addresses of memory, wherever they are spelt; each is reported once, where it stands."""
    for module in ground.modules:
        said: set[int] = set()
        if SPOKEN.search(module.text):
            for hit, node in (*_settings(ground, module), *_calls(module)):
                if id(node) not in said:
                    said.add(id(node))
                    yield hit


def _settings(ground: Ground, module: Module) -> Iterator[tuple[Hit, ast.expr]]:
    for one in module.settings:
        if isinstance(one.value, ast.Name) or SPELLING.search(one.name):
            continue
        for option in options(module, one.value, one):
            if option.node is not None and option.setting in (None, one):
                hit = _setting(ground, module, one, option)
                if hit and not developing(one):
                    yield hit, option.node


def _setting(ground: Ground, module: Module, one: Setting, option: Option) -> Hit | None:
    assert option.node is not None
    place = module.place(one)
    if in_memory(option.node) and not ground.overruled(one, in_memory, module.path):
        return _hit(place, one.name, _certainty(option.certainty, one), text_of(option.node))
    if (
        DATABASE.match(text_of(option.node))
        and DATABASE_NAME.search(one.name)
        and "mem" not in one.name.lower()
        and one.form != "entry"
        and not one.local
    ):
        return _database(place, text_of(option.node))
    return None


def _certainty(certainty: Certainty, one: Setting | Called) -> Certainty:
    return min(certainty, Certainty.CHOICE) if branch_of(one.under) == "choice" else certainty


def _calls(module: Module) -> Iterator[tuple[Hit, ast.expr]]:
    for one in module.calls:
        for argument, value in _given(one):
            found = [] if isinstance(value, ast.Name) else options(module, value)
            local = [option for option in found if option.node is not None and in_memory(option.node)]
            for option in local if local and not developing(one) else []:
                assert option.node is not None
                name = one.name or argument or one.spelt.partition(".")[0]
                place = module.place(one, name)
                certainty = _certainty(option.certainty, one)
                yield _hit(place, f"{argument} {one.callee}", certainty, text_of(option.node)), option.node


def _given(one: Called) -> list[tuple[str, ast.expr]]:
    """The arguments of a call that may be an address, by name."""
    last = one.spelt.rpartition(".")[2]
    given = [(word.arg or "", word.value) for word in one.node.keywords if word.arg in ARGUMENTS]
    if last in BY_POSITION:
        given += [("", value) for value in one.node.args[:2]]
    if last in GETTERS and len(one.node.args) == 2 and text_of(one.node.args[0]):
        given.append((text_of(one.node.args[0]), one.node))
    return given


def _hit(place: Place, about: str, certainty: Certainty, spelt: str) -> Hit:
    if certainty is not Certainty.PLAIN:
        return _fallback(place, spelt, certainty)
    if SOCKETS.search(about) or SOCKETS.search(place.name):
        rule = "SK1205"
        why = f"`{place.name}` passes messages through `{spelt}`: those who are connected to another process hear nothing"
    elif TASKS.search(about) or TASKS.search(place.name):
        rule = "SK1207"
        why = f"`{place.name}` is `{spelt}`: a message put there is seen by the process that put it and by no other"
    else:
        rule = "SK1212"
        why = f"`{place.name}` is kept in `{spelt}`, in so many words: each process has its own, and a restart empties it"
    return Hit(
        rule,
        place,
        why,
        f'"{spelt}"  ->  {REDIS}',
        SURE[certainty],
        evidence=(f"`{spelt}` at {place.path}:{place.line}",),
    )


def _fallback(place: Place, spelt: str, certainty: Certainty) -> Hit:
    how = "where nothing else is configured" if certainty is Certainty.DEFAULT else "in one of its branches"
    why = f"`{place.name}` falls back to `{spelt}` {how}: without the setting each process starts with a memory of its own, and nobody is told"
    return Hit(
        "SK1211",
        place,
        why,
        f'"{spelt}"  ->  {REDIS}, which fails where it is missing',
        SURE[certainty],
        evidence=("shared in another branch: only this one is reported",),
    )


def _database(place: Place, spelt: str) -> Hit:
    why = f"`{place.name}` is `{spelt}`, a database in the memory of the process: no other process sees its rows, no restart keeps them"
    return Hit("SK1213", place, why, f'{place.name} = os.environ["DATABASE_URL"]', Confidence.MEDIUM)
