"""A closer look at files that configure something: every setting and call, with the conditions it stands under.

The facts of a file keep what matters to state; a setting in a keyword argument five calls deep does not. The few files
whose facts speak of configuration are parsed once more, here.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from statekit.audit.deploy.found import Place
from statekit.audit.facts import FileFacts
from statekit.audit.reading.chains import spell

__all__ = ["Called", "Condition", "Module", "Setting", "callee_of", "followed", "look"]

SETTERS = {"update", "from_mapping", "setdefault", "set", "set_config"}
MADE = {"dict", "Settings"}


class Condition:
    """What has to hold, or not to hold, for a line to run; spelt out only when somebody asks."""

    def __init__(self, test: ast.expr | str, *, holds: bool) -> None:
        self._test = test
        self.holds = holds

    @cached_property
    def text(self) -> str:
        return self._test if isinstance(self._test, str) else ast.unparse(self._test)


class Setting(NamedTuple):
    """A name given a value, in any of the ways there are."""

    name: str
    base: str
    """What it is set on: ``app.config``, ``CACHES``, ``self``; '' for a plain name."""
    form: str
    """name · item · attribute · entry (of a dict that is spelt out) · keyword"""
    value: ast.expr
    line: int
    owner: str
    """The class or function it stands in."""
    local: bool
    """Whether that is a function."""
    under: tuple[Condition, ...]


class Called(NamedTuple):
    """A call, and the name its result is given."""

    callee: str
    """Through the imports of the file: ``flask_limiter.Limiter``."""
    spelt: str
    node: ast.Call
    name: str
    line: int
    """Of the assignment, where there is one."""
    owner: str
    local: bool
    under: tuple[Condition, ...]

    def keyword(self, *names: str) -> ast.expr | None:
        """The first of these arguments that was given."""
        return next((one.value for one in self.node.keywords if one.arg in names), None)

    @property
    def open_ended(self) -> bool:
        """Whether there are arguments nobody can see: ``**options``."""
        return any(one.arg is None for one in self.node.keywords)


class Module:
    """One file, looked at."""

    def __init__(self, facts: FileFacts, text: str) -> None:
        self.path = facts.path
        self.facts = facts
        self.text = text
        self.settings: list[Setting] = []
        self.calls: list[Called] = []

    def called(self, *names: str) -> Iterator[Called]:
        """Calls of what is called so, with or without its module."""
        for name in names:
            for one in self._by_name.get(name.rpartition(".")[2], ()):
                if "." not in name or one.callee == name:
                    yield one

    @cached_property
    def _by_name(self) -> dict[str, list[Called]]:
        found: dict[str, list[Called]] = {}
        for one in self.calls:
            found.setdefault(one.callee.rpartition(".")[2], []).append(one)
        return found

    def dotted(self, chain: str) -> str:
        """A chain with its first name followed to where it was imported from."""
        return followed(chain, self.facts)

    def place(self, one: Setting | Called, name: str = "") -> Place:
        """Where something of this file stands, under its own name or another."""
        return Place(self.path, one.line, name or one.name, one.owner)


def followed(chain: str, facts: FileFacts) -> str:
    """A chain with its first name followed to where its file imports it from."""
    head, dot, rest = chain.partition(".")
    return facts.imports.get(head, head) + dot + rest


def callee_of(node: ast.Call) -> str:
    """How a call spells what it calls; `spell` alone has ``x[]`` for ``x.get(…)``."""
    spelt = spell(node.func) or ""
    if isinstance(node.func, ast.Attribute) and spelt.endswith("[]"):
        return f"{spell(node.func.value) or ''}.{node.func.attr}"
    return spelt


def look(root: Path, facts: FileFacts) -> Module | None:
    """Parse a file again; None if it is gone or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = (root / facts.path).read_bytes()
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    module = Module(facts, source.decode("utf-8", "replace"))
    try:
        _Look(module).each(tree.body)
    except RecursionError:
        return None
    return module


class _Look:
    """Walks a module and notes settings and calls."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.under: tuple[Condition, ...] = ()
        self.owner = ""
        self.local = False
        self.named: dict[int, tuple[str, int]] = {}
        """Calls whose result is given a name."""

    def each(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.one(node)

    def one(self, node: ast.AST) -> None:
        kind = type(node)
        if kind in _LEAVES:
            return
        visit = _VISITS.get(kind)
        if visit:
            getattr(self, visit)(node)
        else:
            self._below(node)

    def _below(self, node: ast.AST) -> None:
        for name in node._fields:
            child = getattr(node, name, None)
            if type(child) is list:
                self.each(child)
            elif isinstance(child, ast.AST):
                self.one(child)

    # -- where we are -------------------------------------------------------------------------------------

    def _within(self, nodes: Iterable[ast.AST], *conditions: Condition) -> None:
        before, self.under = self.under, (*self.under, *conditions)
        self.each(nodes)
        self.under = before

    def _if(self, node: ast.If) -> None:
        self.one(node.test)
        self._within(node.body, Condition(node.test, holds=True))
        self._within(node.orelse, Condition(node.test, holds=False))

    def _try(self, node: ast.Try) -> None:
        self._within(node.body)
        for handler in node.handlers:
            self._within(handler.body, Condition("an exception", holds=True))
        self._within((*node.orelse, *node.finalbody))

    def _classdef(self, node: ast.ClassDef) -> None:
        self._inside(node, local=False)

    def _functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside(node, local=True)

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, *, local: bool) -> None:
        self.each(node.decorator_list)
        before = self.owner, self.local, self.under
        self.owner = f"{self.owner}.{node.name}".lstrip(".")
        self.local, self.under = local, () if local else self.under
        self.each(node.body)
        self.owner, self.local, self.under = before

    # -- settings -----------------------------------------------------------------------------------------

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._set(target, node.value, node.lineno)
        self.one(node.value)

    def _annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._set(node.target, node.value, node.lineno)
            self.one(node.value)

    def _set(self, target: ast.expr, value: ast.expr, line: int) -> None:
        name, base, form = _target(target)
        if name:
            self._note(name, base, form, value, line)
            self._name_calls(value, name, line)

    def _name_calls(self, value: ast.expr, name: str, line: int) -> None:
        """A call's result is given a name also through ``a or f()``, ``await f()`` and their like."""
        for one in _results(value):
            self.named[id(one)] = name, line

    def _note(self, name: str, base: str, form: str, value: ast.expr, line: int) -> None:
        self.module.settings.append(
            Setting(name, base, form, value, line, self.owner, self.local, self.under)
        )

    def _dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self._note(key.value, "", "entry", value, key.lineno)
        self.each((*filter(None, node.keys), *node.values))

    # -- calls --------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        spelt = callee_of(node)
        name, line = self.named.get(id(node), ("", node.lineno))
        self.module.calls.append(
            Called(self.module.dotted(spelt), spelt, node, name, line, self.owner, self.local, self.under)
        )
        for given in (*node.args, *(one.value for one in node.keywords)):
            for one in _results(given) if name and given.lineno == line else ():
                self.named.setdefault(id(one), (name, line))
        last = spelt.rpartition(".")[2]
        if last in SETTERS or spelt in MADE:
            self._set_by_call(spelt, node)
        self._below(node)

    def _set_by_call(self, spelt: str, node: ast.Call) -> None:
        base = spelt.rpartition(".")[0]
        for one in node.keywords:
            if one.arg:
                self._note(one.arg, base, "item" if base else "entry", one.value, one.value.lineno)
        if (
            len(node.args) == 2
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            self._note(node.args[0].value, base, "item", node.args[1], node.lineno)


def _target(node: ast.expr) -> tuple[str, str, str]:
    if isinstance(node, ast.Name):
        return node.id, "", "name"
    if isinstance(node, ast.Attribute):
        return node.attr, spell(node.value) or "", "attribute"
    if isinstance(node, ast.Subscript):
        return _key(node.slice), spell(node.value) or "", "item"
    return "", "", ""


def _key(node: ast.expr) -> str:
    """The key itself, or what the constant is called that holds it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return (spell(node) or "").rpartition(".")[2]


def _results(value: ast.expr) -> Iterator[ast.Call]:
    """The calls whose result an expression may be."""
    if isinstance(value, ast.Call):
        yield value
    elif isinstance(value, ast.Await | ast.NamedExpr):
        yield from _results(value.value)
    elif isinstance(value, ast.IfExp):
        yield from (*_results(value.body), *_results(value.orelse))
    elif isinstance(value, ast.BoolOp | ast.Dict):
        for one in value.values:
            yield from _results(one)


_VISITS: dict[type[ast.AST], str] = {
    ast.If: "_if",
    ast.Try: "_try",
    ast.ClassDef: "_classdef",
    ast.FunctionDef: "_functiondef",
    ast.AsyncFunctionDef: "_functiondef",
    ast.Assign: "_assign",
    ast.AnnAssign: "_annassign",
    ast.Dict: "_dict",
    ast.Call: "_call",
}
_LEAVES = frozenset(
    {
        ast.Constant,
        ast.Name,
        ast.Load,
        ast.Store,
        ast.Import,
        ast.ImportFrom,
        ast.Pass,
        ast.arguments,
        ast.alias,
        str,
        int,
    }
)
