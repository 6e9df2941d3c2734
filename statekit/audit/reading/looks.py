"""Small looks at a piece of syntax that need no scope."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from statekit.audit.reading.chains import spell

__all__ = ["asked", "defaults", "key_of", "names_in", "subscripted", "unparsed"]

HOW_MUCH = {ast.Lt, ast.LtE, ast.Gt, ast.GtE}
LOOKED_AT = {"len", "hasattr", "getattr", "bool"}


def defaults(args: ast.arguments) -> Iterable[tuple[str, ast.AST]]:
    positional = [*args.posonlyargs, *args.args]
    yield from zip(
        [one.arg for one in positional[len(positional) - len(args.defaults) :]], args.defaults, strict=True
    )
    yield from ((one.arg, its) for one, its in zip(args.kwonlyargs, args.kw_defaults, strict=True) if its)


def unparsed(node: ast.AST | None) -> str:
    return _briefly(node) or ast.unparse(node)[:120] if node is not None else ""


def _briefly(node: ast.AST) -> str:
    """What `ast.unparse` says of what annotations are mostly made of, at a tenth of its price; '' of all else."""
    if type(node) is ast.Name:
        return node.id
    if type(node) is ast.Constant:
        return (
            repr(node.value)[:120]
            if node.value is None or (type(node.value) is str and not node.kind)
            else ""
        )
    if type(node) is ast.BinOp and type(node.op) is ast.BitOr and type(node.right) is not ast.BinOp:
        left, right = _briefly(node.left), _briefly(node.right)
        return f"{left} | {right}"[:120] if left and right else ""
    return ""


def asked(node: ast.AST) -> list[str]:
    """The places a condition is about."""
    found: list[str] = []
    _ask(node, found)
    return found


def _ask(node: ast.AST, found: list[str]) -> None:
    if type(node) is ast.Compare:
        if HOW_MUCH.isdisjoint(map(type, node.ops)):  # how much is not whether
            _ask(node.left, found)
            for one in node.comparators:
                _ask(one, found)
    elif type(node) is ast.BoolOp:
        for one in node.values:
            _ask(one, found)
    elif type(node) is ast.UnaryOp:
        _ask(node.operand, found)
    elif type(node) is ast.NamedExpr:
        _ask(node.value, found)
    elif type(node) is ast.Call and node.args and spell(node.func) in LOOKED_AT:
        _ask(node.args[0], found)
    elif chain := spell(node):
        found.append(chain)


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
