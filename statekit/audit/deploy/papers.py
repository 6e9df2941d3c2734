"""Deployment files read as text, those that are about processes: gunicorn, Procfile, Dockerfile, units, ini files."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from statekit.audit.deploy.commands import ASSIGNED, amount, asked_by
from statekit.audit.deploy.found import Hit, Place
from statekit.audit.deploy.running import Said
from statekit.audit.model import Confidence

__all__ = ["READERS", "Paper"]

BECAUSE = re.compile(
    r"\b(state(ful)?|in[- ]memory|(kept|held|stored|lives?|live|sits?) in (the )?(process|memory)|memory (store|cache|state|storage|sessions?)"
    r"|sessions?|cache[sd]?|caching|singletons?|web ?sockets?|socket\.?io|sse|scheduler|scheduled|cron|(in|background)[- ]jobs?"
    r"|locks?|sqlite|shar(e|ed|ing)|globals?|rate.?limit\w*|counters?|duplicate\w*|twice|(process|multi)[- ]?safe|per.process|single.process)\b",
    re.IGNORECASE,
)
"""Words of a comment that explains why there is only one."""


@dataclass
class Paper:
    """One file, what it says and what is wrong with it."""

    path: str
    text: str
    said: list[Said] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)

    def say(self, what: str, number: int | None, line: int, text: str, name: str = "") -> None:
        """Note a statement; a count of one with a comment that explains it is a finding too."""
        if number is None or number < 1:
            return
        self.said.append(Said(what, number, self.path, line, " ".join(text.split())[:80]))
        if number == 1 and what in ("workers", "pods"):
            reason = self._because(line)
            if reason:
                self._one(Place(self.path, line, name or what), reason)

    def runs(self, command: str, line: int, name: str) -> None:
        """Note what a command asks for."""
        for one in asked_by(command):
            self.say(one.what, one.number, line, one.text, name)

    def _because(self, line: int) -> str:
        """The comment on a line or in the lines right above it, if it speaks of state."""
        lines = self.text.splitlines()
        found = [_comment(lines[line - 1])] if line <= len(lines) else []
        for above in reversed(lines[max(0, line - 4) : line - 1]):
            if not above.strip().startswith(("#", "//", ";")):
                break
            found.insert(0, above.strip().lstrip("#/; "))
        said = " ".join(filter(None, found))
        return said if BECAUSE.search(said) else ""

    def _one(self, place: Place, reason: str) -> None:
        why = f'`{place.name}` is held at one, and the comment beside it says why ("{reason[:120]}"): the app cannot grow, and during a restart nobody answers'
        self.hits.append(
            Hit(
                "SK1210",
                place,
                why,
                f"# share what the comment names, then raise `{place.name}`",
                Confidence.HIGH,
            )
        )


def _comment(line: str) -> str:
    match = re.search(r"(?:^|\s)(?:#|//|;)\s*(.*)$", line)
    return match[1] if match else ""


def lines_of(paper: Paper) -> Iterator[tuple[int, str]]:
    """Lines without comments and with what continues on the next put together."""
    start, whole = 0, ""
    for number, line in enumerate(paper.text.splitlines(), 1):
        if line.strip().startswith("#"):
            continue
        start = start or number
        if line.rstrip().endswith("\\"):
            whole += line.rstrip()[:-1] + " "
            continue
        yield start, whole + line
        start, whole = 0, ""
    if whole:
        yield start, whole


# -- gunicorn's configuration -----------------------------------------------------------------------------------


def gunicorn(paper: Paper) -> None:
    """``workers``, ``threads``, ``preload_app`` and hooks of a configuration written in Python."""
    try:
        tree = ast.parse(paper.text)
    except (SyntaxError, ValueError, RecursionError):
        return
    known: dict[str, ast.expr] = {}
    for node in _top(tree.body):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = node.value
            _gunicorn_setting(paper, node.targets[0].id, node, known)
        elif isinstance(node, ast.FunctionDef) and node.name in ("post_fork", "post_worker_init"):
            paper.say("forked", 1, node.lineno, f"def {node.name}")
    if "prometheus_multiproc_dir" in paper.text.lower():
        paper.say("metrics", 1, 1, "PROMETHEUS_MULTIPROC_DIR")


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under its conditions too."""
    for node in body:
        yield node
        for below in (
            ("body", "orelse", "handlers", "finalbody") if isinstance(node, ast.If | ast.Try) else ()
        ):
            for one in getattr(node, below, []):
                yield from _top(one.body if isinstance(one, ast.ExceptHandler) else [one])


def _gunicorn_setting(paper: Paper, name: str, node: ast.Assign, known: dict[str, ast.expr]) -> None:
    if name in ("workers", "threads"):
        paper.say(name, counted(node.value, known), node.lineno, ast.unparse(node), name)
    elif name == "preload_app" and isinstance(node.value, ast.Constant) and node.value.value is True:
        paper.say("preload", 1, node.lineno, "preload_app = True", "preload_app")


def counted(node: ast.expr, known: dict[str, ast.expr], steps: int = 6) -> int | None:
    """How many an expression says, at least: the default of a variable, two where it is one per core."""
    if isinstance(node, ast.Constant):
        return amount(str(node.value))
    if isinstance(node, ast.Call) and "cpu_count" in ast.unparse(node.func):
        return 2
    parts = _parts(node, known) if steps else []
    return max((one for one in (counted(part, known, steps - 1) for part in parts) if one), default=None)


def _parts(node: ast.expr, known: dict[str, ast.expr]) -> list[ast.expr]:
    """What the number may come from; of a call, its last argument: ``int(os.environ.get("N", 4))``."""
    if isinstance(node, ast.Name):
        return [known[node.id]] if node.id in known else []
    if isinstance(node, ast.Call):
        return node.args if ast.unparse(node.func) in ("max", "min") else node.args[-1:]
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.BoolOp):
        return node.values
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else []


# -- command lines in files ---------------------------------------------------------------------------------------


def procfile(paper: Paper) -> None:
    """``web: gunicorn -w 4 app:app``."""
    for number, line in lines_of(paper):
        name, colon, command = line.partition(":")
        if colon and re.fullmatch(r"[\w-]+", name.strip()):
            paper.runs(command, number, name.strip())


def docker(paper: Paper) -> None:
    """CMD and ENTRYPOINT, and ENV for what a server reads from there."""
    for number, line in lines_of(paper):
        word, _, rest = line.strip().partition(" ")
        word = word.upper()
        if word in ("CMD", "ENTRYPOINT"):
            paper.runs(_exec_form(rest), number, word)
        elif word in ("ENV", "ARG"):
            _environment(paper, number, rest)


def _exec_form(rest: str) -> str:
    """``["gunicorn", "-w", "4"]`` as a line."""
    rest = rest.strip()
    if not rest.startswith("["):
        return rest
    return " ".join(f"'{one}'" if " " in one else one for one in re.findall(r'"((?:[^"\\]|\\.)*)"', rest))


def _environment(paper: Paper, number: int, rest: str) -> None:
    for name, value in re.findall(r"(\w+)[= ]\s*(\"[^\"]*\"|'[^']*'|\S+)", rest):
        environment(paper, number, name, value)


def environment(paper: Paper, number: int, name: str, value: str) -> None:
    """A variable that a server reads how many from."""
    if ASSIGNED.match(name):
        paper.say("workers", amount(value), number, f"{name}={value}", name)
    elif name == "GUNICORN_CMD_ARGS":
        paper.runs("gunicorn " + value.strip("\"'"), number, name)
    elif name.lower() == "prometheus_multiproc_dir":
        paper.say("metrics", 1, number, name)


def shell(paper: Paper) -> None:
    """A script that starts a server, or exports what it reads."""
    for number, line in lines_of(paper):
        code = re.sub(r"\s#\s.*$", "", line)
        exported = re.match(r"\s*(?:export\s+)?(\w+)=(\S+)\s*$", code)
        if exported:
            environment(paper, number, exported[1], exported[2])
        else:
            paper.runs(code, number, "workers")


def systemd(paper: Paper) -> None:
    """ExecStart and Environment of a unit."""
    for number, line in lines_of(paper):
        name, _, value = line.strip().partition("=")
        if name == "ExecStart":
            paper.runs(value.lstrip("-@:+!"), number, name)
        elif name == "Environment":
            _environment(paper, number, value.strip('"'))


def supervisor(paper: Paper) -> None:
    """``numprocs`` of programs that serve, and their commands."""
    for section, options, where in _sections(paper):
        command = options.get("command", "")
        serves = bool(
            re.search(
                r"gunicorn|uvicorn|hypercorn|granian|uwsgi|daphne|waitress|tornado|aiohttp|sanic",
                command + section,
            )
        )
        paper.runs(command, where.get("command", 1), "command")
        if serves and "numprocs" in options:
            paper.say(
                "workers",
                amount(options["numprocs"]),
                where["numprocs"],
                f"numprocs = {options['numprocs']}",
                "numprocs",
            )


def uwsgi(paper: Paper) -> None:
    """Processes and threads; uWSGI imports before it forks unless it is told to be lazy."""
    for _, options, where in _sections(paper):
        for key, what in (("processes", "workers"), ("workers", "workers"), ("threads", "threads")):
            if key in options:
                paper.say(
                    what,
                    amount(options[key].replace("%k", "nproc")),
                    where[key],
                    f"{key} = {options[key]}",
                    key,
                )
        lazy = any(
            options.get(key, "").lower() in ("true", "1", "yes", "on") for key in ("lazy-apps", "lazy")
        )
        many = next((key for key in ("processes", "workers") if (amount(options.get(key, "")) or 1) > 1), "")
        if many and not lazy:
            paper.say("preload", 1, where[many], f"{many} = {options[many]}, without lazy-apps", many)


def _sections(paper: Paper) -> Iterator[tuple[str, dict[str, str], dict[str, int]]]:
    parser = configparser.RawConfigParser(
        strict=False, allow_no_value=True, inline_comment_prefixes=(";",), comment_prefixes=("#", ";")
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(paper.text)
    except configparser.Error:
        return
    for section in parser.sections():
        options = {key: (value or "true").strip() for key, value in parser.items(section)}
        yield section, options, _where(paper, section, options)


def _where(paper: Paper, section: str, options: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    inside = False
    for number, line in enumerate(paper.text.splitlines(), 1):
        if line.strip().startswith("["):
            inside = line.strip() == f"[{section}]"
        key = re.split(r"[=:]", line, maxsplit=1)[0].strip()
        if inside and key in options:
            found.setdefault(key, number)
    return {key: found.get(key, 1) for key in options}


# -- platforms ----------------------------------------------------------------------------------------------------


def toml(paper: Paper) -> None:
    """fly.toml: machines and processes; railway's start command."""
    try:
        data = tomllib.loads(paper.text)
    except tomllib.TOMLDecodeError:
        return
    for command in (*_strings(data.get("processes")), *_strings(data.get("deploy"))):
        paper.runs(command, _line(paper, command), "processes")
    for key in ("min_machines_running", "numReplicas", "count"):
        for value in _numbers(data, key):
            paper.say("pods", value, _line(paper, key), f"{key} = {value}", key)
    for name, value in (data.get("env") or {}).items() if isinstance(data.get("env"), dict) else ():
        environment(paper, _line(paper, name), name, str(value))


def _strings(table: Any) -> list[str]:
    return [one for one in table.values() if isinstance(one, str)] if isinstance(table, dict) else []


def _numbers(table: Any, key: str) -> Iterator[int]:
    tables = table if isinstance(table, list) else [table]
    for one in tables:
        if isinstance(one, dict):
            if isinstance(one.get(key), int) and not isinstance(one.get(key), bool):
                yield one[key]
            for below in one.values():
                yield from _numbers(below, key)


def _line(paper: Paper, text: str) -> int:
    lines = paper.text.splitlines()
    return next(
        (number for number, line in enumerate(lines, 1) if text in line and not line.strip().startswith("#")),
        1,
    )


READERS = {
    "gunicorn": gunicorn,
    "procfile": procfile,
    "docker": docker,
    "shell": shell,
    "systemd": systemd,
    "supervisor": supervisor,
    "uwsgi": uwsgi,
    "toml": toml,
}
