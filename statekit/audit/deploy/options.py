"""What a setting may be once the app runs: its alternatives, which are for development, which only a fallback."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from statekit.audit.deploy.look import Condition, Module, Setting
from statekit.audit.reading.chains import spell

__all__ = ["Certainty", "Option", "branch_of", "final", "local_ones", "options", "text_of"]

DEVELOPING = re.compile(
    r"\b(\w*DEBUG\w*|\w*TEST(ING|S|_MODE)?|PYTEST\w*|(IS_|IN_|RUNNING_)?(DEV|DEVELOPMENT|LOCAL)(_MODE|_ENV)?|CI)\b"
    r"|['\"](dev|development|local|test|testing|debug|ci)['\"]",
    re.IGNORECASE,
)
PRODUCTION = re.compile(
    r"\b(\w*PROD(UCTION)?\w*|STAGING|LIVE)\b|['\"](prod|production|staging|live)['\"]", re.IGNORECASE
)
NEGATED = re.compile(r"^\s*not\b|!=|\bis not\b|\bnot in\b")
GETTERS = {
    "getenv",
    "get",
    "env",
    "str",
    "config",
    "get_env",
    "getenv_str",
    "get_env_str",
    "environ",
    "cache",
    "cache_url",
    "get_env_var",
    "get_config",
    "getattr",
}
WRAPPERS = {
    "str",
    "cast",
    "copy",
    "deepcopy",
    "SecretStr",
    "Secret",
    "URL",
    "lower",
    "strip",
    "dict",
    "Field",
    "field",
    "mark_safe",
}
TRAITS = {"Unicode", "Bytes", "Any", "CUnicode", "CBytes"}
"""Declared settings of traitlets: what is given is the default."""
DEFAULTS = {"default", "default_value", "fallback", "load_default"}
STEPS = 5


class Certainty(IntEnum):
    """How an alternative comes to be the one that counts."""

    CHOICE = 0
    """One branch of several."""
    DEFAULT = 1
    """What is taken where nothing is configured."""
    PLAIN = 2
    """The only one there is."""


class Option(NamedTuple):
    """One alternative: what it is, and where it is spelt."""

    node: ast.expr | None
    """None for what the environment says."""
    certainty: Certainty
    setting: Setting | None
    """The setting whose value it is spelt in; None: the one that was asked about."""


def text_of(node: ast.AST | None) -> str:
    """A string constant, else ''."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def branch_of(conditions: Iterable[Condition]) -> str:
    """`dev` where only a developer's or a test's run gets, `choice` under any other condition, '' under none."""
    said = ""
    for one in conditions:
        if one.text.startswith("__name__"):
            continue
        holds = one.holds != bool(NEGATED.search(one.text))
        production, developing = PRODUCTION.search(one.text), DEVELOPING.search(one.text)
        if (developing and holds and not production) or (production and not holds):
            return "dev"
        if not developing and not production:
            said = "choice"
    return said


def final(settings: Iterable[Setting]) -> list[tuple[Setting, Certainty]]:
    """Of all that a name is set to, what may be left at the end, in order."""
    left: list[tuple[Setting, Certainty]] = []
    for one in settings:
        branch = branch_of(one.under)
        if branch == "dev":
            continue
        if not branch:
            left = [(one, Certainty.PLAIN)]
        else:
            left = [(it, Certainty.DEFAULT if was is Certainty.PLAIN else was) for it, was in left]
            left.append((one, Certainty.CHOICE))
    return left


def options(
    module: Module, value: ast.expr, within: Setting | None = None, steps: int = STEPS
) -> list[Option]:
    """Every alternative of an expression; what only development takes is left out."""
    return list(_options(module, value, within, Certainty.PLAIN, steps))


def _options(
    module: Module, node: ast.expr, at: Setting | None, sure: Certainty, steps: int
) -> Iterator[Option]:
    turn = _TURNS.get(type(node))
    if turn and steps:
        yield from turn(module, node, at, sure, steps - 1)
    else:
        yield Option(node, sure, at)


def _conditional(
    module: Module, node: ast.IfExp, at: Setting | None, sure: Certainty, steps: int
) -> Iterator[Option]:
    sides = [(node.body, Condition(node.test, holds=True)), (node.orelse, Condition(node.test, holds=False))]
    kept = [(one, branch_of([condition])) for one, condition in sides if branch_of([condition]) != "dev"]
    for one, branch in kept:
        yield from _options(module, one, at, Certainty.CHOICE if branch else sure, steps)


def _either(
    module: Module, node: ast.BoolOp, at: Setting | None, sure: Certainty, steps: int
) -> Iterator[Option]:
    """``configured or default``: the last is taken where the others are empty."""
    fallback = min(sure, Certainty.DEFAULT) if isinstance(node.op, ast.Or) else Certainty.CHOICE
    for one in node.values:
        yield from _options(module, one, at, fallback, steps)


def _named(
    module: Module, node: ast.Name, at: Setting | None, sure: Certainty, steps: int
) -> Iterator[Option]:
    found = final(
        one for one in module.settings if one.name == node.id and one.form == "name" and _visible(one, at)
    )
    for setting, certainty in found:
        yield from _options(module, setting.value, setting, min(sure, certainty), steps)
    if not found:
        yield Option(node, sure, at)


def _visible(setting: Setting, at: Setting | None) -> bool:
    if not setting.local:
        return setting.owner == "" or (at is not None and at.owner == setting.owner)
    return at is not None and at.owner.startswith(setting.owner)


def _called(
    module: Module, node: ast.Call, at: Setting | None, sure: Certainty, steps: int
) -> Iterator[Option]:
    last = (spell(node.func) or "").rstrip("[]").rpartition(".")[2]
    if isinstance(node.func, ast.Attribute):
        last = node.func.attr
    default = next((one.value for one in node.keywords if one.arg in DEFAULTS), None)
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call) and last == "tag":
        yield from _options(
            module, node.func.value, at, sure, steps
        )  # traitlets: Unicode(…).tag(config=True)
        return
    if default is None and len(node.args) > 1 and last in GETTERS:
        default = node.args[-1]
    if default is not None:
        yield Option(None, sure, at)
        yield from _options(module, default, at, min(sure, Certainty.DEFAULT), steps)
    elif node.args and last in TRAITS:
        yield from _options(module, node.args[0], at, min(sure, Certainty.DEFAULT), steps)
    elif node.args and last in WRAPPERS:
        yield from _options(module, node.args[0], at, sure, steps)
    else:
        yield Option(node, sure, at)


_TURNS: dict[type[ast.expr], Callable[..., Iterator[Option]]] = {
    ast.IfExp: _conditional,
    ast.BoolOp: _either,
    ast.Name: _named,
    ast.Call: _called,
}


def local_ones(found: list[Option], is_local: Callable[[ast.expr], bool]) -> list[Option]:
    """The alternatives that keep things in the process; certain only if there is no other."""
    local = [one for one in found if one.node is not None and is_local(one.node)]
    if len(local) == len(found):
        return local
    return [one._replace(certainty=min(one.certainty, Certainty.DEFAULT)) for one in local]
