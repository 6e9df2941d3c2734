"""How a place is spelt: from a piece of syntax to a chain, and what a chain's root is."""

from __future__ import annotations

import ast
import builtins
import re
from functools import lru_cache

__all__ = ["BUILTINS", "CHANGING", "each_of", "given", "last_of", "parts_of", "root_of", "spell"]

_BY_SITE = {"copyright", "credits", "exit", "help", "license", "quit"}
"""Only there where `site` was imported: so in a program, and not in the interpreters that read for it."""
BUILTINS = frozenset(vars(builtins)) - {"open", "globals", "setattr", "exec", "eval", "__import__"} | _BY_SITE
ACCESSORS = frozenset({"get", "setdefault", "values", "items", "pop", "popitem", "popleft"})
"""Methods of containers that hand out what is inside."""
CHANGING = frozenset(
    {
        "add", "append", "appendleft", "cache_clear", "clear", "difference_update", "discard", "extend",
        "extendleft", "insert", "intersection_update", "move_to_end", "pop", "popitem", "popleft", "put",
        "put_nowait", "remove", "reverse", "rotate", "setdefault", "sort", "subtract",
        "symmetric_difference_update", "update", "__setitem__", "__delitem__", "__setattr__",
    }
)  # fmt: skip
"""Methods that change the object they are called on."""
_THROUGH = frozenset(
    {"list", "tuple", "sorted", "reversed", "iter", "enumerate", "set", "zip", "next", "cast", "deepcopy"}
)

NAMED = {"app", "application", "current_app", "_app", "config", "extensions", "settings"}
_PARTS = re.compile(r"^(?:[^\[(]*::)?[^.\[(]+|\.[^.\[(]*|\[[^\]]*\]|\([^)]*\)")
_KEYED = re.compile(r"\[\w+\]")
_OF_APPS = re.compile(
    r"((?:^|\.)(?:app|application|current_app|_app)(?:\.(?:config|extensions|settings))?|^self\.settings)\[(\w+)\]"
)
"""``app["users"]`` and ``app.config["TITLE"]`` name things as attributes do."""


def spell(node: ast.AST) -> str | None:
    """The chain of an expression; None where it has none (a literal, an operation)."""
    kind: type = type(node)
    if kind is ast.Name:  # most are that, or an attribute of that
        return node.id  # type: ignore[attr-defined, no-any-return]
    if kind is ast.Attribute:
        inner = node.value  # type: ignore[attr-defined]
        if type(inner) is ast.Name and "__" not in node.attr:  # type: ignore[attr-defined]
            return f"{inner.id}.{node.attr}"  # type: ignore[attr-defined]
    elif kind is ast.Constant:
        return None
    return _spell(node)


def _spell(node: ast.AST) -> str | None:
    """From the end to the name it begins with."""
    tail: list[str] = []
    while True:
        kind = type(node)
        if kind is ast.Attribute:
            tail.append("." + node.attr)  # type: ignore[attr-defined]
            node = node.value  # type: ignore[attr-defined]
        elif kind is ast.Name:
            tail.append(node.id)  # type: ignore[attr-defined]
            return _tidy(tail)
        elif kind is ast.Call:
            node = node.func  # type: ignore[attr-defined]
            element = type(node) is ast.Attribute and node.attr in ACCESSORS
            tail.append("[]" if element else "()")
            if element:
                node = node.value  # type: ignore[attr-defined]
        elif kind is ast.Subscript:
            tail.append(_bracket(node))  # type: ignore[arg-type]
            node = node.value  # type: ignore[attr-defined]
        elif kind is ast.Await or kind is ast.NamedExpr or kind is ast.Starred:
            node = node.value  # type: ignore[attr-defined]
        else:
            return None


def _bracket(node: ast.Subscript) -> str:
    """``[]``; the key where it may be a name of an application's own; a slice is a copy."""
    inside, of = node.slice, node.value
    if type(inside) is ast.Slice:
        return ".copy()"
    if type(inside) is ast.Constant and type(inside.value) is str and inside.value.isidentifier():
        name = of.attr if type(of) is ast.Attribute else of.id if type(of) is ast.Name else ""
        if name in NAMED:
            return f"[{inside.value}]"
    return "[]"


def _tidy(tail: list[str]) -> str:
    tail.reverse()
    chain = "".join(tail)
    if "[" in chain and _KEYED.search(chain):
        chain = _KEYED.sub("[]", _OF_APPS.sub(r"\1.\2", chain))
    if "__" in chain or "type(" in chain or "super(" in chain:
        chain = chain.replace("self.__class__", "cls").replace("super()", "self").replace(".__dict__[]", "[]")
        if chain.startswith("type()."):
            chain = "cls" + chain[6:]
    return chain


def given(node: ast.AST) -> str | None:
    """What a variable stands for once it was assigned this: the chain, or that of one of two alternatives."""
    kind = type(node)
    if kind is ast.IfExp:
        return given(node.body) or given(node.orelse)  # type: ignore[attr-defined]
    if kind is ast.BoolOp:
        return next(filter(None, map(given, node.values)), None)  # type: ignore[attr-defined]
    if kind is ast.Call and type(node.func) is ast.Name and node.func.id in ("cast", "next"):  # type: ignore[attr-defined]
        return given(node.args[-1]) if node.args else None  # type: ignore[attr-defined]
    return spell(node)


def each_of(node: ast.AST) -> str | None:
    """What a loop's variable stands for."""
    while type(node) is ast.Call and type(node.func) is ast.Name and node.func.id in _THROUGH and node.args:
        node = node.args[0]
    chain = spell(node)
    if chain is None:
        return None
    return chain if chain.endswith("[]") else chain + "[]"


@lru_cache(1 << 17)
def root_of(chain: str) -> str:
    """The name a chain begins with."""
    if "::" in chain:  # a variable of an enclosing function, whose name may have dots
        outer, _, own = chain.rpartition("::")
        return f"{outer}::{root_of(own)}"
    return chain.partition(".")[0].partition("[")[0].partition("(")[0]


@lru_cache(1 << 16)
def parts_of(chain: str) -> tuple[str, ...]:
    """A chain taken apart: ``a.b[].c()`` is ``a``, ``.b``, ``[]``, ``.c``, ``()``."""
    if "[" in chain or "(" in chain or "::" in chain:
        return tuple(_PARTS.findall(chain))
    root, *names = chain.split(".")  # as most are
    return (root, *["." + name for name in names])


@lru_cache(1 << 17)
def last_of(chain: str) -> str:
    """What stands behind the last dot: ``c()``."""
    return chain.rpartition(".")[2]
