"""What is looked at, called and imported: the part of the walk that binds nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from statekit.audit.facts import Binding, Class, Function, Write
from statekit.audit.reading.chains import CHANGING, root_of, spell
from statekit.audit.reading.looks import key_of
from statekit.audit.reading.scopes import Scope
from statekit.audit.reading.values import value_of

__all__ = ["Expressions"]

SPAWNING = {
    "Thread", "Timer", "Process", "create_task", "ensure_future", "start_new_thread", "spawn", "spawn_n", "PeriodicCallback",
    "start_background_task", "run_coroutine_threadsafe",
}  # fmt: skip
UNHEARD = {"print", "log", "logger", "logging", "LOGGER", "LOG"}
"""What is called so answers nothing: not worth a note."""


LEAVES = frozenset(
    kind
    for base in (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)
    for kind in base.__subclasses__()
) | {str, int, type(None)}
"""Nothing is inside of these."""


class Expressions:
    """Moves over the syntax; notes what is looked at, called and imported."""

    VISITS: ClassVar[dict[type, str]] = {}
    """Which method looks at which syntax."""

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}
        self.stars: list[str] = []
        self.classes: list[Class] = []
        self.bindings: list[Binding] = []
        self.module = Scope("<module>", "", None)
        self.main = Scope("<main>", "", None)
        self.scopes = [self.module, self.main]
        self._scope = self.module
        self._class = ""
        self._under = ""
        self._assigned = ""
        self._visit: dict[type, Callable[[Any], None]] = {
            kind: getattr(self, name) for kind, name in self.VISITS.items()
        }

    def read(self, tree: ast.Module) -> None:
        self._each(tree.body)

    def functions(self) -> tuple[Function, ...]:
        """What remains of each function; inner ones first, for they say what they take from outer ones."""
        return tuple(scope.closed() for scope in reversed(self.scopes))[::-1]

    # -- moving -----------------------------------------------------------------------------------------

    def _each(self, nodes: Iterable[ast.AST]) -> None:
        visits = self._visit
        for node in nodes:
            visit = visits.get(type(node))
            if visit:
                visit(node)
            elif isinstance(
                node, ast.AST
            ):  # the key of `**mapping` is none, a class pattern lists bare names
                self._inside(node)

    def _inside(self, node: ast.AST) -> None:
        visits = self._visit
        for name in node._fields:
            child = getattr(node, name, None)
            kind = type(child)
            visit = visits.get(kind)
            if visit:
                visit(child)
            elif isinstance(child, list):
                self._each(child)
            elif kind not in LEAVES and isinstance(child, ast.AST):
                self._inside(child)

    def _one(self, node: ast.AST | None) -> None:
        visit = self._visit.get(type(node))
        if visit:
            visit(node)
        elif node is not None:
            self._inside(node)

    # -- names ------------------------------------------------------------------------------------------

    def _import(self, node: ast.Import) -> None:
        for one in node.names:
            self.imports[one.asname or one.name.partition(".")[0]] = (
                one.name if one.asname else one.name.partition(".")[0]
            )

    def _import_from(self, node: ast.ImportFrom) -> None:
        origin = "." * node.level + (node.module or "")
        for one in node.names:
            if one.name == "*":
                self.stars.append(origin)
            else:
                joint = "" if origin.endswith(".") else "."
                self.imports[one.asname or one.name] = f"{origin}{joint}{one.name}"

    def _global(self, node: ast.Global) -> None:
        self._scope.globals.update(node.names)

    def _nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.outers.update(node.names)

    def _load(self, node: ast.AST) -> None:
        """A place that is looked at; what stands inside its brackets is looked at too."""
        chain = spell(node)
        if chain:
            self._scope.loads.add(chain)
        self._inner(node)

    def _inner(self, node: ast.AST) -> None:
        while True:
            kind = type(node)
            if kind is ast.Attribute or kind is ast.Starred or kind is ast.Await:
                node = node.value  # type: ignore[attr-defined]
            elif kind is ast.Subscript:
                self._one(node.slice)  # type: ignore[attr-defined]
                node = node.value  # type: ignore[attr-defined]
            elif kind is ast.Call:
                self._call(node)  # type: ignore[arg-type]
                return
            elif kind is ast.Name:
                return
            else:
                self._one(node)
                return

    # -- calls ------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        scope = self._scope
        func = node.func
        chain = spell(func)
        if type(func) is ast.Attribute and (
            func.attr in {"result", "gather"} or (func.attr in {"join", "cancel"} and not node.args)
        ):
            scope.marks.add("waits")
        if chain:
            scope.calls.setdefault(chain, node.lineno)
            scope.called_at.append((chain, node.lineno))
            if type(func) is ast.Attribute and func.attr in CHANGING:
                self._change(func, node)
            elif chain == "setattr" and len(node.args) == 3:
                self._set_attribute(node)
            elif chain == "next" and node.args and (counted := spell(node.args[0])):
                scope.writes.append(Write(counted, "next", node.lineno))
            elif chain.endswith(
                ".acquire"
            ):  # what follows is guarded, to the end of the function as far as one can see
                scope.guards.append((chain.removesuffix(".acquire"), node.lineno, 10**6))
            self._give(chain, node)
            if chain.rpartition(".")[2] in SPAWNING:
                self._spawn(chain, node)
        if type(func) is not ast.Name:
            self._inner(func)
        self._each(node.args)
        for keyword in node.keywords:
            self._one(keyword.value)

    def _spawn(self, chain: str, node: ast.Call) -> None:
        runs = next((one.value for one in node.keywords if one.arg in {"target", "func", "function"}), None)
        runs = runs or next((one for one in node.args if spell(one)), None)
        ran = (spell(runs) or "") if runs is not None else ""
        self._scope.spawns.append((chain, node.lineno, self._assigned, ran))

    def _statement(self, node: ast.Expr) -> None:
        """A call whose answer nobody looks at; `await` waits for the end of it, not for an answer."""
        call = node.value.value if type(node.value) is ast.Await else node.value
        chain = spell(call.func) if type(call) is ast.Call else None
        if chain and root_of(chain) not in UNHEARD:
            self._scope.dropped[chain] += 1
        self._one(node.value)

    def _change(self, func: ast.Attribute, node: ast.Call) -> None:
        target = spell(func.value)
        if target:
            key = key_of(node.args[0]) if node.args else ""
            value = value_of(node.args[-1], 1) if node.args else None
            self._scope.writes.append(Write(target, func.attr, node.lineno, key, value))

    def _set_attribute(self, node: ast.Call) -> None:
        target = spell(node.args[0])
        name = node.args[1]
        if target:
            said = str(name.value) if type(name) is ast.Constant else ""
            place = f"{target}.{said}" if said else f"{target}[]"
            self._scope.writes.append(
                Write(place, "=", node.lineno, spell(name) or "", value_of(node.args[2], 1))
            )

    def _give(self, callee: str, node: ast.Call) -> None:
        passed = self._scope.passed
        for at, given_away in enumerate(node.args):
            chain = spell(given_away)
            if chain:
                passed.add((callee, str(at), chain))
        for keyword in node.keywords:
            chain = spell(keyword.value)
            if chain:
                passed.add((callee, keyword.arg or "**", chain))
            elif keyword.arg in ("on_startup", "on_shutdown") and type(keyword.value) is ast.List:
                passed.update((callee, keyword.arg, spell(one) or "") for one in keyword.value.elts)
