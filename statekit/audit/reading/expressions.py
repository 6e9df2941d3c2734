"""What is looked at, called and imported: the part of the walk that binds nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from statekit.audit.facts import Binding, Class, Function
from statekit.audit.reading.chains import CHANGING, spell
from statekit.audit.reading.looks import key_of
from statekit.audit.reading.scopes import Scope

__all__ = ["Expressions"]

SPAWNING = {
    "Thread", "Timer", "Process", "create_task", "ensure_future", "start_new_thread", "spawn", "spawn_n", "PeriodicCallback",
    "start_background_task", "run_coroutine_threadsafe",
}  # fmt: skip
WAITING = {"result", "gather", "join", "cancel"}
NOTED = CHANGING | SPAWNING | WAITING | {"setattr", "next", "acquire"}
"""Calls of these names say more than that something is called."""


def _kinds(base: type[ast.AST]) -> Iterator[type[ast.AST]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


INSIDE: dict[type, tuple[str, ...]] = {
    kind: tuple([name for name in kind._fields if name not in {"ctx", "op", "ops"}])
    for kind in _kinds(ast.AST)
}
"""Where there may be something inside of a piece of syntax."""
SPELT = {ast.Name, ast.Attribute, ast.Subscript}
"""What gives its chain when it is visited."""


class Expressions:
    """Moves over the syntax; notes what is looked at, called and imported."""

    VISITS: ClassVar[dict[type, str]] = {}
    """Which method looks at which syntax."""
    _visits: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {}
    """The same for all there is, as plain functions: methods of an object that keeps them would keep it too."""

    def __init_subclass__(cls) -> None:
        everything: dict[type, str] = {**dict.fromkeys(INSIDE, "_inside"), **cls.VISITS, list: "_each"}
        plain: tuple[type, ...] = (str, int, bool, type(None))
        nothing = dict.fromkeys(plain, "_nothing")
        cls._visits = {kind: getattr(cls, name, cls._inside) for kind, name in (everything | nothing).items()}

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
        self._assigned: ast.AST | None = None
        """What the value that is looked at is assigned to."""

    def read(self, tree: ast.Module) -> None:
        self._each(tree.body)

    def functions(self) -> tuple[Function, ...]:
        """What remains of each function; inner ones first, for they say what they take from outer ones."""
        return tuple([scope.closed() for scope in reversed(self.scopes)][::-1])

    # -- moving -----------------------------------------------------------------------------------------

    def _each(self, nodes: Iterable[ast.AST | None]) -> None:
        visits = self._visits
        for node in nodes:
            visits[type(node)](self, node)

    def _one(self, node: ast.AST | None) -> None:
        self._visits[type(node)](self, node)

    def _inside(self, node: ast.AST) -> None:
        visits = self._visits
        for name in INSIDE[type(node)]:
            child = getattr(node, name)
            visits[type(child)](self, child)

    def _nothing(self, node: object) -> None:
        """The key of `**mapping` is none, a class pattern lists bare names."""

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

    def _name(self, node: ast.Name) -> str:
        self._scope.loads.add(node.id)
        return node.id

    def _load(self, node: ast.Attribute | ast.Subscript) -> str | None:
        """A place that is looked at; what stands inside its brackets is looked at too."""
        chain = spell(node)
        if chain:
            self._scope.loads.add(chain)
        if type(node) is ast.Subscript or type(node.value) is not ast.Name:
            self._inner(node)
        return chain

    def _inner(self, node: ast.AST) -> None:
        while True:
            kind = type(node)
            if kind is ast.Attribute or kind is ast.Starred or kind is ast.Await:
                node = node.value  # type: ignore[attr-defined]
            elif kind is ast.Name:
                return
            elif kind is ast.Subscript:
                self._one(node.slice)  # type: ignore[attr-defined]
                node = node.value  # type: ignore[attr-defined]
            else:
                self._one(node)
                return

    # -- calls ------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> str | None:
        """Note what is called, and with what; the chain of it."""
        func = node.func
        chain = spell(func)
        if chain:
            scope, line = self._scope, node.lineno
            scope.calls.setdefault(chain, line)
            scope.called_at.append((chain, line))
        if type(func) is ast.Attribute:
            if func.attr in NOTED:
                self._noted(func.attr, chain, node)
            self._inner(func.value)
        elif type(func) is ast.Name:
            if chain in NOTED:
                self._noted(chain, chain, node)
        else:
            if chain:
                self._noted(chain.rpartition(".")[2], chain, node)
            self._inner(func)
        if node.args or node.keywords:
            self._given(chain, node)
        return chain

    def _given(self, callee: str | None, node: ast.Call) -> None:
        """Look at the arguments, and note which of them are places."""
        visits, passed = self._visits, self._scope.passed
        at: str | int
        for at, given in enumerate(node.args):
            kind = type(given)
            chain = visits[kind](self, given)
            if kind not in SPELT:
                chain = spell(given)
            if chain and callee:
                passed.append((callee, at, chain))
        for keyword in node.keywords:
            given = keyword.value
            kind = type(given)
            chain = visits[kind](self, given)
            if kind not in SPELT:
                chain = spell(given)
            if chain and callee:
                passed.append((callee, keyword.arg or "**", chain))
            elif callee and keyword.arg in ("on_startup", "on_shutdown") and kind is ast.List:
                passed.extend((callee, keyword.arg, spell(one) or "") for one in given.elts)  # type: ignore[attr-defined]

    def _noted(self, name: str, chain: str | None, node: ast.Call) -> None:
        """What a call of that last name says besides."""
        func, scope = node.func, self._scope
        if (
            type(func) is ast.Attribute
            and name in WAITING
            and (name in {"result", "gather"} or not node.args)
        ):
            scope.marks.add("waits")
        if not chain:
            return
        if type(func) is ast.Attribute and name in CHANGING:
            self._change(func, node)
        elif chain == "setattr" and len(node.args) == 3:
            self._set_attribute(node)
        elif chain == "next" and node.args and (counted := spell(node.args[0])):
            scope.writes.append((counted, "next", node.lineno, "", None, 0))
        elif chain.endswith(
            ".acquire"
        ):  # what follows is guarded, to the end of the function as far as one can see
            scope.guards.append((chain.removesuffix(".acquire"), node.lineno, 10**6))
        if name in SPAWNING:
            self._spawn(chain, node)

    def _spawn(self, chain: str, node: ast.Call) -> None:
        runs = next((one.value for one in node.keywords if one.arg in {"target", "func", "function"}), None)
        runs = runs or next((one for one in node.args if spell(one)), None)
        ran = (spell(runs) or "") if runs is not None else ""
        assigned = (spell(self._assigned) or "") if self._assigned is not None else ""
        self._scope.spawns.append((chain, node.lineno, assigned, ran))

    def _statement(self, node: ast.Expr) -> None:
        """A call whose answer nobody looks at; `await` waits for the end of it, not for an answer."""
        call = node.value.value if type(node.value) is ast.Await else node.value
        if type(call) is ast.Call:
            chain = self._call(call)
            if chain:
                self._scope.dropped.append(chain)
        else:
            self._one(node.value)

    def _change(self, func: ast.Attribute, node: ast.Call) -> None:
        target = spell(func.value)
        if target:
            key = key_of(node.args[0]) if node.args else ""
            value = node.args[-1] if node.args else None
            self._scope.writes.append((target, func.attr, node.lineno, key, value, 1))

    def _set_attribute(self, node: ast.Call) -> None:
        target = spell(node.args[0])
        name = node.args[1]
        if target:
            said = str(name.value) if type(name) is ast.Constant else ""
            place = f"{target}.{said}" if said else f"{target}[]"
            key = spell(name) or ""
            self._scope.writes.append((place, "=", node.lineno, key, node.args[2], 1))
