"""What is bound, set, changed and deleted."""

from __future__ import annotations

import ast

from statekit.audit.facts import Binding, Value
from statekit.audit.reading.chains import given, root_of, spell
from statekit.audit.reading.expressions import Expressions
from statekit.audit.reading.looks import key_of, unparsed
from statekit.audit.reading.scopes import HELD, Scope
from statekit.audit.reading.values import holdable, value_of

__all__ = ["Assignments"]


class Assignments(Expressions):
    """Notes bindings of modules and classes, and writes of functions."""

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value, node.lineno)
        self._assigned = node.targets[0]
        self._one(node.value)
        self._assigned = None

    def _annotated(self, node: ast.AnnAssign) -> None:
        annotation = spell(node.annotation) or unparsed(node.annotation)
        self._bind(node.target, node.value, node.lineno, annotation)
        self._one(node.value)

    def _bind(self, target: ast.AST, value: ast.AST | None, line: int, annotation: str = "") -> None:
        kind = type(target)
        if kind is ast.Name:
            self._bind_name(target.id, value, line, annotation)  # type: ignore[attr-defined]
        elif kind is ast.Tuple or kind is ast.List:
            self._unpack(target, value, line)  # type: ignore[arg-type]
        elif kind is ast.Starred:
            self._bind(target.value, None, line)  # type: ignore[attr-defined]
        elif value is not None:
            self._put(target, "=", line, value)

    def _unpack(self, target: ast.Tuple | ast.List, value: ast.AST | None, line: int) -> None:
        same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
        values = value.elts if same else [None] * len(target.elts)  # type: ignore[union-attr]
        for one, its in zip(target.elts, values, strict=True):
            self._bind(one, its, line)

    def _bind_name(self, name: str, value: ast.AST | None, line: int, annotation: str) -> None:
        scope = self._scope
        if self._class:
            self._bound(self._class, name, line, value, annotation)
        elif scope is self.module or scope is self.main:
            self._bound("", name, line, value, annotation)
        elif name in scope.globals:
            scope.writes.append((name, "=", line, "", value, HELD))
        else:
            self._set_local(scope, name, value, line)

    def _set_local(self, scope: Scope, name: str, value: ast.AST | None, line: int) -> None:
        scope.locals.add(name)
        if value is None:
            return
        chain = given(value)
        if chain and root_of(chain) != name:
            scope.aliases.setdefault(name, chain)
        if (name not in scope.holds or _taken_out(scope.holds[name][1])) and holdable(value):
            scope.holds[name] = (line, value)
        if name in scope.outers:
            scope.writes.append((name, "=", line, "", value, HELD))

    def _bound(self, owner: str, name: str, line: int, value: ast.AST | None, annotation: str) -> None:
        said = value_of(value) if value is not None else Value("unset")
        self.bindings.append(Binding(owner, name, line, said, annotation, self._under))

    def _put(self, target: ast.AST, op: str, line: int, value: ast.AST | None) -> None:
        """Set, change or delete an attribute or an item."""
        key = ""
        chain = spell(target)
        if type(target) is ast.Subscript and not (chain and chain.endswith(f".{key_of(target.slice)[1:-1]}")):
            self._one(target.slice)
            key = key_of(target.slice)
            chain = spell(target.value)
            op = "[]=" if op == "=" else op
            if chain == "globals()" and key:
                chain, op = key.strip("'"), "="
                self._scope.globals.add(chain)
        if chain:
            op = "+=" if op == "[]=" and _counts(value, chain) else op
            self._scope.writes.append((chain, op, line, key, value, HELD))
        self._inner(target)

    def _augmented(self, node: ast.AugAssign) -> None:
        target = node.target
        if type(target) is ast.Name:
            scope = self._scope
            if target.id in scope.globals or target.id in scope.outers or scope is self.module:
                scope.writes.append((target.id, "+=", node.lineno, "", node.value, 1))
            else:
                scope.locals.add(target.id)
        else:
            self._put(target, "+=", node.lineno, node.value)
        self._one(node.value)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if type(target) is not ast.Name:
                self._put(target, "del", node.lineno, None)
            elif target.id in self._scope.globals:
                self._scope.writes.append((target.id, "del", node.lineno, "", None, 0))

    def _walrus(self, node: ast.NamedExpr) -> None:
        self._bind(node.target, node.value, node.lineno)
        self._one(node.value)


def _counts(value: ast.AST | None, chain: str) -> bool:
    """Whether what is set is made of what was there: ``hits[ip] = hits.get(ip, 0) + 1``."""
    if not isinstance(value, ast.BinOp):
        return False
    return any((spell(one) or "").startswith(chain) for one in (value.left, value.right))


def _taken_out(node: ast.AST) -> bool:
    """Whether what a variable holds was looked up: then what is made in its place says more."""
    return value_of(node, 0).text.endswith((".get", ".pop"))
