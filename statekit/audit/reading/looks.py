"""Small looks at a piece of syntax that need no scope."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from statekit.audit.reading.chains import spell

__all__ = ["asked", "defaults", "key_of", "names_in", "subscripted", "unparsed"]


def defaults(args: ast.arguments) -> Iterable[tuple[str, ast.AST]]:
    positional = [*args.posonlyargs, *args.args]
    yield from zip(
        [one.arg for one in positional[len(positional) - len(args.defaults) :]], args.defaults, strict=True
    )
    yield from ((one.arg, its) for one, its in zip(args.kwonlyargs, args.kw_defaults, strict=True) if its)


def unparsed(node: ast.AST | None) -> str:
    return ast.unparse(node)[:120] if node is not None else ""


def asked(node: ast.AST) -> Iterable[str]:
    """The places a condition is about."""
    if isinstance(node, ast.BoolOp):
        for one in node.values:
            yield from asked(one)
    elif isinstance(node, ast.UnaryOp):
        yield from asked(node.operand)
    elif isinstance(node, ast.Compare):
        if not any(
            isinstance(one, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for one in node.ops
        ):  # how much is not whether
            for one in (node.left, *node.comparators):
                yield from asked(one)
    elif isinstance(node, ast.NamedExpr):
        yield from asked(node.value)
    elif (
        isinstance(node, ast.Call) and node.args and spell(node.func) in {"len", "hasattr", "getattr", "bool"}
    ):
        yield from asked(node.args[0])
    elif chain := spell(node):
        yield chain


def key_of(node: ast.AST) -> str:
    """The chain of a key, or the string itself in quotes."""
    if type(node) is ast.Constant:
        return f"'{str(node.value)[:60]}'"
    return spell(node) or ""


def names_in(node: ast.AST | None) -> Iterable[str]:
    for one in node.elts if isinstance(node, ast.Tuple) else [node]:
        if type(one) is ast.Name:
            yield one.id


def subscripted(node: ast.AST) -> Iterable[str]:
    for one in ast.walk(node):
        if type(one) is ast.Subscript or type(one) is ast.Attribute:
            chain = spell(one)
            if chain:
                yield chain
