"""One walk over a module's syntax. What is seen is noted in the scope it is seen in; judging comes later."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from statekit.audit.facts import Binding, Class, Function, Value, Write
from statekit.audit.reading.chains import CHANGING, each_of, given, root_of, spell
from statekit.audit.reading.scopes import Scope
from statekit.audit.reading.values import value_of

__all__ = ["Walker"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
KEY_ERRORS = {"KeyError", "LookupError", "AttributeError", "IndexError"}
SPAWNING = {"Thread", "Timer", "Process", "create_task", "ensure_future", "start_new_thread", "spawn", "spawn_n", "PeriodicCallback", "start_background_task", "run_coroutine_threadsafe"}
UNHEARD = {"print", "log", "logger", "logging", "LOGGER", "LOG"}
"""What is called so answers nothing: not worth a note."""
HOLDABLE = {"call", "dict", "list", "set", "comprehension", "either", "const", "none"}


class Walker:
    """Reads one module into functions, classes and bindings."""

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
            kind: getattr(self, name) for kind, name in _VISITS.items()
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
            elif isinstance(node, ast.AST):  # the key of `**mapping` is none, a class pattern lists bare names
                self._inside(node)

    def _inside(self, node: ast.AST) -> None:
        for name in node._fields:
            child = getattr(node, name, None)
            if type(child) is list:
                self._each(child)
            elif isinstance(child, ast.AST):
                self._each((child,))

    def _one(self, node: ast.AST | None) -> None:
        if node is not None:
            self._each((node,))

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
        if type(func) is ast.Attribute and (func.attr in {"result", "gather"} or (func.attr in {"join", "cancel"} and not node.args)):
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
            elif chain.endswith(".acquire"):  # what follows is guarded, to the end of the function as far as one can see
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
            key = _key_of(node.args[0]) if node.args else ""
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

    # -- assignments --------------------------------------------------------------------------------------

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value, node.lineno)
        self._assigned = spell(node.targets[0]) or ""
        self._one(node.value)
        self._assigned = ""

    def _annotated(self, node: ast.AnnAssign) -> None:
        annotation = spell(node.annotation) or _unparsed(node.annotation)
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
            scope.writes.append(Write(name, "=", line, "", value_of(value, 2)))
        else:
            self._set_local(scope, name, value, line)

    def _set_local(self, scope: Scope, name: str, value: ast.AST | None, line: int) -> None:
        scope.locals.add(name)
        if value is None:
            return
        chain = given(value)
        if chain and root_of(chain) != name:
            scope.aliases.setdefault(name, chain)
        said = value_of(value, 2)
        known = scope.holds.get(name)
        if said.kind in HOLDABLE and (known is None or known[1].text.endswith((".get", ".pop"))):
            scope.holds[name] = (line, said)
        if name in scope.outers:
            scope.writes.append(Write(name, "=", line, "", said))

    def _bound(self, owner: str, name: str, line: int, value: ast.AST | None, annotation: str) -> None:
        said = value_of(value) if value is not None else Value("unset")
        self.bindings.append(Binding(owner, name, line, said, annotation, self._under))

    def _put(self, target: ast.AST, op: str, line: int, value: ast.AST | None) -> None:
        """Set, change or delete an attribute or an item."""
        key = ""
        chain = spell(target)
        if type(target) is ast.Subscript and not (chain and chain.endswith(f".{_key_of(target.slice)[1:-1]}")):
            self._one(target.slice)
            key = _key_of(target.slice)
            chain = spell(target.value)
            op = "[]=" if op == "=" else op
            if chain == "globals()" and key:
                chain, op = key.strip("'"), "="
                self._scope.globals.add(chain)
        if chain:
            said = value_of(value, 2) if value is not None else None
            self._scope.writes.append(Write(chain, op, line, key, said))
        self._inner(target)

    def _augmented(self, node: ast.AugAssign) -> None:
        target = node.target
        if type(target) is ast.Name:
            scope = self._scope
            if target.id in scope.globals or target.id in scope.outers or scope is self.module:
                scope.writes.append(Write(target.id, "+=", node.lineno, "", value_of(node.value, 1)))
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
                self._scope.writes.append(Write(target.id, "del", node.lineno))

    def _walrus(self, node: ast.NamedExpr) -> None:
        self._bind(node.target, node.value, node.lineno)
        self._one(node.value)

    # -- conditions, loops, guards ----------------------------------------------------------------------------

    def _if(self, node: ast.If) -> None:
        asked = _unparsed(node.test) if self._scope.is_module else ""
        if "__name__" in asked and self._scope is self.module and not self._class:
            self._main(node)
            return
        if "TYPE_CHECKING" in asked:
            self._each(one for one in node.body if isinstance(one, ast.Import | ast.ImportFrom))
            self._each(node.orelse)
            return
        self._test(node.test)
        before, self._under = self._under, asked or self._under
        self._each(node.body)
        self._under = f"not ({asked})" if asked else before
        self._each(node.orelse)
        self._under = before

    def _main(self, node: ast.If) -> None:
        self._scope, self._under = self.main, "__main__"
        self.main.line = node.lineno
        self._each(node.body)
        self._scope, self._under = self.module, ""

    def _test(self, node: ast.AST) -> None:
        self._scope.tests.update(_asked(node))
        self._one(node)

    def _if_expression(self, node: ast.IfExp) -> None:
        self._test(node.test)
        self._each((node.body, node.orelse))

    def _while(self, node: ast.While) -> None:
        if type(node.test) is ast.Constant:
            self._scope.marks.add("forever")
        self._test(node.test)
        self._each(node.body)
        self._each(node.orelse)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self._loop_variable(node.target, node.iter)
        self._one(node.iter)
        self._each(node.body)
        self._each(node.orelse)

    def _comprehension(self, node: ast.comprehension) -> None:
        self._loop_variable(node.target, node.iter)
        self._one(node.iter)
        self._each(node.ifs)

    def _comprehended(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._each(node.generators)
        self._each((node.key, node.value) if type(node) is ast.DictComp else (node.elt,))  # type: ignore[union-attr]

    def _loop_variable(self, target: ast.AST, over: ast.AST) -> None:
        chain = each_of(over)
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        for one in names:
            if type(one) is ast.Name:
                if not self._scope.is_module:
                    self._scope.locals.add(one.id)
                    if chain and root_of(chain) != one.id and one is names[-1]:
                        self._scope.aliases.setdefault(one.id, chain)
            else:
                self._bind(one, None, getattr(one, "lineno", 0))

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            chain = given(item.context_expr)
            if chain:
                self._scope.guards.append((chain, node.lineno, node.end_lineno or node.lineno))
            if type(item.optional_vars) is ast.Name and not self._scope.is_module:
                self._set_local(self._scope, item.optional_vars.id, item.context_expr, node.lineno)
            self._one(item.context_expr)
        self._each(node.body)

    def _try(self, node: ast.Try) -> None:
        caught = {name for handler in node.handlers for name in _names_in(handler.type)}
        if caught & KEY_ERRORS:
            for one in node.body:
                self._scope.tests.update(_subscripted(one))
        self._inside(node)

    def _except(self, node: ast.ExceptHandler) -> None:
        if node.name and not self._scope.is_module:
            self._scope.locals.add(node.name)
        self._each(node.body)

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self._scope.returns.append(value_of(node.value, 1))
            self._one(node.value)

    def _yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        self._scope.marks.add("yield")
        self._one(node.value)

    def _await(self, node: ast.Await) -> None:
        if type(node.value) is ast.Name:
            self._scope.marks.add("waits")
        self._one(node.value)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if value == 429 and type(value) is int:
            self._scope.marks.add("429")
        elif type(value) is str and 5 < len(value) < 4000:
            head = value[:40].lower()
            if "too many" in head or "rate limit" in head or "try again" in head:
                self._scope.marks.add("429")
            elif head.lstrip()[:7] in {"select ", "insert ", "update ", "delete "}:
                self._scope.marks.add("sql")

    # -- functions and classes -----------------------------------------------------------------------------

    def _function(self, node: FunctionNode) -> None:
        before = self._scope
        self._each(node.decorator_list)
        self._each(default for default in (*node.args.defaults, *node.args.kw_defaults) if default)
        if not before.is_module:
            before.locals.add(node.name)
        within = self._class or before.within
        name = ".".join(filter(None, (self._class or ("" if before.is_module else before.name), node.name)))
        scope = Scope(name, within, before)
        scope.line, scope.end = node.lineno, node.end_lineno or node.lineno
        scope.is_async = type(node) is ast.AsyncFunctionDef
        scope.decorators = tuple([value_of(one, 2) for one in node.decorator_list])
        self._parameters(scope, node)
        self.scopes.append(scope)
        before_class, self._class, self._scope = self._class, "", scope
        before_under, self._under = self._under, ""
        self._each(node.body)
        self._class, self._scope, self._under = before_class, before, before_under

    def _parameters(self, scope: Scope, node: FunctionNode) -> None:
        args = node.args
        everyone = [*args.posonlyargs, *args.args, *args.kwonlyargs]
        for one in (*everyone, args.vararg, args.kwarg):
            if one is not None:
                scope.locals.add(one.arg)
                scope.params[one.arg] = (spell(one.annotation) or _unparsed(one.annotation)) if one.annotation else ""
        static = any(one.text == "staticmethod" for one in scope.decorators)
        if self._class and everyone and not static:
            scope.me = everyone[0].arg
            del scope.params[scope.me]
        for name, default in _defaults(args):
            if type(default) is ast.Call and spell(default.func):  # FastAPI: Depends(get_db)
                scope.params[name] = scope.params[name] or f"{spell(default.func)}()"

    def _lambda(self, node: ast.Lambda) -> None:
        if not self._scope.is_module:
            self._scope.locals.update(one.arg for one in node.args.args)
        self._one(node.body)

    def _class_body(self, node: ast.ClassDef) -> None:
        before = self._scope
        if not before.is_module:
            before.locals.add(node.name)
        self._each(node.decorator_list)
        outer = self._class or ("" if before.is_module else before.name)
        name = f"{outer}.{node.name}" if outer else node.name
        bases = tuple([spell(one) or "" for one in node.bases])
        decorators = tuple([value_of(one, 2) for one in node.decorator_list])
        keywords = tuple([(one.arg or "**", value_of(one.value, 1)) for one in node.keywords])
        self.classes.append(Class(name, node.lineno, bases, decorators, keywords))
        self._each(node.bases)
        before_class, self._class = self._class, name
        self._each(node.body)
        self._class = before_class


def _defaults(args: ast.arguments) -> Iterable[tuple[str, ast.AST]]:
    positional = [*args.posonlyargs, *args.args]
    yield from zip([one.arg for one in positional[len(positional) - len(args.defaults) :]], args.defaults, strict=True)
    yield from ((one.arg, its) for one, its in zip(args.kwonlyargs, args.kw_defaults, strict=True) if its)


def _unparsed(node: ast.AST | None) -> str:
    return ast.unparse(node)[:120] if node is not None else ""


def _asked(node: ast.AST) -> Iterable[str]:
    """The places a condition is about."""
    kind = type(node)
    if kind is ast.BoolOp:
        for one in node.values:  # type: ignore[attr-defined]
            yield from _asked(one)
    elif kind is ast.UnaryOp:
        yield from _asked(node.operand)  # type: ignore[attr-defined]
    elif kind is ast.Compare:
        for one in (node.left, *node.comparators):  # type: ignore[attr-defined]
            yield from _asked(one)
    elif kind is ast.NamedExpr:
        yield from _asked(node.value)  # type: ignore[attr-defined]
    elif kind is ast.Call and spell(node.func) in {"len", "hasattr", "getattr", "bool"} and node.args:  # type: ignore[attr-defined]
        yield from _asked(node.args[0])  # type: ignore[attr-defined]
    else:
        chain = spell(node)
        if chain:
            yield chain


def _key_of(node: ast.AST) -> str:
    """The chain of a key, or the string itself in quotes."""
    if type(node) is ast.Constant:
        return f"'{str(node.value)[:60]}'"
    return spell(node) or ""


def _names_in(node: ast.AST | None) -> Iterable[str]:
    for one in node.elts if isinstance(node, ast.Tuple) else [node]:
        if type(one) is ast.Name:
            yield one.id


def _subscripted(node: ast.AST) -> Iterable[str]:
    for one in ast.walk(node):
        if type(one) is ast.Subscript or type(one) is ast.Attribute:
            chain = spell(one)
            if chain:
                yield chain


_VISITS: dict[type, str] = {
    ast.Import: "_import", ast.ImportFrom: "_import_from", ast.Global: "_global", ast.Nonlocal: "_nonlocal",
    ast.Name: "_load", ast.Attribute: "_load", ast.Subscript: "_load", ast.Call: "_call",
    ast.Assign: "_assign", ast.AnnAssign: "_annotated", ast.AugAssign: "_augmented", ast.Delete: "_delete",
    ast.NamedExpr: "_walrus", ast.If: "_if", ast.IfExp: "_if_expression", ast.While: "_while",
    ast.For: "_for", ast.AsyncFor: "_for", ast.comprehension: "_comprehension", ast.ListComp: "_comprehended",
    ast.SetComp: "_comprehended", ast.GeneratorExp: "_comprehended", ast.DictComp: "_comprehended",
    ast.With: "_with", ast.AsyncWith: "_with", ast.Try: "_try", ast.TryStar: "_try",
    ast.ExceptHandler: "_except", ast.Return: "_return", ast.Yield: "_yield", ast.YieldFrom: "_yield",
    ast.Constant: "_constant", ast.Await: "_await", ast.FunctionDef: "_function", ast.AsyncFunctionDef: "_function",
    ast.Expr: "_statement", ast.Lambda: "_lambda", ast.ClassDef: "_class_body",
}  # fmt: skip
