"""What is kept of an expression that something is set to."""

from __future__ import annotations

import ast
from collections.abc import Callable

from statekit.audit.facts import Value
from statekit.audit.reading.chains import spell

__all__ = ["OTHER", "holdable", "value_of"]

OTHER = Value("other")
NONE = Value("none")
MOST = 12
"""Elements kept of a literal: settings have about that many, tables of constants any number."""
HOLDABLE = {
    ast.Constant, ast.Dict, ast.List, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.IfExp, ast.BoolOp,
}  # fmt: skip


def value_of(node: ast.AST | None, depth: int = 3) -> Value:
    """Describe an expression, its parts as far down as `depth`."""
    build = _BUILD.get(type(node))
    return build(node, depth) if build else OTHER


def holdable(node: ast.AST) -> bool:
    """Whether it makes something of its own, which a variable may hold."""
    while type(node) is ast.Await or type(node) is ast.NamedExpr:
        node = node.value
    return type(node) in HOLDABLE or (type(node) is ast.Call and spell(node.func) is not None)


def _constant(node: ast.Constant, _: int) -> Value:
    return NONE if node.value is None else Value("const", str(node.value)[:200])


def _chain(node: ast.AST, _: int) -> Value:
    chain = spell(node)
    return Value("chain", chain) if chain else OTHER


def _call(node: ast.Call, depth: int) -> Value:
    callee = spell(node.func)
    if callee is None:
        return OTHER
    if not depth:
        return Value("call", callee)
    parts = tuple([value_of(one, depth - 1) for one in node.args[:MOST]])
    named = tuple([(one.arg or "**", value_of(one.value, depth - 1)) for one in node.keywords[:MOST]])
    return Value("call", callee, parts, named, len(node.args) + len(node.keywords))


def _dict(node: ast.Dict, depth: int) -> Value:
    named = [
        (str(key.value), value_of(item, depth - 1))
        for key, item in zip(node.keys[:MOST], node.values[:MOST], strict=False)
        if depth and type(key) is ast.Constant
    ]
    return Value("dict", "", (), tuple(named), len(node.keys))


def _sequence(node: ast.List | ast.Set | ast.Tuple, depth: int) -> Value:
    kind = type(node).__name__.lower()
    parts = tuple([value_of(one, depth - 1) for one in node.elts[:MOST]]) if depth else ()
    return Value(kind, "", parts, (), len(node.elts))


def _comprehension(node: ast.AST, _: int) -> Value:
    return Value("comprehension", {"DictComp": "dict", "SetComp": "set"}.get(type(node).__name__, "list"))


def _either(*nodes: ast.AST) -> Callable[[int], Value]:
    return lambda depth: Value("either", "", tuple([value_of(one, depth) for one in nodes]))


_BUILD: dict[type | None, Callable[..., Value]] = {
    ast.Constant: _constant,
    ast.Name: lambda node, _depth: Value("chain", node.id),
    ast.Attribute: _chain,
    ast.Subscript: _chain,
    ast.Call: _call,
    ast.Dict: _dict,
    ast.List: _sequence,
    ast.Set: _sequence,
    ast.Tuple: _sequence,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.GeneratorExp: lambda _node, _depth: OTHER,
    ast.Lambda: lambda _node, _depth: Value("lambda"),
    ast.JoinedStr: lambda _node, _depth: Value("text"),
    ast.IfExp: lambda node, depth: _either(node.body, node.orelse)(depth),
    ast.BoolOp: lambda node, depth: _either(*node.values)(depth),
    ast.Await: lambda node, depth: value_of(node.value, depth),
    ast.NamedExpr: lambda node, depth: value_of(node.value, depth),
}
